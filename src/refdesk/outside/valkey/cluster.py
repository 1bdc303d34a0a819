"""A cluster: each command goes to the node that has its key, over one connection to each node.

Which node that is, any node tells (CLUSTER SLOTS), and whoever is asked for a key that has moved says where to (MOVED, ASK). So
the map need not be right, only get better. All keys of a command or script have one hash tag, so each goes to one node.
"""

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from refdesk.outside.valkey.errors import ClusterDown, IsCluster, Unreachable, ValkeyError
from refdesk.outside.valkey.lines import Command, Link, Where, first_error
from refdesk.outside.valkey.servers import LISTEN_S, PROBE_KEY, Position, probe_of, streams_of

REDIRECTIONS_MAX = 5
KEYLESS = frozenset({"PING", "ECHO", "INFO", "CONFIG", "PUBLISH"})
"""Commands that any node carries out for all."""

Node = tuple[str, int]


class Cluster:
    """``seeds`` are asked first; then whoever is known. ``where`` says how to reach a node, ``listen`` makes a client of one."""

    def __init__(
        self,
        seeds: Sequence[Node],
        *,
        where: Callable[[Node], Where],
        listen: Callable[[Node], Redis],
        name: str,
        timeout_s: float,
    ) -> None:
        self._seeds = tuple(seeds)
        self._where = where
        self._listen = listen
        self._name = name
        self._timeout_s = timeout_s
        self._links: dict[Node, Link] = {}
        self._owners: dict[int, Node] = {}
        """The primary of each slot, as far as it is known."""

    async def replies(self, commands: Sequence[Command]) -> list[Any]:
        if not self._owners:
            await self._learn()
        replies = await self._sent(commands)
        for _ in range(REDIRECTIONS_MAX):
            moved = [number for number, reply in enumerate(replies) if isinstance(reply, IsCluster)]
            if not moved:
                break
            for number in moved:  # few, and each may go elsewhere
                replies[number] = await self._redirected(commands[number], replies[number])
        return replies

    async def streams(self, positions: Sequence[Position], *, block_ms: int | None) -> list[Any]:
        """XREAD waits for keys of one slot only, so a waiting reader looks again and again."""
        found = first_error(await self.replies([("XREAD", *streams_of([position])) for position in positions]))
        if block_ms is not None and not any(found):
            await asyncio.sleep(block_ms / 1000)
        return [stream for reply in found for stream in reply or []]

    async def messages(self, channel: str) -> AsyncGenerator[bytes, None]:
        """What is published at one node is told at all of them."""
        if not self._owners:
            await self._learn()
        client = self._listen(self._any_node())
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as heard:
                await heard.subscribe(channel)
                while True:
                    if (message := await heard.get_message(timeout=LISTEN_S)) is not None:
                        yield message["data"]
        finally:
            await client.aclose()

    async def everywhere(self, command: Command) -> dict[str, Any]:
        if not self._owners:
            await self._learn()
        primaries = sorted(set(self._owners.values()))
        replies = await asyncio.gather(*(self._link(node).replies([command]) for node in primaries))
        return {f"{host}:{port}": first_error(own)[0] for (host, port), own in zip(primaries, replies, strict=True)}

    async def probe(self) -> None:
        """Learns anew who has which keys, and writes one at each primary."""
        await self._learn()
        keys: dict[Node, str] = {}
        primaries = set(self._owners.values())
        for number in itertools.count():
            if len(keys) == len(primaries):
                break
            key = f"{PROBE_KEY}:{number}"
            keys.setdefault(self._owners[key_slot(key.encode())], key)
        for node, key in keys.items():
            await self._link(node).renew([probe_of(key)])

    def close(self) -> None:
        for link in self._links.values():
            link.close()

    async def _sent(self, commands: Sequence[Command]) -> list[Any]:
        """Each to the node that has its key, those of one node together."""
        numbers: defaultdict[Node, list[int]] = defaultdict(list)
        for number, command in enumerate(commands):
            numbers[self._node_of(command)].append(number)
        replies: list[Any] = [None] * len(commands)
        sent = (self._link(node).replies([commands[n] for n in own]) for node, own in numbers.items())
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        for own, outcome in zip(numbers.values(), outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            for number, reply in zip(own, outcome, strict=True):
                replies[number] = reply
        return replies

    async def _redirected(self, command: Command, error: IsCluster) -> Any:
        """Sent to where the node said that the key is."""
        code, slot, address = _redirection(error)
        host, _, port = address.rpartition(":")
        node = (host or self._owners[slot][0], int(port))
        if code == "MOVED":
            self._owners[slot] = node
            return (await self._link(node).replies([command]))[0]
        return (await self._link(node).replies([("ASKING",), command]))[1]

    async def _learn(self) -> None:
        """Asks one node after the other until one tells who has which keys."""
        failure: ValkeyError = Unreachable("No node of the cluster is known.")
        for node in dict.fromkeys((*random.sample(sorted(self._links), len(self._links)), *self._seeds)):
            try:
                (ranges,) = first_error(await self._link(node).replies([("CLUSTER", "SLOTS")]))
            except ValkeyError as error:
                failure = error
                continue
            self._owners = {
                slot: (str(primary[0] or b"", "utf-8") or node[0], int(primary[1]))
                for first, last, primary, *_ in ranges
                for slot in range(first, last + 1)
            }
            if len(self._owners) == REDIS_CLUSTER_HASH_SLOTS:
                self._forget_others()
                return
            failure = ClusterDown(f"{ClusterDown.__doc__} ({len(self._owners)} of {REDIS_CLUSTER_HASH_SLOTS} slots)")
        raise failure

    def _forget_others(self) -> None:
        """Closes what leads to nodes that have no keys any more."""
        for node in set(self._links) - set(self._owners.values()):
            self._links.pop(node).close()

    def _node_of(self, command: Command) -> Node:
        key = key_of(command)
        if key is None:
            return self._any_node()
        return self._owners[key_slot(key if isinstance(key, bytes) else str(key).encode())]

    def _any_node(self) -> Node:
        return random.choice(list(self._owners.values()))  # noqa: S311 (any will do)

    def _link(self, node: Node) -> Link:
        if node not in self._links:
            self._links[node] = Link(self._where(node), name=self._name, timeout_s=self._timeout_s)
        return self._links[node]


def key_of(command: Command) -> Any:
    """The key by which a command is sent to its node; None when any node will do."""
    name = command[0]
    if name in KEYLESS:
        return None
    if name in ("EVAL", "EVALSHA"):
        return command[3]
    return command[command.index("STREAMS") + 1] if name == "XREAD" else command[1]


def _redirection(error: IsCluster) -> tuple[str, int, str]:
    """What MOVED or ASK says: the code, the slot, the address."""
    with suppress(ValueError, IndexError):
        code, slot, address = str(error).rpartition("(")[2].rstrip(")").split(" ")[:3]
        return code, int(slot), address
    raise error
