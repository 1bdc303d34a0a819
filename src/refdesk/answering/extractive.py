"""Answering without a language model: quote what answers best, or say that nothing was found.

    passages ─▶ units ─▶ the most promising ─▶ embedded, scored ─▶ chosen for the kind of question ─▶ quotes
              (units)     by shared words       score()              whole list · row · sentences

A unit is read together with the place it stands in and with what it leans on (``units``):

    score = similarity + WORDS_WEIGHT * word share + small corrections

A procedure is quoted whole, and so is a list that is asked for. Weak evidence means *not found*: a desk that guesses is worse
than one that says it does not know. Between the two, ``certainty`` says how probable it is that the question is answered at all.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from math import exp, log

import msgspec

from refdesk.answering.follow_ups import FollowUp
from refdesk.answering.sentences import Words
from refdesk.answering.units import Unit, units
from refdesk.contracts.answers import Source
from refdesk.outside.embedding.vectors import Embed

MODEL_NAME = "extractive"

PASSAGES_READ = 20
"""Passages searched for sentences; more than a language model reads, since reading is all the work there is."""

# The rest was chosen on the sample questions and on others of the kinds told below (docs/adr/0010).
CANDIDATES_MAX = 40
WORDS_WEIGHT = 0.5
OWN_WORDS = 0.6
"""How much of the word share must stand in the unit itself rather than in its place and context."""
RANK_WEIGHT = 0.3
SCORE_MIN = 0.55
SIMILARITY_MIN = 0.36
NEAR_BEST = 0.82
NEAR_BEST_ELSEWHERE = 0.88
"""Another document must be nearer to the best: one is enough unless the question needs two."""
QUOTES_MAX = 4
ITEMS_MAX = 20

ASKED_NOW_BONUS = 0.25
"""For all the words of a follow-up, what it leans on left out: that was asked before."""
SAID_PENALTY = 0.15
"""It was quoted in the answer before and has none of the words asked now. Both chosen on half of `sample_follow_ups.jsonl`."""
DIGIT_BONUS = 0.04
"""A number or a date was asked for, and there is one."""
STEPS_BONUS = 0.12
"""A procedure was asked for, and these are steps."""
NAME_PENALTY = 0.1
"""A name of the question does not stand in the unit, nor around it."""
UNKNOWN_NAME_PENALTY = 0.25
"""No passage knows it."""
ENTITY_BONUS = 0.3
"""The row is about what the question names, and has the column that it asks for."""
DEFINED_BONUS = 0.15
"""The question asks what a term means, and the unit begins with it."""
LIST_NEAR_BEST = 0.85
STEPS_NEAR_BEST = 0.75
"""When a list, or a procedure, is asked for, one this near to the best is preferred to it."""
MORE_STEPS_NEAR_BEST = 0.6
"""Numbered steps of the same document that go with a list which the question does not name."""
LISTS_MAX = 8
"""Lists that are looked at beside the candidates, when one is asked for."""
FEW_WORDS = 5
FEW_WORDS_PENALTY = 0.27

_NUMBER_ASKED = re.compile(
    r"\b(?:how (?:many|much|long|far|early|late|often|old|large|big|high|fast|quickly|soon|heavy)|when|by when|until when"
    r"|what time|which (?:day|month|year|date|weekday)|(?:limit|maximum|minimum|deadline|percentage|price|cost|fare|number))\b",
    re.IGNORECASE,
)
_STEPS_ASKED = re.compile(
    r"\s*(?:how (?:do|can|should|would|must|to)\b|what (?:do|should|must|can) (?:i|we|you|one) do\b|what (?:has|have) to\b"
    r"|what does .* have to\b|steps\b|procedure\b|instructions\b)",
    re.IGNORECASE,
)
_LIST_ASKED = re.compile(
    r"\s*(?:(?:which|what) .*\b(?:are there|are|kinds|types|steps|mean)\b|list\b|name (?:all|the)\b|when should\b)",
    re.IGNORECASE,
)
_COMPARED = re.compile(r"\b(?:difference|differ|compare|compared|versus|vs)\b", re.IGNORECASE)
_TERM_ASKED = re.compile(
    r"\s*+what(?:'s| is| are| does| do)(?: an?| the)?(?: words?| terms?| abbreviation)? (?P<term>.+)", re.IGNORECASE
)
_TERM_ENDS = ("?", " mean", " stand for")
TERM_CHARACTERS_MAX = 60
_NAME = re.compile(r"(?<=[^.?!]\s)[A-Z][\w’'-]*|\b(?=\w*\d)(?=\w*[A-Za-z])[\w-]+")


# Certainty: a logistic regression on 116 questions that the sample handbook answers and 78, most of them near misses, that it
# does not. Left out in fifths, it tells an answered question from another with an AUC of 0.92.
CERTAINTY_BIAS = -10.6
CERTAINTY_OF_SIMILARITY = 10.0
CERTAINTY_OF_UNKNOWN_NAME = -4.4
CERTAINTY_OF_COVERAGE = 4.8
"""Coverage is the share of the question's content words that stand in the unit or around it."""
CERTAINTY_OF_LENGTH = 2.1
"""Length is the logarithm of how many content words the question has, and one."""


class Quote(msgspec.Struct, frozen=True):
    """What source ``n`` says, in its own words; several lines when it is a list."""

    text: str
    n: int
    score: float
    similarity: float


class Found(msgspec.Struct, frozen=True):
    """What answers best, in the order to show it; empty when the evidence is weak. ``certainty`` is a probability, 0 to 1."""

    quotes: list[Quote]
    certainty: float = 0.0


class _Scored(msgspec.Struct, frozen=True):
    unit: Unit
    score: float
    similarity: float

    def quote(self) -> Quote:
        text = self.unit.text
        if self.unit.kind == "list" and self.unit.lead:
            lead = self.unit.lead
            text = f"{lead if lead.endswith((':', '?')) else lead + ':'}\n{text}"
        return Quote(text, self.unit.source.n, self.score, self.similarity)


class _Asked(msgspec.Struct, frozen=True):
    """What kind of answer the question wants."""

    words: set[str]
    names: tuple[str, ...]
    term: str
    """What is to be explained, folded; empty when nothing is."""
    number: bool
    steps: bool
    list: bool
    compared: bool
    now: set[str]
    """The words that a follow-up does not share with what it leans on."""
    said: str
    """The answer before."""

    @classmethod
    def of(cls, question: str, follow_up: FollowUp | None = None) -> "_Asked":
        return cls(
            words=Words.of(question).content,
            names=tuple(dict.fromkeys(name.casefold() for name in _NAME.findall(question) if name != "I")),
            term=_term(question),
            number=_NUMBER_ASKED.search(question) is not None,
            steps=_STEPS_ASKED.match(question) is not None,
            list=_LIST_ASKED.match(question) is not None,
            compared=_COMPARED.search(question) is not None,
            now=set() if follow_up is None else Words.of(follow_up.question).content,
            said="" if follow_up is None else follow_up.said,
        )


def _term(question: str) -> str:
    asked = _TERM_ASKED.match(question)
    term = asked["term"].casefold().rstrip() if asked else ""
    for end in _TERM_ENDS:
        term = term.removesuffix(end).rstrip()
    return term if len(term) <= TERM_CHARACTERS_MAX else ""


class Extractor:
    """``embed`` as an Embedder's; which model it is does not matter, as long as one call is answered by one."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    async def find(self, question: str, sources: Sequence[Source], *, follow_up: FollowUp | None = None) -> Found:
        """What the sources say to the question: of a follow-up, rather to what is asked now than to what was asked before."""
        asked = _Asked.of(question, follow_up)
        promising = _promising(asked, [unit for source in sources for unit in units(source)])
        if not promising:
            return Found([])
        vectors = await self._embed([question, *(unit.embedded() for unit, _ in promising)])
        similarities = (vectors[1:] @ vectors[0]).tolist()
        unknown = _unknown_names(asked, sources)
        scored = [
            _Scored(unit, _score(asked, unit, share=share, similarity=similarity, unknown=unknown), similarity)
            for (unit, share), similarity in zip(promising, similarities, strict=True)
        ]
        chosen = _choose(asked, sorted(scored, key=lambda one: -one.score))
        certainty = max((_certainty(asked, one, unknown=unknown) for one in chosen), default=0.0)
        return Found([one.quote() for one in chosen], certainty)


def _unknown_names(asked: _Asked, sources: Sequence[Source]) -> bool:
    """Whether the question names something that no passage knows."""
    known = "\n".join(f"{source.title}\n{source.heading}\n{source.passage}" for source in sources).casefold()
    return any(name not in known for name in asked.names)


def _score(asked: _Asked, unit: Unit, *, share: float, similarity: float, unknown: bool) -> float:
    score = similarity + WORDS_WEIGHT * share
    if asked.number and any(map(str.isdigit, unit.own)):
        score += DIGIT_BONUS
    if unit.kind == "list":
        score += STEPS_BONUS * (1 if unit.numbered == asked.steps else 0.5)
    if unit.kind == "sentence" and len(unit.own.split()) < FEW_WORDS:
        score -= FEW_WORDS_PENALTY
    if _names_entity(asked, unit) and Words.of(unit.columns).content & asked.words:
        score += ENTITY_BONUS
    terms = asked.names if asked.compared else (asked.term,) if asked.term else ()
    if terms and unit.own.lstrip("-*• ").casefold().startswith(terms):
        score += DEFINED_BONUS
    score += _for_now(asked, unit)
    if unknown:
        return score - UNKNOWN_NAME_PENALTY
    around = unit.embedded().casefold()
    return score - NAME_PENALTY * any(name not in around for name in asked.names)


def _for_now(asked: _Asked, unit: Unit) -> float:
    share = len(asked.now & Words.of(unit.embedded()).content) / len(asked.now) if asked.now else 0.0
    return ASKED_NOW_BONUS * share - SAID_PENALTY * (1 - share) * (unit.text in asked.said)


def _certainty(asked: _Asked, one: _Scored, *, unknown: bool) -> float:
    """How probable it is that this answers the question, rather than being about the same things."""
    coverage = len(Words.of(one.unit.embedded()).content & asked.words) / max(1, len(asked.words))
    evidence = (
        CERTAINTY_BIAS
        + CERTAINTY_OF_SIMILARITY * one.similarity
        + CERTAINTY_OF_UNKNOWN_NAME * unknown
        + CERTAINTY_OF_COVERAGE * coverage
        + CERTAINTY_OF_LENGTH * log(1 + len(asked.words))
    )
    return 1 / (1 + exp(-evidence))


def _names_entity(asked: _Asked, unit: Unit) -> bool:
    """Whether the row is about what the question names."""
    about = Words.of(unit.entity).content if unit.entity else set[str]()
    return bool(about) and about <= asked.words


def _promising(asked: _Asked, found: Sequence[Unit]) -> list[tuple[Unit, float]]:
    """The most promising units, each with its share of the question's words: 0 to 1, rare words weighing more."""
    own = [Words.of(unit.text).content & asked.words for unit in found]
    around = [Words.of(unit.surroundings()).content & asked.words for unit in found]
    whole = [mine | theirs for mine, theirs in zip(own, around, strict=True)]
    weights = {word: log(1 + len(found) / (0.5 + sum(word in words for words in whole))) for word in asked.words}
    total = sum(weights.values()) or 1.0

    def share(mine: set[str], every: set[str]) -> float:
        weigh = weights.__getitem__
        return (OWN_WORDS * sum(map(weigh, mine)) + (1 - OWN_WORDS) * sum(map(weigh, every))) / total

    shares = [share(mine, every) for mine, every in zip(own, whole, strict=True)]
    ranked = sorted(zip(found, shares, strict=True), key=lambda pair: -(pair[1] + RANK_WEIGHT / (pair[0].source.n + 2)))
    parts = _distinct(pair for pair in ranked if pair[0].kind != "list")
    lists = _distinct(pair for pair in ranked if pair[0].kind == "list") if asked.steps or asked.list else []
    return [*parts[:CANDIDATES_MAX], *lists[:LISTS_MAX]]


def _distinct(ranked: Iterable[tuple[Unit, float]]) -> list[tuple[Unit, float]]:
    """The first of each text: documents repeat themselves."""
    first: dict[str, tuple[Unit, float]] = {}
    for unit, share in ranked:
        first.setdefault(unit.text, (unit, share))
    return list(first.values())


def _choose(asked: _Asked, ranked: Sequence[_Scored]) -> list[_Scored]:
    similar = [one for one in ranked if one.similarity >= SIMILARITY_MIN or _names_entity(asked, one.unit)]
    if not similar or similar[0].score < SCORE_MIN:
        return []
    if asked.compared and (each := _each_named(asked, similar)):
        return each
    best = similar[0]
    near_best = STEPS_NEAR_BEST if asked.steps else LIST_NEAR_BEST
    lists = [one for one in similar if one.unit.kind == "list" and one.score >= near_best * best.score]
    if lists:
        return _whole(asked, lists[0], ranked)
    return list(_apart(one for one in similar if one.score >= _near(one, best) * best.score))[:QUOTES_MAX]


def _near(one: _Scored, best: _Scored) -> float:
    same = one.unit.source.document_id == best.unit.source.document_id
    return NEAR_BEST if same else NEAR_BEST_ELSEWHERE


def _each_named(asked: _Asked, ranked: Sequence[_Scored]) -> list[_Scored]:
    """The best on each of the things compared, in the question's order; none when one of them is missing."""
    best = [next((one for one in ranked if name in one.unit.own.casefold()), None) for name in asked.names]
    return [one for one in best if one is not None] if len(best) > 1 and None not in best else []


def _whole(asked: _Asked, chosen: _Scored, ranked: Sequence[_Scored]) -> list[_Scored]:
    """The list; where a procedure was asked for and the list's heading is not what was asked, all steps of its document."""
    if not asked.steps or Words.of(chosen.unit.context).content & asked.words:
        return [chosen]
    steps = [
        one
        for one in ranked
        if one.unit.kind == "list"
        and one.unit.numbered
        and one.unit.source.document_id == chosen.unit.source.document_id
        and one.score >= MORE_STEPS_NEAR_BEST * chosen.score
    ]
    kept, items = [], 0
    for one in steps:
        items += one.unit.text.count("\n") + 1
        if items <= ITEMS_MAX:
            kept.append(one)
    return sorted(kept, key=lambda one: (one.unit.source.ordinal, one.unit.block)) or [chosen]


def _apart(ranked: Iterable[_Scored]) -> Iterator[_Scored]:
    """Without what another quote says already."""
    said: list[str] = []
    for one in ranked:
        if one.unit.kind != "list" and not any(one.unit.text in text or text in one.unit.text for text in said):
            said.append(one.unit.text)
            yield one
