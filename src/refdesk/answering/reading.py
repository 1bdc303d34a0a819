"""Reading answers: one's own records, and the logs they point at, live or again."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext

from refdesk.answering.degradation import seen_by
from refdesk.answering.gate import AccessUnknown
from refdesk.answering.journal import Journal
from refdesk.answering.log import AnswerLog, AnswerRecord, Entry, Take, has_expired
from refdesk.answering.withdrawal import Withdrawals
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import AnswerWithdrawn, Expired, NotFound, Unavailable
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
        if record.principal_id != principal.id:
            telemetry.acl_denied.inc()
            raise NotFound
        log = await self._open(record.log_id)
        if log is None:
            raise Expired
        log.position_after(after)
        return record

    async def recall(self, answer_id: str, principal: Principal, *, after: int = 0) -> AnswerRecord:
        """The asker's own record, as `find`, to be shown again. Raises AnswerWithdrawn, too, and AccessUnknown (`withdrawal`)."""
        record = await self.find(answer_id, principal, after=after)
        log = await self._open(record.log_id)
        await self._withdrawals.check(None if log is None else log.stands_on(), scope=principal.scope)
        return record

    async def read(
        self, record: AnswerRecord, take: Take, *, principal: Principal, after: int = 0, wait: bool = True
    ) -> None:
        """Gives ``take`` the answer's entries numbered above ``after`` as they come: the asker's own first event, then the log's.

        With ``wait`` False it ends with what is there now. Raises Expired, AnswerRewritten when event ``after`` was lost, and
        what ``recall`` raises when it comes to be so meanwhile: then the model stops, too, unless somebody else reads on.
        """
        is_administrator = principal.administrator

        def show(batch: list[Entry]) -> Wait | None:
            return take(seen_by(batch, administrator=is_administrator))

        with self.expected(record.log_id):
            if after < 1 and (pending := take([record.entry()])) is not None:
                await pending()
            log = await self._open(record.log_id)
            if log is None:
                raise Expired
        follows = record.accepted.cache == "coalesced"
        with telemetry.singleflight_waiters.track_inprogress() if follows else nullcontext():
            if log.finished or not wait:
                await log.read(record.answer_id, show, after=after, wait=wait)
                return
            try:
                async with self._withdrawals.watched(log, scope=principal.scope):
                    await log.read(record.answer_id, show, after=after)
            except (AnswerWithdrawn, AccessUnknown):
                await self._stop(record)
                raise

    @contextmanager
    def expected(self, log_id: str) -> Iterator[None]:
        """An asker who leaves before they read is not waited for."""
        try:
            yield
        except BaseException:
            if (log := self._journal.known(log_id)) is not None:
                log.touch()
            raise

    async def _open(self, log_id: str) -> AnswerLog | None:
        try:
            return await self._journal.open(log_id)
        except ValkeyError as error:
            raise Unavailable(
                "This answer cannot be read right now. Try again in a moment.", retry_after_s=2
            ) from error
