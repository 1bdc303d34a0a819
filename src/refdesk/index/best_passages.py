"""From an engine's ranking to what a search shows: deeper where copies crowd others out, then the best put in order."""

from collections.abc import Sequence
from typing import Protocol

from refdesk.index.chunks import Passage
from refdesk.index.identifiers import named_first
from refdesk.index.ranking import FIELD, distinct, is_crowded, second_hop

WIDER = (8, 64)
"""How many times as deep it is searched, in turn, where copies of few texts take the places of others (docs/adr/0036)."""


class Rank(Protocol):
    """Passages in the order of their fused scores, of ``depth`` chunks from each arm.

    Without copies, only the best chunk of each text is compared with others: texts are equal by their `ranking.same_text`.
    """

    async def __call__(self, *, depth: int, with_copies: bool) -> Sequence[Passage]: ...


async def best_passages(question: str, rank: Rank, *, limit: int) -> list[Passage]:
    """The ``limit`` passages that a search shows."""
    depth = max(FIELD, 2 * limit)
    passages = await rank(depth=depth, with_copies=True)
    for wider in WIDER:
        if not is_crowded(passages, count=limit):
            break
        passages = await rank(depth=wider * depth, with_copies=False)
    return distinct(second_hop(named_first(question, passages)), count=limit)
