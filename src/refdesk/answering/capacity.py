"""What one answer takes of the desk: a place at the model and a part of its principal's budget, taken and given back together."""

from decimal import Decimal

from refdesk.answering.admission import Admission, Ticket
from refdesk.answering.usage.budget import Budget, Reservation
from refdesk.answering.usage.caps import Spender, counted
from refdesk.answering.usage.prices import NOTHING, Prices
from refdesk.contracts.answers import Usage
from refdesk.outside import telemetry


class Share:
    """Giving it back twice is harmless."""

    def __init__(self, ticket: Ticket, budget: Budget, reservation: Reservation) -> None:
        self.ticket = ticket
        self._budget = budget
        self._reservation = reservation

    async def give_back(self, *, used: Usage = Usage(), cost: Decimal | None = None) -> bool:  # noqa: B008 (frozen)
        """Whether the budget has counted what was used."""
        self.ticket.leave()
        tokens = used.input_tokens + used.output_tokens
        return await self._budget.settle(self._reservation, used=tokens, cost=counted(cost or NOTHING))

    def leave(self) -> None:
        """Another process goes on with the answer, and with its part of the budget."""
        self.ticket.leave()
        self._budget.leave(self._reservation)


class Capacity:
    def __init__(self, admission: Admission, budget: Budget, *, prices: Prices) -> None:
        self._admission = admission
        self._budget = budget
        self._prices = prices

    def check(self, principal_id: str) -> None:
        """Raises Overloaded or TooManyRequests when there is no place for this principal now."""
        self._admission.check(principal_id)

    async def take(self, spender: Spender, *, name: str, at_most: Usage, is_counted: bool) -> Share:
        """A place and tokens, reserved under the name; raises as `check` does, and TooManyRequests when the budget is spent."""
        with telemetry.refusing_a_place():
            ticket = self._admission.enter(spender.principal_id)
        try:
            tokens, cost = self._most(at_most)
            reservation = await self._budget.reserve(spender, tokens, cost=cost, name=name, is_counted=is_counted)
        except BaseException:
            ticket.leave()
            raise
        telemetry.labelled(telemetry.admission, "admitted", "").inc()
        return Share(ticket, self._budget, reservation)

    def take_late(self, spender: Spender, *, name: str, at_most: Usage) -> Share:
        """A place, even when the line is full, for an answer that people are reading already. Its budget was reserved by the
        process that began it."""
        tokens, cost = self._most(at_most)
        reservation = self._budget.go_on_with(name, spender, tokens=tokens, cost=cost)
        return Share(self._admission.enter_late(spender.principal_id), self._budget, reservation)

    def _most(self, usage: Usage) -> tuple[int, int]:
        return usage.input_tokens + usage.output_tokens, counted(self._prices.at_most(usage))
