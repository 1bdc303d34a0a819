"""The work on gaps, beside the answers: questions that got none join them, and new documents are asked whether they fill any.

    answer ended, rated ──▶ noted (memory, bounded) ─┐
                                                     ├─ every `interval_s` ─▶ embedded ─▶ GapStore
    index news ──▶ documents that came (bounded) ────┘                     └▶ open gaps: does one of these answer it?

Nothing waits for it. What a process had noted and not put away when it was killed is lost.

A document answers a gap as far as the extractor is sure of a quote from it. It is looked for in those documents alone, whoever
may read them; an asker hears of it only if they may read it, too (`gap_routes`).
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial

from refdesk.answering.curating.gaps import GapStore, Reason, Unanswered
from refdesk.answering.logs.log import AnswerLog
from refdesk.answering.quoting.extractive import Extractor
from refdesk.answering.usage.caps import Spender
from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters, Source
from refdesk.contracts.errors import RefdeskError
from refdesk.contracts.hidden_characters import clean
from refdesk.index.chunks import Passage
from refdesk.index.ledger.news import IndexNews
from refdesk.index.open_generations import Opened, OpenGenerations
from refdesk.outside import telemetry

logger = logging.getLogger(__name__)

NOTED_MAX = 1000
DOCUMENTS_MAX = 500
"""Documents that came since the last look; of more, none is looked at: it is a first import, or a new index."""
EMBEDDED_AT_ONCE = 32
PASSAGES_READ = 5
ANYBODY = Scope(readers=(), everything=True)


class GapFinding:
    """Have ``run`` running. ``keeps``: whether questions are kept at all."""

    def __init__(
        self,
        store: GapStore,
        *,
        generations: OpenGenerations,
        news: IndexNews,
        certainty_min: float,
        interval_s: float,
        keeps: bool,
    ) -> None:
        self._store = store
        self._generations = generations
        self._extractor = Extractor(generations.encode)
        self._certainty_min = certainty_min
        self._interval_s = interval_s
        self._keeps = keeps
        self._noted: dict[str, Unanswered] = {}
        self._came: set[str] = set()
        if keeps:
            news.listeners.append(self._note_document)

    async def erase(self, document_ids: Collection[str]) -> int:
        """What is kept, or noted, about deleted documents. Raises Unavailable."""
        gone = set(document_ids)
        self._noted = {name: one for name, one in self._noted.items() if gone.isdisjoint(one.documents)}
        return await self._store.erase(document_ids)

    def note(
        self, name: str, spender: Spender, *, question: str, reason: Reason, documents: Sequence[str] = ()
    ) -> None:
        """Puts the question away soon, once under each name."""
        if self._keeps and len(self._noted) < NOTED_MAX:
            self._noted[name] = Unanswered(
                name=name,
                principal_id=spender.principal_id,
                question=question,
                reason=reason,
                at=datetime.now(UTC),
                groups=list(spender.groups),
                documents=list(documents),
            )

    def note_ending(self, log: AnswerLog, spender: Spender, *, question: str) -> None:
        """Notes the question if the answer ends without one."""
        ending = log.ending()
        if ending is not None and (ending.finish_reason == "not_found" or ending.finish_reason == "closest"):
            reason = ending.finish_reason
            self.note(f"{log.id}/{spender.principal_id}", spender, question=question, reason=reason)

    async def run(self) -> None:
        while self._keeps:
            await asyncio.sleep(self._interval_s)
            try:
                await self.work()
            except RefdeskError as error:
                logger.debug("gaps are left as they are for now: %s", error)

    async def work(self) -> None:
        """Puts away what was noted, then looks at what came. Raises Unavailable."""
        while batch := list(self._noted.values())[:EMBEDDED_AT_ONCE]:
            opened = await self._generations.active()
            vectors = await opened.embedder.embed([one.question for one in batch])  # they are compared with each other
            await self._store.add(batch, vectors, model=opened.embedder.name)
            for one in batch:
                self._noted.pop(one.name, None)
        came, self._came = self._came, set()
        if 0 < len(came) <= DOCUMENTS_MAX:
            await self._look_for_answers(came)

    async def measure(self) -> None:
        """Sets the gauges of gaps."""
        gauges = [telemetry.gaps.labels(state) for state in ("open", "answered")]
        with telemetry.known_or_nan(*gauges):
            for gauge, count in zip(gauges, await self._store.counts(), strict=True):
                gauge.set(count)

    def _note_document(self, document_id: str) -> None:
        if document_id and len(self._came) <= DOCUMENTS_MAX:
            self._came.add(document_id)

    async def _look_for_answers(self, document_ids: set[str]) -> None:
        filters = Filters(document_ids=tuple(document_ids))
        for gap_id, question in await self._store.open():
            passages = await self._generations.on_active(partial(_search, question=question, filters=filters))
            document_id = await self._answering(question, passages)
            if document_id is not None:
                await self._store.answered(gap_id, by=document_id)

    async def _answering(self, question: str, passages: list[Passage]) -> str | None:
        """The document that answers best, if the extractor would quote it as an answer."""
        if not passages:
            return None
        found = await self._extractor.find(question, [_source(n, passage) for n, passage in enumerate(passages, 1)])
        if not found.quotes or found.certainty < self._certainty_min:
            return None
        return passages[found.quotes[0].n - 1].document_id


async def _search(opened: Opened, *, question: str, filters: Filters) -> list[Passage]:
    vector = (await opened.embedder.embed_questions([question]))[0]
    return await opened.index.search(question, vector, scope=ANYBODY, filters=filters, limit=PASSAGES_READ)


def _source(n: int, passage: Passage) -> Source:
    return Source(
        n=n,
        document_id=passage.document_id,
        version=passage.version,
        title=clean(passage.title),
        passage=clean(passage.text),
        ordinal=passage.ordinal,
        heading=passage.heading and clean(passage.heading),
        stale=False,
    )
