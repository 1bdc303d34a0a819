"""Who may have the model now: bounded concurrency, fair between principals, a bounded line that tells its length.

Each principal has a line of their own; free slots go round the principals in turn, so a noisy one delays only themselves.
The bounds are per process.

A line absorbs a burst; under lasting overload it only makes everybody wait, and serves nobody sooner. So once a line has not
been empty for ``STANDING_S``, it is kept as short as doubles, at most, the time to the first word, until nobody had to be
refused for ``RECOVERY_S``: what cannot be served soon is refused at once. This is CoDel's insight (Nichols & Jacobson, ACM
Queue 2012) with the model as the link.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable

import msgspec

from refdesk.contracts.errors import Overloaded, TooManyRequests
from refdesk.outside import telemetry

SMOOTHING = 0.2
"""Weight of the newest answer in the running mean of how long one takes."""
FIRST_GUESS_S = 5.0
"""How long an answer takes, before the first one has ended."""
FIRST_TOKEN_GUESS_S = 1.0
"""How long it takes from a turn to the first word, before the first one was said."""
STANDING_S = 1.0
"""How long a line may last before it counts as standing rather than as a burst."""
RECOVERY_S = 5.0
"""How long after the last refusal a line may be long again."""
TELL_AGAIN_S = 2.0
"""How often somebody in line is told their position, when it has not changed."""


class AdmissionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``concurrent_max`` answers written at a time; ``waiting_max`` in line, ``waiting_per_principal_max`` of one's own."""

    concurrent_max: int
    waiting_max: int
    waiting_per_principal_max: int


class Ticket:
    """A place: in line, then at the model. ``leave`` gives it back, wherever it is; leaving twice is harmless."""

    def __init__(self, admission: "Admission", principal_id: str) -> None:
        self.principal_id = principal_id
        self._admission = admission
        self._called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._called_at: float | None = None
        self._left = False

    @property
    def admitted(self) -> bool:
        return self._called.done()

    def call(self) -> None:
        self._called_at = self._admission.clock()
        self._called.set_result(None)

    async def positions(self) -> AsyncGenerator[tuple[int, float], None]:
        """(position from 1, estimated seconds) while waiting: at once, at each change, and every two seconds."""
        told = 0
        while not self.admitted:
            changed, position = self._admission.changed, self._admission.position(self)
            if position != told:
                told = position
                yield position, self._admission.estimated_seconds(position)
            await asyncio.wait({changed, self._called}, timeout=TELL_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
            if not changed.done():
                told = 0

    def began(self) -> None:
        """The first word is said."""
        if self._called_at is not None:
            self._admission.began(self._admission.clock() - self._called_at)

    def leave(self, *, wrote: bool = False) -> None:
        """``wrote``: an answer was written in this place, and how long that took tells others how long they wait."""
        if self._left:
            return
        self._left = True
        if wrote and self._called_at is not None:
            self._admission.took(self._admission.clock() - self._called_at)
        self._admission.left(self)


class Admission:
    def __init__(self, limits: AdmissionLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._limits = limits
        self._lines: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._writing = 0
        self._waiting = 0
        self._mean_s = FIRST_GUESS_S
        self._first_token_mean_s = FIRST_TOKEN_GUESS_S
        self._line_since: float | None = None
        self._short_until = 0.0
        self._changed: asyncio.Future[None] | None = None
        telemetry.inflight.labels("writing").set_function(lambda: self._writing)
        telemetry.inflight.labels("waiting").set_function(lambda: self._waiting)

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def writing(self) -> int:
        return self._writing

    def enter(self, principal_id: str) -> Ticket:
        """Takes a place at once; raises Overloaded or TooManyRequests when the line is full."""
        self.check(principal_id)
        return self.enter_late(principal_id)

    def check(self, principal_id: str) -> None:
        """Raises what ``enter`` would raise now, without entering."""
        if self._writing >= self._limits.concurrent_max:
            self._refuse_if_full(principal_id)

    def check_room(self) -> None:
        """Raises Overloaded when ``enter`` would now, whoever asks. Counts nothing: it may speak for several questions."""
        places = self._places()
        if self._writing < self._limits.concurrent_max or self._waiting < places:
            return
        if places < self._limits.waiting_max:
            self._short_until = self.clock() + RECOVERY_S
        raise Overloaded(
            f"{self._waiting} questions are waiting already; at present {places} may (at most {self._limits.waiting_max}, "
            "REFDESK_WAITING_MAX). Ask again after Retry-After.",
            retry_after_s=self._retry_after_s(),
            limit=places,
            actual=self._waiting,
        )

    def enter_late(self, principal_id: str) -> Ticket:
        """Takes a place even when the line is full: for an answer that people are reading already."""
        ticket = Ticket(self, principal_id)
        self._lines.setdefault(principal_id, deque()).append(ticket)
        self._waiting += 1
        self._call_next()
        self._tell()
        return ticket

    def position(self, ticket: Ticket) -> int:
        """How many turns until the ticket's, counting its own: lines are served round robin, in their order."""
        own = self._lines.get(ticket.principal_id, deque())
        rounds = own.index(ticket) if ticket in own else 0
        ahead = 0
        before_own = True
        for principal_id, line in self._lines.items():
            if principal_id == ticket.principal_id:
                before_own = False
                ahead += rounds
            else:
                ahead += min(len(line), rounds + 1 if before_own else rounds)
        return ahead + 1

    def estimated_seconds(self, position: int) -> float:
        return round(position * self._mean_s / self._limits.concurrent_max, 1)

    @property
    def changed(self) -> asyncio.Future[None]:
        """Done when the line has moved; for waiting, not for cancelling."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    def took(self, seconds: float) -> None:
        """One more answer has taken so long."""
        self._mean_s += SMOOTHING * (seconds - self._mean_s)

    def began(self, seconds: float) -> None:
        """One more answer has begun so long after its turn came."""
        self._first_token_mean_s += SMOOTHING * (seconds - self._first_token_mean_s)

    def left(self, ticket: Ticket) -> None:
        if ticket.admitted:
            self._writing -= 1
        else:
            line = self._lines[ticket.principal_id]
            line.remove(ticket)
            self._waiting -= 1
            if not line:
                del self._lines[ticket.principal_id]
        self._call_next()
        self._tell()

    def _call_next(self) -> None:
        while self._writing < self._limits.concurrent_max and self._lines:
            principal_id, line = next(iter(self._lines.items()))
            ticket = line.popleft()
            self._lines.move_to_end(principal_id)
            if not line:
                del self._lines[principal_id]
            self._waiting -= 1
            self._writing += 1
            ticket.call()

    def _places(self) -> int:
        """How long the line may be now."""
        now = self.clock()
        standing = self._line_since is not None and now - self._line_since >= STANDING_S
        if not standing and now >= self._short_until:
            return self._limits.waiting_max
        soon = int(self._limits.concurrent_max * self._first_token_mean_s / self._mean_s)
        return min(self._limits.waiting_max, soon)

    def _tell(self) -> None:
        if not self._waiting:
            self._line_since = None
        elif self._line_since is None:
            self._line_since = self.clock()
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None

    def _refuse_if_full(self, principal_id: str) -> None:
        limits = self._limits
        own = len(self._lines.get(principal_id, ()))
        if own >= limits.waiting_per_principal_max:
            telemetry.admission.labels("refused", "principal").inc()
            raise TooManyRequests(
                f"You have {own} questions waiting already; the limit is {limits.waiting_per_principal_max} "
                "(REFDESK_WAITING_PER_PRINCIPAL_MAX). Wait for one to be answered.",
                retry_after_s=self._retry_after_s(),
                limit=limits.waiting_per_principal_max,
                actual=own,
            )
        with telemetry.refusing("capacity"):
            self.check_room()

    def _retry_after_s(self) -> int:
        return max(1, round(self._mean_s))
