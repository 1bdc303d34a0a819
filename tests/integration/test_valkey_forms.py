"""Valkey as people run it: with users, behind Sentinels, as a cluster, full, read-only or loading; all of them real."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from tests.support.desk import LEAVE, VALKEY_PATIENCE_S, AnswerDesk, Client, own_desk, text_of, until
from tests.support.scripted_llm import ANSWER
from tests.support.valkey_server import ValkeyServer, started

from refdesk.answering.usage.budget import Budget, BudgetLimits
from refdesk.app.commands.checks.valkey import check_valkey
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.services import ai_parts
from refdesk.outside.valkey import errors as valkey_errors
from refdesk.outside.valkey.about import read_about
from refdesk.outside.valkey.client import Script, Valkey, open_valkey
from refdesk.settings.loading import load

NODE_TIMEOUT_MS = 1000
LIMITS = BudgetLimits(
    concurrent=5, requests_per_minute=10, searches_per_minute=4, tokens_per_minute=1000, tokens_per_day=3000
)


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=13) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


async def works(valkey: Valkey, when: str) -> None:
    """Everything that answers use it for: commands, scripts, budgets, streams, messages."""
    keys = [f"refdesk:log:{{{when} {number}}}" for number in range(20)]
    await valkey.commands([("XADD", key, "1-0", "e", key) for key in keys])
    found = await valkey.streams([(key, "0-0") for key in keys])
    assert {str(stream, "ascii") for stream, _ in found} == set(keys)
    assert await valkey.streams([(key, "1-0") for key in keys], block_ms=10) == []
    script = Script(valkey, "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[2])")
    calls = [([f"a{{{number}}}", f"a{{{number}}}"], [number]) for number in range(50)]
    assert await script.each(calls) == [str(number).encode() for number in range(50)]
    budget = Budget(valkey, LIMITS)
    assert await budget.count_request("ann")
    reservation = await budget.reserve("ann", 100)
    await budget.renew()
    await budget.settle(reservation, used=50)
    heard = asyncio.create_task(first_message(valkey))
    await until(lambda: published(valkey, heard))
    assert await heard == b"now"
    assert (await read_about(valkey)).product == "Valkey"


async def first_message(valkey: Valkey) -> bytes:
    async with aclosing(valkey.messages("news")) as messages:
        return await anext(messages)


async def published(valkey: Valkey, heard: "asyncio.Task[bytes]") -> bool:
    await valkey.command("PUBLISH", "news", "now")
    await asyncio.wait([heard], timeout=0.05)
    return heard.done()


# one server


async def test_a_user_of_its_own_is_enough(tmp_path: Path) -> None:
    """With no more rights than the error for missing ones names."""
    allowed = re.findall(r"`(.+)`", str(valkey_errors.NotAllowed.__doc__))[0]
    server = ValkeyServer(tmp_path, f"user refdesk on >secret {allowed}", "user default off")
    async with started(server):
        async with open_valkey(
            f"redis://refdesk:secret@{server.address}", name="user", timeout_s=VALKEY_PATIENCE_S
        ) as valkey:
            await valkey.commands([("SET", "refdesk:a", 1), ("PUBLISH", "refdesk:stop", "x")])
            await read_about(valkey)
            with pytest.raises(valkey_errors.NotAllowed):
                await valkey.command("SET", "others", 1)
        async with open_valkey(
            f"redis://refdesk:wrong@{server.address}", name="user", timeout_s=VALKEY_PATIENCE_S
        ) as valkey:
            with pytest.raises(valkey_errors.WrongPassword):
                await valkey.command("PING")


async def test_health_needs_no_right_that_answers_do_not(tmp_path: Path) -> None:
    """A user that may not ask for counters hears nothing of evictions; Valkey is not taken for ill."""
    server = ValkeyServer(tmp_path, "user refdesk on >secret ~* +@all -info", "user default off")
    url = f"redis://refdesk:secret@{server.address}"
    async with started(server), open_valkey(url, name="user", timeout_s=VALKEY_PATIENCE_S) as valkey:
        assert await ai_parts.valkey(valkey).look() is None
        assert valkey.state.state == "up"


async def full(server: ValkeyServer) -> None:
    await server.command("CONFIG", "SET", "maxmemory", "1")


async def read_only(server: ValkeyServer) -> None:
    await server.command("REPLICAOF", "127.0.0.1", "1")


async def too_few_replicas(server: ValkeyServer) -> None:
    await server.command("CONFIG", "SET", "min-replicas-to-write", "1")


async def guarded(server: ValkeyServer) -> None:
    await server.command("CONFIG", "SET", "requirepass", "secret")


REFUSALS: list[tuple[Callable[[ValkeyServer], Awaitable[None]], type[valkey_errors.Refusal], str]] = [
    (full, valkey_errors.Full, "CONFIG SET maxmemory 0"),
    (read_only, valkey_errors.ReadOnly, "REPLICAOF NO ONE"),
    (too_few_replicas, valkey_errors.TooFewReplicas, "CONFIG SET min-replicas-to-write 0"),
]


@pytest.mark.parametrize(("spoil", "kind", "mend"), REFUSALS, ids=lambda one: getattr(one, "__name__", ""))
async def test_a_server_that_refuses_says_why_and_is_well_again_by_itself(
    tmp_path: Path, spoil: Callable[[ValkeyServer], Awaitable[None]], kind: type[valkey_errors.Refusal], mend: str
) -> None:
    """As an error of its own kind, as a state with a sentence, and in `doctor`; reads go on."""
    server = ValkeyServer(tmp_path)
    async with started(server), open_valkey(server.url, name="refused", timeout_s=VALKEY_PATIENCE_S) as valkey:
        await valkey.command("SET", "refdesk:kept", 1)
        await spoil(server)
        with pytest.raises(kind):
            await valkey.command("SET", "refdesk:new", 1)
        assert (valkey.state.state, valkey.state.reason.startswith(str(kind.__doc__))) == ("refusing", True)
        assert await valkey.command("GET", "refdesk:kept") == b"1"
        (finding,) = await findings(server.url)
        assert (finding.level, str(kind.__doc__) in finding.what) == ("FAIL", True)
        await server.command(*mend.split())
        await until(lambda: valkey.state.state == "up", within_s=10)
        await valkey.command("SET", "refdesk:new", 1)


async def findings(url: str) -> list[Any]:
    loaded = load(environ={"REFDESK_VALKEY_URL": url})
    return [finding async for finding in check_valkey(loaded)]


async def test_a_server_that_wants_a_password_meanwhile_is_named(tmp_path: Path) -> None:
    """Whoever is connected stays so; who connects anew is refused."""
    server = ValkeyServer(tmp_path)
    async with started(server):
        await guarded(server)
        (finding,) = await findings(server.url)
        assert "REFDESK_VALKEY_URL" in finding.what


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("volatile-lru", None),
        ("noeviction", "refuses every write"),
        ("allkeys-random", "may drop"),
        ("volatile-ttl", "may drop"),
    ],
)
async def test_what_would_be_dropped_from_a_full_server_is_told(tmp_path: Path, policy: str, words: str | None) -> None:
    """By `doctor`, with the setting that mends it."""
    server = ValkeyServer(tmp_path, "maxmemory 64mb", f"maxmemory-policy {policy}")
    async with started(server):
        found = await findings(server.url)
    assert found[0].level == "ok"
    assert [finding.level for finding in found[1:]] == ([] if words is None else ["warn"])
    assert all(words in finding.what and "volatile-lru" in finding.mend for finding in found[1:])


# Sentinels


async def test_answers_go_on_when_the_primary_is_killed(desk: AnswerDesk, tmp_path: Path) -> None:
    """Three Sentinels choose the replica; it is found by itself, and budgets are counted there."""
    primary = ValkeyServer(tmp_path)
    replica = ValkeyServer(tmp_path, f"replicaof 127.0.0.1 {primary.port}")
    watch = (
        f"sentinel monitor desk 127.0.0.1 {primary.port} 2",
        f"sentinel down-after-milliseconds desk {NODE_TIMEOUT_MS}",
        "sentinel failover-timeout desk 3000",
    )
    sentinels = [ValkeyServer(tmp_path, *watch, sentinel=True) for _ in range(3)]
    url = f"redis+sentinel://{','.join(sentinel.address for sentinel in sentinels)}/desk"
    async with started(primary, replica), started(*sentinels), open_valkey(url, name="watched") as valkey:
        await works(valkey, "before")
        await until(lambda: sentinels_agree(sentinels), within_s=20)
        async with desk.assistant_here(valkey_url=url) as here:
            await asks(here.client(), "before")
            primary.kill()
            await asks(here.client(), "during")
            await until(lambda: written(valkey), within_s=40)
            await works(valkey, "after")
            await asks(here.client(), "after")


async def sentinels_agree(sentinels: list[ValkeyServer]) -> bool:
    """They know each other and the replica."""
    for sentinel in sentinels:
        async with Redis(port=sentinel.port) as client:
            about = await client.sentinel_master("desk")
        if (int(about["num-other-sentinels"]), int(about["num-slaves"])) != (2, 1):
            return False
    return True


async def written(valkey: Valkey) -> bool:
    try:
        await valkey.command("SET", "refdesk:again", 1)
    except valkey_errors.ValkeyError:
        return False
    return valkey.state.state == "up"


async def asks(client: Client, word: str) -> None:
    assert text_of(await client.ask(f"How many days of leave, {word}?")) == ANSWER


# a cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[ValkeyServer]]:
    """Three primaries with a replica each."""
    settings = ("cluster-enabled yes", f"cluster-node-timeout {NODE_TIMEOUT_MS}", "cluster-config-file nodes.conf")
    nodes = [ValkeyServer(tmp_path, *settings) for _ in range(6)]
    async with started(*nodes):
        first, *others = nodes
        for node in others:
            await first.command("CLUSTER", "MEET", "127.0.0.1", node.port)
        bounds = (0, 5461, 10923, 16384)
        for node, low, high in zip(nodes[:3], bounds, bounds[1:], strict=False):
            await node.command("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
        for primary, replica in zip(nodes[:3], nodes[3:], strict=True):
            own_id: Any = await primary.command("CLUSTER", "MYID")
            await until(lambda replica=replica, own_id=own_id: replicates(replica, own_id.decode()))
        await until(lambda: all_serve(nodes), within_s=30)
        yield nodes


async def replicates(replica: ValkeyServer, primary_id: str) -> bool:
    """Once it has heard of its primary."""
    try:
        await replica.command("CLUSTER", "REPLICATE", primary_id)
    except valkey_errors.ValkeyError:
        return False
    return True


async def all_serve(nodes: list[ValkeyServer]) -> bool:
    said = [str(await node.command("CLUSTER", "INFO")) for node in nodes]
    linked = [str(await node.command("INFO", "replication")) for node in nodes[3:]]
    return all("cluster_state:ok" in one for one in said) and all(
        "master_link_status" in one and "up" in one for one in linked
    )


async def test_a_cluster_is_used_whole_and_answers_go_on_when_a_primary_is_killed(
    desk: AnswerDesk, cluster: list[ValkeyServer]
) -> None:
    """Every key at its node, however keys move; what a killed primary had, its replica has soon."""
    url = f"redis+cluster://{cluster[0].address},{cluster[1].address}"
    async with AsyncExitStack() as stack:
        valkey = await stack.enter_async_context(open_valkey(url, name="cluster"))
        await works(valkey, "before")
        await moved_key_is_found(valkey, cluster)
        here = await stack.enter_async_context(desk.assistant_here(valkey_url=url))
        await asks(here.client(), "before the kill")
        stream = await here.client().ask("How many days of leave, before the kill?")
        assert stream[0].data["cache"] == "hit"
        cluster[0].kill()
        await asks(here.client(), "during the kill")
        await until(lambda: whole(valkey), within_s=40)
        await works(valkey, "after")
        await asks(here.client(), "after the kill")
    async with open_valkey(cluster[1].url, name="alone", timeout_s=VALKEY_PATIENCE_S) as valkey:
        with pytest.raises(valkey_errors.IsCluster, match="redis\\+cluster://"):
            await valkey.commands([("GET", f"key {number}") for number in range(20)])


async def test_evictions_are_counted_node_by_node(cluster: list[ValkeyServer]) -> None:
    """One that evicted something long ago is no news, whichever node is asked; one that does now is."""
    async with open_valkey(
        f"redis+cluster://{cluster[0].address}", name="evictions", timeout_s=VALKEY_PATIENCE_S
    ) as valkey:
        await evict(valkey, cluster[0])
        look = ai_parts.valkey(valkey).look
        assert {await look() for _ in range(30)} == {None}
        await evict(valkey, cluster[0])
        assert "throws away" in str(await look())


async def evict(valkey: Valkey, node: ValkeyServer) -> None:
    """Something of what this node has."""
    await valkey.commands([("SET", f"refdesk:{number}", "x" * 1000, "EX", 60) for number in range(300)])
    await node.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    await node.command("CONFIG", "SET", "maxmemory", "1")
    await until(lambda: is_empty(node))
    await node.command("CONFIG", "SET", "maxmemory", "0")


async def is_empty(node: ValkeyServer) -> bool:
    return await node.command("DBSIZE") == 0


async def whole(valkey: Valkey) -> bool:
    try:
        await valkey.commands([("SET", f"refdesk:{number}", 1) for number in range(100)])
    except valkey_errors.ValkeyError:
        return False
    return True


async def moved_key_is_found(valkey: Valkey, cluster: list[ValkeyServer]) -> None:
    """While a slot is on its way (ASK), and when it has arrived (MOVED)."""
    key = "refdesk:moving"
    slot = key_slot(key.encode())
    giver, taker = sorted(cluster[:3], key=lambda node: node is not cluster[slot * 3 // 16384])[:2]
    giver_id, taker_id = [str(await node.command("CLUSTER", "MYID"), "ascii") for node in (giver, taker)]  # type: ignore[call-overload]
    await valkey.command("SET", key, "here")
    await taker.command("CLUSTER", "SETSLOT", slot, "IMPORTING", giver_id)
    await giver.command("CLUSTER", "SETSLOT", slot, "MIGRATING", taker_id)
    await giver.command("MIGRATE", "127.0.0.1", taker.port, key, 0, 5000)
    assert await valkey.command("GET", key) == b"here"
    for node in (taker, giver):
        await node.command("CLUSTER", "SETSLOT", slot, "NODE", taker_id)
    assert await valkey.command("GET", key) == b"here"
    assert await valkey.command("GET", key) == b"here"
