"""The write side: one event in, the index shows that version, one fact out.

    changed ─▶ known already? ─▶ fetch ─▶ parse ─▶ chunk ─▶ embed what is new ─▶ replace, if newer ─▶ IndexApplied
    deleted ─▶ known already? ─▶ remove, if newer ────────────────────────────────────────────────▶ IndexApplied

``handle`` may be called twice with the same event, and with events in any order: the index applies only what is newer
than what it has. It publishes nothing itself, so that a caller who dies before publishing finds the same fact again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np

from refdesk.contracts.documents import title_of
from refdesk.contracts.errors import DocumentRejected
from refdesk.contracts.events import DocumentChanged, DocumentDeleted, IndexApplied
from refdesk.index.chunks import Chunk, IndexedDocument, content_hash, embedded_text
from refdesk.index.pgvector import PgvectorIndex
from refdesk.indexing.batching import EmbeddingBatcher
from refdesk.indexing.content import Contents, Superseded
from refdesk.indexing.parsed import ParsedDocument
from refdesk.indexing.parsing import ParserPool
from refdesk.outside import tracing
from refdesk.outside.embedding import Vectors

Chunker = Callable[[ParsedDocument], Sequence[Chunk]]


class Outcome(msgspec.Struct, frozen=True):
    """What an event came to.

    ``applied``: the index now shows this version, by our doing. ``unchanged``: it did already. ``superseded``: it shows
    a newer one, or one is on its way. ``fact`` is to be published before the event is acknowledged.
    """

    kind: Literal["applied", "unchanged", "superseded"]
    fact: IndexApplied | None = None


class Indexing:
    """Applies document events to the index. Raises DocumentRejected for good, anything ``retryable`` for now."""

    def __init__(
        self,
        *,
        index: PgvectorIndex,
        generation: str,
        contents: Contents,
        parsers: ParserPool,
        chunker: Chunker,
        embeddings: EmbeddingBatcher,
    ) -> None:
        self._index = index
        self._generation = generation
        self._contents = contents
        self._parsers = parsers
        self._chunker = chunker
        self._embeddings = embeddings

    async def handle(self, event: DocumentChanged | DocumentDeleted) -> Outcome:
        known = await self._known(event)
        if known is not None:
            return known
        try:
            if isinstance(event, DocumentDeleted):
                return await self._delete(event)
            return await self._change(event)
        except Superseded:
            return Outcome("superseded")

    async def _known(self, event: DocumentChanged | DocumentDeleted) -> Outcome | None:
        """The outcome when the index already has this version or a newer one: a backlog delivered again drains fast."""
        versions = await self._index.versions([event.document_id])
        version = versions.get(event.document_id)
        if version is None or version < event.version:
            return None
        if version > event.version:
            return Outcome("superseded")
        return Outcome("unchanged", self._fact(event, chunks=0, seconds={}))

    async def _delete(self, event: DocumentDeleted) -> Outcome:
        clock = _Clock()
        async with clock.step("store"):
            removed = await self._index.remove(event.document_id, event.version)
        return await self._outcome(event, applied=removed, chunks=0, seconds=clock.seconds)

    async def _change(self, event: DocumentChanged) -> Outcome:
        clock = _Clock()
        async with clock.step("fetch"):
            content = await self._contents.fetch(event)
        async with clock.step("parse"):
            parsed = await self._parsers.parse(content, event.media_type, event.filename)
        del content
        event = _titled(event, parsed)
        async with clock.step("chunk"):
            chunks = await asyncio.to_thread(self._cut, parsed, event)
        async with clock.step("embed"):
            vectors = await self._vectors(event, chunks)
        async with clock.step("store"):
            replaced = await self._index.replace(_facts(event), chunks, vectors)
        outcome = await self._outcome(event, applied=replaced, chunks=len(chunks), seconds=clock.seconds)
        if outcome.kind == "applied" and outcome.fact is not None:
            return Outcome("applied", msgspec.structs.replace(outcome.fact, title=event.title))
        return outcome

    def _cut(self, parsed: ParsedDocument, event: DocumentChanged) -> Sequence[Chunk]:
        chunks = self._chunker(parsed)
        if not chunks:
            raise DocumentRejected(
                f"{event.filename or 'The document'} has no text that can be read. Upload one that has some."
            )
        return chunks

    async def _vectors(self, event: DocumentChanged, chunks: Sequence[Chunk]) -> Vectors:
        """A vector per chunk; those of chunks that did not change are taken from the index."""
        known = await self._index.known_vectors(event.document_id)
        hashes = await asyncio.to_thread(lambda: [content_hash(event.title, chunk) for chunk in chunks])
        new = [place for place, digest in enumerate(hashes) if digest not in known]
        vectors: list[Vectors | None] = [known.get(digest) for digest in hashes]
        if new:
            made = await self._embeddings.embed([embedded_text(event.title, chunks[place]) for place in new])
            for place, vector in zip(new, made, strict=True):
                vectors[place] = vector
        return np.stack([vector for vector in vectors if vector is not None])

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
        media_type=event.media_type,
        url=event.url,
        content_sha256=event.content_sha256,
    )


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        begin = time.perf_counter()
        with tracing.span(f"{name} {tracing.STEP}"):
            yield
        self.seconds[name] = round(time.perf_counter() - begin, 6)
