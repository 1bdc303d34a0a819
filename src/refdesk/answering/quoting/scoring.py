"""How well each unit answers: what is promising is embedded, and scored.

score = likeness + WORDS_WEIGHT * word share + small corrections
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import takewhile
from math import log

import msgspec

from refdesk.answering.quoting.likeness import Likeness
from refdesk.answering.quoting.wanted import Wanted
from refdesk.answering.text.sentences import STOP_WORDS, Words, stem
from refdesk.answering.text.units import Unit
from refdesk.answering.text.vocabulary import CALENDAR
from refdesk.contracts.scripts import word_count

# Chosen on the sample questions and on others of the kinds told below (docs/adr/0010, 0038).
CANDIDATES_MAX = 40
OWN_WORDS = 0.6
"""How much of the word share must stand in the unit itself rather than in its place and context."""
RANK_WEIGHT = 0.3
WORDS_WEIGHT = 0.28
LIKENESS_OF_WORDS = 0.73
WORDS_WEIGHT_WITHOUT_TOKENS = 0.5

ASKED_NOW_BONUS = 0.25
"""For all the words of a follow-up, what it leans on left out: that was asked before."""
SAID_PENALTY = 0.15
"""It was quoted in the answer before and has none of the words asked now. Both chosen on half of `sample_follow_ups.jsonl`."""
DIGIT_BONUS = 0.04
"""A number or a date was asked for, and there is one."""
COUNTED_BONUS = 0.16
"""What was asked how many of stands behind a number, with all the words it was asked with."""
COUNTED_WITHIN = 6
"""How many words behind the number: "27 days of paid annual leave"."""
DATE_BONUS = 0.15
"""A day or a month was asked for, and there is one."""
NAME_PENALTY = 0.1
"""A name of the question does not stand in the unit, nor around it."""
UNKNOWN_NAME_PENALTY = 0.25
"""No passage knows it."""
ENTITY_BONUS = 0.3
"""The row is about what the question names, and has the column that it asks for."""
DEFINED_BONUS = 0.15
"""The question asks what a term means, and the unit begins with it."""
FEW_WORDS = 5
FEW_WORDS_PENALTY = 0.27


_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+")


class Scored(msgspec.Struct, frozen=True):
    unit: Unit
    likeness: Likeness
    score: float


def promising(wanted: Wanted, found: Sequence[Unit]) -> list[tuple[Unit, float]]:
    """The most promising units, each with its share of the question's words: 0 to 1, rare words weighing more."""
    words_in = cache(wanted.found_in)  # places repeat themselves
    own = [words_in(unit.own if unit.kind == "sentence" else unit.text) for unit in found]
    whole = [words_in(unit.surroundings()) | words_in(unit.text) for unit in found]
    words = wanted.words.union(*whole)
    weights = {word: log(1 + len(found) / (0.5 + sum(word in every for every in whole))) for word in words}
    total = sum(weights.values()) or 1.0

    def share(mine: set[str], every: set[str]) -> float:
        weigh = weights.__getitem__
        return (OWN_WORDS * sum(map(weigh, mine)) + (1 - OWN_WORDS) * sum(map(weigh, every))) / total

    shares = [share(mine, every) for mine, every in zip(own, whole, strict=True)]
    ranked = sorted(zip(found, shares, strict=True), key=lambda pair: -(pair[1] + RANK_WEIGHT / (pair[0].source.n + 2)))
    return _distinct(ranked)[:CANDIDATES_MAX]


def _distinct(ranked: Iterable[tuple[Unit, float]]) -> list[tuple[Unit, float]]:
    """The first of each text: documents repeat themselves."""
    first: dict[str, tuple[Unit, float]] = {}
    for unit, share in ranked:
        first.setdefault(unit.text, (unit, share))
    return list(first.values())


def score(wanted: Wanted, unit: Unit, likeness: Likeness, *, share: float, unknown: bool) -> float:
    """``unknown``: no passage has one of the question's names."""
    if likeness.each:
        found = likeness.whole + LIKENESS_OF_WORDS * likeness.words + WORDS_WEIGHT * share
    else:
        found = likeness.whole + WORDS_WEIGHT_WITHOUT_TOKENS * share
    found += _for_kind(wanted, unit) + _for_now(wanted, unit)
    if unknown:
        return found - UNKNOWN_NAME_PENALTY
    return found - NAME_PENALTY * (wanted.names_missing_in(unit.embedded()) > 0)


def _for_kind(wanted: Wanted, unit: Unit) -> float:
    """By what kind of answer is wanted, and what kind of unit it is."""
    correction = DIGIT_BONUS * (wanted.number and any(map(str.isdigit, unit.own)))
    correction += COUNTED_BONUS * _counts(wanted, unit)
    correction += DATE_BONUS * (wanted.date and _tells_date(unit.own))
    if unit.kind == "sentence" and word_count(unit.own) < FEW_WORDS:
        correction -= FEW_WORDS_PENALTY
    return correction + ENTITY_BONUS * has_asked_column(wanted, unit) + DEFINED_BONUS * _defines(wanted, unit)


def _tells_date(text: str) -> bool:
    """Whether it names a month or a weekday, with its capital: "may" and "march" are words."""
    return any(word[0].isupper() and word.casefold() in CALENDAR for word in _WORD.findall(text))


def _counts(wanted: Wanted, unit: Unit) -> float:
    """Which part of what is to be counted stands right behind a number: 0 to 1."""
    if len(wanted.counted) < 2:  # "How many days …": there is a number of days everywhere
        return 0.0
    counted, words = set(wanted.counted), _WORD.findall(unit.own)
    phrases = (words[at + 1 : at + 1 + COUNTED_WITHIN] for at, word in enumerate(words) if word[0].isdigit())
    found = (len(counted.intersection(map(stem, takewhile(_goes_on, phrase)))) for phrase in phrases)
    return max(found, default=0) / len(counted)


def _goes_on(word: str) -> bool:
    """Whether what is counted may go on with the word: "27 days of paid leave", not "by 1 December how many days"."""
    return word == "of" or word.casefold() not in STOP_WORDS


def _defines(wanted: Wanted, unit: Unit) -> bool:
    terms = tuple(name.text for name in wanted.names) if wanted.compared else (wanted.term,) if wanted.term else ()
    return bool(terms) and unit.own.lstrip("-*• ").casefold().startswith(terms)


def _for_now(wanted: Wanted, unit: Unit) -> float:
    share = len(wanted.now & Words.of(unit.embedded()).content) / len(wanted.now) if wanted.now else 0.0
    return ASKED_NOW_BONUS * share - SAID_PENALTY * (1 - share) * (unit.text in wanted.said)


def has_asked_column(wanted: Wanted, unit: Unit) -> bool:
    """Whether the row is about what the question names, and has a column that it asks for."""
    about = Words.of(unit.entity).content
    return bool(about) and about <= wanted.words and bool(Words.of(unit.columns).content & wanted.words)
