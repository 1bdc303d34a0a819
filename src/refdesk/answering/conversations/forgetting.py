"""What history loses by itself: answers that stand on a document which was deleted, and what is older than it is kept.

A deletion is heard of with the news of the index, and looked for among all documents that answers stand on now and then, since
news can stay away. The Document Service says what is gone; while it is silent, or a restore is not settled, nothing is erased:
what somebody may not read is withheld in any case (`withdrawal`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

from refdesk.answering.conversations.history import History
from refdesk.answering.evidence.truth import Shown, SourceOfTruth
from refdesk.contracts.access import Scope
from refdesk.contracts.errors import RefdeskError
from refdesk.index.ledger.news import RECENT_S, IndexNews
from refdesk.index.ledger.standings import Standings
from refdesk.outside import telemetry
from refdesk.settings.answers import Conversations

logger = logging.getLogger(__name__)

EVERYTHING = Scope(readers=(), everything=True)
NEWS_S = RECENT_S / 2
"""How often documents that there was news of are looked at; each is heard of twice."""
DOCUMENTS_AT_ONCE = 500
ROWS_AT_ONCE = 1000
DELETED_S = timedelta(days=2).total_seconds()
"""How long a deleted conversation is remembered: longer than an answer in it may take."""


class Forgetting:
    """Have ``run`` running."""

    def __init__(
        self, history: History, *, truth: SourceOfTruth, standings: Standings, news: IndexNews, retention: Conversations
    ) -> None:
        self._history = history
        self._truth = truth
        self._standings = standings
        self._news = news
        self._retention = retention

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._now_and_then(self._look_at_news, NEWS_S))
            tasks.create_task(self._now_and_then(self._sweep, self._retention.sweep_s))

    async def _now_and_then(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            try:
                await work()
            except RefdeskError as error:
                logger.warning("history is not gone through: %s", error)
            await asyncio.sleep(every_s)

    async def _look_at_news(self) -> None:
        heard = self._news.recent()
        if heard:
            await self._erase_gone(await self._history.evidence_among(heard))

    async def _sweep(self) -> None:
        document_ids = await self._history.evidence_after("", count=DOCUMENTS_AT_ONCE)
        while document_ids:
            await self._erase_gone(document_ids)
            document_ids = await self._history.evidence_after(document_ids[-1], count=DOCUMENTS_AT_ONCE)
        while await self._history.forget(
            retention_s=self._retention.retention_s, deleted_s=DELETED_S, count=ROWS_AT_ONCE
        ):
            pass

    async def _erase_gone(self, document_ids: Collection[str]) -> None:
        """Erases what stands on those of these documents that are not there any more."""
        if not document_ids or not await self._standings.is_reliable():
            return
        truth = await self._truth.standing([Shown(one, 0) for one in document_ids], scope=EVERYTHING)
        if truth is None:
            return
        gone = [one for one in document_ids if one not in truth.versions]
        if gone:
            erased = await self._history.erase(gone)
            telemetry.history_erased.inc(erased)
