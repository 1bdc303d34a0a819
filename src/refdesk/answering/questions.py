"""What a question asks for, and the evidence on it: alone, or together with what came before in its conversation."""

import logging
import time
from collections.abc import Callable

import msgspec

from refdesk.answering.accepted_question import AcceptedQuestion
from refdesk.answering.evidence.retrieval import Evidence, Retrieval, Sought
from refdesk.answering.follow_ups import FollowUp, leaning, leans
from refdesk.answering.rewriting import Rewriter, usage_at_most
from refdesk.answering.usage.bookings import Bookings
from refdesk.answering.usage.budget import Budget
from refdesk.answering.usage.caps import Spender, counted
from refdesk.answering.usage.prices import NOTHING, Prices
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Question
from refdesk.contracts.errors import TooManyRequests

logger = logging.getLogger(__name__)


class Questions:
    """``rewriter`` writes follow-ups out in full, where there is one; otherwise what is found tells what they lean on."""

    def __init__(
        self,
        retrieval: Retrieval,
        *,
        budget: Budget,
        bookings: Bookings,
        prices: Prices,
        passages: int,
        rewriter: Rewriter | None,
    ) -> None:
        self._retrieval = retrieval
        self._budget = budget
        self._bookings = bookings
        self._prices = prices
        self._passages = passages
        self._rewriter = rewriter

    async def read(
        self, asked: AcceptedQuestion, *, admit: Callable[[], None] | None
    ) -> tuple[AcceptedQuestion, Evidence]:
        """The question as it is to be read, and what was found. That costs another search, or a model's call, where it
        may lean back.

        ``admit`` as in `Retrieval.gather`.
        """
        follow_up = leaning(asked.question.question, asked.turns)
        if follow_up is None:
            return asked, await self._gather(asked, admit=admit)
        if self._rewriter is not None:
            asked, written = await self._rewritten(asked, self._rewriter)
            if written is not None:
                if written != follow_up.question:
                    leaned = msgspec.structs.replace(follow_up, rewritten=written)
                    asked = msgspec.structs.replace(asked, follow_up=leaned)
                return asked, await self._gather(asked, admit=admit)
        return await self._compared(asked, follow_up, admit=admit)

    async def search(self, question: Question, principal: Principal, *, limit: int) -> Evidence:
        """The passages that match a search."""
        sought = Sought(text=question.question, scope=principal.scope, filters=question.filters, limit=limit)
        return await self._retrieval.gather(sought, principal_id=principal.id)

    async def epoch(self) -> str | None:
        """As `Retrieval.epoch`."""
        return await self._retrieval.epoch()

    async def _rewritten(self, asked: AcceptedQuestion, rewriter: Rewriter) -> tuple[AcceptedQuestion, str | None]:
        """The question in full, if the budget has room for it and the model says it in time. What it uses is booked."""
        begun, question, principal = time.monotonic(), asked.question.question, asked.principal
        used = usage_at_most(question, asked.turns)
        cost = self._prices.cost(rewriter.model, used) or NOTHING
        try:
            reservation = await self._budget.reserve(
                Spender(principal.id, principal.groups),
                used.input_tokens + used.output_tokens,
                cost=counted(cost),
                is_counted=asked.is_counted,
            )
        except TooManyRequests as error:
            logger.debug("a follow-up was not rewritten: %s", error)
            return asked, None
        try:
            written = await rewriter.rewrite(question, asked.turns)
            used = written.usage
        finally:
            cost = self._prices.cost(rewriter.model, used) or NOTHING
            tokens = used.input_tokens + used.output_tokens
            is_counted = await self._budget.settle(reservation, used=tokens, cost=counted(cost))
            if tokens:
                self._bookings.note_rewriting(principal, model=rewriter.model, usage=used, is_counted=is_counted)
        return msgspec.structs.replace(asked, rewrite_s=time.monotonic() - begun), written.question

    async def _compared(
        self, asked: AcceptedQuestion, follow_up: FollowUp, *, admit: Callable[[], None] | None
    ) -> tuple[AcceptedQuestion, Evidence]:
        alone = await self._gather(asked, admit=admit)
        leaned = msgspec.structs.replace(asked, follow_up=follow_up)
        together = await self._gather(leaned, admit=None)
        does_lean = leans(follow_up, alone=alone.sources(), together=together.sources())
        evidence = msgspec.structs.replace(
            together if does_lean else alone,
            embed_s=alone.embed_s + together.embed_s,
            retrieve_s=alone.retrieve_s + together.retrieve_s,
        )
        return leaned if does_lean else asked, evidence

    async def _gather(self, asked: AcceptedQuestion, *, admit: Callable[[], None] | None) -> Evidence:
        return await self._retrieval.gather(
            asked.sought(limit=self._passages), principal_id=asked.principal.id, shared=asked.is_kept, admit=admit
        )
