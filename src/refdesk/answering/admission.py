"""Who may have the model now: a bounded number at a time and a bounded line that tells its length, both shared (``places``).

A line absorbs a burst; under lasting overload it only makes everybody wait, and serves nobody sooner. So once a line has not
been empty for ``STANDING_S``, it is kept as short as doubles, at most, the time to the first word, until nobody had to be
refused for ``RECOVERY_S``: what cannot be served soon is refused at once. This is CoDel's insight (Nichols & Jacobson, ACM
Queue 2012) with the model as the link. It shortens what one may have beyond an equal share, never that share.

The bounds are per process: ``n`` processes write ``n`` times as many answers, and a principal's shares of them add up.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from refdesk.answering.places import Place, PlaceLimits, Places
from refdesk.contracts.errors import RefdeskError, TooManyRequests
from refdesk.outside import telemetry
from refdesk.settings.limits import AdmissionLimits

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
"""How often a waiting asker gets their position again when it has not changed."""


class Ticket(Place):
    """A place: in line, then at the model. ``leave`` gives it back, wherever it is; leaving twice is harmless."""

    def __init__(self, admission: "Admission") -> None:
        super().__init__()
        self._admission = admission
        self._called_at: float | None = None

    @property
    def admitted(self) -> bool:
        return self.called.done()

    def call(self, holder: str) -> None:
        self._called_at = self._admission.clock()
        super().call(holder)

    async def positions(self) -> AsyncGenerator[tuple[int, float], None]:
        """(position from 1, estimated seconds) while waiting: at once, at each change, and every two seconds."""
        told = 0
        while not self.admitted:
            changed, position = self._admission.changed, self._admission.position(self)
            if position != told:
                told = position
                yield position, self._admission.estimated_seconds(position)
            await asyncio.wait({changed, self.called}, timeout=TELL_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
            if not changed.done():
                told = 0

    def began(self) -> None:
        """The first word is said."""
        if self._called_at is not None:
            self._admission.began(self._admission.clock() - self._called_at)

    def wanted_by_also(self, principal_id: str) -> None:
        """Another principal waits for the same answer: it begins in the first turn of any of them."""
        self._admission.join(self, principal_id)

    def leave(self, *, wrote: bool = False) -> None:
        """``wrote``: an answer was written in this place; how long that took goes into the estimates of those who wait."""
        if wrote and not self.has_left and self._called_at is not None:
            self._admission.took(self._admission.clock() - self._called_at)
        self._admission.left(self)


def _of_places(limits: AdmissionLimits) -> PlaceLimits:
    """At most a quarter is kept free: of two or three places none."""
    return PlaceLimits(
        count=limits.concurrent_max,
        kept_free=min(limits.kept_free, limits.concurrent_max // 4),
        waiting_max=limits.waiting_max,
        principals_max=limits.waiting_principals_max,
    )


class Admission:
    def __init__(self, limits: AdmissionLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._limits = limits
        self._places = Places(_of_places(limits))
        self._mean_s = FIRST_GUESS_S
        self._first_token_mean_s = FIRST_TOKEN_GUESS_S
        self._line_since: float | None = None
        self._short_until = 0.0
        self._changed: asyncio.Future[None] | None = None
        telemetry.inflight.labels("writing").set_function(lambda: self.writing)
        telemetry.inflight.labels("waiting").set_function(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        return self._places.waiting

    @property
    def writing(self) -> int:
        return self._places.taken

    def enter(self, principal_id: str) -> Ticket:
        """Takes a place at once; raises Overloaded or TooManyRequests when there is none for this principal."""
        self.check(principal_id)
        return self.enter_late(principal_id)

    def check(self, principal_id: str) -> None:
        """Raises what ``enter`` would raise now, without entering."""
        if self._places.is_free(principal_id):
            return
        self._check_own_line(principal_id)
        line = self._line_max()
        try:
            self._places.check(principal_id, waiting_max=line, retry_after_s=self._retry_after_s())
        except RefdeskError:
            if line < self._limits.waiting_max:
                self._short_until = self.clock() + RECOVERY_S
            raise

    def enter_late(self, principal_id: str) -> Ticket:
        """Takes a place even when the line is full: for an answer that people are reading already."""
        ticket = Ticket(self)
        self._places.enter(ticket, principal_id)
        self._tell()
        return ticket

    def join(self, ticket: Ticket, principal_id: str) -> None:
        self._places.join(ticket, principal_id)
        self._tell()

    def position(self, ticket: Ticket) -> int:
        """How many turns until the ticket's, counting its own."""
        return self._places.position(ticket)

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
        self._places.leave(ticket)
        self._tell()

    def _line_max(self) -> int:
        """How long the line may be now."""
        now = self.clock()
        standing = self._line_since is not None and now - self._line_since >= STANDING_S
        if not standing and now >= self._short_until:
            return self._limits.waiting_max
        soon = int(self._limits.concurrent_max * self._first_token_mean_s / self._mean_s)
        return min(self._limits.waiting_max, soon)

    def _tell(self) -> None:
        if not self.waiting:
            self._line_since = None
        elif self._line_since is None:
            self._line_since = self.clock()
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None

    def _check_own_line(self, principal_id: str) -> None:
        own, limit = self._places.in_line(principal_id), self._limits.waiting_per_principal_max
        if own and own >= limit:
            raise TooManyRequests(
                f"You have {own} questions waiting already; the limit is {limit} "
                "(REFDESK_WAITING_PER_PRINCIPAL_MAX). Wait for one to be answered.",
                retry_after_s=self._retry_after_s(),
                limit=limit,
                actual=own,
            )

    def _retry_after_s(self) -> int:
        return max(1, round(self._mean_s))
