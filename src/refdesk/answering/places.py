"""A bounded number of places for work that takes long, shared fairly between principals.

    enter ──▶ in line, one line for each principal ──a place is free──▶ called ──▶ leave

Who has fewest places gets the next one, those who have equally many in turn (max-min fairness). Since a place, once given, may be
kept for a minute, that alone would let a newcomer wait for somebody else's work to end; so the last ``kept_free`` places are
given only to principals who have none.

The line is bounded, and whoever has less than an equal share of all places, at work and in line together, finds one in a full
line as well; while several ask, everybody has one place in line, so that their turn does not pass while they come back. That
holds for up to ``principals_max`` who wait. However much one principal asks for, the next one finds a place. What a line holds
beyond its bound is no more than ``(places + line) × (1 + ln n) + n`` for ``n`` principals.

What several principals want stands in the line of each, and begins in the first turn that comes.
"""

import asyncio
from collections import Counter, OrderedDict, deque

import msgspec

from refdesk.contracts.errors import Overloaded, TooManyRequests


class PlaceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` places at a time, the last ``kept_free`` for principals who have none; ``waiting_max`` in line, and one each for
    ``principals_max``."""

    count: int
    waiting_max: int
    principals_max: int
    kept_free: int = 0
    work: str = "questions"
    """What takes the places, and the settings that say how many there are: for people who are refused one."""
    settings: str = "REFDESK_CONCURRENT_ANSWERS_MAX and REFDESK_WAITING_MAX"


class Place:
    """In line for everybody who wants it, then with the one whose turn it was: from then on ``called`` is done."""

    def __init__(self) -> None:
        self.called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wanted_by: list[str] = []
        """The principals in whose lines it stands."""
        self.holder: str | None = None
        self.has_left = False

    def call(self, holder: str) -> None:
        self.holder = holder
        self.called.set_result(None)


class Places:
    def __init__(self, limits: PlaceLimits) -> None:
        self.limits = limits
        self.taken = 0
        self.waiting = 0
        self._held: Counter[str] = Counter()
        self._lines: OrderedDict[str, deque[Place]] = OrderedDict()
        """Those who have waited longest since something of theirs began or ended come first."""

    def enter(self, place: Place, *principal_ids: str) -> None:
        """Puts a new place in line, however long it is; it may be called at once."""
        self.waiting += 1
        for principal_id in principal_ids:
            self._line_up(place, principal_id)
        self._call_next()

    def join(self, place: Place, principal_id: str) -> None:
        """One more principal wants what is to be done there."""
        if not place.called.done() and not place.has_left and principal_id not in place.wanted_by:
            self._line_up(place, principal_id)
            self._call_next()

    def part(self, place: Place, principal_id: str) -> None:
        """This principal does not want it any more; others do."""
        if principal_id in place.wanted_by:
            self._step_out(place, principal_id)

    def leave(self, place: Place) -> None:
        """Gives the place back, wherever it is. Leaving twice is harmless."""
        if place.has_left:
            return
        place.has_left = True
        if place.holder is None:
            self._leave_lines(place)
        else:
            self._give_back(place.holder)
        self._call_next()

    def is_free(self, principal_id: str) -> bool:
        """Whether this principal would be called at once."""
        return self.limits.count - self.taken > (self.limits.kept_free if self._held[principal_id] else 0)

    def under_way(self, principal_id: str) -> int:
        """What this principal has at work and in line."""
        return self._held[principal_id] + self.in_line(principal_id)

    def in_line(self, principal_id: str) -> int:
        return len(self._lines.get(principal_id, ()))

    def check(self, principal_id: str, *, waiting_max: int | None = None, retry_after_s: int) -> None:
        """Returns when this principal may enter; else raises Overloaded or TooManyRequests, whoever's doing it is.

        ``waiting_max``: how long the line may be at present, if it is less than its limit.
        """
        if self.is_free(principal_id):
            return
        self._check_principals(principal_id, retry_after_s=retry_after_s)
        limits = self.limits
        line = limits.waiting_max if waiting_max is None else waiting_max
        actual, asking = self.under_way(principal_id), self._asking(principal_id)
        share = max(1, (limits.count - limits.kept_free + line) // asking)
        needs_turn = asking > 1 and not self.in_line(principal_id)
        if self.waiting < line or actual < share or needs_turn:
            return
        if asking == 1:
            raise Overloaded(
                f"{self.waiting} {limits.work} are waiting already; at present {line} may ({limits.settings}). "
                "Ask again after Retry-After.",
                retry_after_s=retry_after_s,
                limit=line,
                actual=self.waiting,
            )
        raise TooManyRequests(
            f"You have {actual} {limits.work} under way; while {asking} ask, {share} of each may be ({limits.settings}). "
            "Wait for one to end.",
            retry_after_s=retry_after_s,
            limit=share,
            actual=actual,
        )

    def position(self, place: Place) -> int:
        """How many turns until this place is called, its own included, if none comes or leaves; it must be in line."""
        return min(self._position(place, principal_id) for principal_id in place.wanted_by)

    def _check_principals(self, principal_id: str, *, retry_after_s: int) -> None:
        limit, actual = self.limits.principals_max, len(self._lines)
        if principal_id not in self._lines and actual >= limit:
            raise Overloaded(
                f"{actual} people have {self.limits.work} waiting already; {limit} may (REFDESK_WAITING_PRINCIPALS_MAX). "
                "Ask again after Retry-After.",
                retry_after_s=retry_after_s,
                limit=limit,
                actual=actual,
            )

    def _asking(self, principal_id: str) -> int:
        """How many principals have something under way, this one included."""
        return len(self._held.keys() | self._lines.keys() | {principal_id})

    def _position(self, place: Place, principal_id: str) -> int:
        """What is ``n``-th in the line of somebody with ``h`` at work comes ``h + n``-th; of equals, the smaller ``n`` first."""
        own = self._lines[principal_id].index(place)
        level, ahead, is_before = self._held[principal_id] + own, own, True
        for other, line in self._lines.items():
            if other == principal_id:
                is_before = False
                continue
            first = level - self._held[other]
            sooner = first + (first < own or (first == own and is_before))
            ahead += min(len(line), max(0, sooner))
        return ahead + 1

    def _call_next(self) -> None:
        while (principal_id := self._next()) is not None:
            place = self._lines[principal_id][0]
            self._lines.move_to_end(principal_id)
            self._leave_lines(place)
            self.taken += 1
            self._held[principal_id] += 1
            place.call(principal_id)

    def _next(self) -> str | None:
        """Whose turn it is, if there is a place for them."""
        if self.taken >= self.limits.count or not self._lines:
            return None
        principal_id = min(self._lines, key=self._held.__getitem__)  # of equals the first
        return principal_id if self.is_free(principal_id) else None

    def _line_up(self, place: Place, principal_id: str) -> None:
        self._lines.setdefault(principal_id, deque()).append(place)
        place.wanted_by.append(principal_id)

    def _step_out(self, place: Place, principal_id: str) -> None:
        place.wanted_by.remove(principal_id)
        line = self._lines[principal_id]
        line.remove(place)
        if not line:
            del self._lines[principal_id]

    def _leave_lines(self, place: Place) -> None:
        for principal_id in list(place.wanted_by):
            self._step_out(place, principal_id)
        self.waiting -= 1

    def _give_back(self, principal_id: str) -> None:
        self.taken -= 1
        self._held[principal_id] -= 1
        if not self._held[principal_id]:
            del self._held[principal_id]
        if principal_id in self._lines:
            self._lines.move_to_end(principal_id)
