"""A question that was accepted: inside its limits, counted, and with the conversation it belongs to."""

import time

import msgspec

from refdesk.answering.brought import Brought
from refdesk.answering.conversations.turns import Turn
from refdesk.answering.evidence.retrieval import Evidence, Sought
from refdesk.answering.evidence.truth import Shown
from refdesk.answering.follow_ups import FollowUp
from refdesk.answering.reuse.cache import Flight, exact_key, flight
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Question


class AcceptedQuestion(msgspec.Struct, frozen=True):
    """A question inside its limits, with the conversation it belongs to."""

    question: Question
    principal: Principal
    output_tokens_max: int
    turns: tuple[Turn, ...]
    started: float
    """When it was asked (``time.monotonic``)."""
    is_counted: bool
    """Whether it is counted among its principal's questions; not while Valkey is away."""
    follow_up: FollowUp | None = None
    """Set once it is clear that it leans on what came before."""
    style: str = ""
    """How the asker wishes the answer worded."""
    told: frozenset[Shown] = frozenset()
    """What the answers among ``turns`` stand on."""
    rewrite_s: float = 0.0
    """Spent by a model to write it out in full."""

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def is_kept(self) -> bool:
        """Whether its answer may be found, shared and kept by the question alone."""
        return self.question.cache == "use" and not self.turns and not self.style

    @property
    def standalone(self) -> str:
        """The question as one reads it who has not heard the conversation."""
        return self.question.question if self.follow_up is None else self.follow_up.text

    def sought(self, *, limit: int) -> Sought:
        return Sought(text=self.standalone, scope=self.principal.scope, filters=self.question.filters, limit=limit)

    def exact_key(self, *, shape: str) -> str:
        return exact_key(
            self.question, scope=self.principal.scope, shape=shape, output_tokens_max=self.output_tokens_max
        )

    def flight(self, evidence: Evidence, *, shape: str) -> Flight:
        return flight(
            self.question,
            evidence,
            brought=Brought(turns=self.turns, style=self.style),
            shape=shape,
            output_tokens_max=self.output_tokens_max,
        )
