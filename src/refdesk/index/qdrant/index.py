"""The index in Qdrant: points there, and in PostgreSQL the ledger that says which of them count.

    claim ──▶ lock ──▶ upsert points of a new revision ──▶ flip the ledger ──▶ … a while later, delete the old points
    ledger    ledger   Qdrant, waiting until they are in   one commit          `tidy`

A *revision* is the points that one change has written. The ledger names one revision of each document, and a search counts no
point of another. So a change shows with the ledger's commit, whole; what a crash leaves behind is never shown, and it is known
to the ledger before its first point is written.

A search reads the ledger and Qdrant at different moments. That both are one moment to it has two reasons: all it reads of the
ledger is one snapshot, and the points of that snapshot are still there, since old points are deleted ``GRACE_S`` after the flip,
which is longer than any search takes.

A change that leaves the chunks as they are writes no points. Who may find them is set to the old and the new readers together,
the ledger is flipped, and then they are set to the new ones alone: what Qdrant knows of readers only narrows what it looks at,
and never decides what is shown.
"""

import asyncio
import hashlib
import logging
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.contracts.errors import Unavailable
from refdesk.index.chunks import Chunk, IndexedDocument, Passage, content_hash
from refdesk.index.ledger.generations import Generation, GenerationMoved, Role
from refdesk.index.ledger.holdings import Holdings, Sizes, access, announce, facts, storable, tombstone, touch
from refdesk.index.ledger.statements import row, rows
from refdesk.index.port import CHUNKS_PER_DOCUMENT_MAX, ChunkIndex, Holding, Vectors, check_chunks
from refdesk.index.qdrant.collection import BATCH_POINTS, Collection
from refdesk.index.qdrant.points import NO_TERMS, Point, Terms, carried_chunk, found_by, of_chunk, payload, point_id
from refdesk.index.qdrant.searching import Question, Searching, in_time
from refdesk.index.qdrant.server import CollectionMissing
from refdesk.index.spellings import spellings
from refdesk.outside.postgres.database import load_queries

logger = logging.getLogger(__name__)

GRACE_S = 15.0
"""How long old points stay: longer than a search may take (``searching.SEARCH_S_MAX``)."""
GIVE_UP_S = 60.0
"""How long a revision that nobody works on is left alone."""
TIDY_COUNT = 50

_queries = load_queries(files("refdesk.index.qdrant") / "ledger.sql")


class Given(NamedTuple):
    """A version as it is given to be indexed. ``outline`` is equal for equal chunks."""

    document: IndexedDocument
    chunks: Sequence[Chunk]
    hashes: Sequence[bytes]
    vectors: Vectors
    outline: bytes


class Before(NamedTuple):
    """What the ledger has of a document, its row locked."""

    key: int
    removed: bool
    chunks: int
    terms: int
    revision: int | None
    outline: bytes | None
    readers: list[str]
    tags: list[str]
    sources: list[str]
    changed_on: date | None

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.removed, self.chunks, self.terms)


class QdrantIndex(ChunkIndex):
    """See `port.ChunkIndex`. ``collection`` must have been ensured once."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        collection: Collection,
        generation: Generation,
        *,
        role: Role | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self._collection = collection
        self._generation = generation
        self._grace_s = grace_s
        super().__init__(Holdings(pool, generation, role=role))
        self._searching = Searching(self._holdings, collection, text_search=generation.text_search)

    async def stage(self, document_id: str, version: int, hashes: Sequence[bytes], vectors: Vectors) -> bool:
        halves = await asyncio.to_thread(lambda: [vector.astype("<f2").tobytes() for vector in vectors])
        async with self._holdings.change() as connection:
            before = await _lock(connection, tombstone(document_id, version))
            if before is None:
                return False
            values = {"key": before.key, "hashes": list(hashes), "vectors": halves}
            await connection.execute(_queries.stage, values)
        return True

    async def replace(self, document: IndexedDocument, chunks: Sequence[Chunk], vectors: Vectors) -> bool:
        check_chunks(document.document_id, chunks, vectors, dimensions=self._generation.dimensions)
        given = await asyncio.to_thread(_given, document, chunks, vectors)
        revision = secrets.randbits(63)
        async with self._holdings.change() as connection:
            values = {"document_id": document.document_id, "revision": revision}
            await connection.execute(_queries.add_unborn, values)
            await connection.execute(_queries.claim, values)
        async with self._holdings.change() as connection:
            before = await _lock(connection, document)
            if before is None:
                await connection.execute(_queries.forget, {"revisions": [revision]})
                return False
            if before.revision is not None and before.outline == given.outline:
                await connection.execute(_queries.forget, {"revisions": [revision]})
                narrow = await self._reshare(connection, document, before)
            else:
                await self._write(connection, given, before, revision=revision)
                narrow = False
        if narrow and before.revision is not None:
            await self._narrow(document, key=before.key, revision=before.revision, points=len(chunks))
        return True

    async def remove(self, document_id: str, version: int) -> bool:
        gone = tombstone(document_id, version)
        async with self._holdings.change() as connection:
            before = await _lock(connection, gone)
            if before is None:
                return False
            async with connection.pipeline():
                await _delete_parts(connection, before)
                await _flip(connection, gone, before, Sizes(removed=True, chunks=0, terms=0), revision=None)
        return True

    async def search(
        self, text: str, vector: Vectors, *, scope: Scope, filters: Filters | None = None, limit: int
    ) -> list[Passage]:
        return await self._searching.search(Question(text, vector, scope, filters or Filters(), limit))

    async def passages(self, document_id: str, *, scope: Scope) -> tuple[IndexedDocument, list[Chunk]] | None:
        values = access(scope, Filters(document_ids=(document_id,)))
        async with in_time(), self._holdings.snapshot(_queries.begin_search) as connection:
            found = await row(connection, _queries.searchable, values)
            if found is None:
                return None
            *columns, revision, count = found
            ids = [point_id(revision, place) for place in range(count)] if revision is not None else []
            payloads = await self._collection.payloads(ids)
        document = IndexedDocument(**dict(zip(_DOCUMENT, map(_frozen, columns), strict=True)))
        return document, sorted(map(carried_chunk, payloads.values()), key=lambda chunk: chunk.ordinal)

    async def known_vectors(self, document_id: str) -> dict[bytes, Vectors]:
        values = {"document_id": document_id, "chunks_max": CHUNKS_PER_DOCUMENT_MAX}
        async with self._holdings.read() as connection:
            staged = await rows(connection, _queries.staged_vectors, values)
            current = await row(connection, _queries.current, values)
        known = {digest: np.frombuffer(half, dtype="<f2").astype(np.float32) for digest, half in staged}
        if current is not None:
            found = self._collection.vectors(current[0], points=current[1])
            known |= {digest: vector async for digest, vector in found}
        return known

    async def sample(self, count: int) -> list[tuple[str, str]]:
        async with self._holdings.read() as connection:
            drawn = await rows(connection, _queries.sample, {"count": count})
        documents = {point_id(revision, place): document_id for document_id, revision, place in drawn}
        payloads = await self._collection.payloads(list(documents))
        return [(documents[identifier], carried["text"]) for identifier, carried in payloads.items()]

    async def audit(self, *, after: str = "", count: int) -> list[Holding]:
        """What nobody knows of is noted for `tidy`."""
        held = await self._held(_queries.page, {"after": after, "count": count}, adopting=True)
        return list(held.values())

    async def holdings(self, document_ids: Iterable[str]) -> dict[str, Holding]:
        return await self._held(_queries.of, {"document_ids": list(document_ids)}, adopting=False)

    async def reopen(self, seen: Holding, *, version: int, readers: Iterable[str]) -> bool:
        values = {
            "document_id": seen.document_id,
            "seen_version": seen.version,
            "version": version,
            "readers": list(readers),
        }
        async with self._holdings.change() as connection:
            opened = await row(connection, _queries.reopen, values)
            if opened is None:
                return False
            key, revision = opened
            if not seen.whole and revision is not None:
                await connection.execute(_queries.retire, {"revision": revision, "key": key})
                await connection.execute(_queries.hide, {"key": key})
            await touch(connection)
        return True

    async def tidy(self) -> None:
        async with self._holdings.read() as connection:
            await connection.execute(_queries.give_up, {"after_s": GIVE_UP_S, "count": TIDY_COUNT})
        async with self._holdings.read() as connection:
            past = await rows(connection, _queries.past, {"after_s": self._grace_s, "count": TIDY_COUNT})
            for (revision,) in past:
                await self._collection.delete(revision)
            if past:
                await connection.execute(_queries.forget, {"revisions": [revision for (revision,) in past]})

    async def _write(self, connection: AsyncConnection, given: Given, before: Before, *, revision: int) -> None:
        """The points of a new revision, and the flip to it."""
        chunks_of_term: Counter[str] = Counter()
        length = 0
        for first in range(0, len(given.chunks), BATCH_POINTS):
            part = slice(first, first + BATCH_POINTS)
            terms = await self._terms(connection, given.document.title, given.chunks[part])
            chunks_of_term.update(term for chunk in terms for term in chunk.terms)
            length += sum(chunk.length for chunk in terms)
            await self._write_points(_points(given, terms, first=first, revision=revision))
        if await row(connection, _queries.arrive, {"revision": revision}) is None:
            raise Unavailable("Writing the document to Qdrant took too long, and was given up. It is tried again.")
        async with connection.pipeline():
            await _delete_parts(connection, before)
            columns = {"terms": list(chunks_of_term), "chunks": list(chunks_of_term.values())}
            await connection.execute(_queries.insert_terms, {"key": before.key} | columns)
            after = Sizes(removed=False, chunks=len(given.chunks), terms=length)
            await _flip(connection, given.document, before, after, revision=revision, outline=given.outline)

    async def _write_points(self, points: list[Point]) -> None:
        """Raises CollectionMissing after the collection was made again: the next attempt finds it."""
        try:
            await self._collection.write(points)
        except CollectionMissing:
            await self._collection.ensure()
            raise

    async def _counts(self, document_ids: list[str]) -> dict[int, int]:
        """How many points there are of each revision; of a collection that was lost, none, and it is made again."""
        try:
            return await self._collection.counts(document_ids)
        except CollectionMissing:
            await self._collection.ensure()
            return {}

    async def _terms(self, connection: AsyncConnection, title: str, chunks: Sequence[Chunk]) -> list[Terms]:
        """By PostgreSQL's text search, which the other engine's words come from, too."""
        texts = await asyncio.to_thread(lambda: [_worded(title, chunk) for chunk in chunks])
        values = {"texts": texts, "text_search": self._generation.text_search}
        found = {place: Terms(*terms) for place, *terms in await rows(connection, _queries.analyse, values)}
        return [found.get(place, NO_TERMS) for place in range(len(chunks))]

    async def _reshare(self, connection: AsyncConnection, document: IndexedDocument, before: Before) -> bool:
        """The same chunks for other readers; whether more may find them now than may read them."""
        assert before.revision is not None
        was, now = found_by(before), found_by(document)
        changed = any(set(was[field]) != set(now[field]) for field in now)
        if changed:
            either = {field: sorted({*was[field], *now[field]}) for field in now}
            await self._collection.share(before.revision, points=before.chunks, found_by=either)
        after = Sizes(removed=False, chunks=before.chunks, terms=before.terms)
        async with connection.pipeline():
            await connection.execute(_queries.delete_staged, {"key": before.key})
            await _flip(connection, document, before, after, revision=before.revision, outline=before.outline)
        return changed

    async def _narrow(self, document: IndexedDocument, *, key: int, revision: int, points: int) -> None:
        """After the flip, unless somebody has changed the document since. The ledger decides who may read: this may fail."""
        try:
            async with self._holdings.change() as connection:
                values = {"key": key, "version": document.version, "revision": revision}
                if await row(connection, _queries.lock_version, values) is not None:
                    await self._collection.share(revision, points=points, found_by=found_by(document))
        except (Unavailable, GenerationMoved) as error:
            logger.warning("Qdrant still looks at a document for its earlier readers, too: %s", error)

    async def _held(self, query: bytes, values: dict[str, Any], *, adopting: bool) -> dict[str, Holding]:
        async with self._holdings.read() as connection:
            found = await rows(connection, query, values)
        there = [document_id for document_id, _, removed, *_ in found if not removed]
        counts = await self._counts(there)
        if adopting:
            await self._adopt(counts)
        return {
            document_id: Holding(
                document_id=document_id,
                version=version,
                removed=removed,
                readers=readers,
                tags=tags,
                content_sha256=content_sha256,
                whole=removed or (counts.get(revision, 0) == chunks and revision is not None),
            )
            for document_id, version, removed, readers, tags, content_sha256, revision, chunks in found
        }

    async def _adopt(self, counts: dict[int, int]) -> None:
        """Looked up after the points: whoever writes some has told the ledger before."""
        async with self._holdings.read() as connection:
            known = {
                found for (found,) in await rows(connection, _queries.known_revisions, {"revisions": list(counts)})
            }
        unknown = {revision: await self._collection.document_of(revision) for revision in counts.keys() - known}
        orphans = {revision: document_id for revision, document_id in unknown.items() if document_id is not None}
        if orphans:
            logger.warning("%d revisions of points in Qdrant belong to nobody; they are deleted", len(orphans))
            values = {"revisions": list(orphans), "document_ids": list(orphans.values())}
            async with self._holdings.read() as connection:
                await connection.execute(_queries.adopt, values)


_DOCUMENT = (
    "document_id", "version", "title", "readers", "tags", "sources", "changed_on", "media_type", "url", "content_sha256"
)  # fmt: skip


async def _lock(connection: AsyncConnection, document: IndexedDocument) -> Before | None:
    """The document's row, held until the transaction ends; None when this version is not newer."""
    await connection.execute(_queries.add_unborn, {"document_id": document.document_id})
    found = await row(connection, _queries.lock_older, facts(document))
    return None if found is None else Before(*found)


async def _delete_parts(connection: AsyncConnection, before: Before) -> None:
    """What stands in the ledger of a version that has been. In a pipeline."""
    await connection.execute(_queries.delete_staged, {"key": before.key})
    await connection.execute(_queries.delete_terms, {"key": before.key})
    if before.revision is not None:
        await connection.execute(_queries.retire, {"revision": before.revision, "key": before.key})


async def _flip(
    connection: AsyncConnection,
    document: IndexedDocument,
    before: Before,
    after: Sizes,
    *,
    revision: int | None,
    outline: bytes | None = None,
) -> None:
    """From the commit on, this is what the index has of the document. In a pipeline."""
    values = facts(document) | after._asdict() | {"key": before.key, "revision": revision, "outline": outline}
    await connection.execute(_queries.flip, values)
    await announce(connection, document, before=before.sizes, after=after)


def _given(document: IndexedDocument, chunks: Sequence[Chunk], vectors: Vectors) -> Given:
    hashes = [content_hash(document.title, chunk) for chunk in chunks]
    outline = hashlib.sha256()
    for chunk, digest in zip(chunks, hashes, strict=True):
        outline.update(f"{chunk.ordinal} {chunk.page} {chunk.start} {chunk.end} ".encode() + digest)
    return Given(document, chunks, hashes, vectors, outline.digest())


def _points(given: Given, terms: Sequence[Terms], *, first: int, revision: int) -> list[Point]:
    points = []
    for place, found in enumerate(terms, first):
        chunk, digest = given.chunks[place], given.hashes[place]
        carried = payload(given.document, chunk, revision=revision, digest=digest, length=found.length)
        points.append(Point(point_id(revision, place), given.vectors[place], of_chunk(found), carried))
    return points


def _worded(title: str, chunk: Chunk) -> str:
    """What the words of a chunk are taken from, as in `pgvector.insert_postings`."""
    more = spellings("\n".join((title, chunk.heading or "", chunk.text)))
    return storable("\n".join(part for part in (title, chunk.heading, chunk.text, more) if part is not None))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
