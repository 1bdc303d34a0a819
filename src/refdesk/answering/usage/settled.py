"""Settled usage: what answers have used of the models, by day, principal, groups and model, in the AI Service's database.

An answer is booked under its own name, in one transaction with the name itself: booking it again books nothing. So whoever knows
of one may book it: the process that wrote it, the one that took it over, the one that finds it left (`bookings`).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from typing import Literal, NamedTuple

import msgspec
from psycopg_pool import AsyncConnectionPool

from refdesk.answering.usage.caps import Period, Subject, Unit, counted
from refdesk.contracts.answers import Usage
from refdesk.outside.postgres.database import load_queries, one_statement, transaction

By = Literal["day", "principal", "group", "model"]
Kind = Literal["written", "shared", "rewriting"]
"""``shared``: the words of an answer that was written for somebody else, or before; they use nothing. ``rewriting``: of a
follow-up, before its answer."""

BOOKED_KEPT_S = 8 * 86400
"""How long an id is known: longer than any answer is kept that could be booked again, and a week at least."""


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, or a call of the model before it."""

    id: str
    principal_id: str
    name: str = ""
    """The principal's, for people; empty where it is not known."""
    groups: tuple[str, ...] = ()
    model: str
    usage: Usage = Usage()
    cost: Decimal | None = None
    kind: Kind = "written"
    day: date = msgspec.field(default_factory=lambda: datetime.now(UTC).date())


class SumKey(NamedTuple):
    """What a sum is of; empty where it is over all."""

    day: str = ""
    principal_id: str = ""
    group: str = ""
    model: str = ""


class Sum(msgspec.Struct, frozen=True):
    key: SumKey
    name: str | None
    answers: int
    shared: int
    usage: Usage
    cost: Decimal | None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which sums: of the days from ``first`` to ``last``, of one principal, group or model where one is given."""

    by: tuple[By, ...]
    first: date
    last: date
    principal_id: str | None = None
    group: str | None = None
    model: str | None = None


class UsageStore:
    """Every method raises Unavailable when PostgreSQL does not answer."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._queries = load_queries(resources.files("refdesk.answering.usage") / "settled.sql")

    async def book(self, bookings: Sequence[Booking]) -> list[Booking]:
        """Books what was not booked before, and tells what that was."""
        given = {booking.id: booking for booking in bookings}
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(self._queries.mark, {"ids": list(given)})
            fresh = [given[name] for (name,) in await cursor.fetchall()]
            if fresh:
                await connection.execute(self._queries.add, _columns(fresh))
            names = {booking.principal_id: booking.name for booking in bookings if booking.name}
            if names:
                values = {"principals": list(names), "names": list(names.values())}
                await connection.execute(self._queries.name, values)
        return fresh

    async def booked(self, subject: Subject, unit: Unit, period: Period) -> int:
        """Of a subject, in the day or month that is now: tokens, or billionths of the currency."""
        today = datetime.now(UTC).date()
        since = today if period == "day" else today.replace(day=1)
        query = self._queries.of_principal if subject.group is None else self._queries.of_group
        async with one_statement(self._pool) as connection:
            cursor = await connection.execute(query, {"key": subject.group or subject.key, "since": since})
            [[tokens, cost]] = await cursor.fetchall()
        return int(tokens) if unit == "tokens" else counted(cost)

    async def sums(self, wanted: Wanted, *, after: SumKey | None, count: int) -> list[Sum]:
        """In the order of their keys, from the one after ``after`` on."""
        start = after or SumKey()
        values = {
            **{f"by_{name}": name in wanted.by for name in ("day", "principal", "group", "model")},
            "first": wanted.first,
            "last": wanted.last,
            "principal_id": wanted.principal_id,
            "group": wanted.group,
            "model": wanted.model,
            "after_day": start.day,
            "after_principal": start.principal_id,
            "after_group": start.group,
            "after_model": start.model,
            "from_start": after is None,
            "count": count,
        }
        async with one_statement(self._pool) as connection:
            cursor = await connection.execute(self._queries.sums, values)
            found = await cursor.fetchall()
        return [_sum(row) for row in found]

    async def forget(self, *, days: int, answers_kept_s: float) -> None:
        """Drops what was kept long enough."""
        async with transaction(self._pool) as connection:
            kept_s = max(BOOKED_KEPT_S, 2 * answers_kept_s)
            await connection.execute(self._queries.forget_booked, {"kept_s": kept_s})
            await connection.execute(self._queries.forget_days, {"kept_days": days})


def _columns(bookings: Sequence[Booking]) -> dict[str, list[object]]:
    return {
        "days": [booking.day for booking in bookings],
        "principals": [booking.principal_id for booking in bookings],
        "groups": [",".join(sorted(booking.groups)) for booking in bookings],
        "models": [booking.model for booking in bookings],
        "answers": [int(booking.kind == "written") for booking in bookings],
        "shared": [int(booking.kind == "shared") for booking in bookings],
        "inputs": [booking.usage.input_tokens for booking in bookings],
        "outputs": [booking.usage.output_tokens for booking in bookings],
        "costs": [booking.cost for booking in bookings],
    }


def _sum(row: Sequence[object]) -> Sum:
    day, principal_id, group, model, name, answers, shared, read, written, cost = row
    key = SumKey(str(day), str(principal_id), str(group), str(model))
    usage = Usage(int(str(read)), int(str(written)))
    return Sum(
        key,
        None if name is None else str(name),
        int(str(answers)),
        int(str(shared)),
        usage,
        None if cost is None else Decimal(str(cost)),
    )
