"""The indexer against the real servers: every event comes to exactly one end, whatever dies meanwhile."""

import asyncio
import contextlib
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import nats as nats_client
import numpy as np
import pytest
from tests.integration import indexing_desk
from tests.integration.indexing_desk import LANES, QUICK, IndexingDesk, ScriptedDocuments, open_indexing_desk
from tests.integration.nats_server import NatsServer
from tests.support.patience import within

from refdesk.contracts.errors import DocumentRejected, ModelFailed, Unavailable
from refdesk.contracts.events import (
    DOCUMENTS_STREAM,
    INDEX_STREAM,
    DocumentDeleted,
    IndexApplied,
    IndexFailed,
    IndexStarted,
    decode,
    encode,
)
from refdesk.index.chunks import content_hash
from refdesk.indexing.batching import EmbeddingBatcher
from refdesk.indexing.worker import UNREADABLE
from refdesk.outside.document_service import DocumentServiceClient, Superseded, open_document_service
from refdesk.outside.embedding.packaged import PackagedEmbedder, open_packaged_embedder
from refdesk.outside.embedding.vectors import Vectors
from refdesk.outside.http_client import open_http_client
from refdesk.outside.nats.broker import ConsumerSettings, Message

PROGRAM = Path(indexing_desk.__file__)
POLICY = "# Travel policy\n\n## Flights\n\nBook early.\n\n## Hotels\n\nUp to 120 euros a night.\n"


@pytest.fixture(scope="module")
async def embedder(models: Path) -> AsyncIterator[PackagedEmbedder]:
    async with open_packaged_embedder(models) as embedder:
        yield embedder


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def documents() -> AsyncIterator[ScriptedDocuments]:
    async with ScriptedDocuments().serving() as documents:
        yield documents


@pytest.fixture
async def desk(
    nats: NatsServer, fresh_database: str, documents: ScriptedDocuments, embedder: PackagedEmbedder
) -> AsyncIterator[IndexingDesk]:
    async with open_indexing_desk(
        nats_url=nats.url, database_url=fresh_database, documents=documents, embedder=embedder, settings=QUICK
    ) as desk:
        yield desk


@contextlib.asynccontextmanager
async def working(desk: IndexingDesk) -> AsyncIterator[None]:
    await desk.worker.consumer.ensure()
    task = asyncio.create_task(desk.worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float = 60.0) -> None:
    async with within(within_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def drained(desk: IndexingDesk, *, within_s: float = 90.0) -> None:
    """Every message on the stream has been delivered and settled. A consumer counts a new one a moment after the stream."""
    last = (await desk.broker.stream_state(DOCUMENTS_STREAM)).last_sequence
    client = await nats_client.connect(desk.broker.address)

    async def empty() -> bool:
        info = await client.jetstream().consumer_info(DOCUMENTS_STREAM, desk.worker.consumer.settings.durable)
        delivered = info.delivered.stream_seq if info.delivered else 0
        return delivered >= last and not info.num_pending and not info.num_ack_pending

    try:
        await until(empty, within_s=within_s)
    finally:
        await client.close()


async def facts(desk: IndexingDesk) -> list[IndexApplied | IndexFailed]:
    """What is on the stream INDEX, in order; who is at work apart."""
    return [fact for fact in await news(desk) if not isinstance(fact, IndexStarted)]


async def news(desk: IndexingDesk) -> list[IndexApplied | IndexFailed | IndexStarted]:
    """Everything on the stream INDEX, in order."""
    count = (await desk.broker.stream_state(INDEX_STREAM)).messages
    seen: dict[int, IndexApplied | IndexFailed | IndexStarted] = {}

    async def handle(message: Message) -> None:
        event = decode(message.payload).event
        assert isinstance(event, IndexApplied | IndexFailed | IndexStarted)
        seen[message.stream_sequence] = event
        await message.ack()

    async def complete() -> bool:
        return len(seen) >= count  # more may come meanwhile

    name = f"reader-{random.randrange(1 << 30)}"
    consumer = desk.broker.consumer(ConsumerSettings(stream=INDEX_STREAM, durable=name, filter_subjects=("index.>",)))
    task = asyncio.create_task(consumer.consume(handle, concurrency=8))
    try:
        await until(complete)
    finally:
        task.cancel()
        await asyncio.wait([task])
    return [seen[sequence] for sequence in sorted(seen)]


async def assert_oracle(desk: IndexingDesk, document_id: str, *, title: str) -> None:
    """The stored chunks are those of the current content, by hash."""
    content = desk.documents.contents[document_id]
    parsed = await desk.parsers.parse(content, "text/markdown", f"{document_id}.md")
    expected = {content_hash(title, chunk) for chunk in desk.chunker(parsed)}
    assert set(await desk.index.known_vectors(document_id)) == expected


async def version_of(desk: IndexingDesk, document_id: str) -> int | None:
    return (await desk.index.versions([document_id])).get(document_id)


# -- one event


async def test_a_changed_document_becomes_searchable_and_is_told_of(desk: IndexingDesk) -> None:
    """The index shows the version, the fact says how many chunks and how long each step took, the event is gone."""
    async with working(desk):
        await desk.tell(desk.change("a", 1, POLICY))
        await drained(desk)
    assert await version_of(desk, "a") == 1
    await assert_oracle(desk, "a", title="Document a")
    [fact] = await facts(desk)
    assert isinstance(fact, IndexApplied)
    assert (fact.document_id, fact.version, fact.generation) == ("a", 1, indexing_desk.GENERATION)
    assert fact.chunks == len(await desk.index.known_vectors("a")) > 0
    assert set(fact.seconds) == {"fetch", "parse", "chunk", "embed", "store"}


async def test_a_deleted_document_leaves_the_index(desk: IndexingDesk) -> None:
    """After the deletion nothing of it is left, and the fact says so."""
    async with working(desk):
        event = desk.change("a", 1, POLICY)
        await desk.tell(event)
        await drained(desk)
        await desk.tell(DocumentDeleted(document_id="a", version=2, occurred_at=event.occurred_at))
        await drained(desk)
    assert not await desk.index.known_vectors("a")
    assert [(fact.version, fact.chunks) for fact in await facts(desk) if isinstance(fact, IndexApplied)][-1] == (2, 0)


async def test_duplicates_and_reordering_end_at_the_newest_version(desk: IndexingDesk) -> None:
    """Any order, anything twice: the newest version stays, and a deletion is not undone by what comes late."""
    old = desk.change("a", 1, "# Old\n\nOld text.")
    new = desk.change("a", 3, POLICY)
    gone = DocumentDeleted(document_id="b", version=5, occurred_at=new.occurred_at)
    late = desk.change("b", 4, POLICY)
    async with working(desk):
        for event in (new, old, gone, new, late, old, gone, late):
            await desk.tell(event)
        await drained(desk)
    assert await version_of(desk, "a") == 3
    await assert_oracle(desk, "a", title="Document a")
    assert not await desk.index.known_vectors("b")
    assert await desk.dead_letters.count() == 0


async def test_what_the_index_has_already_costs_no_fetch(desk: IndexingDesk) -> None:
    """A backlog delivered again is skipped after one look at the index."""
    event = desk.change("a", 1, POLICY)
    async with working(desk):
        await desk.tell(event)
        await drained(desk)
        calls, texts = desk.documents.calls, desk.embedder.texts
        for _ in range(20):
            await desk.tell(event)
        await drained(desk)
    assert (desk.documents.calls, desk.embedder.texts) == (calls, texts)
    assert desk.worker.outcomes["unchanged"] == 20
    assert len(await facts(desk)) == 21, "whoever tells again is answered again"


async def test_an_event_delivered_again_is_answered_once(desk: IndexingDesk) -> None:
    """Its fact carries the event's id: the broker drops the repetition."""
    event = desk.change("a", 1, POLICY)
    payload = encode(event, event_id="the-same", source="/test")
    async with working(desk):
        for number in range(3):
            await desk.broker.publish(event.subject, payload, message_id=f"delivery-{number}")
        await drained(desk)
    assert desk.worker.outcomes["unchanged"] == 2
    assert len(await facts(desk)) == 1


async def test_unchanged_chunks_keep_their_vectors(desk: IndexingDesk) -> None:
    """Of a long document with one changed section only that section is embedded again."""
    sections = [f"## Section {number}\n\n" + f"Rule {number} holds on weekdays. " * 20 for number in range(12)]
    async with working(desk):
        await desk.tell(desk.change("a", 1, "\n\n".join(sections)))
        await drained(desk)
        first = desk.embedder.texts
        sections[5] = sections[5].replace("weekdays", "Sundays")
        await desk.tell(desk.change("a", 2, "\n\n".join(sections)))
        await drained(desk)
    assert first >= 12
    assert desk.embedder.texts - first <= 2
    await assert_oracle(desk, "a", title="Document a")


async def test_a_superseded_content_is_dropped_quietly(desk: IndexingDesk) -> None:
    """The Document Service has moved on (409) or deleted (404): no failure, the newer event is on its way."""
    event = desk.change("a", 1, "old")
    desk.change("a", 2, POLICY)
    deleted = desk.change("b", 1, "gone")
    del desk.documents.contents["b"]
    async with working(desk):
        await desk.tell(event)
        await desk.tell(deleted)
        await drained(desk)
    assert desk.worker.outcomes["superseded"] == 2
    assert await facts(desk) == []
    assert await desk.dead_letters.count() == 0


# -- failures


@pytest.mark.parametrize(
    ("content", "media_type"), [(b"   \n\n  ", "text/markdown"), (b"%PDF-1.4 nothing", "application/pdf")]
)
async def test_a_rejected_document_is_given_up_at_once(desk: IndexingDesk, content: bytes, media_type: str) -> None:
    """No text, or not readable: one attempt, one dead letter with the reason, IndexFailed(final), nothing left."""
    async with working(desk):
        await desk.tell(desk.change("bad", 1, content, media_type=media_type, filename="bad.file"))
        await desk.tell(desk.change("good", 1, POLICY))
        await drained(desk)
    [failed] = [fact for fact in await facts(desk) if isinstance(fact, IndexFailed)]
    assert (failed.document_id, failed.final, failed.attempts) == ("bad", True, 1)
    [letter] = await desk.dead_letters.list()
    assert (letter.document_id, letter.version, letter.code) == ("bad", 1, DocumentRejected.code)
    assert letter.reason == failed.reason
    assert "bad.file" in letter.reason
    assert await version_of(desk, "good") == 1


async def test_a_document_that_lost_its_text_is_not_found_by_what_it_said(desk: IndexingDesk) -> None:
    """It has failed, and is tried again like any other; one that is only damaged keeps the version before it."""
    async with working(desk):
        for name in ("blank", "damaged"):
            await desk.tell(desk.change(name, 1, POLICY))
        await drained(desk)
        blank = desk.change("blank", 2, b" \n")
        await desk.tell(blank)
        await desk.tell(desk.change("damaged", 2, b"%PDF-1.4 nothing", media_type="application/pdf"))
        await drained(desk)
        assert await desk.index.known_vectors("blank") == {}
        assert await desk.index.known_vectors("damaged") != {}
        await desk.tell(blank)
        await drained(desk)
        await desk.tell(desk.change("blank", 3, POLICY))
        await drained(desk)
    failed = [fact for fact in await facts(desk) if isinstance(fact, IndexFailed)]
    assert sorted((fact.document_id, fact.version) for fact in failed) == [("blank", 2), ("blank", 2), ("damaged", 2)]
    assert await version_of(desk, "blank") == 3


async def test_an_unreadable_event_is_kept_and_given_up(desk: IndexingDesk) -> None:
    """Nonsense on the stream becomes one dead letter, however often it is delivered, and stops nobody."""
    async with working(desk):
        for number, payload in enumerate((b"\xff\xfe", b"{}", b"[" * 100_000)):
            await desk.broker.publish("documents.x.changed", payload, message_id=f"bad-{number}")
        await desk.broker.publish("documents.x.changed", b"{}", message_id="bad again")
        await desk.tell(desk.change("good", 1, POLICY))
        await drained(desk)
    letters = await desk.dead_letters.list()
    assert [letter.code for letter in letters] == [UNREADABLE] * 3
    assert {letter.payload for letter in letters} == {b"\xff\xfe", b"{}", b"[" * 100_000}
    assert await version_of(desk, "good") == 1


async def test_a_failing_document_is_tried_again_and_then_given_up(desk: IndexingDesk) -> None:
    """Every attempt is told of, the last one as final; a replay that succeeds forgets the failure."""
    desk.embedder.error = ModelFailed("The model stumbled.")
    event = desk.change("a", 1, POLICY)
    async with working(desk):
        await desk.tell(event)
        await drained(desk)
        failures = [(fact.attempts, fact.final) for fact in await facts(desk) if isinstance(fact, IndexFailed)]
        assert failures == [(1, False), (2, False), (3, True)]
        [letter] = await desk.dead_letters.list()
        assert (letter.attempts, letter.reason) == (3, "The model stumbled.")
        assert letter.first_failed_at < letter.last_failed_at
        desk.embedder.error = None
        assert await desk.dead_letters.mark_replayed(letter)
        assert not await desk.dead_letters.mark_replayed(letter), "only once"
        assert await desk.dead_letters.list() == []
        kept = await desk.dead_letters.get(letter.id)
        assert kept is not None
        assert kept.replayed_at is not None
        await desk.tell(event)
        await drained(desk)
    assert await version_of(desk, "a") == 1
    assert await desk.dead_letters.get(letter.id) is None


async def test_a_newer_version_makes_an_old_failure_moot(desk: IndexingDesk) -> None:
    """The dead letter of version 1 goes when version 2 is indexed."""
    async with working(desk):
        await desk.tell(desk.change("a", 1, "  "))
        await drained(desk)
        assert await desk.dead_letters.count() == 1
        await desk.tell(desk.change("a", 2, POLICY))
        await drained(desk)
    assert await desk.dead_letters.count() == 0


async def test_a_failure_after_a_replay_begins_a_new_series(desk: IndexingDesk) -> None:
    """A replayed document has all its attempts again, and stays one row."""
    desk.embedder.error = ModelFailed("The model stumbled.")
    event = desk.change("a", 1, POLICY)
    async with working(desk):
        for _ in range(2):
            await desk.tell(event)
            await drained(desk)
            [letter] = await desk.dead_letters.list()
            assert letter.attempts == 3
    assert desk.worker.outcomes["given_up"] == 2


async def test_an_outage_fails_no_document(desk: IndexingDesk) -> None:
    """The Document Service is away for longer than all attempts take: the document waits, and is indexed after it."""
    desk.documents.down = True
    async with working(desk):
        await desk.tell(desk.change("a", 1, POLICY))

        async def many() -> bool:
            return desk.worker.outcomes["waiting"] > 2 * QUICK.attempts_max

        await until(many)
        desk.documents.down = False
        await drained(desk)
    assert await version_of(desk, "a") == 1
    assert await desk.dead_letters.count() == 0
    *told, applied = await facts(desk)
    assert isinstance(applied, IndexApplied)
    outages = [fact for fact in told if isinstance(fact, IndexFailed)]
    assert outages and len(outages) == len(told)
    assert {(fact.attempts, fact.final) for fact in outages} == {(0, False)}, "news of it, and no failure"
    assert all(fact.next_try_s for fact in outages)


async def test_long_work_is_announced(desk: IndexingDesk) -> None:
    """While the model takes its time, whoever waits is told that an indexer is at work, and what it does."""
    async with working(desk):
        desk.embedder.gate.clear()
        await desk.tell(desk.change("long", 1, POLICY))

        async def announced() -> bool:
            return any(isinstance(fact, IndexStarted) and fact.step == "embed" for fact in await news(desk))

        await until(announced)
        desk.embedder.gate.set()
        await drained(desk)
    [applied] = await facts(desk)
    assert (applied.document_id, applied.version) == ("long", 1)


async def test_a_fact_that_cannot_be_published_is_published_later(nats: NatsServer, desk: IndexingDesk) -> None:
    """NATS dies between the index's commit and the fact: the event returns, and the fact is told then."""
    desk.embedder.gate.clear()
    async with working(desk):
        await desk.tell(desk.change("a", 1, POLICY))

        async def fetched() -> bool:
            return desk.documents.calls == 1

        await until(fetched)
        nats.kill()
        desk.embedder.gate.set()

        async def stored() -> bool:
            return await version_of(desk, "a") == 1

        await until(stored)
        nats.start()
        assert await desk.broker.wait_connected(timeout_s=10)
        await drained(desk)
    assert [fact.version for fact in await facts(desk)] == [1]


# -- stopping and dying


async def test_a_stopped_worker_gives_its_work_back(
    nats: NatsServer, fresh_database: str, documents: ScriptedDocuments, embedder: PackagedEmbedder
) -> None:
    """What does not end within the grace goes back whole; nothing is told half-way; the next worker finishes it."""
    patient = msgspec.structs.replace(QUICK, ack_wait_s=120.0)  # nothing comes back by itself while the test looks
    async with open_indexing_desk(
        nats_url=nats.url, database_url=fresh_database, documents=documents, embedder=embedder, settings=patient
    ) as desk:
        desk.embedder.gate.clear()
        async with working(desk):
            await desk.tell(desk.change("slow", 1, POLICY))

            async def fetched() -> bool:
                return desk.documents.calls == 1

            await until(fetched)
        assert await facts(desk) == []
        assert await version_of(desk, "slow") is None
        desk.embedder.gate.set()
        async with working(desk):
            await drained(desk)
        assert await version_of(desk, "slow") == 1


async def test_killed_workers_lose_nothing(
    nats: NatsServer, fresh_database: str, desk: IndexingDesk, models: Path
) -> None:
    """SIGKILL an indexer process again and again mid-way; the last one finishes; every document is there once."""
    count = 60
    await desk.worker.consumer.ensure()
    for number in range(count):
        text = f"# Guide {number}\n\n" + "\n\n".join(f"## Part {part}\n\nStep {part} of {number}." for part in range(8))
        await desk.tell(desk.change(f"d{number}", 1, text))
    arguments = [nats.url, fresh_database, desk.documents.url, str(models)]
    kills = 0
    while (left := await desk.worker.consumer.pending_count()) > 0 or kills == 0:
        process = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, *arguments)
        try:
            if kills < 3:
                await _progress(desk, below=left - 8)
                kills += 1
            else:
                await drained(desk, within_s=60)
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
    applied = Counter(fact.document_id for fact in await facts(desk))
    assert applied == Counter(f"d{number}" for number in range(count))
    for number in range(count):
        await assert_oracle(desk, f"d{number}", title=f"Document d{number}")
    print(f"{count} documents, {kills} SIGKILLs: 0 missing, 0 told twice")  # noqa: T201


async def _progress(desk: IndexingDesk, *, below: int) -> None:
    async def enough() -> bool:
        return await desk.worker.consumer.pending_count() < below

    await until(enough, within_s=60)


# -- sharing the model


class Calls:
    """An embedding model that answers with each text's length, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def __call__(self, texts: list[str]) -> Vectors:
        self.calls.append(texts)
        await asyncio.sleep(0)
        if "poison" in texts:
            raise ModelFailed
        return np.array([[len(text)] for text in texts], dtype=np.float32)


@contextlib.asynccontextmanager
async def batching(calls: Callable[[list[str]], Awaitable[Vectors]]) -> AsyncIterator[EmbeddingBatcher]:
    batcher = EmbeddingBatcher(calls, call_texts_max=8)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_small_documents_share_a_call() -> None:
    """Texts of different documents go to the model together, and each gets its own vectors, in order."""
    calls = Calls()
    documents: list[Sequence[str]] = [["a", "bbb"], ["cc"], ["dddd", "e", "ff"]]
    async with batching(calls) as batcher:
        results = await asyncio.gather(*(batcher.embed(texts) for texts in documents))
    assert len(calls.calls) == 1
    assert [list(vectors[:, 0]) for vectors in results] == [[1, 3], [2], [4, 1, 2]]


async def test_a_small_document_overtakes_a_huge_one() -> None:
    """A document of one text is in the next call, however many texts were before it."""
    calls = Calls()
    async with batching(calls) as batcher:
        huge = asyncio.create_task(batcher.embed(["x" * (1 + number % 7) for number in range(10_000)]))
        while not calls.calls:
            await asyncio.sleep(0)
        before = len(calls.calls)
        await batcher.embed(["small"])
        assert any("small" in call for call in calls.calls[before : before + 2])
        assert not huge.done()
        vectors = await huge
    assert list(vectors[:, 0]) == [1 + number % 7 for number in range(10_000)]


async def test_one_documents_bad_text_fails_no_other() -> None:
    """The call is repeated for each document alone."""
    async with batching(Calls()) as batcher:
        bad, good = await asyncio.gather(batcher.embed(["poison"]), batcher.embed(["good"]), return_exceptions=True)
    assert isinstance(bad, ModelFailed)
    assert isinstance(good, np.ndarray)


async def test_an_absent_model_is_asked_once_per_call() -> None:
    """When the model is away, all who wait are told so; nobody is tried one by one."""
    asked = 0

    async def absent(_: list[str]) -> Vectors:
        nonlocal asked
        asked += 1
        raise Unavailable

    async with batching(absent) as batcher:
        results = await asyncio.gather(*(batcher.embed([str(n)]) for n in range(5)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert asked == 1


async def test_vectors_come_in_parts_while_the_rest_is_made() -> None:
    """Each text once, in parts of the least size but the last, and before the whole is done."""
    texts = ["x" * (1 + number % 7) for number in range(100)]
    calls = Calls()
    parts: list[list[int]] = []
    made: dict[int, float] = {}
    async with batching(calls) as batcher, contextlib.aclosing(batcher.parts(texts, part_texts_min=30)) as stream:
        async for places, vectors in stream:
            if not parts:
                assert sum(map(len, calls.calls)) < len(texts)
            parts.append(places)
            made |= dict(zip(places, vectors[:, 0].tolist(), strict=True))
    assert all(len(part) >= 30 for part in parts[:-1])
    assert sum(map(len, parts)) == len(texts)
    assert made == {place: len(text) for place, text in enumerate(texts)}


# -- large documents beside small ones


def handbook(sections: int, *, of: str) -> str:
    """A text that makes at least so many chunks."""
    text = " ".join(f"Step {n} of {of} is done by hand." for n in range(12))
    return "\n\n".join(f"# Chapter {n} of {of}\n\n{text}" for n in range(sections))


async def test_small_documents_pass_large_ones(desk: IndexingDesk) -> None:
    """However many large documents wait for their turn, by chunks or by bytes, a small one is not kept waiting."""
    large = [f"large-{n}" for n in range(QUICK.concurrency + 1)]
    long = [f"long-{n}" for n in range(QUICK.concurrency + 1)]
    for name in large:
        await desk.tell(desk.change(name, 1, handbook(9, of=name)))
    for name in long:
        await desk.tell(desk.change(name, 1, handbook(9, of=name) + " " * LANES.bytes_small))
    await desk.tell(desk.change("large-0", 2, handbook(9, of="another version")))
    await desk.tell(desk.change("note", 1, POLICY))
    async with contextlib.AsyncExitStack() as occupied, working(desk):
        lane = desk.lanes.of(LANES.chunks_medium + 1)
        assert lane is not None
        for one in (desk.lanes.reading, *[lane] * LANES.places):
            await occupied.enter_async_context(one.place())

        async def noted() -> bool:
            return await version_of(desk, "note") == 1

        await until(noted)
        assert await desk.index.versions([*large, *long]) == {}
        await occupied.aclose()
        await drained(desk, within_s=90)
    assert await desk.index.versions([*large, *long]) == dict.fromkeys([*large, *long], 1) | {"large-0": 2}
    await assert_oracle(desk, "large-1", title="Document large-1")


async def test_a_large_document_is_staged_and_taken_up_again(desk: IndexingDesk) -> None:
    """Its vectors are written as they are made; an attempt that breaks off leaves them to the next."""
    desk.embedder.pause_after = 20
    async with working(desk):
        await desk.tell(desk.change("large", 1, handbook(30, of="everything")))

        async def staged() -> bool:
            return len(await desk.index.known_vectors("large")) >= LANES.chunks_staged

        await until(staged)
        assert await version_of(desk, "large") is None
    first = desk.embedder.texts
    desk.embedder.pause_after = None
    desk.embedder.gate.set()
    async with working(desk):
        await drained(desk, within_s=60)
    await assert_oracle(desk, "large", title="Document large")
    assert desk.embedder.texts - first <= len(await desk.index.known_vectors("large")) - LANES.chunks_staged


# -- fetching


async def test_content_is_checked_and_bounded(documents: ScriptedDocuments, desk: IndexingDesk) -> None:
    """Exactly the bytes of the event, not more than allowed, as the operator only."""
    event = desk.change("a", 1, POLICY)
    async with open_http_client(documents.url) as http:

        def client(
            *, operator_key: str = indexing_desk.OPERATOR_KEY, bytes_max: int = 1 << 20
        ) -> DocumentServiceClient:
            return DocumentServiceClient(http, operator_key=operator_key, content_bytes_max=bytes_max)

        assert await client().fetch(event) == POLICY.encode()
        with pytest.raises(DocumentRejected, match="REFDESK_UPLOAD_BYTES_MAX"):
            await client(bytes_max=10).fetch(event)
        with pytest.raises(Unavailable, match="401"):
            await client(operator_key="wrong").fetch(event)
        with pytest.raises(Superseded):
            await client().fetch(msgspec.structs.replace(event, document_id="none"))


async def test_a_document_service_that_is_away_is_named(desk: IndexingDesk) -> None:
    """As what does not answer, with its address."""
    event = desk.change("a", 1, POLICY)
    async with open_document_service("http://127.0.0.1:9", operator_key="", content_bytes_max=1) as gone:
        with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
            await gone.fetch(event)
