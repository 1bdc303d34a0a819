"""Work that equal questions of one process do once, and a bounded line for the rest of it.

``Shared`` is for looking something up. Whoever asks for it joins an equal piece of work that still waits, never one that has
begun:

    ask ──▶ in line (equal ones join) ──a place is free, its like has ended──▶ at work (nobody joins) ──▶ all who joined

What has begun may have looked already, and so would tell a late asker of a time before they asked: before the change whose
freshness token they hold was searchable, before a right was taken. What waits looks later than now. So of each kind there is
one at work at most and one in line, and of a thousand equal questions at once each is answered by the first, the second or
the third look, all of them begun after it was asked. Two pieces are equal when their keys are: a key has to hold everything
that decides what the asker may see.

How many are at work is bounded, for each takes a connection and a processor; how many stand in line and for how long, too,
since a line that nobody limits is a failure that comes late.

``Leaders`` is for what must not be done twice: the first of equal askers does it, those who come meanwhile wait for it
however far it is, and are told what it did.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import msgspec

from refdesk.contracts.errors import Overloaded
from refdesk.outside import telemetry

T = TypeVar("T")

RETRY_AFTER_S = 1


def normalised(question: str) -> str:
    """Questions are equal when these are: white space and letter case aside."""
    return " ".join(question.casefold().split())


class SharedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``at_once_max`` pieces of work at a time; ``waiting_max`` in line, each for ``wait_s_max`` seconds."""

    at_once_max: int
    waiting_max: int
    wait_s_max: float


class Shared(Generic[T]):
    """Pieces of work of one kind, which metrics know as ``kind``."""

    def __init__(self, limits: SharedLimits, *, kind: str) -> None:
        self._limits = limits
        self._kind = kind
        self._places = asyncio.Semaphore(limits.at_once_max)
        self._pieces = 0
        self._in_line: dict[Hashable, _Piece[T]] = {}
        self._at_work: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` returns, begun after this call: this caller's own work, or that of an equal key.

        An asker who leaves costs the others nothing; when the last has left, the work is cancelled. Raises what the work
        raises, and Overloaded when the line is full or the wait too long.
        """
        piece = self._in_line.get(key)
        if piece is None:
            piece = self._enter(key, work)
        else:
            telemetry.shared_lookups.labels(self._kind).inc()
        piece.askers += 1
        try:
            return await asyncio.shield(piece.task)
        finally:
            piece.askers -= 1
            if not piece.askers and not piece.task.done():
                self._leave_line(key, piece)  # at once: nobody may join what is about to be cancelled
                piece.task.cancel()

    def _enter(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> "_Piece[T]":
        waiting = self._pieces - self._limits.at_once_max
        if waiting >= self._limits.waiting_max:
            raise Overloaded(
                f"{waiting} searches are waiting already; {self._limits.waiting_max} may "
                "(REFDESK_WAITING_RETRIEVALS_MAX). Ask again after Retry-After.",
                retry_after_s=RETRY_AFTER_S,
                limit=self._limits.waiting_max,
                actual=waiting,
            )
        piece = self._in_line[key] = _Piece()
        self._pieces += 1
        piece.task = asyncio.create_task(self._run(key, piece, work), name=self._kind)
        piece.task.add_done_callback(self._ended)
        return piece

    async def _run(self, key: Hashable, piece: "_Piece[T]", work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._limits.wait_s_max):
                if (like := self._at_work.get(key)) is not None:
                    await asyncio.wait({like})
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded(
                f"The search did not begin within {self._limits.wait_s_max:g} s (REFDESK_RETRIEVAL_WAIT_S_MAX). "
                "Ask again after Retry-After.",
                retry_after_s=RETRY_AFTER_S,
                limit=self._limits.wait_s_max,
            ) from None
        finally:
            self._leave_line(key, piece)
        self._at_work[key] = piece.task
        try:
            return await work()
        finally:
            del self._at_work[key]
            self._places.release()

    def _leave_line(self, key: Hashable, piece: "_Piece[T]") -> None:
        if self._in_line.get(key) is piece:
            del self._in_line[key]

    def _ended(self, _: "asyncio.Task[T]") -> None:
        self._pieces -= 1


class _Piece(Generic[T]):
    """Work that is wanted by ``askers`` and begins in its turn."""

    task: asyncio.Task[T]

    def __init__(self) -> None:
        self.askers = 0


class Leaders(Generic[T]):
    """Whoever leads for a key, and those who wait for them."""

    def __init__(self) -> None:
        self._leading: dict[Hashable, asyncio.Future[T | None]] = {}

    async def lead_or_follow(
        self, key: Hashable, *, lead: Callable[[], Awaitable[T]], follow: Callable[[T], Awaitable[T]]
    ) -> T:
        """What ``lead`` returns, or ``follow`` of what it returned to the one who led meanwhile.

        A leader who fails or leaves fails alone: the next one leads.
        """
        while (leading := self._leading.get(key)) is not None:
            await asyncio.wait({leading})
            if (done := leading.result()) is not None:
                return await follow(done)
        own = self._leading[key] = asyncio.get_running_loop().create_future()
        done = None
        try:
            done = await lead()
            return done
        finally:
            del self._leading[key]
            own.set_result(done)
