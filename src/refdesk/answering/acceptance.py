"""What can refuse a question before any work is done for it: its limits, how often its principal asks, and ``after``."""

import time

from refdesk.answering.accepted_question import AcceptedQuestion
from refdesk.answering.brought import Brought
from refdesk.answering.conversations.turns import Conversations, Recalled
from refdesk.answering.evidence.freshness import Freshness
from refdesk.answering.limits import AnswerLimits
from refdesk.answering.usage.budget import Budget
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Question, Usage
from refdesk.contracts.documents import FreshnessToken
from refdesk.outside import telemetry


class Acceptance:
    def __init__(
        self, *, limits: AnswerLimits, budget: Budget, freshness: Freshness, conversations: Conversations
    ) -> None:
        self._limits = limits
        self._budget = budget
        self._freshness = freshness
        self._conversations = conversations

    async def accept(self, question: Question, principal: Principal, brought: Brought) -> AcceptedQuestion:
        """Raises the refusal. Waits for the documents that the question is to know."""
        started = time.monotonic()
        with telemetry.refusing():
            self._limits.check_question(question.question)
            output_tokens_max = self._limits.output_tokens(question)
        is_counted = await self._budget.count_request(principal.id)
        with telemetry.refusing():
            await self._wait_until_fresh(question, principal)
        if not (recalled := Recalled(brought.turns)).turns:
            recalled = await self._conversations.recall(question.conversation_id, principal)
        return AcceptedQuestion(
            question,
            principal,
            output_tokens_max,
            recalled.turns,
            started,
            is_counted,
            told=recalled.told,
            style=brought.style,
        )

    async def accept_search(self, question: Question, principal: Principal) -> None:
        """The same for a search, which is not answered."""
        self._limits.check_question(question.question)
        await self.count_search(principal)
        await self._wait_until_fresh(question, principal)

    async def count_search(self, principal: Principal, *, times: int = 1) -> None:
        """Counts a search, a look into a document, or texts to embed; raises TooManyRequests."""
        await self._budget.count_search(principal.id, times=times)

    def at_most(self, question: Question) -> Usage:
        """What the answer may use at most."""
        return self._limits.at_most(question)

    async def _wait_until_fresh(self, question: Question, principal: Principal) -> None:
        tokens = [FreshnessToken.parse(text) for text in question.after]
        await self._freshness.wait_until_searchable(
            tokens, principal=principal, wait_seconds=self._limits.wait_seconds(question)
        )
