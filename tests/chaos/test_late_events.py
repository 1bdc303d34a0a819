"""Whatever is late, twice, out of order or cut short: a version never goes back, and what was deleted stays deleted.

A machine of Hypothesis's plays the broker, the relay's crashes and two workers over the real Document Service and the real
index. After each step the index must show every document as one of its versions, whole, and never an older one than
before; in the end, when everything was told, the newest.

Hypothesis demands that what it may draw next follows from what it has drawn. What the workers make of a message does not: ids
are random, and so is who is first. So no rule stands under a condition on messages or facts; one that finds none does nothing.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.chaos.paragraphs import Paragraphs, chunks_of, embed, states_of
from tests.integration.documents_desk import ADMINISTRATOR, ALICE, Desk, open_desk, running
from tests.support.databases import own_database
from tests.support.embedding_server import DIMENSIONS

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.events import DocumentChanged, IndexApplied, decode
from refdesk.documents.changes import Change, Content
from refdesk.documents.outbox import OutboxEvent
from refdesk.index.chunks import content_hash
from refdesk.index.ledger.generations import MIGRATIONS, open_generation
from refdesk.index.pgvector.index import PgvectorIndex, Vectors
from refdesk.indexing.batching import EmbeddingBatcher
from refdesk.indexing.parsed import ParsedDocument
from refdesk.indexing.pipeline import Indexing
from refdesk.outside.document_service import DocumentServiceClient, open_document_service
from refdesk.outside.media_types import MARKDOWN
from refdesk.outside.postgres.database import migrate, open_pool

TITLE = "Orders"
OPERATOR = " ".join((ADMINISTRATOR.id, *ADMINISTRATOR.groups))
SECTIONS = ("A", "B", "AB", "BA", "ABC")
READERS = (("hr",), ("legal",), ("everyone",))
STEPS = ("fetch", "parse", "embed")
WORKERS = 2
EVENTS_MAX = 1000
LEASE_S = 1000.0

places = st.integers(0, 999)
"""Which of several, modulo their number."""


class Died(Exception):
    """The worker is no more; the message comes again."""


@dataclass
class Fragile:
    """What a worker calls while it works. After the step named it dies; or it pauses there until it is let go on."""

    documents: DocumentServiceClient
    dies_after: str | None = None
    pauses_after: str | None = None
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self, event: DocumentChanged) -> bytes:
        content = await self.documents.fetch(event)
        await self._done("fetch")
        return content

    async def parse(self, content: bytes, _: str, __: str | None) -> ParsedDocument:
        parsed = Paragraphs.parsed(content.decode())
        await self._done("parse")
        return parsed

    async def embed(self, texts: list[str]) -> Vectors:
        vectors = await embed(texts)
        await self._done("embed")
        return vectors

    async def _done(self, step: str) -> None:
        if step == self.dies_after:
            raise Died
        if step == self.pauses_after:
            self.paused.set()
            await self.go_on.wait()


@dataclass(frozen=True)
class World:
    """The Document Service, the index and the workers; and the loop on which they live during a step."""

    loop: asyncio.Runner
    desk: Desk
    index: PgvectorIndex
    schema: str
    workers: list[Indexing]
    parts: list[Fragile]


@asynccontextmanager
async def inhabited(loop: asyncio.Runner, documents_url: str, index_url: str, folder: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        desk = await enter(open_desk(documents_url, folder))
        pool = await enter(open_pool(index_url, name="late events"))
        await migrate(pool, MIGRATIONS)
        generation = await open_generation(pool, model="by-hash", dimensions=DIMENSIONS, chunking="1")
        index = PgvectorIndex(pool, generation)
        documents = await enter(open_document_service(desk.url, operator_key=OPERATOR, content_bytes_max=1 << 20))
        parts = [Fragile(documents) for _ in range(WORKERS)]
        batchers = [EmbeddingBatcher(part.embed) for part in parts]
        await enter(running(*(batcher.run for batcher in batchers)))
        workers = [
            Indexing(
                index=index,
                generation=generation.schema,
                documents=part,
                parsers=part,
                chunker=chunks_of,
                embeddings=batcher,
            )
            for part, batcher in zip(parts, batchers, strict=True)
        ]
        yield World(loop, desk, index, generation.schema, workers, parts)


@dataclass(eq=False)
class Told:
    """A document as we have told it: each version's sections (none: deleted) and readers."""

    id: str
    versions: list[tuple[str, tuple[str, ...]]]
    seen: int = 0
    """The version that the index had when we last looked."""

    def shown(self, version: int) -> tuple[Any, ...]:
        """What the index must have of that version, in the order of `states_of`."""
        sections, readers = self.versions[version - 1]
        chunks = chunks_of(Paragraphs.parsed(text_of(sections))) if sections else []
        hashes = [content_hash(TITLE, piece) for piece in chunks]
        owner = [] if "everyone" in readers or not sections else [f"principal:{ALICE.id}"]
        return not sections, {*readers, *owner}, len(hashes), hashes, sorted(hashes), bool(hashes)


def text_of(sections: str) -> str:
    return "\n\n".join(f"{name}\n\nThe {name} is kept dry and dark." for name in sections)


class LateEvents(RuleBasedStateMachine):
    """A subclass has the ``world``. Every run begins without documents."""

    world: World
    documents = Bundle("documents")

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Told] = []
        self.messages: list[OutboxEvent] = []
        """All that the broker has; it forgets none of them but in `wipe`."""
        self.facts: list[IndexApplied] = []
        self.run(self.world.desk.query("TRUNCATE documents, document_versions, outbox CASCADE"))

    def run(self, coroutine: Any) -> Any:
        return self.world.loop.run(coroutine)

    # editors

    @initialize(target=documents, sections=st.sampled_from(SECTIONS), readers=st.sampled_from(READERS))
    def begin(self, sections: str, readers: tuple[str, ...]) -> Told:
        """Hypothesis leaves some rules out of each run; one without a document would show nothing."""
        return self.create(sections, readers)

    @rule(target=documents, sections=st.sampled_from(SECTIONS), readers=st.sampled_from(READERS))
    def create(self, sections: str, readers: tuple[str, ...]) -> Told:
        change = Change(content=self._content(sections), title=TITLE, readers=readers)
        created = self.run(self.world.desk.service.create(ALICE, change))
        self.told.append(Told(created.id, [(sections, readers)]))
        return self.told[-1]

    @rule(told=documents, sections=st.sampled_from(SECTIONS))
    def replace(self, told: Told, sections: str) -> None:
        self._change(told, Change(content=self._content(sections)), (sections, told.versions[-1][1]))

    @rule(told=documents, readers=st.sampled_from(READERS))
    def share(self, told: Told, readers: tuple[str, ...]) -> None:
        self._change(told, Change(readers=readers), (told.versions[-1][0], readers))

    @rule(told=consumes(documents))
    def delete(self, told: Told) -> None:
        self.run(self.world.desk.service.delete(ALICE, told.id))
        told.versions.append(("", ()))

    @rule()
    def time_passes(self) -> None:
        """Content that no version needs any more is swept away."""
        self.run(self.world.desk.service.contents.sweep(grace_s=0.0))

    def _content(self, sections: str) -> Content:
        text = text_of(sections).encode()
        store = self.world.desk.service.contents.keep_text
        found: Content = self.run(store(io.BytesIO(text), bytes_count=len(text), media_type=MARKDOWN))
        return found

    def _change(self, told: Told, change: Change, version: tuple[str, tuple[str, ...]]) -> None:
        document = self.run(self.world.desk.service.replace(ALICE, told.id, change))
        if version != told.versions[-1]:
            told.versions.append(version)
        assert document.version == len(told.versions)

    # the relay and the broker

    @rule(dies=st.booleans())
    def publish(self, dies: bool) -> None:
        """A relay that dies between publishing and marking publishes once more."""

        async def act() -> None:
            outbox = self.world.desk.outbox
            events = await outbox.claim(count=EVENTS_MAX, lease_s=LEASE_S)
            self.messages += sorted(events, key=self._place_of)
            ids = [event.id for event in events]
            await (outbox.release(ids) if dies else outbox.mark_published(ids, stream="DOCUMENTS", last_sequence=0))

        self.run(act())

    def _place_of(self, message: OutboxEvent) -> tuple[int, int]:
        """In the order of what was told, so that a run can be repeated: ids are random."""
        return [told.id for told in self.told].index(message.document_id), message.version

    @rule()
    def wipe(self) -> None:
        """The broker loses everything, and the relay tells again what is not known to be indexed."""
        self.messages.clear()
        self.facts.clear()
        self.run(self.world.desk.outbox.retell(pending_only=True))

    # the workers

    @rule(place=places, worker=st.integers(0, WORKERS - 1), dies_after=st.sampled_from((None, None, *STEPS)))
    def deliver(self, place: int, worker: int, dies_after: str | None) -> None:
        """Any message, however old, for the first time or again."""
        if not self.messages:
            return
        message = self.messages[place % len(self.messages)]
        self.world.parts[worker].dies_after = dies_after
        self.run(self._handle(worker, message))
        self.world.parts[worker].dies_after = None

    @rule(place=places, other=places, step=st.sampled_from(STEPS))
    def overtake(self, place: int, other: int, step: str) -> None:
        """One worker stands still in the middle; the other one does all of another message of that document meanwhile."""
        if not self.messages:
            return
        slow = self.messages[place % len(self.messages)]
        same = [message for message in self.messages if message.document_id == slow.document_id]
        self.run(self._overtake(slow, same[other % len(same)], step=step))

    @rule(
        told=documents,
        sections=st.sampled_from(SECTIONS),
        readers=st.sampled_from(READERS),
        step=st.sampled_from(STEPS),
    )
    def share_while_a_worker_stands_still(self, told: Told, sections: str, readers: tuple[str, ...], step: str) -> None:
        """The same where it hurts: the content of the older of two versions is still the current one."""
        self.replace(told, sections)
        self.share(told, readers)
        self.publish(dies=False)
        mine = sorted((one for one in self.messages if one.document_id == told.id), key=lambda one: one.version)
        if len(mine) > 1:
            self.run(self._overtake(mine[-2], mine[-1], step=step))

    async def _overtake(self, slow: OutboxEvent, fast: OutboxEvent, *, step: str) -> None:
        part = self.world.parts[0]
        part.pauses_after, part.paused, part.go_on = step, asyncio.Event(), asyncio.Event()
        working = asyncio.create_task(self._handle(0, slow))
        paused = asyncio.create_task(part.paused.wait())
        await asyncio.wait([working, paused], return_when=asyncio.FIRST_COMPLETED)
        await self._handle(1, fast)
        part.pauses_after = None
        part.go_on.set()
        await working
        paused.cancel()

    @rule(place=places)
    def hear(self, place: int) -> None:
        """The Document Service learns of something that was indexed, perhaps long ago."""
        if self.facts:
            self.run(self.world.desk.store.apply_indexed(self.facts[place % len(self.facts)]))

    async def _handle(self, worker: int, message: OutboxEvent) -> None:
        with suppress(Died):
            outcome = await self.world.workers[worker].handle(decode(message.payload).event)
            if outcome.fact is not None:
                self.facts.append(outcome.fact)

    # what must hold

    @invariant()
    def every_document_is_one_of_its_versions_and_no_older_one_than_before(self) -> None:
        states = self._states()
        for told in self.told:
            version, removed, readers, *rest = states.get(told.id, (0, True, [], 0, [], [], False))
            assert version >= told.seen, f"{told} went back to {version}"
            if version:
                assert (removed, set(readers), *rest) == told.shown(version), f"{told} at {version}"
            told.seen = version

    @invariant()
    def what_is_known_to_be_indexed_is(self) -> None:
        manifest = self.run(self.world.desk.service.manifest(after="", limit=EVENTS_MAX))
        indexed = {entry.document_id for entry in manifest.entries if entry.state == "indexed"}
        assert indexed <= {told.id for told in self.told if told.seen == len(told.versions)}

    def teardown(self) -> None:
        """Everything is told at last, the newest first."""
        self.publish(dies=False)
        for message in reversed(self.messages):
            self.run(self._handle(0, message))
        for fact in reversed(self.facts):
            self.run(self.world.desk.store.apply_indexed(fact))
        self.every_document_is_one_of_its_versions_and_no_older_one_than_before()
        for told in self.told:
            assert told.seen == len(told.versions), told
        assert self.run(self.world.desk.service.backlog()).documents_pending == 0

    def _states(self) -> dict[str, tuple[Any, ...]]:
        ids = [told.id for told in self.told]
        found: dict[str, tuple[Any, ...]] = self.run(states_of(ids, self.world.index, schema=self.world.schema))
        return found


@pytest.fixture
async def index_database(servers: StackUrls) -> AsyncIterator[str]:
    async with own_database(servers) as url:
        yield url


@contextmanager
def machines(documents_url: str, index_url: str, folder: Path) -> Iterator[type[LateEvents]]:
    """Machines in a world of their own."""
    with asyncio.Runner() as loop:
        home = inhabited(loop, documents_url, index_url, folder)
        world = loop.run(home.__aenter__())
        try:
            yield type("Machine", (LateEvents,), {"world": world})
        finally:
            loop.run(home.__aexit__(None, None, None))


def play(documents_url: str, index_url: str, folder: Path, *, runs: int, steps: int) -> None:
    with machines(documents_url, index_url, folder) as machine:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=runs,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )


def test_who_was_overtaken_brings_nothing_back(fresh_database: str, index_database: str, tmp_path: Path) -> None:
    """The story that Hypothesis needs many runs to come upon: wherever a worker stood still when a newer version passed it."""
    with machines(fresh_database, index_database, tmp_path) as machine:
        for step in STEPS:
            run = machine()
            told = run.create("A", READERS[0])
            run.share_while_a_worker_stands_still(told, "B", READERS[1], step)
            run.every_document_is_one_of_its_versions_and_no_older_one_than_before()
            assert told.seen == len(told.versions), "the newer one stays"
            run.teardown()


def test_nothing_late_brings_anything_back(fresh_database: str, index_database: str, tmp_path: Path) -> None:
    """Some runs of 30 steps."""
    play(fresh_database, index_database, tmp_path, runs=15, steps=30)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("quarter", range(4))
def test_nothing_late_brings_anything_back_in_1000_runs(
    fresh_database: str, index_database: str, tmp_path: Path, quarter: int
) -> None:
    """The promise's count, 50 steps each; a quarter at a time, on a new database."""
    play(fresh_database, index_database, tmp_path, runs=250, steps=50)
