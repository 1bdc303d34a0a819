"""How probable it is that what is quoted answers the question, rather than being about the same things.

Two logistic regressions: over the likeness of words where the embedding model tells its tokens, over the whole texts otherwise.
Both were made on 648 developers' questions, answerable or not, with what was quoted for each (docs/adr/0038). Where the model
cannot read the question, the words that stand there must do (docs/adr/0064).
"""

from collections.abc import Sequence
from math import exp, log

from refdesk.answering.quoting.likeness import Likeness
from refdesk.answering.quoting.scoring import Scored, has_asked_column
from refdesk.answering.quoting.wanted import Wanted

BIAS = -6.86
OF_ALIKE = 7.28
OF_BACK = 7.28
OF_LIST = 2.36
"""It says much that is not like the question."""
OF_ASKED_COLUMN = 2.36
"""The row is about what the question names, and has the column that it asks for."""
OF_NAMES_MISSING = -4.82

BIAS_WITHOUT_TOKENS = -3.0
OF_WHOLE = 6.6
OF_UNKNOWN_NAME = -3.0
OF_COVERAGE = 3.3
"""Coverage is the share of the question's words that stand in the unit or around it."""
OF_LENGTH = -1.2
"""Length is the logarithm of how many words the question has, and one."""

BIAS_OF_UNREAD = -7.0
OF_COVERAGE_UNREAD = 12.0
"""Chosen on half of tests/data/unspaced: answers have .6 of the question's words and more, others half of them and fewer."""


def certainty(wanted: Wanted, quoted: Sequence[Scored], *, unknown: bool) -> float:
    """A probability, 0 to 1, by the first quote, and by the names in all. ``unknown``: no passage has one of the names."""
    first = quoted[0].likeness
    if first.each:
        evidence = _by_words(wanted, quoted, first)
    elif first.is_unread:
        evidence = BIAS_OF_UNREAD + OF_COVERAGE_UNREAD * _coverage(wanted, quoted)
    else:
        evidence = _by_wholes(wanted, quoted, first, unknown=unknown)
    return 1 / (1 + exp(-evidence))


def _by_words(wanted: Wanted, quoted: Sequence[Scored], first: Likeness) -> float:
    return (
        BIAS
        + OF_ALIKE * first.alike
        + OF_BACK * first.back
        + OF_LIST * (quoted[0].unit.kind == "list")
        + OF_ASKED_COLUMN * has_asked_column(wanted, quoted[0].unit)
        + OF_NAMES_MISSING * wanted.names_missing_in(_read(quoted))
    )


def _by_wholes(wanted: Wanted, quoted: Sequence[Scored], first: Likeness, *, unknown: bool) -> float:
    return (
        BIAS_WITHOUT_TOKENS
        + OF_WHOLE * first.whole
        + OF_UNKNOWN_NAME * unknown
        + OF_COVERAGE * _coverage(wanted, quoted)
        + OF_LENGTH * log(1 + max(1, len(wanted.words)))
    )


def _coverage(wanted: Wanted, quoted: Sequence[Scored]) -> float:
    return len(wanted.found_in(_read(quoted))) / max(1, len(wanted.words))


def _read(quoted: Sequence[Scored]) -> str:
    """What is quoted, with the places it stands in."""
    return "\n".join(one.unit.embedded() for one in quoted)
