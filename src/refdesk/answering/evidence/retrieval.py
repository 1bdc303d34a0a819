"""Finding what an answer may stand on: hybrid search inside the asker's scope, then one look at the gate.

The index decides what matches; the gate decides what still exists and who may read it, even while the index lags. While the
Document Service is silent, it lets through what is for everyone and no more, and the answer says so (``checked_at``).

Equal questions at the same time share one search (``reuse.sharing``): equal text, scope and filters, so that what is found is
just what each of them may see; begun after each of them has asked, so that it is no older than what their own would be.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from refdesk.answering.evidence.gate import RETRY_AFTER_S, AccessUnknown, Gate, Look
from refdesk.answering.evidence.reranking import Reranking
from refdesk.answering.evidence.truth import Shown, SourceOfTruth
from refdesk.answering.reuse.sharing import Shared, SharedLimits, normalised
from refdesk.contracts.access import EVERYONE, NOBODY, Scope
from refdesk.contracts.answers import Filters, Hit, Source
from refdesk.contracts.hidden_characters import clean
from refdesk.index.chunks import Passage
from refdesk.index.open_generations import Opened, OpenGenerations
from refdesk.outside import telemetry, tracing
from refdesk.outside.embedding.vectors import Vectors

FOR_EVERYONE = Scope(readers=(EVERYONE,))
DEEPER = 8
"""How many times as many passages are looked at where some of the best may not be shown."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for one question. ``embed_s`` and ``retrieve_s`` are seconds spent, the wait for it in the latter."""

    vector: Vectors
    """The question's embedding: (dimensions,) float32, L2-normalised; by the model of this generation of the index."""
    generation: int
    passages: tuple[Passage, ...]
    stale: frozenset[str]
    """Ids of documents of which a newer version is on its way."""
    as_of: datetime
    index_lag_seconds: float
    embed_s: float
    retrieve_s: float = 0.0
    epoch: str | None = None
    """The epoch before the search, where it was asked for and is known."""
    checked_at: datetime | None = None
    """When access was checked against the record, because the Document Service was silent."""
    desk_url: str = ""
    """Before the addresses of passages that have none of their own."""

    @property
    def vouched(self) -> bool:
        """Whether the Document Service itself let these passages through."""
        return self.checked_at is None

    def sources(self) -> tuple[Source, ...]:
        return tuple(
            Source(n=n, stale=passage.document_id in self.stale, **self._fields(passage))
            for n, passage in enumerate(self.passages, 1)
        )

    def hits(self, *, with_scores: bool) -> list[Hit]:
        return [
            Hit(
                n=n,
                stale=passage.document_id in self.stale,
                score=passage.score if with_scores else None,
                **self._fields(passage),
            )
            for n, passage in enumerate(self.passages, 1)
        ]

    def _fields(self, passage: Passage) -> dict[str, Any]:
        """Cleaned once more: what another release has indexed comes out here."""
        return {
            "document_id": passage.document_id,
            "version": passage.version,
            "title": clean(passage.title),
            "passage": clean(passage.text),
            "ordinal": passage.ordinal,
            "page": passage.page,
            "heading": passage.heading and clean(passage.heading),
            "url": passage.url or f"{self.desk_url}/#document/{passage.document_id}/{passage.ordinal}",
        }


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What a search is for: the best ``limit`` passages that this scope may read."""

    text: str
    scope: Scope
    filters: Filters
    limit: int


class Retrieval:
    """At most ``limits.at_once_max`` searches at a time: each takes a connection."""

    def __init__(
        self,
        *,
        generations: OpenGenerations,
        truth: SourceOfTruth,
        gate: Gate,
        limits: SharedLimits,
        reranking: Reranking | None = None,
        desk_url: str = "",
    ) -> None:
        self._generations = generations
        self._desk_url = desk_url
        self._truth = truth
        self._gate = gate
        self._reranking = reranking
        self._searches = Shared[Evidence](limits, kind="retrieval")
        self._epochs = Shared[str | None](limits, kind="epoch")

    async def gather(
        self, sought: Sought, *, principal_id: str, shared: bool = False, admit: Callable[[], None] | None = None
    ) -> Evidence:
        """The passages, best first. ``shared``: equal questions may share them, and the epoch before the search is told.

        ``admit`` is called when the search's turn has come; what it raises ends it for this asker. Raises Overloaded or
        TooManyRequests when too many wait already.
        """
        asked = time.monotonic()
        key = (normalised(sought.text), sought.scope, sought.filters, sought.limit) if shared else object()

        async def search() -> Evidence:
            epoch = await self.epoch() if shared else None
            return msgspec.structs.replace(await self._search(sought), epoch=epoch)

        evidence = await self._searches.get(key, search, principal_id=principal_id, admit=admit)
        return msgspec.structs.replace(evidence, retrieve_s=time.monotonic() - asked - evidence.embed_s)

    async def _search(self, sought: Sought) -> Evidence:
        attributes: tracing.Attributes = {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": tracing.DATA_SOURCE,
            "gen_ai.request.top_k": sought.limit,
        }
        with tracing.span(tracing.RETRIEVAL, kind=tracing.SpanKind.CLIENT, attributes=attributes):
            return await self._generations.on_active(lambda opened: self._search_in(opened, sought))

    async def _search_in(self, opened: Opened, sought: Sought) -> Evidence:
        started = time.monotonic()
        with telemetry.embedding(opened.embedder.name, provider=opened.embedder.provider):
            vector = (await opened.embedder.embed_questions([sought.text]))[0]
        embed_s = time.monotonic() - started
        found, look = await self._find_in_order(opened, sought, vector)
        return Evidence(
            vector=vector,
            generation=opened.generation.id,
            passages=tuple(found),
            stale=frozenset(p.document_id for p in found if look.is_stale(p.document_id, p.version)),
            as_of=look.as_of,
            index_lag_seconds=look.index_lag_seconds,
            embed_s=embed_s,
            checked_at=look.checked_at,
            desk_url=self._desk_url,
        )

    async def _find_in_order(self, opened: Opened, sought: Sought, vector: Vectors) -> tuple[list[Passage], Look]:
        """In the reranker's order, where there is one: it looks at more than are asked for."""
        if self._reranking is None:
            return await self._find(opened, sought, vector)
        wider = msgspec.structs.replace(sought, limit=max(sought.limit, self._reranking.passages_max))
        found, look = await self._find(opened, wider, vector)
        return (await self._reranking.ordered(sought.text, found))[: sought.limit], look

    async def _find(self, opened: Opened, sought: Sought, vector: Vectors) -> tuple[list[Passage], Look]:
        """What the gate lets through of what matches. Where it cannot tell of some, what is for everyone is searched alone.

        Raises AccessUnknown when that brings nothing: it would look as if the documents said nothing of it.
        """
        found, look = await self._pass(opened, sought, vector)
        if not look.unknown:
            return found, look
        found, look = await self._pass(opened, msgspec.structs.replace(sought, scope=FOR_EVERYONE), vector)
        if not found:
            raise AccessUnknown(retry_after_s=RETRY_AFTER_S)
        return found, look

    async def _pass(self, opened: Opened, sought: Sought, vector: Vectors) -> tuple[list[Passage], Look]:
        """What was deleted or closed and is still in the index must not take the places of what may be shown."""
        passages, look, denied = await self._search_and_look(opened, sought, vector, limit=sought.limit)
        if denied and not look.unknown:
            passages, look, denied = await self._search_and_look(opened, sought, vector, limit=DEEPER * sought.limit)
        telemetry.acl_denied.inc(denied)
        return passages[: sought.limit], look

    async def _search_and_look(
        self, opened: Opened, sought: Sought, vector: Vectors, *, limit: int
    ) -> tuple[list[Passage], Look, int]:
        """The passages that the gate lets through, its look, and how many it did not let through."""
        found = await opened.index.search(sought.text, vector, scope=sought.scope, filters=sought.filters, limit=limit)
        shown = {Shown(passage.document_id, passage.version, passage.content_sha256) for passage in found}
        look = await self._gate.look(shown, scope=sought.scope)
        passages = [passage for passage in found if look.allows(passage.document_id, passage.version)]
        return passages, look, len(found) - len(passages)

    async def epoch(self) -> str | None:
        """A name for everything that answers can depend on: equal epochs, equal documents and index.

        Looked at after this call has begun. None when the Document Service does not answer in time.
        """
        return await self._epochs.get((), self._epoch)

    async def _epoch(self) -> str | None:
        truth, index = await asyncio.gather(
            self._truth.standing([], scope=NOBODY), self._generations.on_active(lambda opened: opened.index.epoch())
        )
        return None if truth is None else f"{truth.epoch}/{index}"
