"""Whether a question leans on the one before it: "And in winter?", "How long does it last?".

Words alone do not tell: "What does deadfreight mean?" is as short as a follow-up, and "who approves it?" may have its noun in
front of it. So words only tell which questions *may* lean back (`leaning`). Such a question is searched for twice, alone and
together with what came before, and what was found decides (`leans`)::

    asked before   What does a car cost in summer?
    asked now      And in winter?          alone: winter timetables, winter storms
                                           together: a row of fares that speaks of winter, in a passage about cars and costs

It leans back when one passage is about what was asked before *and* says what is asked now. A new topic finds no such passage:
what speaks of the old one does not speak of the new one.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from refdesk.answering.conversations.turns import Turn
from refdesk.answering.text.sentences import Words, without_citations
from refdesk.answering.text.units import units
from refdesk.contracts.answers import Source
from refdesk.index.chunks import HEADING_SEPARATOR, place

SHORT_QUESTION_WORDS = 3
"""A question with no more content words than this may lean on the one before it."""
ABOUT_BOTH_MIN = 0.6
"""Share of the earlier question's words that a passage must have to be about it. Chosen on half of `sample_follow_ups.jsonl`, and
on 486 pairs of sample questions that have nothing to do with each other."""
CONTEXT_CHARACTERS_MAX = 500
"""A question that leans on one that leans on another is read with all of them, up to this."""

_MEASURE_ASKED = re.compile(
    r"\bhow (?:many|much|long|often|far|early|late|soon|fast|quickly|old|high|big|large)\b", re.IGNORECASE
)
"""Asks for a measure: a passage need not say it."""
_LEANS_BACK = re.compile(
    r"\s*(?:and|or|but|also|so|then|what about|how about|what if|why|same)\b"
    r"|.*\b(?:it|its|that|this|those|these|they|them|their|he|his|him|she|her|one|ones)\b",
    re.IGNORECASE | re.DOTALL,
)


class FollowUp(msgspec.Struct, frozen=True):
    """A question and what it leans on: the questions before it, and what was answered to the last of them."""

    question: str
    context: str
    said: str = ""
    rewritten: str = ""
    """The question in full, where a language model has written it."""

    @property
    def text(self) -> str:
        """The question as one reads it who has not heard the conversation."""
        return self.rewritten or f"{self.context} {self.question}"


def leaning(question: str, turns: Sequence[Turn]) -> FollowUp | None:
    """The question with what it may lean on; None when nothing in its words leans back."""
    if not turns or not _may_lean(question):
        return None
    last = turns[-1]
    context = last.read_as if last.read_as and len(last.read_as) <= CONTEXT_CHARACTERS_MAX else last.question
    return FollowUp(question, context, without_citations(last.answer))


def _may_lean(question: str) -> bool:
    """What names a section by its title and headings, as the page's topics do, does not."""
    if HEADING_SEPARATOR in question:
        return False
    return len(Words.of(question).content) <= SHORT_QUESTION_WORDS or _LEANS_BACK.match(question) is not None


def leans(follow_up: FollowUp, *, alone: Sequence[Source], together: Sequence[Source]) -> bool:
    """Whether some of what was found together is about both: it has as many words of the question as anything found alone."""
    own = Words.of(_MEASURE_ASKED.sub("", follow_up.question)).content
    before = Words.of(follow_up.context).content - own
    found_alone = max(_shared(own, alone), default=0)
    about_before = [source for source in together if _is_about(before, source)]
    found_together = max(_shared(own, about_before), default=-1)
    return found_together >= found_alone


def _shared(own: set[str], sources: Sequence[Source]) -> Iterator[int]:
    """How many of the question's words each unit of the sources has, or stands under."""
    return (len(own & Words.of(unit.embedded()).content) for source in sources for unit in units(source))


def _is_about(before: set[str], source: Source) -> bool:
    words = Words.of(f"{place(source.title, source.heading)}\n{source.passage}").content
    return len(before & words) >= ABOUT_BOTH_MIN * len(before)
