"""What one answer takes of the desk: a place at the model and a part of its principal's budget, taken and given back together."""

from refdesk.answering.admission import Admission, Ticket
from refdesk.answering.budget import Budget, Reservation
from refdesk.outside import telemetry


class Share:
    """Giving it back twice is harmless."""

    def __init__(self, ticket: Ticket, budget: Budget, reservation: Reservation | None) -> None:
        self.ticket = ticket
        self._budget = budget
        self._reservation = reservation

    async def give_back(self, *, used_tokens: int = 0) -> None:
        self.ticket.leave()
        if self._reservation is not None:
            await self._budget.settle(self._reservation, used=used_tokens)


class Capacity:
    def __init__(self, admission: Admission, budget: Budget) -> None:
        self._admission = admission
        self._budget = budget

    def check(self, principal_id: str) -> None:
        """Raises Overloaded or TooManyRequests when there is no place for this principal now."""
        self._admission.check(principal_id)

    async def take(self, principal_id: str, *, tokens: int, is_counted: bool) -> Share:
        """A place and ``tokens``, reserved; raises as `check` does, and TooManyRequests when the budget is spent."""
        with telemetry.refusing_a_place():
            ticket = self._admission.enter(principal_id)
        try:
            reservation = await self._budget.reserve(principal_id, tokens, is_counted=is_counted)
        except BaseException:
            ticket.leave()
            raise
        telemetry.labelled(telemetry.admission, "admitted", "").inc()
        return Share(ticket, self._budget, reservation)

    def take_late(self, principal_id: str) -> Share:
        """A place, even when the line is full, for an answer that people are reading already. Its budget was reserved by the
        process that began it, and returns by its lease."""
        return Share(self._admission.enter_late(principal_id), self._budget, None)
