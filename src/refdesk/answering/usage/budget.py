"""Requests, tokens and cost: reserved before the work, settled after it, atomically across replicas.

An answer reserves what it may use at most (estimated input plus allowed output, and what that costs) in every window at once, or
nothing at all; settling gives back what was not used. A reservation is named for the answer's log, and lives on a lease, which
``run`` renews: whoever takes the answer over goes on with it, and otherwise it returns. Windows are fixed: a minute, a day and a
month (UTC). All of it is one Lua script each way and subject (`caps`), so two askers can never both take the last token.

Valkey counts; what is booked in PostgreSQL is the record (`usage`). A count that Valkey does not have, or not any more, begins
with what is booked.

Valkey down: questions are let through and counted, each once (``refdesk_budget_unchecked_total``): a budget guards cost, not
secrets.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from refdesk.answering.scripts import lua
from refdesk.answering.usage.caps import BILLIONTHS, MINUTE_S, Cap, Caps, Period, Spender, Subject, Unit, window
from refdesk.contracts.errors import TooManyRequests, Unavailable
from refdesk.outside import telemetry
from refdesk.outside.valkey.client import Command, Script, Valkey, ValkeyError

logger = logging.getLogger(__name__)

LEASE_S = 120
"""How long a reservation lives without being settled or renewed."""
RENEW_INTERVAL_S = 30
KEPT_S = {"minute": 120, "day": 2 * 86400, "month": 33 * 86400}
"""How long a window's count is kept."""
SEEDS_MAX = 8
"""Unknown counts that are looked up for one reservation."""

Booked = Callable[[Subject, Unit, Period], Awaitable[int]]
"""What is booked of a subject in the period that is now: tokens, or billionths of the currency. Raises Unavailable."""

_NAMES = {
    "concurrent": ("answers at a time", "REFDESK_CONCURRENT_PER_PRINCIPAL_MAX"),
    "requests_per_minute": ("questions a minute", "REFDESK_REQUESTS_PER_MINUTE_MAX"),
    "searches_per_minute": ("searches a minute", "REFDESK_SEARCHES_PER_MINUTE_MAX"),
}


class BudgetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one principal may use."""

    concurrent: int
    requests_per_minute: int
    searches_per_minute: int
    tokens_per_minute: int
    tokens_per_day: int
    more: tuple[Cap, ...] = ()
    """Of each principal, beside these."""
    named: dict[str, tuple[Cap, ...]] = {}
    """Of groups and single principals."""

    def caps(self) -> Caps:
        """A minute's tokens are nobody's own: they bound how fast the others are used up."""
        minute = Cap("tokens", "minute", Decimal(self.tokens_per_minute), "REFDESK_TOKENS_PER_MINUTE_MAX")
        day = Cap("tokens", "day", Decimal(self.tokens_per_day), "REFDESK_TOKENS_PER_DAY_MAX")
        return Caps((minute, day, *self.more), self.named)


class Reservation(msgspec.Struct, frozen=True):
    """Tokens and cost (in billionths) set aside for one question. ``id`` is None when they could not be counted."""

    id: str | None
    principal_id: str
    tokens: int
    cost: int = 0
    subjects: tuple[Subject, ...] = ()


class Room(msgspec.Struct, frozen=True):
    """What is left of a limit now, and in how many seconds it begins anew."""

    limit: int
    left: int
    resets_in_s: int


class Pace(msgspec.Struct, frozen=True):
    """How fast a principal may go on: ``requests`` (or searches) of this minute, ``tokens`` of the cap with the least left."""

    requests: Room
    tokens: Room | None = None


class Budget:
    """``booked`` tells what a count begins with; without it, with nothing."""

    def __init__(
        self,
        valkey: Valkey,
        limits: BudgetLimits,
        *,
        booked: Booked | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._caps = limits.caps()
        self._booked = booked
        self._clock = clock
        self._valkey = valkey
        self._open: dict[str, Reservation] = {}
        self._count = Script(valkey, lua("count"))
        self._reserve = Script(valkey, lua("reserve"))
        self._settle = Script(valkey, lua("settle"))
        self._seed = Script(valkey, lua("seed"))

    def subjects(self, spender: Spender) -> list[Subject]:
        """Whose use is counted when this one spends, with their caps."""
        return self._caps.subjects(spender)

    async def count_request(self, principal_id: str) -> bool:
        """Counts one question; raises TooManyRequests when there were enough of them this minute.

        False when it could not be counted, so that what comes after it says so no more.
        """
        return await self._count_one(principal_id, "requests", limit=self._limits.requests_per_minute)

    async def count_search(self, principal_id: str, *, times: int = 1) -> None:
        """Counts searches, or looks into documents; raises TooManyRequests when there were enough of them this minute."""
        await self._count_one(principal_id, "searches", limit=self._limits.searches_per_minute, times=times)

    async def _count_one(self, principal_id: str, kind: str, *, limit: int, times: int = 1) -> bool:
        now = self._clock()
        try:
            actual = await self._count([_minute_key(principal_id, kind, int(now))], [limit, times])
        except ValkeyError as error:
            telemetry.budget_unchecked.inc()
            logger.debug("one of the %s could not be counted: %s", kind, error)
            return False
        if int(actual) >= 0:
            raise self._refusal(f"{kind}_per_minute", int(actual), MINUTE_S - int(now) % MINUTE_S)
        return True

    async def reserve(
        self, spender: Spender | str, tokens: int, *, cost: int = 0, name: str | None = None, is_counted: bool = True
    ) -> Reservation:
        """Sets ``tokens`` and ``cost`` aside; raises TooManyRequests naming the limit that is reached.

        ``name``: what others may go on with it under. ``is_counted``: what ``count_request`` said of the question.
        """
        if isinstance(spender, str):
            spender = Spender(spender)
        subjects = tuple(self._caps.subjects(spender))
        wanted = Reservation(name or secrets.token_hex(8), spender.principal_id, tokens, cost, subjects)
        try:
            await self._reserve_all(wanted)
        except (ValkeyError, Unavailable) as error:
            if is_counted:
                telemetry.budget_unchecked.inc()
            logger.debug("a budget could not be checked: %s", error)
            return Reservation(None, spender.principal_id, tokens)
        return self._opened(wanted)

    def go_on_with(self, name: str, spender: Spender, *, tokens: int, cost: int) -> Reservation:
        """A reservation that a process made which has died; its lease is renewed from now on."""
        subjects = tuple(self._caps.subjects(spender))
        return self._opened(Reservation(name, spender.principal_id, tokens, cost, subjects))

    def leave(self, reservation: Reservation) -> None:
        """Another process goes on with it."""
        if reservation.id is not None and self._open.pop(reservation.id, None) is not None:
            telemetry.budget_reserved.dec(reservation.tokens)

    async def settle(self, reservation: Reservation, *, used: int, cost: int = 0) -> bool:
        """Books what was used and gives the rest back. Settling twice books once. Whether the counts are as they should be."""
        if reservation.id is None or self._open.pop(reservation.id, None) is None:
            return False
        telemetry.budget_reserved.dec(reservation.tokens)
        try:
            spent = (min(used, reservation.tokens), min(cost, reservation.cost))
            settled = [await self._settle_one(reservation, subject, *spent) for subject in reservation.subjects]
        except ValkeyError as error:
            logger.debug("a reservation is left to its lease: %s", error)
            return False
        return all(settled)

    async def forget(self, spender: Spender) -> None:
        """What was counted of days and months is looked up again: something was booked that was not counted here."""
        if self._booked is None:
            return
        now = self._clock()
        keys = [
            _window_key(subject, cap, now)
            for subject in self._caps.subjects(spender)
            for cap in subject.caps
            if cap.period != "minute"
        ]
        try:
            await self._valkey.commands([("DEL", key) for key in keys])
        except ValkeyError as error:
            logger.debug("counts of a budget stay as they are: %s", error)

    async def counted(self, subject: Subject) -> list[tuple[Cap, int, int]]:
        """Each cap with what is used of it, reservations apart, and the seconds until it begins anew. Raises ValkeyError."""
        now = self._clock()
        return await self._counts(subject, await self._valkey.commands(_gets(subject, now)), now)

    async def _counts(self, subject: Subject, found: Sequence[Any], now: float) -> list[tuple[Cap, int, int]]:
        """As `counted`, from what was found by `_gets`."""
        return [
            (cap, int(count) if count is not None else await self._begin(subject, cap), window(cap.period, now)[1])
            for cap, count in zip(subject.caps, found, strict=True)
        ]

    async def pace(self, spender: Spender) -> Pace | None:
        """For questions. Tokens that are set aside for answers under way are not left. None where nobody knows.

        In one round trip: it is told with every answer at some doors.
        """
        now, subjects = self._clock(), self.subjects(spender)
        asked: list[Command] = [("GET", _minute_key(spender.principal_id, "requests", int(now)))]
        for subject in subjects:
            asked += [("HVALS", f"{_hash_tag(subject.key)}:held"), *_gets(subject, now)]
        try:
            told = iter(await self._valkey.commands(asked))
            requests = _room(next(told), now, limit=self._limits.requests_per_minute)
            tokens: list[Room] = []
            for subject in subjects:
                held = sum(int(amount) for amount in next(told))
                counts = await self._counts(subject, list(islice(told, len(subject.caps))), now)
                tokens += [
                    _left_of(cap, used + held, resets_in_s) for cap, used, resets_in_s in counts if cap.unit == "tokens"
                ]
        except (ValkeyError, Unavailable) as error:
            logger.debug("what is left of a budget is not known: %s", error)
            return None
        return Pace(requests, min(tokens, key=lambda room: room.left, default=None))

    async def search_pace(self, principal_id: str) -> Pace | None:
        """For searches, and what counts as such."""
        now = self._clock()
        try:
            count = await self._valkey.command("GET", _minute_key(principal_id, "searches", int(now)))
        except ValkeyError as error:
            logger.debug("what is left of a budget is not known: %s", error)
            return None
        return Pace(_room(count, now, limit=self._limits.searches_per_minute))

    async def _reserve_all(self, wanted: Reservation) -> None:
        for place, subject in enumerate(wanted.subjects):
            try:
                await self._reserve_one(wanted, subject, is_first=place == 0)
            except BaseException:
                for earlier in wanted.subjects[:place]:
                    await self._settle_one(wanted, earlier, 0, 0)
                raise

    async def _reserve_one(self, wanted: Reservation, subject: Subject, *, is_first: bool) -> None:
        """``is_first``: the principal, of whom answers at a time are counted."""
        now = self._clock()
        concurrent = self._limits.concurrent if is_first else 1 << 40
        values: list[str | float] = [now, wanted.id or "", wanted.tokens, wanted.cost, concurrent, LEASE_S]
        for cap in subject.caps:
            may_be_unknown = self._booked is not None and cap.period != "minute"
            left_s = window(cap.period, now)[1]
            values += [cap.name, cap.unit, cap.counted_limit, left_s, int(may_be_unknown)]
        for _ in range(SEEDS_MAX):
            outcome, actual, retry_after = await self._reserve(_keys(subject, now), values)
            if outcome != b"unknown":
                break
            await self._begin(subject, subject.caps[int(actual)])
        if outcome != b"ok":
            raise self._refusal_of(outcome.decode(), subject, wanted, int(actual), int(retry_after))

    async def _begin(self, subject: Subject, cap: Cap) -> int:
        """A count that nobody knows begins with what is booked, which is told."""
        if self._booked is None or cap.period == "minute":
            return 0
        booked = await self._booked(subject, cap.unit, cap.period)
        await self._seed([_window_key(subject, cap, self._clock())], [booked, KEPT_S[cap.period]])
        return booked

    async def _settle_one(self, reservation: Reservation, subject: Subject, used: int, cost: int) -> bool:
        values: list[str | int] = [reservation.id or "", used, cost]
        for cap in subject.caps:
            values += [cap.unit, KEPT_S[cap.period]]
        return bool(await self._settle(_keys(subject, self._clock()), values))

    def _opened(self, reservation: Reservation) -> Reservation:
        telemetry.budget_reserved.inc(reservation.tokens)
        self._open[reservation.id or ""] = reservation
        return reservation

    async def run(self) -> None:
        """Renews the leases of what is reserved here, for as long as the process lives."""
        while True:
            await asyncio.sleep(RENEW_INTERVAL_S)
            await self.renew()

    async def renew(self) -> None:
        """Gives every open reservation of this process a new lease."""
        until = self._clock() + LEASE_S
        try:
            await self._valkey.commands(
                [
                    ("ZADD", f"{_hash_tag(subject.key)}:open", "XX", until, reservation_id)
                    for reservation_id, reservation in self._open.items()
                    for subject in reservation.subjects
                ]
            )
        except ValkeyError as error:
            logger.debug("%d reservations are not renewed: %s", len(self._open), error)

    def _refusal(self, outcome: str, actual: int, retry_after: int) -> TooManyRequests:
        telemetry.admission.labels("refused", outcome).inc()
        what, setting = _NAMES[outcome]
        limit = getattr(self._limits, outcome)
        return TooManyRequests(
            f"You have used {actual} of {limit} {what} ({setting}). Try again in {retry_after} s.",
            retry_after_s=retry_after,
            limit=limit,
            actual=actual,
        )

    def _refusal_of(
        self, outcome: str, subject: Subject, wanted: Reservation, actual: int, retry_after: int
    ) -> TooManyRequests:
        if outcome == "concurrent":
            return self._refusal(outcome, actual, retry_after)
        telemetry.admission.labels("refused", outcome).inc()
        cap = next(cap for cap in subject.caps if cap.name == outcome)
        who = "You have" if subject.group is None else f"The group {subject.group} has"
        limit, used, need = (_shown(cap, amount) for amount in (cap.counted_limit, actual, _wanted(cap, wanted)))
        what = "tokens" if cap.unit == "tokens" else "cost"
        return TooManyRequests(
            f"{who} used {used} of {limit} {what} a {cap.period} ({cap.setting}), {_left(cap, actual)} left; this question needs "
            f"up to {need}. Try again in {retry_after} s, or ask for fewer with max_output_tokens.",
            retry_after_s=retry_after,
            limit=limit,
            actual=used,
        )


def _room(count: bytes | None, now: float, *, limit: int) -> Room:
    """What is left of a minute's limit."""
    return Room(limit, max(0, limit - int(count or 0)), MINUTE_S - int(now) % MINUTE_S)


def _left_of(cap: Cap, used: int, resets_in_s: int) -> Room:
    return Room(cap.counted_limit, max(0, cap.counted_limit - used), resets_in_s)


def _gets(subject: Subject, now: float) -> list[Command]:
    """What asks for the count of each of its caps."""
    return [("GET", _window_key(subject, cap, now)) for cap in subject.caps]


def _wanted(cap: Cap, wanted: Reservation) -> int:
    return wanted.tokens if cap.unit == "tokens" else wanted.cost


def _shown(cap: Cap, amount: int) -> int | float:
    return amount if cap.unit == "tokens" else amount / BILLIONTHS


def _left(cap: Cap, used: int) -> int | float:
    return _shown(cap, max(0, cap.counted_limit - used))


def _keys(subject: Subject, now: float) -> Sequence[str]:
    name = _hash_tag(subject.key)
    windows = [_window_key(subject, cap, now) for cap in subject.caps]
    return [f"{name}:open", f"{name}:held", f"{name}:held_cost", *windows]


def _minute_key(principal_id: str, kind: str, now: int) -> str:
    return f"{_hash_tag(principal_id)}:{kind}:{now // MINUTE_S}"


def _window_key(subject: Subject, cap: Cap, now: float) -> str:
    return f"{_hash_tag(subject.key)}:{cap.unit}:{window(cap.period, now)[0]}"


def _hash_tag(subject: str) -> str:
    """Braces keep one subject's keys on one node of a cluster."""
    return f"refdesk:budget:{{{subject}}}"
