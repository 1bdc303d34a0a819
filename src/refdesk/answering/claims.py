"""What a sentence claims that can be checked without a model: values, names, quotes and the direction of words.

A model that misquotes changes small things: a figure, a unit, a month, a name, a "not". Such a change leaves most words of the
sentence where they were, so it is found by comparing the sentence with the one in the passage that it resembles most:

    claim      Refunds are paid within 9 days.          9 day    ✗ the passage has 7 day in the same place
    passage    Refunds for cancelled sailings are paid within 7 days to the original means of payment.

What it does not do: judge a paraphrase. Where no rule applies, nothing is said against the sentence.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import msgspec

from refdesk.answering import vocabulary
from refdesk.answering.sentences import CITATION, Words, split_sentences, stem

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

GROUNDS_REMEMBERED = 256
"""Passages that are not looked at again; some 20 kB each."""

_TOKEN = re.compile(r"[€$£]|[^\W_]+(?:[-./:,'’][^\W_]+)*|[%°]")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_GLUED = re.compile(r"(\d+(?:[.,]\d+)*)-?([a-z]+)")
_INSIDE = re.compile(r"[-/.:,'’]")
_ISO_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_DOTTED_DATE = re.compile(r"(\d{1,2})[./](\d{1,2})[./](\d{4})")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]{3,200})[\"”“»]")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_MARKER = re.compile(r"\A\s*(?:\d{1,3}[.)]|[-*•])\s")
_CLAUSE_END = re.compile(r"[,;]\s")
_EMPHASIS = re.compile(r"\*\*|__|`")


class Quantity(msgspec.Struct, frozen=True):
    """A number in its plainest form (``1200``) and the unit it counts in; empty where it has none."""

    value: str
    unit: str = ""

    def agrees(self, other: "Quantity") -> bool:
        """Equal, as far as both say: a number without a unit agrees with the same number in any; 2 weeks are 14 days."""
        if self.value == other.value:
            return self.unit == other.unit or not self.unit or not other.unit
        return bool(self.unit and other.unit) and self._based() == other._based()

    def _based(self) -> tuple[float, str]:
        factor, base = vocabulary.BASES.get(self.unit, (1, self.unit))
        return (float(self.value) * factor if self.value.replace(".", "", 1).isdigit() else 0.0), base


class Facts:
    """What can be checked of one sentence. Only what is asked for is worked out, and once."""

    def __init__(self, text: str) -> None:
        self._plain = _MARKER.sub("", CITATION.sub("", _EMPHASIS.sub("", text)), count=1)

    @cached_property
    def words(self) -> Words:
        return Words.of(self._plain)

    @cached_property
    def clauses(self) -> list[str]:
        return _CLAUSE_END.split(self._plain)

    @cached_property
    def sequence(self) -> list[str]:
        """Every word, folded, in order."""
        return [token.casefold() for token in self._tokens]

    @cached_property
    def quantities(self) -> set[Quantity]:
        return self._measures[0]

    @cached_property
    def calendar(self) -> set[str]:
        """Months and weekdays."""
        return self._measures[1]

    @cached_property
    def names(self) -> set[str]:
        """Words that must be names: capital letters where the language asks for none, and identifiers."""
        return set(_names(self._tokens, self.sequence))

    @cached_property
    def quotes(self) -> list[str]:
        return [_flat(quoted) for quoted in _QUOTED.findall(self._plain)]

    @cached_property
    def negations(self) -> int:
        return vocabulary.negations(self._phrases)

    @cached_property
    def negated(self) -> bool | None:
        """Whether it denies; None where a double negation leaves that open."""
        return vocabulary.negated(self._phrases)

    @cached_property
    def directions(self) -> set[tuple[str, str]]:
        """(group, member) of words that exclude each other: (``order``, ``before``)."""
        return set(vocabulary.directions(self._phrases))

    def share_in(self, other: "Facts") -> float:
        """Which part of this sentence's content words the other has: 0 to 1."""
        content = self.words.content
        return len(content & other.words.content) / len(content) if content else 0.0

    @cached_property
    def _tokens(self) -> list[str]:
        return _TOKEN.findall(self._plain)

    @cached_property
    def _measures(self) -> tuple[set[Quantity], set[str]]:
        return _measures(self._tokens, self.sequence)

    @cached_property
    def _phrases(self) -> list[str]:
        return vocabulary.fold_phrases(self.sequence)


class Ground:
    """What a passage and the place it stands in say. Only what is asked for is worked out, and once."""

    def __init__(self, place: str, passage: str) -> None:
        self._passage = passage
        self._whole = f"{place}\n{passage}"

    @cached_property
    def words(self) -> Words:
        return Words.of(self._whole)

    @cached_property
    def sentences(self) -> tuple[Facts, ...]:
        return tuple(Facts(sentence) for sentence in split_sentences(self._passage))

    def names(self, name: str) -> bool:
        """Whether the name stands here, whole or in all its parts."""
        known = self._spelled
        parts = _INSIDE.split(name.removesuffix("'s").removesuffix("’s"))
        return all(part in known or stem(part) in known for part in parts) or name in self.text

    @cached_property
    def _spelled(self) -> frozenset[str]:
        return _spelled(self._whole)

    @cached_property
    def text(self) -> str:
        return _flat(self._whole)

    @cached_property
    def capitalises(self) -> bool:
        """Whether its language writes common nouns with capitals: names cannot be told there."""
        return _capitalises(self._whole)


@lru_cache(maxsize=GROUNDS_REMEMBERED)
def ground(place: str, passage: str) -> Ground:
    """``place`` is the passage's title and headings. The same passages answer many questions."""
    return Ground(place, passage)


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
    if claim.calendar.difference(*(facts.calendar for facts in sentences)):
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


def _measures(tokens: list[str], folded: list[str]) -> tuple[set[Quantity], set[str]]:
    """Quantities, and months and weekdays. ``folded`` are the tokens in folded case."""
    quantities = set[Quantity]()
    calendar = {
        vocabulary.CALENDAR[word]
        for word, token in zip(folded, tokens, strict=True)
        if word in vocabulary.CALENDAR and token[0].isupper()
    }
    position = 0
    while position < len(folded):
        word = folded[position]
        if not (word[0].isdigit() or vocabulary.begins_number(word)):
            position += 1
        elif date := _date(word):
            day, month, year = date
            quantities |= {Quantity(day, month), Quantity(year)}
            calendar.add(month)
            position += 1
        else:
            quantity, length = _quantity(folded, position)
            if quantity is not None:
                quantities.add(quantity)
            position += max(1, length)
    return quantities, calendar


def _quantity(folded: list[str], position: int) -> tuple[Quantity | None, int]:
    """The quantity that begins here, if any, and how many tokens it takes."""
    value, glued, length = _value(folded, position)
    if not value:
        return None, length
    unit, unit_length = (glued, 0) if glued else _unit(folded, position, length)
    is_article = value == "1" and not unit and not folded[position][0].isdigit()  # "one of them"
    return None if is_article else Quantity(value, unit), length + unit_length


def _value(folded: list[str], position: int) -> tuple[str, str, int]:
    """The number that begins here, the unit written together with it, and how many tokens it takes; empty when none does."""
    token = folded[position]
    if _NUMBER.fullmatch(token):
        return _plain_number(token), "", 1
    if glued := _GLUED.fullmatch(token):
        unit = vocabulary.UNITS.get(glued[2], "")
        if unit or glued[2] in vocabulary.ORDINAL_ENDINGS:
            return _plain_number(glued[1]), unit, 1
        return "", "", 0
    if "-" in token:
        first, _, unit_name = token.rpartition("-")
        value, unit = vocabulary.number_of(first.split("-")), vocabulary.UNITS.get(unit_name, "")
        if value and unit:
            return value, unit, 1
    return _number_words(folded, position)


def _number_words(folded: list[str], position: int) -> tuple[str, str, int]:
    words: list[str] = []
    end = position
    while end < len(folded) and vocabulary.goes_on(words, folded[end]):
        words += folded[end].split("-")
        end += 1
    value = vocabulary.number_of(words) if words else ""
    return value, "", end - position if value else 0


def _unit(folded: list[str], position: int, length: int) -> tuple[str, int]:
    """The unit before (a currency) or behind a number, and how many tokens behind it belong to it."""
    if position and (unit := vocabulary.CURRENCIES.get(folded[position - 1])):
        return unit, 0
    following = folded[position + length : position + length + 3]
    if following and (magnitude := vocabulary.MAGNITUDES.get(following[0])):
        return magnitude, 1
    for skipped in range(min(2, len(following))):
        if skipped and following[skipped - 1] not in vocabulary.UNIT_ADJECTIVES:
            break
        unit = vocabulary.UNITS.get(following[skipped]) or vocabulary.MONTHS.get(following[skipped])
        if unit:
            return " ".join([*following[:skipped], unit]), skipped + 1
    if position and (month := vocabulary.MONTHS.get(folded[position - 1])) and length == 1:
        return month, 0
    return "", 0


def _plain_number(text: str) -> str:
    """Without separators of thousands and idle zeros; what is no plain number (``14:30``) stays as it is."""
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    return (
        _shortest(float(text)) if text.count(".") <= 1 and text.replace(".", "").isdigit() and len(text) < 16 else text
    )


def _shortest(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def _date(token: str) -> tuple[str, str, str] | None:
    """(day, month name, year) of 2024-03-31 and 31.03.2024."""
    if not token[0].isdigit():
        return None
    if match := _ISO_DATE.fullmatch(token):
        year, month, day = match.groups()
    elif match := _DOTTED_DATE.fullmatch(token):
        day, month, year = match.groups()
    else:
        return None
    names = vocabulary.MONTH_NAMES
    return (str(int(day)), names[int(month) - 1], year) if 1 <= int(month) <= len(names) else None


def _names(tokens: list[str], folded: list[str]) -> Iterator[str]:
    """Capitalised words but the first (unless another follows it), and identifiers, which mix letters and digits."""
    for position, (token, word) in enumerate(zip(tokens, folded, strict=True)):
        is_identifier = not token.isalpha() and _is_identifier(token, word)
        if not is_identifier and not token[0].isupper():
            continue
        if word in vocabulary.CALENDAR or word in vocabulary.CURRENCIES or vocabulary.is_number_word(word):
            continue
        if is_identifier:
            yield word
        elif len(token) == 1:
            if position and tokens[position - 1][0].isupper() and tokens[position - 1].isalpha():
                yield f"{folded[position - 1]} {word}"
        else:
            follows = position + 1 < len(tokens) and tokens[position + 1][0].isupper()
            if (position or (follows and token.isalpha())) and word not in vocabulary.COMMON:
                yield stem(word) or word


def _is_identifier(token: str, folded: str) -> bool:
    if token.isnumeric() or not (any(map(str.isdigit, token)) and any(map(str.isalpha, token))):
        return False
    glued = _GLUED.fullmatch(folded)
    return glued is None or (glued[2] not in vocabulary.UNITS and glued[2] not in vocabulary.ORDINAL_ENDINGS)


def _spelled(text: str) -> frozenset[str]:
    known = set[str]()
    for match in _TOKEN.finditer(text):
        folded = match.group().casefold()
        known.add(folded)
        for part in _INSIDE.split(folded):
            known.update((part, stem(part)))
    return frozenset(known - {""})


def _capitalises(text: str) -> bool:
    """German writes every noun large: more than a quarter of the words inside sentences."""
    words = [word for sentence in split_sentences(text) for word in sentence.split()[1:] if word[:1].isalpha()]
    return len(words) >= 20 and sum(word[0].isupper() for word in words) > len(words) / 4


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())
