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
since a line that nobody limits is a failure that comes late. Places and line are shared between principals (``places``); a
piece of work that several principals wait for stands in the line of each.

``Leaders`` is for what must not be done twice: the first of equal askers does it, those who come meanwhile wait for it
however far it is, and are told what it did.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import msgspec

from refdesk.answering.places import Place, PlaceLimits, Places
from refdesk.contracts.errors import Overloaded, RefdeskError
from refdesk.outside import telemetry

T = TypeVar("T")

RETRY_AFTER_S = 1


def normalised(question: str) -> str:
    """Questions are equal when these are: white space and letter case aside."""
    return " ".join(question.casefold().split())


class SharedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``at_once_max`` pieces of work at a time; ``waiting_max`` in line, and one each for ``waiting_principals_max``, each piece
    for ``wait_s_max`` seconds."""

    at_once_max: int
    waiting_max: int
    waiting_principals_max: int
    wait_s_max: float
    work: str = "searches"
    settings: str = "REFDESK_CONCURRENT_RETRIEVALS_MAX and REFDESK_WAITING_RETRIEVALS_MAX"
    """What refusals call them, and the settings that they name."""

    def of_places(self) -> PlaceLimits:
        return PlaceLimits(
            count=self.at_once_max,
            waiting_max=self.waiting_max,
            principals_max=self.waiting_principals_max,
            work=self.work,
            settings=self.settings,
        )


class Shared(Generic[T]):
    """Pieces of work of one kind, which metrics know as ``kind``."""

    def __init__(self, limits: SharedLimits, *, kind: str) -> None:
        self._wait_s_max = limits.wait_s_max
        self._kind = kind
        self._places = Places(limits.of_places())
        self._in_line: dict[Hashable, _Piece[T]] = {}
        self._at_work: dict[Hashable, asyncio.Task[None]] = {}

    async def get(
        self,
        key: Hashable,
        work: Callable[[], Awaitable[T]],
        *,
        principal_id: str = "",
        admit: Callable[[], None] | None = None,
    ) -> T:
        """What ``work`` returns, begun after this call: this caller's own work, or that of an equal key.

        ``admit`` is called when the turn has come; what it raises is for this caller alone. An asker who leaves costs the
        others nothing; when the last has left, the work is cancelled. Raises what the work raises, Overloaded when too many
        wait or the wait is too long, and TooManyRequests when this principal has had its share of the line.
        """
        asker = _Asker[T](principal_id, admit)
        piece = self._in_line.get(key)
        if piece is None:
            piece = self._begin(key, work, asker)
        else:
            self._join(piece, asker)
        try:
            return await asker.told
        finally:
            self._leave(key, piece, asker)

    def _begin(self, key: Hashable, work: Callable[[], Awaitable[T]], asker: "_Asker[T]") -> "_Piece[T]":
        self._places.check(asker.principal_id, retry_after_s=RETRY_AFTER_S)
        piece = self._in_line[key] = _Piece[T](asker)
        if key not in self._at_work:
            self._line_up(piece)
        piece.task = asyncio.create_task(self._run(key, piece, work), name=self._kind)
        return piece

    def _line_up(self, piece: "_Piece[T]") -> Place:
        piece.place = Place()
        self._places.enter(piece.place, *piece.principals())
        return piece.place

    def _join(self, piece: "_Piece[T]", asker: "_Asker[T]") -> None:
        telemetry.shared_lookups.labels(self._kind).inc()
        piece.askers.append(asker)
        if piece.place is not None:
            self._places.join(piece.place, asker.principal_id)

    def _leave(self, key: Hashable, piece: "_Piece[T]", asker: "_Asker[T]") -> None:
        piece.askers.remove(asker)
        if piece.place is not None and asker.principal_id not in piece.principals():
            self._places.part(piece.place, asker.principal_id)
        if not piece.askers:
            self._leave_line(key, piece)  # at once: nobody may join what is about to be cancelled
            piece.task.cancel()

    async def _run(self, key: Hashable, piece: "_Piece[T]", work: Callable[[], Awaitable[T]]) -> None:
        try:
            await self._wait_for_turn(key, piece)
            if not piece.admit():
                return
            self._at_work[key] = piece.task
            try:
                piece.tell(await work())
            finally:
                del self._at_work[key]
        except Exception as error:  # noqa: BLE001 (the askers')
            piece.fail(error)
        finally:
            piece.let_go()
            if piece.place is not None:
                self._places.leave(piece.place)

    async def _wait_for_turn(self, key: Hashable, piece: "_Piece[T]") -> None:
        try:
            if key not in self._at_work and piece.place is not None and piece.place.called.done():
                return
            async with asyncio.timeout(self._wait_s_max):
                if (like := self._at_work.get(key)) is not None:
                    await asyncio.wait({like})
                place = piece.place or self._line_up(piece)
                await asyncio.wait({place.called})
        except TimeoutError:
            raise Overloaded(
                f"It did not begin within {self._wait_s_max:g} s (REFDESK_RETRIEVAL_WAIT_S_MAX). "
                "Ask again after Retry-After.",
                retry_after_s=RETRY_AFTER_S,
                limit=self._wait_s_max,
            ) from None
        finally:
            self._leave_line(key, piece)

    def _leave_line(self, key: Hashable, piece: "_Piece[T]") -> None:
        if self._in_line.get(key) is piece:
            del self._in_line[key]


class _Asker(Generic[T]):
    """One caller that waits for a piece of work, and the future that gets its result."""

    def __init__(self, principal_id: str, admit: Callable[[], None] | None) -> None:
        self.principal_id = principal_id
        self.admit = admit
        self.told: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.told.done():
            self.told.set_exception(error)


class _Piece(Generic[T]):
    """Work that its askers want, and that begins in its turn."""

    task: asyncio.Task[None]

    def __init__(self, asker: _Asker[T]) -> None:
        self.askers = [asker]
        self.place: Place | None = None
        """None while its like is at work."""

    def principals(self) -> set[str]:
        return {asker.principal_id for asker in self.askers}

    def admit(self) -> bool:
        """Whether any caller still wants it now that its turn has come; refused callers get their error."""
        for asker in self.askers:
            if asker.admit is not None:
                try:
                    asker.admit()
                except RefdeskError as error:
                    asker.fail(error)
        return any(not asker.told.done() for asker in self.askers)

    def tell(self, result: T) -> None:
        for asker in self.askers:
            if not asker.told.done():
                asker.told.set_result(result)

    def fail(self, error: Exception) -> None:
        for asker in self.askers:
            asker.fail(error)

    def let_go(self) -> None:
        """Releases the callers of a piece that has ended."""
        for asker in self.askers:
            asker.told.cancel()


class Leaders(Generic[T]):
    """One leader at a time for each key, and the callers that wait for it."""

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
