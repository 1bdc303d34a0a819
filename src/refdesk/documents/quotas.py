"""How much one principal may upload: files and bytes in a time, and uploads at once.

Kept in this process's memory, since the Document Service needs nothing but its database and must not slow down for a quota:
with ``n`` processes a principal has up to ``n`` times as much. What is announced counts when it begins, taken or not.

Administrators have no quota of files and bytes, so that a mirror of fifty thousand files goes through; how many uploads are
read at once is bounded for all, since each holds a connection and a temporary file.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from refdesk.access.policy import may
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import TooManyRequests
from refdesk.settings.documents import UploadLimits

MINUTE_S, DAY_S = 60, 86400
PRINCIPALS_MAX = 10_000
"""Principals whose uploads are remembered; those who have uploaded nothing for longest are forgotten."""
BUSY_RETRY_AFTER_S = 1


class _Account(msgspec.Struct):
    """What a principal has uploaded in the minute and the day of these numbers, and what is under way."""

    at_once: int = 0
    minute: int = 0
    count: int = 0
    day: int = 0
    bytes: int = 0


class UploadQuotas:
    def __init__(self, limits: UploadLimits, *, clock: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    @contextmanager
    def uploading(self, principal: Principal, *, bytes_count: int) -> Iterator[None]:
        """While an upload of so many bytes is read. Raises TooManyRequests naming the limit that is reached."""
        account = self._account(principal.id)
        self._check("at_once", actual=account.at_once, wanted=1, retry_after_s=BUSY_RETRY_AFTER_S)
        if not may(principal, "documents.upload_freely"):
            self._count(account, bytes_count)
        account.at_once += 1
        try:
            yield
        finally:
            account.at_once -= 1

    def _account(self, principal_id: str) -> _Account:
        account = self._accounts.setdefault(principal_id, _Account())
        self._accounts.move_to_end(principal_id)
        if len(self._accounts) > PRINCIPALS_MAX:
            idle = next((other for other, kept in self._accounts.items() if not kept.at_once), principal_id)
            if idle != principal_id:
                del self._accounts[idle]
        now = int(self._clock())
        if account.minute != now // MINUTE_S:
            account.minute, account.count = now // MINUTE_S, 0
        if account.day != now // DAY_S:
            account.day, account.bytes = now // DAY_S, 0
        return account

    def _count(self, account: _Account, bytes_count: int) -> None:
        now = int(self._clock())
        self._check("per_minute", actual=account.count, wanted=1, retry_after_s=MINUTE_S - now % MINUTE_S)
        self._check("bytes_per_day", actual=account.bytes, wanted=bytes_count, retry_after_s=DAY_S - now % DAY_S)
        account.count += 1
        account.bytes += bytes_count

    def _check(self, name: str, *, actual: int, wanted: int, retry_after_s: int) -> None:
        limit = int(getattr(self._limits, name))
        if actual + wanted <= limit:
            return
        what, setting = _NAMES[name]
        raise TooManyRequests(
            f"You have {actual:,} of {limit:,} {what} ({setting}). Go on in {retry_after_s} s.",
            retry_after_s=retry_after_s,
            limit=limit,
            actual=actual,
        )


_NAMES = {
    "at_once": ("uploads at a time", "REFDESK_CONCURRENT_UPLOADS_MAX"),
    "per_minute": ("uploads a minute", "REFDESK_UPLOADS_PER_MINUTE_MAX"),
    "bytes_per_day": ("uploaded bytes a day", "REFDESK_UPLOAD_BYTES_PER_DAY_MAX"),
}
