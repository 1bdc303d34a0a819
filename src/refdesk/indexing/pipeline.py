"""The write side: one event in, the index shows that version, one fact out.

    changed ─▶ known already? ─▶ fetch ─▶ parse ─▶ chunk ─▶ embed what is new ─▶ replace, if newer ─▶ IndexApplied
    deleted ─▶ known already? ─▶ remove, if newer ────────────────────────────────────────────────▶ IndexApplied

``handle`` may be called twice with the same event, and with events in any order: the index applies only what is newer
than what it has. It publishes nothing itself, so that a caller who dies before publishing finds the same fact again: title
and notes are kept with the version.

A document of many chunks is written while it is embedded, vectors first and in parts: nobody sees them before the last step,
which is one transaction. An attempt that broke off leaves its vectors to the next.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np

from refdesk.contracts.documents import IndexingStep, ReadingNote, title_of
from refdesk.contracts.errors import DocumentRejected
from refdesk.contracts.events import DocumentChanged, DocumentDeleted, IndexApplied
from refdesk.index.chunks import Chunk, IndexedDocument, content_hash, embedded_text, sources_of
from refdesk.index.port import ChunkIndex
from refdesk.indexing.batching import EmbeddingBatcher
from refdesk.indexing.lanes import Lanes
from refdesk.indexing.parsed import ParsedDocument
from refdesk.indexing.parsing import ParserPool
from refdesk.outside import tracing
from refdesk.outside.document_service import DocumentServiceClient, Superseded
from refdesk.outside.embedding.vectors import Vectors

Chunker = Callable[[ParsedDocument], Sequence[Chunk]]
StepAside = Callable[[], None]
"""Called when a document will take long: the caller may take up another one meanwhile."""


class Reading(msgspec.Struct, frozen=True):
    """A document as it was read, with the event and the title it turned out to have."""

    event: DocumentChanged
    chunks: Sequence[Chunk]
    notes: tuple[ReadingNote, ...]


def _stay() -> None:
    """For callers that take up one document at a time."""


class Outcome(msgspec.Struct, frozen=True):
    """What an event came to.

    ``applied``: the index now shows this version, by our doing. ``unchanged``: it did already. ``superseded``: it shows
    a newer one, or one is on its way. ``fact`` is to be published before the event is acknowledged.
    """

    kind: Literal["applied", "unchanged", "superseded"]
    fact: IndexApplied | None = None


CHARACTERS = "characters"
"""The detail of a rejection that says how much text was read."""


class Indexing:
    """Applies document events to the index. Raises DocumentRejected for good, anything ``retryable`` for now."""

    def __init__(
        self,
        *,
        index: ChunkIndex,
        generation: str,
        documents: DocumentServiceClient,
        parsers: ParserPool,
        chunker: Chunker,
        embeddings: EmbeddingBatcher,
        lanes: Lanes | None = None,
    ) -> None:
        self._index = index
        self._generation = generation
        self._documents = documents
        self._parsers = parsers
        self._chunker = chunker
        self._embeddings = embeddings
        self._lanes = lanes or Lanes()
        self._clocks: dict[str, _Clock] = {}

    def step_of(self, document_id: str) -> IndexingStep | None:
        """What is being done with a document now; None when nothing is."""
        clock = self._clocks.get(document_id)
        return None if clock is None else clock.step_now

    async def handle(self, event: DocumentChanged | DocumentDeleted, *, step_aside: StepAside = _stay) -> Outcome:
        known = await self._known(event)
        if known is not None:
            return known
        try:
            if isinstance(event, DocumentDeleted):
                return await self._delete(event)
            return await self._change(event, step_aside)
        except Superseded:
            return Outcome("superseded")
        except DocumentRejected as rejection:
            if isinstance(event, DocumentChanged) and rejection.details.get(CHARACTERS) == 0:
                await self._empty(event)
            raise

    async def _empty(self, event: DocumentChanged) -> None:
        """Nobody is answered from what a document said that says nothing now. (It has failed all the same: that is no text.)

        The version is noted with the content of nothing, so that it is read again when it is tried again.
        """
        older = await self._index.known_vectors(event.document_id)
        if older:
            facts = msgspec.structs.replace(_facts(event), content_sha256=hashlib.sha256().hexdigest())
            vectors = np.empty((0, len(next(iter(older.values())))), dtype=np.float32)
            await self._index.replace(facts, [], vectors)

    async def _known(self, event: DocumentChanged | DocumentDeleted) -> Outcome | None:
        """The outcome when the index already has this version or a newer one: a backlog delivered again drains fast."""
        held = await self._index.held(event.document_id)
        if held is None or held.version < event.version:
            return None
        if held.version > event.version:
            return Outcome("superseded")
        if isinstance(event, DocumentChanged) and held.content_sha256 not in ("", event.content_sha256):
            return None  # of documents that were restored, and have counted to this version anew
        fact = self._fact(event, chunks=0, seconds={})
        return Outcome("unchanged", msgspec.structs.replace(fact, title=held.title or None, notes=held.notes))

    async def _delete(self, event: DocumentDeleted) -> Outcome:
        clock = _Clock()
        async with clock.step("store"):
            removed = await self._index.remove(event.document_id, event.version)
        return await self._outcome(event, applied=removed, chunks=0, seconds=clock.seconds)

    async def _change(self, event: DocumentChanged, step_aside: StepAside) -> Outcome:
        """Read the document, then see it through in the lane of its size (`lanes` says why)."""
        clock = self._clocks[event.document_id] = _Clock()
        try:
            return await self._see_through(event, clock, step_aside)
        finally:
            self._clocks.pop(event.document_id, None)

    async def _see_through(self, event: DocumentChanged, clock: "_Clock", step_aside: StepAside) -> Outcome:
        reading = await self._read(event, clock, step_aside)
        lane = self._lanes.of(len(reading.chunks))
        if lane is None:
            return await self._apply(reading, clock)
        step_aside()
        async with self._lanes.keeping(len(reading.chunks)) as keeps:
            if lane.is_full and not keeps:
                del reading  # it is not kept in memory while others are at work
                async with lane.place():
                    return await self._apply(await self._read(event, clock, step_aside), clock)
            async with lane.place():
                return await self._apply(reading, clock)

    async def _read(self, event: DocumentChanged, clock: "_Clock", step_aside: StepAside) -> Reading:
        content = await self._fetch(event, clock)
        if not self._lanes.is_long(content):
            return await self._parse(event, content, clock)
        step_aside()
        if self._lanes.reading.is_full:
            del content
            async with self._lanes.reading.place():
                return await self._parse(event, await self._fetch(event, clock), clock)
        async with self._lanes.reading.place():
            return await self._parse(event, content, clock)

    async def _fetch(self, event: DocumentChanged, clock: "_Clock") -> bytes:
        async with clock.step("fetch"):
            return await self._documents.fetch(event)

    async def _parse(self, event: DocumentChanged, content: bytes, clock: "_Clock") -> Reading:
        async with clock.step("parse"):
            parsed = await self._parsers.parse(content, event.media_type, event.filename)
        event = _titled(event, parsed)
        async with clock.step("chunk"):
            return Reading(event, await asyncio.to_thread(self._cut, parsed, event), parsed.notes)

    async def _apply(self, reading: Reading, clock: "_Clock") -> Outcome:
        event, chunks = reading.event, reading.chunks
        async with clock.step("embed"):
            vectors = await self._vectors(event, chunks)
        facts = msgspec.structs.replace(_facts(event), notes=reading.notes)
        async with clock.step("store"):
            replaced = await self._index.replace(facts, chunks, vectors)
        outcome = await self._outcome(event, applied=replaced, chunks=len(chunks), seconds=clock.seconds)
        if outcome.kind == "applied" and outcome.fact is not None:
            return Outcome("applied", msgspec.structs.replace(outcome.fact, title=event.title, notes=reading.notes))
        return outcome

    def _cut(self, parsed: ParsedDocument, event: DocumentChanged) -> Sequence[Chunk]:
        chunks = self._chunker(parsed)
        if not chunks:
            raise DocumentRejected(
                f"{event.filename or 'The document'} has no text that can be read. Upload one that has some.",
                characters=0,
            )
        return chunks

    async def _vectors(self, event: DocumentChanged, chunks: Sequence[Chunk]) -> Vectors:
        """A vector per chunk; those of chunks that did not change are taken from the index."""
        known = await self._index.known_vectors(event.document_id)
        hashes = await asyncio.to_thread(lambda: [content_hash(event.title, chunk) for chunk in chunks])
        new = [place for place, digest in enumerate(hashes) if digest not in known]
        if new:
            made = await self._embed(event, [hashes[place] for place in new], [chunks[place] for place in new])
            known |= {hashes[place]: vector for place, vector in zip(new, made, strict=True)}
        return await asyncio.to_thread(lambda: np.stack([known[digest] for digest in hashes]))

    async def _embed(self, event: DocumentChanged, hashes: Sequence[bytes], chunks: Sequence[Chunk]) -> Vectors:
        texts = await asyncio.to_thread(lambda: [embedded_text(event.title, chunk) for chunk in chunks])
        if len(texts) <= self._lanes.chunks_staged:
            return await self._embeddings.embed(texts)
        places: list[int] = []
        parts: list[Vectors] = []
        async with aclosing(self._embeddings.parts(texts, part_texts_min=self._lanes.chunks_staged)) as made:
            async for some, vectors in made:
                staged = await self._index.stage(
                    event.document_id, event.version, [hashes[place] for place in some], vectors
                )
                if not staged:
                    raise Superseded
                places += some
                parts.append(vectors)
        return np.concatenate(parts)[np.argsort(places)]

    async def _outcome(
        self, event: DocumentChanged | DocumentDeleted, *, applied: bool, chunks: int, seconds: dict[str, float]
    ) -> Outcome:
        if applied:
            return Outcome("applied", self._fact(event, chunks=chunks, seconds=seconds))
        return await self._known(event) or Outcome("superseded")

    def _fact(
        self, event: DocumentChanged | DocumentDeleted, *, chunks: int, seconds: dict[str, float]
    ) -> IndexApplied:
        return IndexApplied(
            document_id=event.document_id,
            version=event.version,
            chunks=chunks,
            generation=self._generation,
            seconds=seconds,
            occurred_at=datetime.now(UTC),
        )


def _titled(event: DocumentChanged, parsed: ParsedDocument) -> DocumentChanged:
    """A document that nobody named is cited by the title it gives itself, if it does."""
    if event.title != title_of(event.filename):
        return event
    return msgspec.structs.replace(event, title=parsed.own_title() or event.title)


def _facts(event: DocumentChanged) -> IndexedDocument:
    return IndexedDocument(
        document_id=event.document_id,
        version=event.version,
        title=event.title,
        readers=event.readers,
        tags=event.tags,
        sources=sources_of(event.external_id),
        changed_on=event.occurred_at.astimezone(UTC).date(),
        media_type=event.media_type,
        url=event.url,
        content_sha256=event.content_sha256,
    )


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.step_now: IndexingStep | None = None

    @asynccontextmanager
    async def step(self, name: IndexingStep) -> AsyncIterator[None]:
        begin, self.step_now = time.perf_counter(), name
        with tracing.span(f"{name} {tracing.STEP}"):
            yield
        self.seconds[name] = round(time.perf_counter() - begin, 6)
