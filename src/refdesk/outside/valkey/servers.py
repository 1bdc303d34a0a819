"""What commands are sent to: the port ``Server``, and one server of it, wherever it is at the moment."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from redis.asyncio import Redis

from refdesk.outside.valkey.lines import Command, Link, Where, first_error

Position = tuple[str, str]
"""The key of a stream, and the id of the last entry that is known."""
PROBE_KEY = "refdesk:probe"
PROBE_KEPT_MS = 1000
LISTEN_S = 1.0
"""How often a listener looks whether its connection still lives."""


class Server(Protocol):
    """Takes commands whose keys, of each command or script, have one hash tag. Everything raises ValkeyError."""

    async def replies(self, commands: Sequence[Command]) -> list[Any]:
        """A reply to each; what is refused, as the error."""
        ...

    async def streams(self, positions: Sequence[Position], *, block_ms: int | None) -> list[Any]:
        """XREAD; with ``block_ms`` it waits so long while there is nothing, and keeps nobody waiting."""
        ...

    def messages(self, channel: str) -> AsyncGenerator[bytes, None]:
        """What is published on a channel."""
        ...

    async def everywhere(self, command: Command) -> dict[str, Any]:
        """The reply of each server that takes writes, by its name; the command has no key."""
        ...

    async def probe(self) -> None:
        """Writes something over a new connection, which is used from then on."""
        ...


class OneServer:
    """One server: what waits there has a connection of its own."""

    def __init__(self, where: Where, *, client: Redis, name: str, timeout_s: float) -> None:
        self._client = client  # redis-py's, for subscriptions
        self._shared = Link(where, name=name, timeout_s=timeout_s)
        self._patient = Link(where, name=name, timeout_s=timeout_s)

    async def replies(self, commands: Sequence[Command]) -> list[Any]:
        return await self._shared.replies(commands)

    async def streams(self, positions: Sequence[Position], *, block_ms: int | None) -> list[Any]:
        link, block = (self._shared, ()) if block_ms is None else (self._patient, ("BLOCK", block_ms))
        (reply,) = first_error(await link.replies([("XREAD", *block, *streams_of(positions))]))
        return list(reply or [])

    async def messages(self, channel: str) -> AsyncGenerator[bytes, None]:
        async with self._client.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(channel)
            while True:
                if (message := await heard.get_message(timeout=LISTEN_S)) is not None:
                    yield message["data"]

    async def everywhere(self, command: Command) -> dict[str, Any]:
        (reply,) = first_error(await self.replies([command]))
        return {"": reply}

    async def probe(self) -> None:
        await self._shared.renew([probe_of(PROBE_KEY)])
        self._patient.close()

    def close(self) -> None:
        self._shared.close()
        self._patient.close()


def streams_of(positions: Sequence[Position]) -> Command:
    return ("STREAMS", *(key for key, _ in positions), *(after for _, after in positions))


def probe_of(key: str) -> Command:
    return ("SET", key, 1, "PX", PROBE_KEPT_MS)
