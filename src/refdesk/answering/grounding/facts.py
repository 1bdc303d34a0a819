"""What one sentence says that can be checked, and what a passage gives to check it by."""

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache

from refdesk.answering.text import vocabulary
from refdesk.answering.text.quantities import Quantity, is_identifier, measures
from refdesk.answering.text.sentences import CITATION, Words, split_sentences, stem
from refdesk.contracts.scripts import set_apart

GROUNDS_REMEMBERED = 256
"""Passages that are not looked at again; some 20 kB each."""
_TOKEN = re.compile(r"[€$£]|[^\W_]+(?:[-./:,'’][^\W_]+)*|[%°]")
_INSIDE = re.compile(r"[-/.:,'’]")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]{3,200})[\"”“»]")
_MARKER = re.compile(r"\A\s*(?:\d{1,3}[.)]|[-*•])\s")
_CLAUSE_END = re.compile(r"[,;]\s")
_EMPHASIS = re.compile(r"\*\*|__|`")


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
        return set(_names(self._tokens, self.sequence, capitals=not self.is_german))

    @cached_property
    def is_german(self) -> bool:
        return vocabulary.is_german(self.sequence)

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
        return _TOKEN.findall(set_apart(self._plain))

    @cached_property
    def _measures(self) -> tuple[set[Quantity], set[str]]:
        return measures(self._tokens, self.sequence)

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
    def is_german(self) -> bool:
        return vocabulary.is_german(self._spelled)

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


def _names(tokens: list[str], folded: list[str], *, capitals: bool) -> Iterator[str]:
    """Identifiers, which mix letters and digits; with ``capitals`` words with one, but the first (unless another follows it)."""
    for position, (token, word) in enumerate(zip(tokens, folded, strict=True)):
        is_mixed = not token.isalpha() and is_identifier(token, word)
        if not is_mixed and not (capitals and token[0].isupper()):
            continue
        if word in vocabulary.CALENDAR or word in vocabulary.CURRENCIES or vocabulary.is_number_word(word):
            continue
        if is_mixed:
            yield word
        elif len(token) == 1:
            if position and tokens[position - 1][0].isupper() and tokens[position - 1].isalpha():
                yield f"{folded[position - 1]} {word}"
        else:
            follows = position + 1 < len(tokens) and tokens[position + 1][0].isupper()
            if (position or (follows and token.isalpha())) and word not in vocabulary.COMMON:
                yield stem(word) or word


def _spelled(text: str) -> frozenset[str]:
    known = set[str]()
    for match in _TOKEN.finditer(set_apart(text)):
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
