"""Nothing stays open that could not be opened now: each kind of connection, each way of losing the right to it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median, quantiles
from typing import Any

import psycopg
import pytest
from tests.integration.documents_desk import ADMINISTRATOR, Reply, running
from tests.support.desk import LEAVE, AnswerDesk, own_desk, until
from tests.support.open_connections import (
    CONVERSATION,
    Door,
    Opened,
    everything_open,
    kinds,
    model_is_left,
    open_door,
    opened,
)
from tests.support.patience import within
from tests.support.scripted_llm import say

from refdesk.app.embedded.stack import StackUrls
from refdesk.documents.relay import Relay
from refdesk.outside.nats.broker import Broker

ENDS_S_MAX = 5.0
"""What is promised: revocation takes effect everywhere within this time."""

FAREWELLS = {"a socket": "1008", "an agent's question": "ended"}
"""How those end that have no words for why."""

PATIENT = {"llm_first_token_timeout_s": 60.0, "llm_between_tokens_timeout_s": 60.0}


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=13, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture(scope="module")
async def door(desk: AnswerDesk) -> AsyncIterator[Door]:
    async with open_door(desk) as door:
        yield door


async def revoke(door: Door) -> None:
    await door.elsewhere.revoke("ada")


async def rotate(door: Door) -> None:
    await door.elsewhere.rotate("ada")


async def change_groups(door: Door) -> None:
    await door.elsewhere.change("ada", groups=("legal",))


async def change_role(door: Door) -> None:
    await door.elsewhere.change("ada", role="asker")


async def delete_the_row(door: Door) -> None:
    """As an operator may, without any of our code."""
    await execute(door, "DELETE FROM api_keys WHERE name = 'ada'")


async def delete_in_silence(door: Door) -> None:
    """The news do not come through, as behind a pooler that drops NOTIFY."""
    await execute(
        door,
        "ALTER TABLE api_keys DISABLE TRIGGER api_keys_announced",
        "DELETE FROM api_keys WHERE name = 'ada'",
        "ALTER TABLE api_keys ENABLE TRIGGER api_keys_announced",
    )


async def expire(door: Door) -> None:
    """By itself, a second from now: the news of that is that it will end, and nothing comes when it does."""
    await execute(door, "UPDATE api_keys SET expires_at = now() + interval '1 second' WHERE name = 'ada'")


async def execute(door: Door, *statements: str) -> None:
    url = door.desk.settings.databases.access_url or ""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


LOSSES: dict[Callable[[Door], Awaitable[None]], str] = {
    revoke: "unauthenticated",
    rotate: "unauthenticated",
    delete_the_row: "unauthenticated",
    delete_in_silence: "unauthenticated",
    expire: "unauthenticated",
    change_groups: "access-changed",
    change_role: "access-changed",
}


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
async def test_whatever_is_open_ends_with_the_right_to_it(door: Door, lose: Callable[[Door], Awaitable[None]]) -> None:
    """Streams with an error event, sockets with 1008, requests with a problem; nothing comes after, and the model stops."""
    headers = await door.key("ada", "hr")
    bob = await door.key("bob", "hr")
    try:
        async with everything_open(door, headers) as opened:
            assert [kind for kind, one in opened.items() if one.ended.done()] == []
            async with within(ENDS_S_MAX):
                await lose(door)
                endings = {kind: await one.ending() for kind, one in opened.items()}
                await model_is_left(door)
            assert endings == {kind: FAREWELLS.get(kind) or LOSSES[lose] for kind in opened}
        assert (await door.json("GET", "/api/documents", headers))[0] == (200 if "change" in lose.__name__ else 401)
        assert (await door.json("GET", "/api/documents", bob))[0] == 200
        assert "slow" not in str((await door.json("GET", "/api/documents", bob))[1])
    finally:
        for key in await door.elsewhere.listing():
            await door.elsewhere.revoke(key.name)


async def test_others_connections_stay(door: Door) -> None:
    """Of the same groups, and through changes that change nothing."""
    await door.key("ada", "hr")
    bob = await door.key("bob", "hr")
    try:
        async with everything_open(door, bob) as opened:
            await door.elsewhere.change("bob", groups=("hr",))
            await door.elsewhere.revoke("ada")
            await door.key("carol")
            assert (await door.json("GET", "/api/documents", bob))[0] == 200
            carol_gone = asyncio.get_running_loop().time()
            await door.elsewhere.revoke("carol")
            await asyncio.wait([one.ended for one in opened.values()], timeout=2.5, return_when="FIRST_COMPLETED")
            assert asyncio.get_running_loop().time() - carol_gone >= 2.0
            assert [kind for kind, one in opened.items() if one.ended.done()] == []
    finally:
        await door.elsewhere.revoke("bob")


async def test_while_keys_cannot_be_looked_up_nothing_stays_open_for_long(desk: AnswerDesk) -> None:
    """A database that is silent might know of a revocation; a shorter silence than the setting says is waited out."""
    async with open_door(desk, silence_s_max=1.5) as door:
        headers = await door.key("ada", "hr")
        url = desk.settings.databases.access_url or ""
        async with everything_open(door, headers) as opened, await psycopg.AsyncConnection.connect(url) as locking:
            await locking.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
            async with within(ENDS_S_MAX):
                endings = {kind: await one.ending() for kind, one in opened.items()}
        assert endings == {kind: {**FAREWELLS, "a socket": "1013"}.get(kind) or "unavailable" for kind in opened}
        assert (await door.json("GET", "/api/documents", headers))[0] == 200
        await door.elsewhere.revoke("ada")


async def test_the_first_key_ends_what_the_local_administrator_has_open(door: Door) -> None:
    """From then on nobody on this machine is administrator without a key."""
    async with everything_open(door, {}) as opened:
        assert [kind for kind, one in opened.items() if one.ended.done()] == []
        await door.key("ada")
        endings = {kind: await one.ending() for kind, one in opened.items()}
    await door.elsewhere.revoke("ada")
    assert endings == {kind: FAREWELLS.get(kind) or "unauthenticated" for kind in opened}


ROUNDS = 1000
AT_ONCE = 16
P99_S_MAX = 5.0
WATCHED = ("an answer's stream", "a conversation", "a socket", "a feed of documents")
ALONE = {"Connection": "close"}
END = ("error", "deleted")
"""What tells the reader of something that stays open that this is gone."""


class Round:
    """One person with a document of their own group, and what they have open on it."""

    def __init__(self, door: Door, number: int) -> None:
        self.door, self.name, self.group = door, f"p{number}", f"g{number}"

    async def begin(self) -> None:
        self.headers = await self.door.key(self.name, self.group)
        body = {"title": f"Leave {self.name}", "text": LEAVE, "readers": [self.group]}
        reply = await self._write("POST", "", json=body)
        await self.door.desk.put_into_index(reply.json, LEAVE)
        self.document = reply.json["id"]

    async def _write(self, method: str, path: str, **body: Any) -> Reply:
        """On a connection of its own: a kept one may be closed while it is taken up again."""
        reply = await self.door.desk.documents.call(method, path, by=ADMINISTRATOR, headers=ALONE, **body)
        assert reply.status < 300, reply.body
        return reply

    async def revoke(self) -> None:
        await self.door.elsewhere.revoke(self.name)

    async def leave_the_group(self) -> None:
        await self.door.elsewhere.change(self.name, groups=())

    async def expire(self) -> None:
        await execute(self.door, f"UPDATE api_keys SET expires_at = now() WHERE name = '{self.name}'")

    async def close(self) -> None:
        await self._write("PUT", f"/{self.document}", json={"readers": ["board"]})

    async def delete(self) -> None:
        await self._write("DELETE", f"/{self.document}")

    async def gone_after(self, lose: str) -> float:
        """Seconds until the last of what is open has ended, or has told that the document is gone."""
        clock = asyncio.get_running_loop().time
        async with AsyncExitStack() as stack:
            readers = kinds(self.door, self.headers)
            opened_ = {kind: await stack.enter_async_context(opened(readers[kind])) for kind in WATCHED}
            lost_at = clock()
            await getattr(self, lose)()
            took = await asyncio.gather(*(self._gone(one) for one in opened_.values()))
            await self._nothing_is_left()
            late = {heard for one in opened_.values() for at, heard in one.heard if at > lost_at + P99_S_MAX}
            assert late <= {*END, "heartbeat"}, (lose, late)
        return max(took) - lost_at

    async def _gone(self, one: Opened) -> float:
        def at() -> float | None:
            told = [at for at, name in one.heard if name in END]
            return told[0] if told else asyncio.get_running_loop().time() if one.ended.done() else None

        return float(await until(at, within_s=30.0))

    async def _nothing_is_left(self) -> None:
        """At any other door: refused, or as if it had never been."""
        headers = self.headers | ALONE
        status, _ = await self.door.json("GET", f"/api/documents/{self.document}", headers)
        assert status in (401, 404)
        status, found = await self.door.json("POST", "/api/search", headers, json={"query": "paid leave"})
        assert status == 401 or self.document not in str(found)
        status, talk = await self.door.json("GET", f"/api/conversations/{CONVERSATION}", headers)
        assert status in (401, 404) or self.document not in str(talk)


LOSSES_OF_A_ROUND = ("revoke", "leave_the_group", "expire", "close", "delete")


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_thousand_losses_are_seen_everywhere_within_seconds(
    servers: StackUrls, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keys revoked, changed, expired, documents closed, deleted; open on them are streams, conversations, sockets and feeds."""
    took: list[float] = []
    async with (
        own_desk(servers, tmp_path_factory, valkey_number=15, **PATIENT) as desk,
        Broker.connect(servers.nats_url, name="test relay") as broker,
        running(Relay(desk.documents.outbox, broker=broker, database_url=desk.documents.database_url).run),
        open_door(desk) as door,
    ):
        desk.llm.default = say(gate=asyncio.Event(), gate_at=2)
        places = asyncio.Semaphore(AT_ONCE)

        async def go(number: int) -> None:
            async with places:
                one = Round(door, number)
                await one.begin()
                took.append(await one.gone_after(LOSSES_OF_A_ROUND[number % len(LOSSES_OF_A_ROUND)]))

        async with asyncio.TaskGroup() as tasks:
            for number in range(ROUNDS):
                tasks.create_task(go(number))
    p99 = quantiles(took, n=100)[98]
    sys.stdout.write(f"{ROUNDS} losses: p50 {median(took):.2f} s, p99 {p99:.2f} s, max {max(took):.2f} s\n")
    assert len(took) == ROUNDS and p99 <= P99_S_MAX
