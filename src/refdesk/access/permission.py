"""A permission: what lets work go on that may have to end before it is done.

    hold ── answer stream ──┐
    hold ── upload ─────────┼── Permission ◀── withdraw(why) ── whoever learns that it is over
    hold ── socket ─────────┘

Holding costs no task and no timer, and nothing while the work goes on: withdrawing cancels the holder's task, as a time limit
does, and the hold raises why.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from copy import copy

from refdesk.contracts.errors import RefdeskError

_held: ContextVar["Permission | None"] = ContextVar("held", default=None)


def is_withdrawn() -> bool:
    """Whether the work that this belongs to ends because its permission does, and not because somebody left."""
    permission = _held.get()
    return permission is not None and permission.is_withdrawn


class Permission:
    """Stands until it is withdrawn, once and for good."""

    def __init__(self) -> None:
        self._holds: set[asyncio.Timeout] = set()
        self._reason: RefdeskError | None = None

    @property
    def is_held(self) -> bool:
        return bool(self._holds)

    @property
    def is_withdrawn(self) -> bool:
        return self._reason is not None

    def held(self) -> AbstractAsyncContextManager[None]:
        """The block runs while the permission stands. When it is withdrawn the block is cancelled, and the reason raised."""
        return self._hold()

    @asynccontextmanager
    async def _hold(self) -> AsyncIterator[None]:
        if self._reason is not None:
            raise copy(self._reason)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._holds.add(limit)
                token = _held.set(self)
                try:
                    yield
                finally:
                    _held.reset(token)
                    self._holds.discard(limit)
        except TimeoutError:
            if limit.expired() and self._reason is not None:
                raise copy(self._reason) from None
            raise

    def withdraw(self, reason: RefdeskError) -> None:
        """Ends every hold, now and from now on. The first reason counts."""
        if self._reason is not None:
            return
        self._reason = reason
        now = asyncio.get_running_loop().time()
        for limit in self._holds:
            limit.reschedule(now)


class Standing(Permission):
    """A permission that nobody withdraws: holding it costs nothing."""

    def held(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


STANDING = Standing()
