"""What a sentence claims that can be checked without a model: values, names, quotes and the direction of words.

A model that misquotes changes small things: a figure, a unit, a month, a name, a "not". Such a change leaves most words of the
sentence where they were, so it is found by comparing the sentence with the one in the passage that it resembles most:

    claim      Refunds are paid within 9 days.          9 day    ✗ the passage has 7 day in the same place
    passage    Refunds for cancelled sailings are paid within 7 days to the original means of payment.

What it does not do: judge a paraphrase. Where no rule applies, nothing is said against the sentence.
"""

from collections.abc import Sequence

from refdesk.answering.grounding.facts import Facts, Ground
from refdesk.answering.text.sentences import Words

RESEMBLES_MIN = 0.6
"""Share of a claim's content words in a passage's sentence from which the two speak of the same thing."""
REPEATS_MIN = 0.75
"""From which the sentence is the passage's own with something changed. Both chosen on tests/data/claims.jsonl."""
NEARLY_BEST = 0.1
COVERS_MIN = 0.5
"""How much of the passage's sentence a claim must take up before a "not" in either counts: it may belong to another clause."""
COPIES_MIN = 0.9
CLAUSE_SHARE_MAX = 1 / 3
CLAUSE_WORDS_MIN = 3
"""A clause of so many content words, no more than this share of them known, was added to a sentence of the passage."""


def contradiction(claim: Facts, grounds: Sequence[Ground], *, asked: Ground) -> str | None:
    """What of the claim the passages say otherwise, as a word for tests; None when nothing speaks against it.

    ``asked`` is the question: what it names may be repeated.
    """
    sentences = [sentence for ground in grounds for sentence in ground.sentences]
    if reason := _unknown_value(claim, [*grounds, asked], [*sentences, *asked.sentences]):
        return reason
    shares = [(claim.share_in(sentence), sentence) for sentence in sentences]
    best = max((share for share, _ in shares), default=0.0)
    alike = [sentence for share, sentence in shares if share >= max(RESEMBLES_MIN, best - NEARLY_BEST)]
    if not alike:
        return None
    repeated = [sentence for share, sentence in shares if share >= max(REPEATS_MIN, best)]
    return (
        _replaced_value(claim, repeated) or _turned(claim, alike) or _reordered(claim, alike) or _added(claim, grounds)
    )


def _unknown_value(claim: Facts, grounds: Sequence[Ground], sentences: Sequence[Facts]) -> str | None:
    """A value that stands nowhere: neither in the passages nor in the question."""
    for quantity in claim.quantities:
        if any(quantity.agrees(other) for facts in sentences for other in facts.quantities):
            continue
        if quantity.unit or not any(quantity.value in ground.words.numbers for ground in grounds):
            return "number"
    if claim.calendar and claim.calendar.difference(*(facts.calendar for facts in sentences)):
        return "date"
    if not all(any(ground.names(name) for ground in grounds) for name in claim.names) and not any(
        ground.capitalises for ground in grounds
    ):
        return "name"
    if not all(any(quote in ground.text for ground in grounds) for quote in claim.quotes):
        return "quote"
    return None


def _replaced_value(claim: Facts, repeated: list[Facts]) -> str | None:
    """A value that stands elsewhere in the passages, put where the sentence itself has another."""
    if not repeated:
        return None
    for kind, mine, theirs in (
        ("number", _by_unit(claim), [_by_unit(sentence) for sentence in repeated]),
        ("date", {"": claim.calendar}, [{"": sentence.calendar} for sentence in repeated]),
        ("name", {"": claim.names}, [{"": sentence.names} for sentence in repeated]),
    ):
        if all(_is_replaced(mine, other) for other in theirs):
            return kind
    return None


def _by_unit(facts: Facts) -> dict[str, set[str]]:
    units: dict[str, set[str]] = {}
    for quantity in facts.quantities:
        units.setdefault(quantity.unit, set()).add(quantity.value)
    return units


def _is_replaced(mine: dict[str, set[str]], theirs: dict[str, set[str]]) -> bool:
    """Whether some unit has a value of mine that they lack, and they one that I lack."""
    return any(values - theirs.get(unit, set()) and theirs.get(unit, set()) - values for unit, values in mine.items())


def _turned(claim: Facts, alike: list[Facts]) -> str | None:
    """Negation, or a word with its opposite, where every sentence that speaks of the same thing has it the other way."""
    same_matter = [sentence for sentence in alike if sentence.share_in(claim) >= COVERS_MIN]
    if same_matter and all(_denies_otherwise(claim, sentence) for sentence in same_matter):
        return "negation"
    for group, member in claim.directions:
        theirs = [{other for name, other in sentence.directions if name == group} for sentence in alike]
        if all(members and member not in members for members in theirs):
            return group
    return None


def _denies_otherwise(claim: Facts, sentence: Facts) -> bool:
    if None in (claim.negated, sentence.negated):
        return False
    if claim.share_in(sentence) >= COPIES_MIN <= sentence.share_in(claim):
        return claim.negations != sentence.negations
    return claim.negated != sentence.negated


def _reordered(claim: Facts, alike: list[Facts]) -> str | None:
    """The same words in another order: who does what to whom was turned round."""
    if not (claim.names or claim.quantities):
        return None
    words = sorted(claim.sequence)
    if any(sentence.sequence == claim.sequence for sentence in alike):
        return None
    return "order" if any(sorted(sentence.sequence) == words for sentence in alike) else None


def _added(claim: Facts, grounds: Sequence[Ground]) -> str | None:
    """A clause of which the passages know next to nothing, in a sentence whose other words are theirs."""
    if len(claim.clauses) == 1:
        return None
    known = set[str]().union(*(ground.words.content for ground in grounds))
    clauses = [Words.of(clause).content for clause in claim.clauses]
    for position, clause in enumerate(clauses):
        rest = set[str]().union(*clauses[:position], *clauses[position + 1 :]) - clause
        if len(clause) < CLAUSE_WORDS_MIN or not rest or len(clause & known) > CLAUSE_SHARE_MAX * len(clause):
            continue
        if len(rest & known) >= COPIES_MIN * len(rest):
            return "clause"
    return None
