"""Outbox and relay on a real PostgreSQL and a real NATS: nothing committed is lost, nothing uncommitted is told."""

import asyncio
import contextlib
import random
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.documents_desk import ALICE, Desk, eventually, open_desk, running
from tests.integration.nats_server import NatsServer

from refdesk.contracts.events import (
    DOCUMENTS_STREAM,
    INDEX_STREAM,
    INDEXER,
    DocumentChanged,
    DocumentDeleted,
    IndexApplied,
    IndexFailed,
    Received,
    decode,
    encode,
)
from refdesk.documents.changes import Change, Content
from refdesk.documents.losses import Losses
from refdesk.documents.outbox import RETOLD_MAX
from refdesk.documents.relay import Relay, RelaySettings
from refdesk.documents.states import StateConsumer
from refdesk.outside.nats.broker import Broker, ConsumerSettings, Message, Published
from refdesk.settings.servers import StreamSettings

QUICK = RelaySettings(batch=10, lease_s=1.0, poll_s=0.2, check_s=0.2, backoff_s=(0.02, 0.1))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTENT = Content(sha256="0" * 64, bytes=1, media_type="text/plain")


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    server = NatsServer(folder)
    server.start()
    yield server
    server.kill()


@contextlib.asynccontextmanager
async def connected(nats: NatsServer) -> AsyncIterator[Broker]:
    async with Broker.connect(nats.url, name="test", streams=StreamSettings(bytes_max=64 << 20), wait_s=1) as broker:
        yield broker


def relay(desk: Desk, broker: Broker) -> Relay:
    return Relay(desk.outbox, broker=broker, database_url=desk.database_url, settings=QUICK)


class Told:
    """Everything the stream holds, by a consumer of its own."""

    def __init__(self) -> None:
        self.events: list[Received] = []

    async def __call__(self, message: Message) -> None:
        await message.ack()
        self.events.append(decode(message.payload))

    @property
    def versions(self) -> set[tuple[str, int]]:
        return {(told.event.document_id, told.event.version) for told in self.events}

    async def all_of(self, wanted: set[tuple[str, int]]) -> None:
        await eventually(lambda: wanted <= self.versions, within_s=30)


@contextlib.asynccontextmanager
async def reading(broker: Broker) -> AsyncIterator[Told]:
    told = Told()
    consumer = broker.consumer(
        ConsumerSettings(stream=DOCUMENTS_STREAM, durable="test", filter_subjects=("documents.>",))
    )
    async with running(lambda: consumer.consume(told, concurrency=8, grace_s=1)):
        yield told


async def published(desk: Desk) -> bool:
    return not await desk.query("SELECT 1 FROM outbox WHERE published_at IS NULL")


async def test_every_change_is_told_in_full(desk: Desk, nats: NatsServer) -> None:
    """Created, replaced, deleted: with everything the indexer needs, and the caller's trace."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with connected(nats) as broker, running(relay(desk, broker).run), reading(broker) as told:
        reply = await desk.call(
            "POST",
            json={"title": "T", "text": "x", "readers": ["hr"], "tags": ["a"], "url": "https://x.example/"},
            headers={"traceparent": trace},
        )
        document = reply.json
        await desk.call("PUT", f"/{document['id']}", json={"readers": ["everyone"]}, headers={"traceparent": "junk"})
        await desk.call("DELETE", f"/{document['id']}")
        await told.all_of({(document["id"], n) for n in (1, 2, 3)})
    first, second, third = sorted(told.events, key=lambda received: received.event.version)
    assert isinstance(first.event, DocumentChanged)
    assert first.event.content_sha256 == document["content_sha256"]
    assert first.event.readers == ("hr", "principal:alice")
    assert (first.event.title, first.event.tags, first.event.url) == ("T", ("a",), "https://x.example/")
    assert first.traceparent == trace
    assert isinstance(second.event, DocumentChanged)
    assert (second.event.readers, second.traceparent) == (("everyone",), None)
    assert isinstance(third.event, DocumentDeleted)
    assert len({received.event_id for received in told.events}) == 3


async def test_a_write_answers_while_nats_is_away(desk: Desk, nats: NatsServer) -> None:
    """Changes wait in the outbox, and are told when NATS comes: also one that was there before, and died."""
    nats.kill()
    async with connected(nats) as broker, running(relay(desk, broker).run):
        ids = {((await desk.add(f"D{n}"))["id"], 1) for n in range(25)}
        assert len(await desk.query("SELECT 1 FROM outbox WHERE published_at IS NULL")) == 25
        nats.start()
        async with reading(broker) as told:
            await told.all_of(ids)
            nats.kill()
            late = await desk.add("Late")
            nats.start()
            await told.all_of({(late["id"], 1)})
        await eventually(lambda: published(desk))


async def test_an_aborted_transaction_tells_nothing(desk: Desk, nats: NatsServer) -> None:
    """The event is part of the change: without the one there is not the other."""

    async def abort(n: int) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with desk.store.writing() as writing:
                row = await writing.insert(Change(content=CONTENT, title=f"A{n}").for_new_document(), owner="alice")
                await writing.record(row, change="created", changed_by="alice", traceparent=None)
                raise ZeroDivisionError

    async with connected(nats) as broker, running(relay(desk, broker).run), reading(broker) as told:
        await asyncio.gather(*(abort(n) for n in range(50)))
        last = await desk.add("Committed")
        await told.all_of({(last["id"], 1)})
        assert told.versions == {(last["id"], 1)}


async def test_commits_out_of_order_skip_nothing(desk: Desk, nats: NatsServer) -> None:
    """Rows get their ids in one order and commit in another, while two relays poll; every one is told."""
    width, rounds, shuffle = 6, 15, random.Random(7)
    written: set[tuple[str, int]] = set()

    async def write(ready: asyncio.Barrier, order: list[asyncio.Event], turn: int) -> None:
        async with desk.store.writing() as writing:
            row = await writing.insert(Change(content=CONTENT, title="R").for_new_document(), owner="alice")
            await writing.record(row, change="created", changed_by="alice", traceparent=None)
            written.add((row["id"], 1))
            await ready.wait()
            await order[turn].wait()
        order[turn + 1].set()

    async with (
        connected(nats) as broker,
        running(relay(desk, broker).run, relay(desk, broker).run),
        reading(broker) as told,
    ):
        for _ in range(rounds):
            ready, order = asyncio.Barrier(width), [asyncio.Event() for _ in range(width + 1)]
            order[0].set()
            turns = shuffle.sample(range(width), width)
            await asyncio.gather(*(write(ready, order, turn) for turn in turns))
        assert len(written) == width * rounds
        await told.all_of(written)
        assert await eventually(lambda: published(desk))


async def test_a_dead_relays_rows_are_freed_by_their_lease(desk: Desk, nats: NatsServer) -> None:
    """Another relay publishes what a killed one had claimed."""
    document = await desk.add()
    assert len(await desk.outbox.claim(count=10, lease_s=0.5)) == 1
    assert await desk.outbox.claim(count=10, lease_s=0.5) == []
    async with connected(nats) as broker, running(relay(desk, broker).run), reading(broker) as told:
        await told.all_of({(document["id"], 1)})


async def test_a_clock_that_was_set_back_holds_up_no_event(desk: Desk) -> None:
    """A claim that ends in three days is no relay's: the event is free at once, and so are later ones of its document."""
    document = await desk.add()
    assert len(await desk.outbox.claim(count=10, lease_s=30)) == 1
    async with desk.pool.connection() as connection:
        await connection.execute("UPDATE outbox SET claimed_until = clock_timestamp() + interval '3 days'")
    assert [event.document_id for event in await desk.outbox.claim(count=10, lease_s=30)] == [document["id"]]
    assert await desk.outbox.claim(count=10, lease_s=30) == []


async def test_a_later_event_waits_for_an_earlier_one_in_other_hands(desk: Desk) -> None:
    """Two relays do not turn a document's events round."""
    document = await desk.add()
    [first] = await desk.outbox.claim(count=10, lease_s=30)
    await desk.call("PUT", f"/{document['id']}", json={"text": "new"})
    assert await desk.outbox.claim(count=10, lease_s=30) == []
    await desk.outbox.mark_published([first.id], stream=DOCUMENTS_STREAM, last_sequence=1)
    assert [event.version for event in await desk.outbox.claim(count=10, lease_s=30)] == [2]


async def test_the_outbox_does_not_grow_with_history(desk: Desk, nats: NatsServer) -> None:
    """What was published of earlier versions goes with the next change; the current version's row stays."""
    document = await desk.add()
    async with connected(nats) as broker, running(relay(desk, broker).run):
        for n in range(5):
            await desk.call("PUT", f"/{document['id']}", json={"text": f"{n}"})
            await eventually(lambda: published(desk))
    assert await desk.query("SELECT version FROM outbox") == [(6,)]


@pytest.mark.parametrize("loss", ["wiped", "older copy"])
async def test_what_the_broker_lost_is_told_again(desk: Desk, nats: NatsServer, tmp_path: Path, loss: str) -> None:
    """A younger stream, or one that went back, is noticed; documents not known to be indexed are told again."""
    async with connected(nats) as broker, running(relay(desk, broker).run):
        if loss == "older copy":
            await desk.add("Before")
            await eventually(lambda: published(desk))
            nats.kill()
            shutil.copytree(nats.folder / "store", tmp_path / "copy")
            nats.start()
        pending, indexed, gone = await desk.add("Pending"), await desk.add("Indexed"), await desk.add("Gone")
        await desk.call("DELETE", f"/{gone['id']}")
        await eventually(lambda: published(desk))
        await desk.store.apply_indexed(applied(indexed["id"], 1))
        nats.kill()
        nats.wipe()
        if loss == "older copy":
            shutil.copytree(tmp_path / "copy", nats.folder / "store")
        nats.start()
        async with reading(broker) as told:
            await told.all_of({(pending["id"], 1), (gone["id"], 2)})
            await eventually(lambda: published(desk))
            assert (indexed["id"], 1) not in told.versions


@contextlib.asynccontextmanager
async def reading_as_the_indexer(broker: Broker) -> AsyncIterator[Told]:
    """Acknowledges everything, and says nothing of it on INDEX."""
    told, durable = Told(), INDEXER
    consumer = broker.consumer(
        ConsumerSettings(stream=DOCUMENTS_STREAM, durable=durable, filter_subjects=("documents.>",))
    )
    async with running(lambda: consumer.consume(told, concurrency=8, grace_s=1)):
        yield told


async def test_what_is_purged_by_hand_is_told_again(desk: Desk, nats: NatsServer) -> None:
    """Before anybody has read it; what is indexed is not."""
    async with (
        connected(nats) as broker,
        running(relay(desk, broker).run, StateConsumer(desk.store, broker=broker).run),
    ):
        indexed, pending, gone = await desk.add("Indexed"), await desk.add("Pending"), await desk.add("Gone")
        await desk.call("DELETE", f"/{gone['id']}")
        await eventually(lambda: published(desk))
        await desk.store.apply_indexed(applied(indexed["id"], 1))
        last = (await broker.stream_state(DOCUMENTS_STREAM)).last_sequence
        await broker.purge(DOCUMENTS_STREAM, through=last)

        async def told_again() -> bool:
            return (await broker.stream_state(DOCUMENTS_STREAM)).messages >= 2

        await eventually(told_again, within_s=30)
        async with reading_as_the_indexer(broker) as told:
            await told.all_of({(pending["id"], 1), (gone["id"], 2)})
            assert told.versions == {(pending["id"], 1), (gone["id"], 2)}


@pytest.mark.parametrize("fate", ["never said", "purged before it was heard"])
async def test_a_document_of_which_nobody_speaks_any_more_is_told_again(
    desk: Desk, nats: NatsServer, fate: str
) -> None:
    """The indexer has acknowledged it, and what it said is lost. What was heard is not told again."""
    async with connected(nats) as broker, running(relay(desk, broker).run):
        heard, lost = await desk.add("Heard"), await desk.add("Lost")
        async with reading_as_the_indexer(broker) as told:
            await told.all_of({(heard["id"], 1), (lost["id"], 1)})
            await say(broker, applied(heard["id"], 1))
            async with running(StateConsumer(desk.store, broker=broker).run):
                await eventually(lambda: is_indexed(desk, heard))
            if fate != "never said":
                said = await say(broker, applied(lost["id"], 1))
                await broker.purge(INDEX_STREAM, through=said.sequence)
            async with running(StateConsumer(desk.store, broker=broker).run):
                await eventually(lambda: twice(told, lost), within_s=30)
                await say(broker, applied(lost["id"], 1))
                await eventually(lambda: is_indexed(desk, lost))
        assert [event.event.document_id for event in told.events].count(heard["id"]) == 1


async def test_what_was_said_and_not_heard_yet_is_waited_for(desk: Desk, nats: NatsServer) -> None:
    """The Document Service is behind on INDEX: that is no loss."""
    async with connected(nats) as broker:
        losses = Losses(desk.outbox, broker=broker)
        await losses.look()
        async with running(relay(desk, broker).run):
            document = await desk.add()
            await eventually(lambda: published(desk))
        async with reading_as_the_indexer(broker) as told:
            await told.all_of({(document["id"], 1)})
            await say(broker, applied(document["id"], 1))
        for _ in range(4):
            await losses.look()
        assert await published(desk), "told again too early"
        async with running(StateConsumer(desk.store, broker=broker).run):
            await eventually(lambda: is_indexed(desk, document))
        for _ in range(4):
            await losses.look()
        assert await published(desk)


async def test_what_is_told_again_in_vain_is_left_to_the_reconciler(desk: Desk, nats: NatsServer) -> None:
    """A few times, not for ever: somebody acknowledges it and never speaks of it."""
    async with (
        connected(nats) as broker,
        running(relay(desk, broker).run, StateConsumer(desk.store, broker=broker).run),
        reading_as_the_indexer(broker) as told,
    ):
        await desk.add()
        await eventually(lambda: told_times(told, 1 + RETOLD_MAX), within_s=30)
        losses = Losses(desk.outbox, broker=broker)
        for _ in range(4):
            await losses.look()
        assert await published(desk)
        assert len(told.events) == 1 + RETOLD_MAX


async def test_one_look_does_not_prove_that_a_stream_went_back(desk: Desk, nats: NatsServer) -> None:
    """A server that no longer leads may answer once more. Two looks do, and so does a new message with an old place."""
    async with connected(nats) as broker:
        losses = Losses(desk.outbox, broker=broker)
        await losses.look()
        async with running(relay(desk, broker).run):
            await desk.add()
            await eventually(lambda: published(desk))
        stale = {
            stream: (await broker.stream_state(stream)).last_sequence for stream in (DOCUMENTS_STREAM, INDEX_STREAM)
        }
        await desk.outbox.mark_published([], stream=DOCUMENTS_STREAM, last_sequence=stale[DOCUMENTS_STREAM] + 10)
        await losses.look()
        assert await published(desk)
        await losses.look()
        assert not await published(desk)


async def say(broker: Broker, fact: IndexApplied) -> Published:
    """As an indexer says it."""
    event_id = secrets.token_hex(8)
    payload = encode(fact, event_id=event_id, source="/indexer")
    return await broker.publish(fact.subject, payload, message_id=event_id)


async def is_indexed(desk: Desk, document: Any) -> bool:
    return bool((await desk.call("GET", f"/{document['id']}")).json["state"] == "indexed")


async def twice(told: Told, document: Any) -> bool:
    return [event.event.document_id for event in told.events].count(document["id"]) >= 2


async def told_times(told: Told, count: int) -> bool:
    return len(told.events) >= count


async def test_everything_can_be_told_again(desk: Desk, nats: NatsServer) -> None:
    """`retell` puts the current version of every document, and every tombstone, into the outbox once."""
    document, gone = await desk.add(), await desk.add()
    await desk.call("PUT", f"/{document['id']}", json={"text": "new"})
    await desk.call("DELETE", f"/{gone['id']}")
    async with connected(nats) as broker, running(relay(desk, broker).run), reading(broker) as told:
        await eventually(lambda: published(desk))
        told.events.clear()
        assert await desk.outbox.retell(pending_only=False) == 2
        await told.all_of({(document["id"], 2), (gone["id"], 2)})
        assert len(told.versions) == 2


async def test_retry_tells_the_current_version_again(desk: Desk, nats: NatsServer) -> None:
    """Under a new event id, since the broker drops the old one; the failure is forgotten."""
    document = await desk.add()
    await desk.store.apply_failed(failed(document["id"], 1, final=True))
    async with connected(nats) as broker, running(relay(desk, broker).run), reading(broker) as told:
        await told.all_of({(document["id"], 1)})
        reply = await desk.call("POST", f"/{document['id']}/retry")
        assert (reply.status, reply.json["state"], reply.json["attempts"]) == (202, "pending", 0)
        await eventually(lambda: len(told.events) == 2)
        assert len({received.event_id for received in told.events}) == 2


async def test_concurrent_replacements_each_get_a_version(desk: Desk) -> None:
    """Writers of one document queue up: no version twice, none skipped, every one in the outbox."""
    document = await desk.add()
    replies = await asyncio.gather(
        *(desk.call("PUT", f"/{document['id']}", json={"text": f"text {n}"}) for n in range(20))
    )
    assert sorted(reply.json["version"] for reply in replies) == list(range(2, 22))
    told = await desk.query("SELECT version FROM outbox ORDER BY version")
    assert [version for (version,) in told] == list(range(1, 22))


async def test_concurrent_replacements_with_if_match_let_one_through(desk: Desk) -> None:
    """Optimistic locking holds under a race."""
    document = await desk.add()
    replies = await asyncio.gather(
        *(
            desk.call("PUT", f"/{document['id']}", json={"text": f"text {n}"}, headers={"If-Match": '"1"'})
            for n in range(10)
        )
    )
    assert sorted(reply.status for reply in replies) == [200] + [412] * 9


async def test_concurrent_puts_by_external_id_create_once(desk: Desk) -> None:
    """One 201; the others replace."""
    replies = await asyncio.gather(
        *(desk.call("PUT", "/by-external-id/same", json={"title": "T", "text": f"{n}"}) for n in range(10))
    )
    assert sorted(reply.status for reply in replies) == [200] * 9 + [201]
    assert len({reply.json["id"] for reply in replies}) == 1


async def test_cut_database_connections_are_replaced(desk: Desk) -> None:
    """The service heals without a restart."""
    await desk.add()
    with contextlib.suppress(Exception):
        await desk.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()")

    async def healed() -> bool:
        return (await desk.call("GET", by=ALICE)).status == 200

    assert await eventually(healed)


def applied(document_id: str, version: int) -> IndexApplied:
    return IndexApplied(document_id=document_id, version=version, chunks=1, generation="g", seconds={}, occurred_at=NOW)


def failed(document_id: str, version: int, *, final: bool) -> IndexFailed:
    return IndexFailed(
        document_id=document_id,
        version=version,
        reason="The file is encrypted.",
        code="document-rejected",
        attempts=3,
        final=final,
        occurred_at=NOW,
    )
