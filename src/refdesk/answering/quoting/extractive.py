"""Answering without a language model: quote what answers best, or say that nothing was found.

    passages ─▶ units ─▶ the most promising ─▶ embedded, scored ─▶ chosen for the kind of question ─▶ quotes
              (units)        (scoring)            (likeness)             (choosing)             (certainty)

A unit is read together with the place it stands in and with what it leans on (``text.units``). A desk that guesses is worse than
one that says it does not know: ``certainty`` says how probable it is that the question is answered at all.
"""

from collections.abc import Sequence

import msgspec

from refdesk.answering.follow_ups import FollowUp
from refdesk.answering.quoting.certainty import certainty
from refdesk.answering.quoting.choosing import choose
from refdesk.answering.quoting.likeness import Reading
from refdesk.answering.quoting.scoring import Scored, promising, score
from refdesk.answering.quoting.wanted import Wanted
from refdesk.answering.text.sentences import COLONS, QUESTION_MARKS
from refdesk.answering.text.units import units
from refdesk.contracts.answers import Source
from refdesk.outside.embedding.vectors import Encode

MODEL_NAME = "extractive"

PASSAGES_READ = 20
"""Passages searched for sentences; more than a language model reads, since reading is all the work there is."""
CERTAINTY_OF_NOTHING = 0.1
"""Below it nothing is quoted, not even as the closest passages."""


class Quote(msgspec.Struct, frozen=True):
    """What source ``n`` says, in its own words; several lines when it is a list."""

    text: str
    n: int
    score: float

    @classmethod
    def of(cls, one: Scored) -> "Quote":
        text, lead = one.unit.text, one.unit.lead
        if one.unit.kind == "list" and lead:
            text = f"{lead if lead.endswith((*COLONS, *QUESTION_MARKS)) else lead + ':'}\n{text}"
        return cls(text, one.unit.source.n, one.score)


class Found(msgspec.Struct, frozen=True):
    """What answers best, in the order to show it; empty when the evidence is weak. ``certainty`` is a probability, 0 to 1."""

    quotes: list[Quote]
    certainty: float = 0.0


class Extractor:
    """``encode`` as an Embedder's; which model it is does not matter, as long as one call is answered by one."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode

    async def find(self, question: str, sources: Sequence[Source], *, follow_up: FollowUp | None = None) -> Found:
        """What the sources say to the question: of a follow-up, rather to what is asked now than to what was asked before."""
        wanted = Wanted.of(question, follow_up)
        found = [unit for source in sources for unit in units(source)]
        candidates = promising(wanted, [unit for unit in found if unit.kind != "list"])
        if not candidates:
            return Found([])
        texts = [unit.embedded() for unit, _ in candidates]
        read, *encoded = await self._encode([question, *texts])
        reading, unknown = Reading(question, read), _names_unknown(wanted, sources)
        scored = []
        for (unit, share), text, one in zip(candidates, texts, encoded, strict=True):
            likeness = reading.likeness(one, own_from=len(text) - unit.own_length)
            scored.append(Scored(unit, likeness, score(wanted, unit, likeness, share=share, unknown=unknown)))
        chosen = choose(
            wanted, sorted(scored, key=lambda one: -one.score), lists=[unit for unit in found if unit.kind == "list"]
        )
        sure = certainty(wanted, chosen, unknown=unknown)
        return Found([Quote.of(one) for one in chosen], sure) if sure >= CERTAINTY_OF_NOTHING else Found([], sure)


def _names_unknown(wanted: Wanted, sources: Sequence[Source]) -> bool:
    """Whether the question names something that no passage has."""
    known = "\n".join(f"{source.title}\n{source.heading}\n{source.passage}" for source in sources)
    return wanted.names_missing_in(known) > 0
