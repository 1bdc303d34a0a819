"""An answer is shown to somebody only while they may read every document that it stands on.

A finished one is looked at when it is asked for again, and when a follow-up would give it to the model. A running one is
looked at whenever there is news of one of its documents, by each of its readers for themselves; for a word nothing is done.
What a document said is in the answer's text, not only in its sources: so it is withheld as a whole.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from refdesk.answering.gate import Gate
from refdesk.answering.log import AnswerLog
from refdesk.answering.truth import Shown
from refdesk.contracts.access import Scope
from refdesk.contracts.errors import AnswerWithdrawn
from refdesk.index.news import IndexNews
from refdesk.outside import telemetry

SOURCES_LOOK_S = 0.1
"""How often a reading looks whether its answer's sources have come. They are the first thing that comes."""


class Withdrawals:
    def __init__(self, gate: Gate, *, news: IndexNews) -> None:
        self._gate = gate
        self._news = news

    async def check(self, stands_on: frozenset[Shown] | None, *, scope: Scope) -> None:
        """Raises AnswerWithdrawn where the scope may not read all of it any more, AccessUnknown where nobody can say."""
        if not stands_on:
            return
        look = await self._gate.look(stands_on, scope=scope)
        if not all(look.surely_allows(one.document_id, one.version) for one in stands_on):
            telemetry.acl_denied.inc()
            raise AnswerWithdrawn

    async def readable(self, logs: Sequence[AnswerLog], *, scope: Scope) -> set[str]:
        """The ids of those logs that the scope may read, in one look; where nobody can say, it may not."""
        shown = {one for log in logs for one in log.stands_on() or ()}
        if not shown:
            return {log.id for log in logs}
        look = await self._gate.look(shown, scope=scope)

        def allows(log: AnswerLog) -> bool:
            return all(look.allows(one.document_id, one.version) for one in log.stands_on() or ())

        return {log.id for log in logs if allows(log)}

    @asynccontextmanager
    async def watched(self, log: AnswerLog, *, scope: Scope) -> AsyncIterator[None]:
        """Reading that log. Raises what ``check`` raises, in the middle, when that comes to be so."""
        try:
            async with asyncio.timeout(None) as limit:
                watching = asyncio.create_task(self._watch(log, scope, limit), name=f"watch {log.id}")
                try:
                    yield
                finally:
                    watching.cancel()
                    await asyncio.wait([watching])
        except TimeoutError:
            if not limit.expired():
                raise  # the reading's own
            watching.result()
            raise

    async def _watch(self, log: AnswerLog, scope: Scope, limit: asyncio.Timeout) -> None:
        """Until cancelled, or until the reading has to end, which it cuts off. Raises why."""
        try:
            while (stands_on := log.stands_on()) is None:
                await asyncio.sleep(SOURCES_LOOK_S)
            document_ids = {one.document_id for one in stands_on}
            with self._news.of(document_ids) as woken:
                if self._news.recently(document_ids):  # after the look at the sources, perhaps
                    woken.set()
                while True:
                    await woken.wait()
                    woken.clear()
                    await self.check(stands_on, scope=scope)
        except Exception:
            limit.reschedule(asyncio.get_running_loop().time())
            raise
