"""Finding what an answer may stand on: hybrid search inside the asker's scope, then one look at the source of truth.

The index decides what matches; the Document Service decides what still exists and who may read it, even while the index
lags. If it does not answer in time the index decides alone, and the answer says so (``vouched`` is False).

Equal questions at the same time share one search (``sharing``): equal text, scope and filters, so that what is found is
just what each of them may see; begun after each of them has asked, so that it is no older than what their own would be.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from refdesk.answering.sharing import Shared, SharedLimits, normalised
from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters, Hit, Source
from refdesk.contracts.documents import FreshnessToken
from refdesk.contracts.errors import NotYetSearchable
from refdesk.index.chunks import Passage
from refdesk.index.news import IndexNews
from refdesk.index.opened import Opened, OpenGenerations
from refdesk.outside import telemetry, tracing
from refdesk.outside.embedding import Vectors
from refdesk.outside.http_client import HttpClient

logger = logging.getLogger(__name__)

NOTHING = Scope(readers=())
PATH = "/api/documents/standing"
WAIT_LOOK_S = 0.5
"""How often a waiting question looks by itself whether its document has become searchable; news of it come at once."""


class _Standing(msgspec.Struct, frozen=True):
    document_id: str
    version: int


class Truth(msgspec.Struct, frozen=True):
    """The Document Service's word: the newest version of each readable document, and how far the index is behind."""

    as_of: datetime
    index_lag_seconds: float
    versions: dict[str, int]
    epoch: str


class _StandingReply(msgspec.Struct, frozen=True):
    as_of: datetime
    index_lag_seconds: float
    standings: list[_Standing]
    epoch: str


class SourceOfTruth:
    """Asks the Document Service, over HTTP, what a scope may still read."""

    def __init__(self, client: HttpClient, *, operator_key: str, timeout_s: float) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {operator_key}", "Content-Type": "application/json"}
        self._timeout_s = timeout_s
        self._last_as_of = datetime.fromtimestamp(0, UTC)

    async def standing(self, document_ids: Sequence[str], *, scope: Scope) -> Truth | None:
        """None when the Document Service does not answer in time."""
        body = msgspec.json.encode(
            {"document_ids": document_ids, "readers": scope.readers, "everything": scope.everything}
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._ask(body)
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("the Document Service does not vouch for the passages, the index decides: %r", error)
            return None
        self._last_as_of = max(self._last_as_of, reply.as_of)
        return Truth(
            as_of=reply.as_of,
            index_lag_seconds=reply.index_lag_seconds,
            epoch=reply.epoch,
            versions={standing.document_id: standing.version for standing in reply.standings},
        )

    async def _ask(self, body: bytes) -> _StandingReply:
        response = await self._client.post(PATH, body, headers=self._headers, connect_s=self._timeout_s)
        with closing(response):
            payload = await response.read_all()
        if response.status != 200:
            raise ConnectionError(f"status {response.status}")
        return msgspec.json.decode(payload, type=_StandingReply)

    @property
    def last_as_of(self) -> datetime:
        """The newest time up to which this process has seen every change searchable."""
        return self._last_as_of


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for one question. ``embed_s`` and ``retrieve_s`` are seconds spent, the wait for it in the latter."""

    vector: Vectors
    """The question's embedding: (dimensions,) float32, L2-normalised; by the model of this generation of the index."""
    generation: int
    passages: tuple[Passage, ...]
    stale: frozenset[str]
    """Ids of documents of which a newer version is on its way."""
    vouched: bool
    as_of: datetime
    index_lag_seconds: float
    embed_s: float
    retrieve_s: float = 0.0
    epoch: str | None = None
    """The epoch before the search, where it was asked for and is known."""

    def sources(self) -> tuple[Source, ...]:
        return tuple(
            Source(n=n, stale=passage.document_id in self.stale, **_fields(passage))
            for n, passage in enumerate(self.passages, 1)
        )

    def hits(self, *, with_scores: bool) -> list[Hit]:
        return [
            Hit(
                n=n,
                stale=passage.document_id in self.stale,
                score=passage.score if with_scores else None,
                **_fields(passage),
            )
            for n, passage in enumerate(self.passages, 1)
        ]


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What a search is for: the best ``limit`` passages that this scope may read."""

    text: str
    scope: Scope
    filters: Filters
    limit: int


class Retrieval:
    """At most ``limits.at_once_max`` searches at a time: each takes a connection."""

    def __init__(
        self, *, generations: OpenGenerations, news: IndexNews, truth: SourceOfTruth, limits: SharedLimits
    ) -> None:
        self._generations = generations
        self._news = news
        self._truth = truth
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
            vector = (await opened.embedder.embed([sought.text]))[0]
        embed_s = time.monotonic() - started
        found = await opened.index.search(
            sought.text, vector, scope=sought.scope, filters=sought.filters, limit=sought.limit
        )
        truth = await self._truth.standing(list({passage.document_id for passage in found}), scope=sought.scope)
        measured: dict[str, Any] = {
            "vector": vector,
            "generation": opened.generation.id,
            "embed_s": embed_s,
        }
        if truth is None:
            as_of = self._truth.last_as_of
            lag = (datetime.now(UTC) - as_of).total_seconds()
            return Evidence(
                passages=tuple(found), stale=frozenset(), vouched=False, as_of=as_of, index_lag_seconds=lag, **measured
            )
        passages = tuple(passage for passage in found if passage.document_id in truth.versions)
        telemetry.acl_denied.inc(len(found) - len(passages))
        return Evidence(
            passages=passages,
            stale=frozenset(p.document_id for p in found if truth.versions.get(p.document_id, 0) > p.version),
            vouched=True,
            as_of=truth.as_of,
            index_lag_seconds=truth.index_lag_seconds,
            **measured,
        )

    async def epoch(self) -> str | None:
        """A name for everything that answers can depend on: equal epochs, equal documents and index.

        Looked at after this call has begun. None when the Document Service does not answer in time.
        """
        return await self._epochs.get((), self._epoch)

    async def _epoch(self) -> str | None:
        truth, index = await asyncio.gather(
            self._truth.standing([], scope=NOTHING), self._generations.on_active(lambda opened: opened.index.epoch())
        )
        return None if truth is None else f"{truth.epoch}/{index}"

    async def still_readable(self, document_id: str, *, scope: Scope) -> bool:
        """Whether the source of truth still lets this scope read the document; True when it does not answer in time."""
        truth = await self._truth.standing([document_id], scope=scope)
        return truth is None or document_id in truth.versions

    async def wait_until_searchable(self, tokens: Sequence[FreshnessToken], *, wait_seconds: float) -> None:
        """Returns once the index has every token's version; raises NotYetSearchable when the time is up."""
        wanted = {token.document_id: token.version for token in tokens}
        deadline = time.monotonic() + wait_seconds
        with self._news.of(wanted) as woken:
            while missing := await self._missing(wanted):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise NotYetSearchable(
                        f"{', '.join(missing)} is not searchable yet after {wait_seconds:g} s. Try again, or raise "
                        "wait_seconds; `refdesk status` shows what the index is doing.",
                        retry_after_s=1,
                        missing=missing,
                    )
                await _wait(woken, within_s=min(left_s, WAIT_LOOK_S))

    async def _missing(self, wanted: dict[str, int]) -> list[str]:
        if not wanted:
            return []
        versions = await self._generations.on_active(lambda opened: opened.index.versions(wanted))
        return [
            f"{document_id}@{version}"
            for document_id, version in wanted.items()
            if versions.get(document_id, 0) < version
        ]


async def _wait(woken: asyncio.Event, *, within_s: float) -> None:
    """Until the event is set, or the time is up; it is cleared for the next time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await woken.wait()
    woken.clear()


def _fields(passage: Passage) -> dict[str, Any]:
    return {
        "document_id": passage.document_id,
        "version": passage.version,
        "title": passage.title,
        "passage": passage.text,
        "ordinal": passage.ordinal,
        "page": passage.page,
        "heading": passage.heading,
        "url": passage.url or f"/#document/{passage.document_id}/{passage.ordinal}",
    }
