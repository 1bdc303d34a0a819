"""The answers that this process writes: begun, taken over from a process that died, stopped, ended.

    slot ─ claim? ─ begin ─▶ Production, a task ─▶ ended ─▶ place, budget and key are given back
      └──── left without an answer ───────────────────────▶ the same

An answer without readers, here or elsewhere, is stopped after a grace, in case a reader comes back: a longer one in a
conversation, where whoever reloads the page, or takes up another device, finds it again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from refdesk.answering.capacity import Capacity, Share
from refdesk.answering.curating.gap_finding import GapFinding
from refdesk.answering.logs.journal import LOG, Journal
from refdesk.answering.logs.log import AnswerLog, new_id
from refdesk.answering.production import Check, Job, Production, ShuttingDown, Writers
from refdesk.answering.reuse.cache import Cache
from refdesk.answering.usage.bookings import Bookings, groups_of
from refdesk.answering.usage.caps import Spender
from refdesk.answering.usage.prices import Prices
from refdesk.answering.usage.settled import Booking
from refdesk.answering.withdrawal import Withdrawals
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import RefdeskError
from refdesk.outside import telemetry, tracing
from refdesk.settings.answers import Graces

WATCH_INTERVAL_S = 0.1


class Slot:
    """Room for one answer: its log, its share of the desk, and the key under which others find it, once it is claimed."""

    def __init__(
        self,
        log: AnswerLog,
        share: Share,
        *,
        productions: "Productions",
        principal_name: str = "",
        key: str | None = None,
    ) -> None:
        self.log = log
        self.principal_name = principal_name
        self.share = share
        self.key = key
        self.has_begun = False
        self._productions = productions

    async def claim(self, key: str) -> bool:
        """Whether the key is now this log's; False when another was faster."""
        self.key = key
        if await self._productions.claim(key, self.log):
            return True
        self.key = None
        return False

    def begin(self, job: Job, *, workflow: telemetry.Workflow) -> None:
        """Writes the answer, from now on by a task of its own, which also ends the workflow."""
        self.has_begun = True
        workflow.hand_over()
        self._productions.start(self, job, workflow=workflow)


class Productions:
    """Have ``run`` running."""

    def __init__(
        self,
        journal: Journal,
        cache: Cache,
        *,
        writers: Writers,
        capacity: Capacity,
        bookings: Bookings,
        gaps: GapFinding,
        prices: Prices,
        withdrawals: Withdrawals,
        graces: Graces,
    ) -> None:
        self._journal = journal
        self._cache = cache
        self._writers = writers
        self._capacity = capacity
        self._bookings = bookings
        self._gaps = gaps
        self._prices = prices
        self._withdrawals = withdrawals
        self._graces = graces
        self._running: dict[str, Production] = {}
        self._is_closing = False

    # beginning

    def check_room(self, principal_id: str) -> None:
        """Raises Overloaded or TooManyRequests when there is no room for an answer of this principal's now, ShuttingDown when
        there will be none."""
        if self._is_closing:
            raise ShuttingDown
        self._capacity.check(principal_id)

    @asynccontextmanager
    async def slot(self, principal: Principal, *, at_most: Usage, is_counted: bool) -> AsyncIterator[Slot]:
        """Room for an answer that uses so much at most. Left without one that has begun, all of it is given back.

        Raises Overloaded or TooManyRequests when there is no room, ShuttingDown when there will be none.
        """
        if self._is_closing:
            raise ShuttingDown
        log_id, spender = new_id(), Spender(principal.id, principal.groups)
        share = await self._capacity.take(spender, name=log_id, at_most=at_most, is_counted=is_counted)
        log = self._journal.start(log_id, on_superseded=lambda: self._superseded(log_id))
        slot = Slot(log, share, productions=self, principal_name=principal.name)
        try:
            yield slot
        finally:
            if not slot.has_begun:
                self._journal.forget(log_id)
                await slot.share.give_back()
                await self._release(slot)

    async def claim(self, key: str, log: AnswerLog) -> bool:
        """Whether this log now has the key; False when another has it."""
        return await self._cache.claim(key, log.id, lease=self._journal.lease(log.id)) == log.id

    def start(self, slot: Slot, job: Job, *, workflow: telemetry.Workflow, check: Check | None = None) -> None:
        """Has the answer written in the slot, which is given back at its end."""
        slot.log.expect()

        async def on_end(production: Production) -> None:
            self._running.pop(slot.log.id, None)  # so that it cannot be stopped any more
            workflow.end(error=production.failure)
            await self._settle(slot, production)
            await self._release(slot)

        self._running[slot.log.id] = Production(
            slot.log,
            job,
            journal=self._journal,
            writers=self._writers,
            ticket=slot.share.ticket,
            on_end=on_end,
            cost=self._prices.cost,
            check=check,
        )
        if self._is_closing:
            self.stop(slot.log.id, as_error=ShuttingDown)

    def take_over(self, log: AnswerLog, payload: bytes) -> None:
        """Goes on with the log of a process that died.

        Who asked may have lost a right since: what they may not read now is not given to the model. Raises msgspec.MsgspecError
        for a job that this release cannot read.
        """
        job = msgspec.json.decode(payload, type=Job)
        self._journal.superseded_by(log, lambda: self._superseded(log.id))
        share = self._capacity.take_late(_spender(job), name=log.id, at_most=job.at_most)
        slot = Slot(log, share, productions=self, key=job.fingerprint)
        workflow = telemetry.Workflow()
        with tracing.current(workflow.span):
            self.start(
                slot,
                job,
                workflow=workflow,
                check=lambda: self._withdrawals.check(job.stands_on(), scope=job.scope),
            )

    async def _settle(self, slot: Slot, production: Production) -> None:
        """What was used, in the budget and to be booked; by the process that writes the log at its end."""
        if production.is_superseded:
            slot.share.leave()
            return
        ending = slot.log.ending()
        outcome = ending.finish_reason if ending is not None else production.failure.code if production.failure else ""
        self._gaps.note_ending(slot.log, _spender(production.job), question=production.job.assignment.question)
        telemetry.labelled(telemetry.answers, outcome).inc()
        usage, cost, job = production.usage, production.cost, production.job
        is_counted = await slot.share.give_back(used=usage, cost=cost)
        booking = Booking(
            id=LOG + slot.log.id,
            principal_id=job.principal_id,
            name=slot.principal_name,
            groups=groups_of(job.scope),
            model=production.model,
            usage=usage,
            cost=cost,
        )
        self._bookings.note(booking, is_counted=is_counted)

    async def _release(self, slot: Slot) -> None:
        if slot.key is not None and not slot.log.reusable:
            await self._cache.release(slot.key, slot.log.id)

    # while they are written

    def writes(self, log_id: str) -> bool:
        """Whether this process writes that answer now."""
        return log_id in self._running

    def under_way(self) -> list[Production]:
        """What is written here now, the oldest first."""
        return sorted(self._running.values(), key=lambda production: -production.age_s)

    def joined(self, log_id: str, principal_id: str) -> None:
        """Notes that another principal waits for this answer; if it is written here, it begins in the first turn of either."""
        if (production := self._running.get(log_id)) is not None:
            production.wanted_by_also(principal_id)

    # ending

    def stop(self, log_id: str, *, as_error: type[RefdeskError] | None = None) -> None:
        """Ends the answer at once, with this error or as ``cancelled``, if it is written here."""
        if (production := self._running.get(log_id)) is not None:
            production.stop(as_error=as_error)

    def _superseded(self, log_id: str) -> None:
        """Another process writes that log."""
        self._bookings.withdraw(log_id)
        if (production := self._running.get(log_id)) is not None:
            production.superseded()

    async def stop_if_unread(self, log: AnswerLog) -> None:
        """Ends the answer unless it has a reader, here or in another process."""
        if not log.readers and not await self._journal.followed_elsewhere(log.id):
            self.stop(log.id)

    async def run(self) -> None:
        """Stops the model for answers whose readers have all left and not come back within the grace. Until cancelled."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            now = asyncio.get_running_loop().time()
            for production in list(self._running.values()):
                log = production.log
                grace_s = self._graces.in_conversation_s if production.job.in_conversation else self._graces.single_s
                if not log.readers and now - log.idle_since >= grace_s:
                    await self.stop_if_unread(log)

    async def close(self) -> None:
        """Ends every answer that this process still writes, each with an event that says to ask again. No other begins."""
        self._is_closing = True
        while self._running:  # also one that has its slot and begins only now
            tasks = [production.task for production in self._running.values()]
            for log_id in list(self._running):
                self.stop(log_id, as_error=ShuttingDown)
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._journal.flush()
        await self._bookings.flush(wait_for_copies=False)


def _spender(job: Job) -> Spender:
    return Spender(job.principal_id, groups_of(job.scope))
