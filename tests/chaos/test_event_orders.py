"""Any order and any number of deliveries, by two workers at once: a document ends as its highest version says.

The real pipeline on the real index. What comes from elsewhere is the worst it could be: the content of every version is
handed out for ever, as if each delivery had fetched it in time, so that nothing but versions decides.
"""

import asyncio
import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.chaos.paragraphs import Paragraphs, chunks_of, embed, states_of
from tests.integration.documents_desk import running
from tests.support.embedding_server import DIMENSIONS

from refdesk.contracts.events import DocumentChanged, DocumentDeleted
from refdesk.index.chunks import content_hash
from refdesk.index.ledger.generations import MIGRATIONS, Generation, open_generation
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.indexing.batching import EmbeddingBatcher
from refdesk.indexing.pipeline import Indexing
from refdesk.outside.postgres.database import migrate, open_pool

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TITLE = "Orders"
VERSIONS_MAX = 5
DELIVERIES_MAX = 10
STORIES_AT_ONCE = 25
WORKERS = 2


@dataclass(frozen=True)
class Version:
    """What a version says: sections and readers, or (without any section) that the document was deleted."""

    sections: str
    readers: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n\n".join(f"{name}\n\nThe {name} is kept dry and dark." for name in self.sections)


@dataclass(frozen=True)
class Story:
    """A document's versions, and who is given which of them when: ``(worker, place of the version)``."""

    versions: tuple[Version, ...]
    deliveries: tuple[tuple[int, int], ...]


versions = st.one_of(
    st.builds(Version, st.sampled_from(("A", "B", "AB", "BA", "ABC", "C")), st.sampled_from((("hr",), ("legal",)))),
    st.just(Version("", ())),
)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    told = draw(st.lists(versions, min_size=1, max_size=VERSIONS_MAX))
    delivery = st.tuples(st.integers(0, WORKERS - 1), st.integers(0, len(told) - 1))
    return Story(tuple(told), tuple(draw(st.lists(delivery, min_size=1, max_size=DELIVERIES_MAX))))


class EveryVersion:
    """The Document Service's contents, none of them ever superseded."""

    def __init__(self) -> None:
        orders = (order for count in (1, 2, 3) for order in itertools.permutations("ABC", count))
        texts = (Version("".join(order), ()).text.encode() for order in orders)
        self._contents = {hashlib.sha256(text).hexdigest(): text for text in texts}

    async def fetch(self, event: DocumentChanged) -> bytes:
        await asyncio.sleep(0)
        return self._contents[event.content_sha256]


class Workers:
    """Indexers that share an index."""

    def __init__(self, index: PgvectorIndex, generation: Generation, batchers: Sequence[EmbeddingBatcher]) -> None:
        self._index = index
        self._schema = generation.schema
        make = partial(
            Indexing,
            index=index,
            generation=generation.schema,
            documents=EveryVersion(),
            parsers=Paragraphs(),
            chunker=chunks_of,
        )
        self._workers = [make(embeddings=batcher) for batcher in batchers]

    async def play(self, story: Story) -> None:
        """Each worker in its own order, both at once; then all that is older, once more and late."""
        document_id = uuid.uuid4().hex
        highest = max(place for _, place in story.deliveries)

        async def work(worker: int) -> None:
            for of, place in story.deliveries:
                if of == worker:
                    await self._workers[worker].handle(event(document_id, story, place))

        await asyncio.gather(*(work(worker) for worker in range(WORKERS)))
        for place in range(highest):
            await self._workers[place % WORKERS].handle(event(document_id, story, place))
        found = await states_of([document_id], self._index, schema=self._schema)
        assert found[document_id] == wanted(story.versions[highest], version=highest + 1)


def event(document_id: str, story: Story, place: int) -> DocumentChanged | DocumentDeleted:
    version = story.versions[place]
    if not version.sections:
        return DocumentDeleted(document_id=document_id, version=place + 1, occurred_at=NOW)
    return DocumentChanged(
        document_id=document_id,
        version=place + 1,
        content_sha256=hashlib.sha256(version.text.encode()).hexdigest(),
        media_type="text/markdown",
        title=TITLE,
        readers=version.readers,
        occurred_at=NOW,
    )


def wanted(of: Version, *, version: int) -> tuple[Any, ...]:
    hashes = [content_hash(TITLE, piece) for piece in chunks_of(Paragraphs.parsed(of.text))] if of.sections else []
    return version, not hashes, list(of.readers), len(hashes), hashes, sorted(hashes), bool(hashes)


@pytest.fixture
async def workers(fresh_database: str) -> AsyncIterator[Workers]:
    async with open_pool(fresh_database, name="orders", size_max=12) as pool:
        await migrate(pool, MIGRATIONS)
        generation = await open_generation(pool, model="by-hash", dimensions=DIMENSIONS, chunking="1")
        batchers = [EmbeddingBatcher(embed) for _ in range(WORKERS)]
        async with running(*(batcher.run for batcher in batchers)):
            yield Workers(PgvectorIndex(pool, generation), generation, batchers)


def told(examples: int) -> Any:
    """``examples`` stories, many of them at once."""

    def decorated(test: Any) -> Any:
        many = given(batch=st.lists(stories(), min_size=STORIES_AT_ONCE, max_size=STORIES_AT_ONCE))
        calm = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
        return settings(max_examples=examples // STORIES_AT_ONCE, deadline=None, suppress_health_check=calm)(many(test))

    return decorated


@told(250)
async def test_the_highest_version_wins(workers: Workers, batch: list[Story]) -> None:
    """In whatever order and however often versions are delivered; what comes late resurrects nothing."""
    await asyncio.gather(*(workers.play(story) for story in batch))


@pytest.mark.long
@pytest.mark.timeout(1800)
@told(10_000)
async def test_the_highest_version_wins_10000_times(workers: Workers, batch: list[Story]) -> None:
    """The same, in full."""
    await asyncio.gather(*(workers.play(story) for story in batch))


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_every_order_of_six_events_ends_the_same(workers: Workers) -> None:
    """All 720, each event delivered once and, to the other worker, once more."""
    six = tuple(Version(sections, ("hr",)) for sections in ("A", "AB", "", "B", "BA", "ABC"))
    gone = (*six[:5], Version("", ()))
    for order in itertools.permutations(range(6)):
        deliveries = tuple((worker, place) for place in order for worker in range(WORKERS))
        await asyncio.gather(*(workers.play(Story(told, deliveries)) for told in (six, gone)))
