"""What may be used of the models in a day and a month (UTC): by each principal, by one of them, by a group together.

    REFDESK_TOKENS_PER_MONTH_MAX=5000000                                  each principal
    REFDESK_USAGE_CAPS="sales cost_per_month=200, principal:7f3a tokens_per_day=1000000"

A group's cap is shared by all who are in it; a principal's own takes the place of what each has.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Literal

import msgspec

from refdesk.contracts.access import PRINCIPAL_PREFIX, is_reader
from refdesk.contracts.errors import ConfigurationError

Unit = Literal["tokens", "cost"]
Period = Literal["minute", "day", "month"]

MINUTE_S, DAY_S = 60, 86400
BILLIONTHS = 1_000_000_000
"""Costs are counted in whole billionths of the currency."""
GROUP_PREFIX = "group:"

_CAP = re.compile(r"(tokens|cost)_per_(day|month)=(\d{1,15}(?:\.\d{1,6})?)")


class Cap(msgspec.Struct, frozen=True):
    """At most ``limit`` of the unit in the period; ``setting`` is who says so."""

    unit: Unit
    period: Period
    limit: Decimal
    setting: str

    @property
    def name(self) -> str:
        return f"{self.unit}_per_{self.period}"

    @property
    def counted_limit(self) -> int:
        """In tokens, or billionths of the currency."""
        return counted(self.limit) if self.unit == "cost" else int(self.limit)


class Subject(msgspec.Struct, frozen=True):
    """Whose use is counted together: a principal (by id), or ``group:<name>``."""

    key: str
    caps: tuple[Cap, ...]

    @property
    def group(self) -> str | None:
        return self.key.removeprefix(GROUP_PREFIX) if self.key.startswith(GROUP_PREFIX) else None


class Spender(msgspec.Struct, frozen=True):
    """Who uses something, and the groups that count it, too."""

    principal_id: str
    groups: tuple[str, ...] = ()


class Caps:
    """``each``: of every principal; ``named``: of single groups and ``principal:<id>``."""

    def __init__(self, each: Iterable[Cap] = (), named: Mapping[str, tuple[Cap, ...]] | None = None) -> None:
        self._each = tuple(each)
        self._named = dict(named or {})

    def subjects(self, spender: Spender) -> list[Subject]:
        """The principal first, then those of the groups that have a cap."""
        own = {cap.name: cap for cap in self._each}
        own |= {cap.name: cap for cap in self._named.get(PRINCIPAL_PREFIX + spender.principal_id, ())}
        groups = [Subject(GROUP_PREFIX + group, self._named[group]) for group in spender.groups if group in self._named]
        return [Subject(spender.principal_id, tuple(own.values())), *groups]


def parse_caps(text: str | None) -> dict[str, tuple[Cap, ...]]:
    """``NAME CAP…``, several separated by commas. Raises ConfigurationError."""
    named: dict[str, tuple[Cap, ...]] = {}
    for entry in filter(None, (part.strip() for part in (text or "").split(","))):
        name, *caps = entry.split()
        if not is_reader(name) or not caps:
            raise _misspelt(entry)
        named[name] = tuple(_cap(word, entry) for word in caps)
    return named


def _cap(word: str, entry: str) -> Cap:
    found = _CAP.fullmatch(word)
    if found is None:
        raise _misspelt(entry)
    unit: Unit = "tokens" if found[1] == "tokens" else "cost"
    period: Period = "day" if found[2] == "day" else "month"
    return Cap(unit, period, Decimal(found[3]), "REFDESK_USAGE_CAPS")


def _misspelt(entry: str) -> ConfigurationError:
    return ConfigurationError(
        f"REFDESK_USAGE_CAPS has {entry!r}. Write a group or principal:ID, and its caps: sales tokens_per_day=1000000 "
        "cost_per_month=200."
    )


def counted(cost: Decimal) -> int:
    """In whole billionths, rounded up."""
    return int((cost * BILLIONTHS).to_integral_value(ROUND_CEILING))


def window(period: Period, now: float) -> tuple[str, int]:
    """The name of the period that ``now`` is in, and how many seconds are left of it."""
    seconds = int(now)
    match period:
        case "minute":
            return f"m{seconds // MINUTE_S}", MINUTE_S - seconds % MINUTE_S
        case "day":
            return f"d{seconds // DAY_S}", DAY_S - seconds % DAY_S
        case "month":
            at = datetime.fromtimestamp(seconds, UTC)
            following = (at.replace(day=1, hour=0, minute=0, second=0) + timedelta(days=32)).replace(day=1)
            return f"M{at:%Y%m}", int(following.timestamp()) - seconds
