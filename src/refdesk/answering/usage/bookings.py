"""From an answer's end to its row of usage: once, whatever dies in between.

    begun ──▶ unbooked (Valkey) ─────────────────────────────┐
      │                                                      │ left by a process that died
    ended ──▶ pending (memory) ──every `interval_s`──▶ UsageStore.book ──▶ no longer unbooked
                  ▲ withdrawn, when another process writes the log

An answer's log is the record: what it says has been used is booked, under the log's name, when its ending is copied. Until then
it stands among the unbooked. Whoever finds one there that nobody writes any more books what its log says, or, where it has no
ending and is too old to be gone on with, an estimate of what was said. Answers that share another's log are booked under names of
their own, with nothing used.

Written at intervals and not at once: any transaction changes the epoch (`cache`), and with it what can be answered the short way.
Answers that used nothing wait longer, for company.

Valkey down and then the process killed: what was begun meanwhile is not booked.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

import msgspec

from refdesk.answering.logs.journal import ANSWER, LOG, UNBOOKED, Journal
from refdesk.answering.logs.log import AnswerLog, AnswerRecord, new_id
from refdesk.answering.production import Job
from refdesk.answering.quoting.extractive import MODEL_NAME
from refdesk.answering.usage.budget import Budget
from refdesk.answering.usage.caps import Spender
from refdesk.answering.usage.prices import Prices
from refdesk.answering.usage.settled import Booking, UsageStore
from refdesk.contracts.access import EVERYONE, PRINCIPAL_PREFIX, Principal, Scope
from refdesk.contracts.answers import Done, Usage
from refdesk.contracts.errors import Unavailable
from refdesk.outside import telemetry, tokens
from refdesk.outside.valkey.client import Valkey, ValkeyError

logger = logging.getLogger(__name__)

REWRITING = "rewriting:"
LEFT_AFTER_INTERVALS = 6
"""How long an answer is left to the process that began it."""
LEFT_AT_ONCE = 200
SHARED_INTERVALS = 6
"""How long answers that used nothing wait for others to be booked with."""
COPY_WAIT_S = 30.0
"""How long a booking waits for its log's ending to be copied."""
PENDING_MAX = 20_000
"""More stay unbooked in Valkey until there is room."""
TIDY_INTERVAL_S = 3600.0


class BookingTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How often is booked, how long an answer can be gone on with, and how long sums are kept."""

    interval_s: float
    answers_kept_s: float
    days_kept: int


class Pending(msgspec.Struct, frozen=True):
    """``is_counted``: whether the budget has counted it already."""

    booking: Booking
    is_counted: bool
    since: float


class Left(msgspec.Struct, frozen=True):
    """An answer that somebody has begun: ``log:<id>`` where it is written, ``answer:<id>`` where it shares a log."""

    member: str
    begun_at: float


class Bookings:
    """Have ``run`` running; ``flush`` before the end."""

    def __init__(
        self,
        store: UsageStore,
        *,
        valkey: Valkey,
        journal: Journal,
        budget: Budget,
        prices: Prices,
        times: BookingTimes,
    ) -> None:
        self._store = store
        self._valkey = valkey
        self._journal = journal
        self._budget = budget
        self._prices = prices
        self._times = times
        self._pending: dict[str, Pending] = {}
        self._flushing = asyncio.Lock()

    def note(self, booking: Booking, *, is_counted: bool = True) -> None:
        """Books it soon."""
        if len(self._pending) < PENDING_MAX:
            self._pending[booking.id] = Pending(booking, is_counted, time.monotonic())

    def note_rewriting(self, principal: Principal, *, model: str, usage: Usage, is_counted: bool) -> None:
        """A follow-up was written out in full, whatever comes of it."""
        booking = Booking(
            id=REWRITING + new_id(),
            principal_id=principal.id,
            name=principal.name,
            groups=principal.groups,
            model=model,
            usage=usage,
            cost=self._prices.cost(model, usage),
            kind="rewriting",
        )
        self.note(booking, is_counted=is_counted)

    def withdraw(self, log_id: str) -> None:
        """Another process writes that log, and books it."""
        self._pending.pop(LOG + log_id, None)

    async def run(self) -> None:
        tidied_at = float("-inf")
        while True:
            await asyncio.sleep(self._times.interval_s)
            await self.flush()
            try:
                await self.book_left()
                if time.monotonic() - tidied_at >= TIDY_INTERVAL_S:
                    await self._store.forget(days=self._times.days_kept, answers_kept_s=self._times.answers_kept_s)
                    tidied_at = time.monotonic()
            except (ValkeyError, Unavailable) as error:
                logger.debug("what was left unbooked stays so for now: %s", error)

    async def flush(self, *, wait_for_copies: bool = True) -> None:
        """Books what is pending; what cannot be booked now stays."""
        async with self._flushing:
            ready = [pending for pending in self._pending.values() if not wait_for_copies or self._is_copied(pending)]
            if not ready or (wait_for_copies and self._can_wait(ready)):
                return
            try:
                await self._book(ready)
            except Unavailable as error:
                logger.warning("%d answers are not booked yet: %s", len(ready), error)

    async def book_left(self) -> None:
        """Books what processes that died have left. Raises ValkeyError and Unavailable."""
        latest = time.time() - LEFT_AFTER_INTERVALS * self._times.interval_s
        found = await self._valkey.command(
            "ZRANGEBYSCORE", UNBOOKED, "-inf", latest, "WITHSCORES", "LIMIT", 0, LEFT_AT_ONCE
        )
        left = [Left(str(found[at], "ascii"), float(found[at + 1])) for at in range(0, len(found), 2)]
        ready = []
        for one in left:
            if one.member in self._pending or await self._is_written(one):
                continue
            booking = await self._of_left(one)
            if booking is not None:
                ready.append(Pending(booking, False, 0.0))
        if ready:
            await self._book(ready)

    def _is_copied(self, pending: Pending) -> bool:
        booking = pending.booking
        if booking.kind != "written" or time.monotonic() - pending.since > COPY_WAIT_S:
            return True
        return not self._journal.produces(booking.id.removeprefix(LOG))

    def _can_wait(self, ready: Sequence[Pending]) -> bool:
        latest = time.monotonic() - (SHARED_INTERVALS - 0.5) * self._times.interval_s
        return all(pending.booking.kind == "shared" and pending.since > latest for pending in ready)

    async def _book(self, ready: Sequence[Pending]) -> None:
        fresh = await self._store.book([pending.booking for pending in ready])
        _count(fresh, currency=self._prices.currency)
        for pending in ready:
            self._pending.pop(pending.booking.id, None)
        try:
            await self._valkey.command("ZREM", UNBOOKED, *(pending.booking.id for pending in ready))
        except ValkeyError as error:
            logger.debug("what is booked is still listed as not: %s", error)  # booking it again changes nothing
        names = {booking.id for booking in fresh}
        late = {
            Spender(pending.booking.principal_id, pending.booking.groups)
            for pending in ready
            if not pending.is_counted and pending.booking.id in names and pending.booking.kind != "shared"
        }
        for spender in late:
            await self._budget.forget(spender)

    async def _is_written(self, left: Left) -> bool:
        if not left.member.startswith(LOG):
            return False
        log_id = left.member.removeprefix(LOG)
        return self._journal.produces(log_id) or await self._journal.has_producer(log_id)

    async def _of_left(self, left: Left) -> Booking | None:
        """None where it is to be left for now, or where nothing is known of it any more: then it is forgotten."""
        kind, name = (LOG, left.member.removeprefix(LOG)) if left.member.startswith(LOG) else (ANSWER, "")
        if kind == ANSWER:
            record = await self._journal.record(left.member.removeprefix(ANSWER))
            booking = None if record is None else shared(record)
        else:
            log, payload = await self._journal.kept(name)
            if (
                payload is not None
                and not log.finished
                and time.time() - left.begun_at < 0.9 * self._times.answers_kept_s
            ):
                return None  # somebody may come back to it
            booking = None if payload is None else self._of_log(log, payload)
        if booking is None:
            await self._valkey.command("ZREM", UNBOOKED, left.member)
            telemetry.usage_lost.inc()
        return booking

    def _of_log(self, log: AnswerLog, payload: bytes) -> Booking | None:
        try:
            job = msgspec.json.decode(payload, type=Job)
        except msgspec.MsgspecError:
            return None
        done = log.ending()
        model = MODEL_NAME if _is_quoted(done, job) else job.model
        usage = _estimated(log, job) if done is None else done.usage
        return Booking(
            id=LOG + log.id,
            principal_id=job.principal_id,
            groups=groups_of(job.scope),
            model=model,
            usage=usage,
            cost=self._prices.cost(model, usage),
        )


def shared(record: AnswerRecord, *, name: str = "") -> Booking:
    """Of an answer that uses nothing: it was written for somebody else, or before."""
    return Booking(
        id=ANSWER + record.answer_id,
        principal_id=record.principal_id,
        name=name,
        groups=record.groups,
        model=record.accepted.model,
        kind="shared",
    )


def groups_of(scope: Scope) -> tuple[str, ...]:
    return tuple(name for name in scope.readers if name != EVERYONE and not name.startswith(PRINCIPAL_PREFIX))


def _is_quoted(done: Done | None, job: Job) -> bool:
    """Whether the fallback has written, rather than the model that the job names."""
    return not job.assignment.sources or (done is not None and done.degraded_reason is not msgspec.UNSET)


def _estimated(log: AnswerLog, job: Job) -> Usage:
    """Of a log that does not say: what was given to the model, and what it was seen to say."""
    said = log.text()
    if not said:
        return Usage()
    read = sum(tokens.input_tokens(source.passage) for source in job.assignment.sources)
    return Usage(read + tokens.input_tokens(job.assignment.question), tokens.output_tokens(said))


def _count(fresh: Sequence[Booking], *, currency: str) -> None:
    for booking in fresh:
        telemetry.labelled(telemetry.usage_answers, booking.kind).inc()
        if booking.kind == "shared":
            continue
        telemetry.labelled(telemetry.usage_tokens, booking.model, "input").inc(booking.usage.input_tokens)
        telemetry.labelled(telemetry.usage_tokens, booking.model, "output").inc(booking.usage.output_tokens)
        if booking.cost is not None:
            telemetry.labelled(telemetry.usage_cost, booking.model, currency).inc(float(booking.cost))
