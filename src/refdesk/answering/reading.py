"""Reading answers: one's own records, and the logs they point at, live or again.

``Reading`` finds the answers that somebody may read. ``AnswerReader`` reads one of them in the way that every door needs it: as
events, cut as finely as was asked for, or whole. A door adds nothing but its encoding.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from refdesk.access.permission import is_withdrawn
from refdesk.access.policy import Resource, may
from refdesk.answering.evidence.gate import AccessUnknown
from refdesk.answering.logs.degradation import seen_by
from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import FIRST_LOG_ID, AnswerLog, AnswerRecord, Entry, OnEntries, has_expired
from refdesk.answering.withdrawal import Withdrawals
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Delta, Granularity
from refdesk.contracts.errors import (
    AnswerWithdrawn,
    Expired,
    NotFound,
    RefdeskError,
    Unavailable,
    problem,
)
from refdesk.outside import telemetry
from refdesk.outside.valkey.client import ValkeyError
from refdesk.web.sse import Wait


class Reading:
    """``stop`` ends an answer for an asker who is to have no more of it."""

    def __init__(
        self,
        journal: Journal,
        *,
        withdrawals: Withdrawals,
        retention_s: int,
        stop: Callable[[AnswerRecord], Awaitable[None]],
    ) -> None:
        self._journal = journal
        self._withdrawals = withdrawals
        self._retention_s = retention_s
        self._stop = stop

    async def find(self, answer_id: str, principal: Principal, *, after: int = 0) -> AnswerRecord:
        """The asker's own record. Raises NotFound for anybody else's, Expired when it or its log was kept long enough.

        AnswerRewritten when it is known that there is nothing to read after event ``after``: that event is not in the log.
        """
        try:
            record = await self._journal.record(answer_id)
        except ValkeyError as error:
            raise Unavailable(
                "Answers cannot be looked up right now. Try again in a moment.", retry_after_s=2
            ) from error
        if record is None and has_expired(answer_id, retention_s=self._retention_s):
            raise Expired
        if record is None:
            raise NotFound
        if not may(principal, "answers.read", Resource(owner=record.principal_id)):
            telemetry.acl_denied.inc()
            raise NotFound
        log = await self._open(record.log_id)
        if log is None:
            raise await self._what_became_of(record.log_id)
        log.position_after(after)
        return record

    async def _what_became_of(self, log_id: str) -> AnswerWithdrawn | Expired:
        """Of a log that is not there any more. Which of the two is not known while Valkey is away: then it is old."""
        try:
            return AnswerWithdrawn() if await self._journal.evidence.is_erased(log_id) else Expired()
        except ValkeyError:
            return Expired()

    async def recall(self, answer_id: str, principal: Principal, *, after: int = 0) -> AnswerRecord:
        """The asker's own record, as `find`, to be shown again. Raises AnswerWithdrawn, too, and AccessUnknown (`withdrawal`)."""
        record = await self.find(answer_id, principal, after=after)
        log = await self._open(record.log_id)
        await self._withdrawals.check(None if log is None else log.stands_on(), scope=principal.scope)
        return record

    def of(
        self, record: AnswerRecord, principal: Principal, *, after: int = 0, granularity: Granularity = "token"
    ) -> "AnswerReader":
        """Reads the answer to its asker, from the event behind ``after``."""
        return AnswerReader(self, record, principal, after=after, granularity=granularity)

    async def follow(
        self, record: AnswerRecord, on_entries: OnEntries, *, principal: Principal, after: int, wait: bool
    ) -> None:
        """Gives ``on_entries`` the answer's entries numbered above ``after`` as they come: the asker's own first event, then the
        log's.

        With ``wait`` False it ends with what is there now. Raises Expired, AnswerRewritten when event ``after`` was lost, and
        what ``recall`` raises when it comes to be so meanwhile: then the model stops, too, unless somebody else reads on. So it
        does when the caller's permission is withdrawn.
        """
        with self._journal.expected(record.log_id):
            if after < 1 and (pending := on_entries([record.entry()])) is not None:
                await pending()
            log = await self._open(record.log_id)
            if log is None:
                raise Expired
        follows = record.accepted.cache == "coalesced"
        with telemetry.singleflight_waiters.track_inprogress() if follows else nullcontext():
            if log.finished or not wait:
                await log.read(record.answer_id, on_entries, after=after, wait=wait)
                return
            try:
                async with self._withdrawals.watched(log, scope=principal.scope):
                    await log.read(record.answer_id, on_entries, after=after)
            except (AnswerWithdrawn, AccessUnknown):
                await self._stop(record)
                raise
            except asyncio.CancelledError:
                if is_withdrawn():  # nobody comes back to it, as somebody who reloads a page does
                    await self._stop(record)
                raise

    async def _open(self, log_id: str) -> AnswerLog | None:
        try:
            return await self._journal.open(log_id)
        except ValkeyError as error:
            raise Unavailable(
                "This answer cannot be read right now. Try again in a moment.", retry_after_s=2
            ) from error


class AnswerReader:
    """One asker's reading of one answer."""

    def __init__(
        self, reading: Reading, record: AnswerRecord, principal: Principal, *, after: int, granularity: Granularity
    ) -> None:
        self.record = record
        self._reading = reading
        self._principal = principal
        self._sees_details = may(principal, "answers.read_details")
        self._after = after
        self._granularity = granularity
        self._seen = after
        """The number of the last entry that they have."""

    async def events(self, on_entries: OnEntries, *, wait: bool = True) -> None:
        """Gives ``on_entries`` the answer as this asker sees it, in batches of at least one entry, as `Reading.follow`."""

        def show(batch: list[Entry]) -> Wait | None:
            self._seen = batch[-1].id
            wanted = batch if self._granularity == "token" else [one for one in batch if one.name != Delta.name]
            return on_entries(seen_by(wanted, with_details=self._sees_details)) if wanted else None

        await self._reading.follow(self.record, show, principal=self._principal, after=self._after, wait=wait)

    async def finished(self, *, wait: bool = True) -> FinishedAnswer:
        """The answer as one object, once it has ended; with ``wait`` False, as far as it is now. Raises as `events` does."""
        answer = FinishedAnswer.begun(self.record)
        await self.events(answer.add, wait=wait)
        return answer

    def cut_off(self, error: RefdeskError) -> dict[str, Any]:
        """What is said where the reading ends and the answer does not: the data of an ``error`` event that is not of the log."""
        return problem(error) | {"partial": self._seen >= FIRST_LOG_ID}
