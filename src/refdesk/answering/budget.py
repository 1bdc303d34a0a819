"""Requests and tokens per principal: reserved before the work, settled after it, atomically across replicas.

An answer reserves what it may use at most (estimated input plus allowed output) in every window at once, or nothing at all;
settling gives back what was not used. A reservation lives on a lease, which ``run`` renews: it returns when its process dies.
Windows are fixed: a minute and a (UTC) day. All of it is one Lua script each way, so two askers can never both take the last
token.

Valkey down: questions are let through and counted, each once (``refdesk_budget_unchecked_total``): a budget guards cost, not
secrets.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

import msgspec

from refdesk.answering.scripts import lua
from refdesk.contracts.errors import TooManyRequests
from refdesk.outside import telemetry
from refdesk.outside.valkey.client import Script, Valkey, ValkeyError

logger = logging.getLogger(__name__)

MINUTE_S, DAY_S = 60, 86400
LEASE_S = 120
"""How long a reservation lives without being settled or renewed."""
RENEW_INTERVAL_S = 30


_NAMES = {
    "concurrent": ("answers at a time", "REFDESK_CONCURRENT_PER_PRINCIPAL_MAX"),
    "requests_per_minute": ("questions a minute", "REFDESK_REQUESTS_PER_MINUTE_MAX"),
    "searches_per_minute": ("searches a minute", "REFDESK_SEARCHES_PER_MINUTE_MAX"),
    "tokens_per_minute": ("tokens a minute", "REFDESK_TOKENS_PER_MINUTE_MAX"),
    "tokens_per_day": ("tokens a day", "REFDESK_TOKENS_PER_DAY_MAX"),
}


class BudgetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one principal may use."""

    concurrent: int
    requests_per_minute: int
    searches_per_minute: int
    tokens_per_minute: int
    tokens_per_day: int


class Reservation(msgspec.Struct, frozen=True):
    """Tokens set aside for one question. ``id`` is None when they could not be counted."""

    id: str | None
    principal_id: str
    tokens: int


class Budget:
    def __init__(self, valkey: Valkey, limits: BudgetLimits, *, clock: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._clock = clock
        self._valkey = valkey
        self._open: dict[str, Reservation] = {}
        self._count = Script(valkey, lua("count"))
        self._reserve = Script(valkey, lua("reserve"))
        self._settle = Script(valkey, lua("settle"))

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
            actual = await self._count([f"{_hash_tag(principal_id)}:{kind}:{int(now) // MINUTE_S}"], [limit, times])
        except ValkeyError as error:
            telemetry.budget_unchecked.inc()
            logger.debug("one of the %s could not be counted: %s", kind, error)
            return False
        if int(actual) >= 0:
            raise self._refusal(f"{kind}_per_minute", int(actual), 0, MINUTE_S - int(now) % MINUTE_S)
        return True

    async def reserve(self, principal_id: str, tokens: int, *, is_counted: bool = True) -> Reservation:
        """Sets ``tokens`` aside; raises TooManyRequests naming the limit that is reached.

        ``is_counted``: what ``count_request`` said of the question.
        """
        now, limits, reservation_id = self._clock(), self._limits, secrets.token_hex(8)
        values: list[str | float] = [
            now,
            reservation_id,
            tokens,
            limits.tokens_per_minute,
            limits.tokens_per_day,
            limits.concurrent,
            LEASE_S,
            MINUTE_S - int(now) % MINUTE_S,
            DAY_S - int(now) % DAY_S,
        ]
        try:
            outcome, actual, retry_after = await self._reserve(_token_keys(principal_id, now), values)
        except ValkeyError as error:
            if is_counted:
                telemetry.budget_unchecked.inc()
            logger.debug("a budget could not be checked: %s", error)
            return Reservation(None, principal_id, tokens)
        if outcome != b"ok":
            raise self._refusal(outcome.decode(), int(actual), tokens, int(retry_after))
        telemetry.budget_reserved.inc(tokens)
        reservation = self._open[reservation_id] = Reservation(reservation_id, principal_id, tokens)
        return reservation

    async def settle(self, reservation: Reservation, *, used: int) -> None:
        """Books what was used and gives the rest back. Settling twice books once."""
        if reservation.id is None or self._open.pop(reservation.id, None) is None:
            return
        telemetry.budget_reserved.dec(reservation.tokens)
        try:
            keys = _token_keys(reservation.principal_id, self._clock())
            await self._settle(keys, [reservation.id, min(used, reservation.tokens)])
        except ValkeyError as error:
            logger.debug("a reservation is left to its lease: %s", error)

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
                    ("ZADD", f"{_hash_tag(reservation.principal_id)}:open", "XX", until, reservation_id)
                    for reservation_id, reservation in self._open.items()
                ]
            )
        except ValkeyError as error:
            logger.debug("%d reservations are not renewed: %s", len(self._open), error)

    def _refusal(self, outcome: str, actual: int, tokens: int, retry_after: int) -> TooManyRequests:
        telemetry.admission.labels("refused", outcome).inc()
        what, setting = _NAMES[outcome]
        limit = getattr(self._limits, outcome)
        wanted = f", this question needs up to {tokens}" if outcome.startswith("tokens") else ""
        return TooManyRequests(
            f"You have used {actual} of {limit} {what} ({setting}){wanted}. Try again in {retry_after} s"
            f"{', or ask for fewer with max_output_tokens' if wanted else ''}.",
            retry_after_s=retry_after,
            limit=limit,
            actual=actual,
        )


def _token_keys(principal_id: str, now: float) -> list[str]:
    name = _hash_tag(principal_id)
    return [
        f"{name}:tokens:m{int(now) // MINUTE_S}",
        f"{name}:tokens:d{int(now) // DAY_S}",
        f"{name}:open",
        f"{name}:held",
    ]


def _hash_tag(principal_id: str) -> str:
    """Braces keep one principal's keys on one node of a cluster."""
    return f"refdesk:budget:{{{principal_id}}}"
