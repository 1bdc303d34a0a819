"""The assistant: asking, producing and reading answers, put together, and what has to run for them.

``ask`` takes a question to the point where its log exists and somebody writes it (`asking`, `productions`); ``reading`` follows
the log. Every door (SSE, WebSocket, JSON, the command line) is an encoding of the two.
"""

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from refdesk.answering.acceptance import Acceptance
from refdesk.answering.admission import Admission
from refdesk.answering.asking import Asking
from refdesk.answering.brought import NOTHING, Brought
from refdesk.answering.capacity import Capacity
from refdesk.answering.conversations.browsing import Browsing, BrowsingParts
from refdesk.answering.conversations.history import History
from refdesk.answering.conversations.keeping import Keeper
from refdesk.answering.conversations.turns import Conversations
from refdesk.answering.curating.gap_finding import GapFinding
from refdesk.answering.evidence.freshness import Freshness
from refdesk.answering.evidence.retrieval import Evidence, Retrieval
from refdesk.answering.leaving import Leaving
from refdesk.answering.limits import AnswerLimits
from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import AnswerRecord
from refdesk.answering.production import Production, Writers
from refdesk.answering.productions import Productions
from refdesk.answering.questions import Questions
from refdesk.answering.quoting.extractive import MODEL_NAME as QUOTING
from refdesk.answering.reading import Reading
from refdesk.answering.reuse.cache import Cache
from refdesk.answering.reuse.finding import Reuse
from refdesk.answering.reuse.similar import SimilarQuestions
from refdesk.answering.rewriting import Rewriter
from refdesk.answering.stops import Stops
from refdesk.answering.usage.bookings import Bookings, BookingTimes
from refdesk.answering.usage.budget import Budget, Pace
from refdesk.answering.usage.caps import Spender
from refdesk.answering.usage.prices import Prices
from refdesk.answering.usage.settled import UsageStore
from refdesk.answering.withdrawal import Withdrawals
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Question
from refdesk.outside.valkey.client import Valkey
from refdesk.settings.answers import Graces


class AssistantParts(msgspec.Struct, frozen=True, kw_only=True):
    """What an assistant is put together from.

    ``shape``: a name for all of the configuration that shapes answers; equal shapes answer equally. ``retention_s`` is how long
    answers are at hand. ``keeps``: whether conversations are written into the history; ``unwritten_max`` of their answers may
    wait for that.
    """

    retrieval: Retrieval
    freshness: Freshness
    withdrawals: Withdrawals
    writers: Writers
    rewriter: Rewriter | None = None
    similar: SimilarQuestions | None = None
    valkey: Valkey
    budget: Budget
    usage: UsageStore
    prices: Prices
    booking: BookingTimes
    gaps: GapFinding
    admission: Admission
    limits: AnswerLimits
    shape: str
    retention_s: int
    graces: Graces
    history: History
    keeps: bool
    unwritten_max: int


class Assistant:
    """Have ``run`` running."""

    def __init__(self, parts: AssistantParts) -> None:
        writers, budget = parts.writers, parts.budget
        journal = Journal(parts.valkey, retention_s=parts.retention_s)
        cache = Cache(parts.valkey, retention_s=parts.retention_s)
        conversations = _conversations(parts, journal)
        self._keeper = _keeper(parts, journal)
        self._bookings = _bookings(parts, journal)
        self._productions = Productions(
            journal,
            cache,
            writers=writers,
            capacity=Capacity(parts.admission, budget, prices=parts.prices),
            bookings=self._bookings,
            gaps=parts.gaps,
            prices=parts.prices,
            withdrawals=parts.withdrawals,
            graces=parts.graces,
        )
        self._stops = Stops(parts.valkey, journal=journal, productions=self._productions)
        self._acceptance = Acceptance(
            limits=parts.limits, budget=budget, freshness=parts.freshness, conversations=conversations
        )
        self._questions = Questions(
            parts.retrieval,
            budget=budget,
            bookings=self._bookings,
            prices=parts.prices,
            passages=writers.first.passages_read,
            rewriter=parts.rewriter,
        )
        self._asking = Asking(
            acceptance=self._acceptance,
            questions=self._questions,
            reuse=Reuse(journal, cache, similar=parts.similar, shape=parts.shape),
            productions=self._productions,
            journal=journal,
            bookings=self._bookings,
            gaps=parts.gaps,
            conversations=conversations,
            keeper=self._keeper,
            model=writers.first.model,
        )
        self.reading = Reading(
            journal, withdrawals=parts.withdrawals, retention_s=parts.retention_s, stop=self._stops.stop
        )
        self.browsing = Browsing(
            BrowsingParts(
                history=parts.history,
                conversations=conversations,
                journal=journal,
                keeper=self._keeper,
                withdrawals=parts.withdrawals,
            )
        )
        self._quotes = writers.first.model == QUOTING
        self._gaps = parts.gaps
        self.leaving = Leaving(self.writes)
        self._journal = journal
        self._budget = budget

    async def ask(self, question: Question, principal: Principal, brought: Brought = NOTHING) -> AnswerRecord:
        """Begins an answer; follow it with ``reading.of``. Raises the refusal when there will be none."""
        if brought.style and self._quotes:  # a wish would make the same quotes another answer
            brought = msgspec.structs.replace(brought, style="")
        return await self._asking.ask(question, principal, brought)

    async def search(self, question: Question, principal: Principal, *, limit: int) -> Evidence:
        """The passages that match, without an answer."""
        await self._acceptance.accept_search(question, principal)
        return await self._questions.search(question, principal, limit=limit)

    async def count_search(self, principal: Principal, *, times: int = 1) -> None:
        """Counts a search, a look into a document, or texts to embed; raises TooManyRequests."""
        await self._acceptance.count_search(principal, times=times)

    async def pace(self, principal: Principal) -> Pace | None:
        """How many questions and tokens it has left now; None where nobody knows."""
        return await self._budget.pace(Spender(principal.id, principal.groups))

    async def search_pace(self, principal: Principal) -> Pace | None:
        """How many searches it has left now."""
        return await self._budget.search_pace(principal.id)

    def rated_badly(self, record: AnswerRecord, *, documents: Sequence[str]) -> None:
        """Its asker says that the answer, which cited these documents, did not help."""
        name, asker = f"{record.log_id}/{record.principal_id}", Spender(record.principal_id, record.groups)
        self._gaps.note(name, asker, question=record.question, reason="rated_down", documents=documents)

    async def stop(self, record: AnswerRecord) -> None:
        """Ends this asker's readings. The model stops at once unless another asker still reads."""
        await self._stops.stop(record)

    def under_way(self) -> list[Production]:
        """The answers that this process writes, or that wait to be written, the oldest first."""
        return self._productions.under_way()

    def writes(self, log_id: str) -> bool:
        """Whether this process writes that answer now."""
        return self._productions.writes(log_id)

    async def erase(self, document_ids: Collection[str]) -> int:
        """Removes answers that stand on one of these documents; returns how many. Raises ValkeyError."""
        return await self._journal.erase(document_ids)

    async def run(self) -> None:
        """Copies logs, receives stops, and ends answers without readers, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._journal.run(self._productions.take_over))
            tasks.create_task(self._budget.run())
            tasks.create_task(self._bookings.run())
            tasks.create_task(self._gaps.run())
            tasks.create_task(self._stops.run())
            tasks.create_task(self._productions.run())
            tasks.create_task(self._keeper.run())

    async def close(self) -> None:
        """Ends every answer that this process still writes."""
        await self._productions.close()
        await self._keeper.close()


def _conversations(parts: AssistantParts, journal: Journal) -> Conversations:
    return Conversations(
        parts.valkey,
        retention_s=parts.retention_s,
        open_log=journal.open,
        withdrawals=parts.withdrawals,
        history=parts.history if parts.keeps else None,
    )


def _keeper(parts: AssistantParts, journal: Journal) -> Keeper:
    return Keeper(
        parts.valkey,
        journal=journal,
        history=parts.history if parts.keeps else None,
        waiting_max=parts.unwritten_max,
        retention_s=parts.retention_s,
    )


def _bookings(parts: AssistantParts, journal: Journal) -> Bookings:
    return Bookings(
        parts.usage,
        valkey=parts.valkey,
        journal=journal,
        budget=parts.budget,
        prices=parts.prices,
        times=parts.booking,
    )
