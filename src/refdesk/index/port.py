"""The index, as the rest of Refdesk knows it: one promise, kept by more than one engine.

    a change   ──▶  stage*  ──▶  replace | remove  ──▶  searchable at once, whole, or not at all
    a question ──▶  search  ──▶  passages of one moment, within one scope

An index is that of one generation. What every document is at, who may read it, and which generation is searched stand in
the *ledger* in PostgreSQL (`ledger`), whichever engine keeps vectors and text. What only the ledger knows is answered here, the
rest by an engine. The tests of tests/contract run on each engine: they are these docstrings, made executable.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.contracts.errors import DocumentRejected
from refdesk.index.chunks import Chunk, IndexedDocument, Passage
from refdesk.index.ledger.holdings import Held, Holdings
from refdesk.index.ranking import Corpus

Vectors = NDArray[np.float32]

CHUNKS_PER_DOCUMENT_MAX = 100_000


class Holding(msgspec.Struct, frozen=True):
    """What the index has of one document. ``removed`` is a tombstone; ``whole`` says that no chunk lacks a part."""

    document_id: str
    version: int
    removed: bool
    readers: list[str]
    tags: list[str]
    content_sha256: str
    whole: bool


class ChunkIndex(ABC):
    """The index of one generation. Safe to use from many tasks and processes.

    *Versions.* A change is applied if it is newer than what the index has of its document, and changes nothing otherwise: so
    events may come twice and in any order. A removal leaves a tombstone, which counts as a version.

    *Atomic.* A search sees a document in one version, with all of its chunks, or not at all: before a change, the old version;
    after it, the new one. Whatever ends a process in the middle of a change leaves the old version.

    *Scope.* Scope and filters are part of every query. A passage outside of them is neither ranked nor returned, even while a
    change to its readers is under way.

    *Role.* With a role, every method first makes sure that the generation still has it, and raises `GenerationMoved` when
    it does not; changes to the active generation also wait for a swap.

    Every method raises `Unavailable` when a server that it needs does not answer. Then nothing is half done, and the same call
    may be made again.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    @abstractmethod
    async def stage(self, document_id: str, version: int, hashes: Sequence[bytes], vectors: Vectors) -> bool:
        """Write vectors of a coming version ahead of ``replace``, which is then quick; False when it would not be newer.

        vectors: (len(hashes), dimensions) float32, L2-normalised, same order. No search shows them before ``replace``, and
        `known_vectors` has them already. What ``replace`` does not use, it or ``remove`` deletes.
        """

    @abstractmethod
    async def replace(self, document: IndexedDocument, chunks: Sequence[Chunk], vectors: Vectors) -> bool:
        """Make this version of the document the searchable one. Atomic; False when it is not newer than the index.

        vectors: (len(chunks), dimensions) float32, L2-normalised, same order as the chunks. Idempotent: the same version
        again, an older one, or one not above a tombstone changes nothing; the same version with other content does (of
        documents that were restored). When no chunk differs, no vector is written.
        Raises ValueError for vectors of another shape and for two chunks of one ordinal, DocumentRejected for more than
        ``CHUNKS_PER_DOCUMENT_MAX`` chunks.
        """

    @abstractmethod
    async def remove(self, document_id: str, version: int) -> bool:
        """Remove the document and keep a tombstone of this version; False when the index knows this one or a later one.

        Also for a document that was never here: what comes late stays out.
        """

    @abstractmethod
    async def search(
        self, text: str, vector: Vectors, *, scope: Scope, filters: Filters | None = None, limit: int
    ) -> list[Passage]:
        """The best passages for a question within a scope, best first: ``limit`` of them whenever there are as many.

        vector: (dimensions,) float32, L2-normalised; zeros: the words alone rank. Passages are ranked as `ranking` says, by every
        engine. A copy of a text comes only where fewer than ``limit`` differ (`best_passages`).
        ``filters.tags`` must all be on a document; one of ``filters.sources`` must be among its own; ``filters.since`` and
        ``filters.until`` are the first and the last day of its last change, and nothing is found of a document without one.
        """

    @abstractmethod
    async def passages(self, document_id: str, *, scope: Scope) -> tuple[IndexedDocument, list[Chunk]] | None:
        """A document as it is searchable now, with its chunks in order; None when it is not here or not in the scope."""

    @abstractmethod
    async def known_vectors(self, document_id: str) -> dict[bytes, Vectors]:
        """The vectors of a document's current chunks by content hash, each (dimensions,) float32, to be given again.

        At half precision at least.
        """

    async def versions(self, document_ids: Iterable[str]) -> dict[str, int]:
        """The indexed version of each document the index has heard of; a tombstone's version counts."""
        return await self._holdings.versions(document_ids)

    async def held(self, document_id: str) -> Held | None:
        """The version that the index has of a document, a tombstone's too; None when it has never heard of it."""
        return await self._holdings.held(document_id)

    async def epoch(self) -> str:
        """A name of the state of the index: equal epochs, equal index."""
        return await self._holdings.epoch()

    async def sizes(self) -> Corpus:
        """How much is searchable now."""
        return await self._holdings.sizes()

    @abstractmethod
    async def sample(self, count: int) -> list[tuple[str, str]]:
        """Document ids and texts of passages drawn at random, from as many documents."""

    @abstractmethod
    async def audit(self, *, after: str = "", count: int) -> list[Holding]:
        """What is held of the documents with an id above ``after``, by id; fewer than ``count`` are the last."""

    @abstractmethod
    async def holdings(self, document_ids: Iterable[str]) -> dict[str, Holding]:
        """The same of these documents, by id; of what the index never heard of there is none."""

    @abstractmethod
    async def reopen(self, seen: Holding, *, version: int, readers: Iterable[str]) -> bool:
        """Claim only ``version`` of a document, with these readers from now on; False when it has changed since it was seen.

        What is not whole leaves the search until it is applied anew; what is stays searchable.
        """

    @abstractmethod
    async def tidy(self) -> None:
        """Delete what no search can see any more, where the engine does that later. Any process may call it at any time."""


def check_chunks(document_id: str, chunks: Sequence[Chunk], vectors: Vectors, *, dimensions: int) -> None:
    """Raises ValueError and DocumentRejected as `ChunkIndex.replace` says."""
    if vectors.shape != (len(chunks), dimensions):
        raise ValueError(
            f"{document_id}: vectors of shape {vectors.shape} for {len(chunks)} chunks of {dimensions} dimensions"
        )
    if len({chunk.ordinal for chunk in chunks}) < len(chunks) <= CHUNKS_PER_DOCUMENT_MAX:
        raise ValueError(f"{document_id}: two chunks have the same ordinal")
    if len(chunks) > CHUNKS_PER_DOCUMENT_MAX:
        raise DocumentRejected(
            f"The document has {len(chunks)} passages; the limit is {CHUNKS_PER_DOCUMENT_MAX}. Split it.",
            limit=CHUNKS_PER_DOCUMENT_MAX,
            actual=len(chunks),
        )
