"""Spelling mistakes in questions: a word that no chunk has becomes the term of the index that it was most likely meant to be.

    insuranse ──▶ all words one slip away ──none known──▶ terms of the same beginning, two edits away ──none──▶ left as it is

An edit leaves out, adds or replaces a letter, or swaps two neighbours (Damerau, 1964): four of five mistakes are one of them.
A slip is an edit, or two letters doubled or not (tommorow). It is made in the word, not in its stem: the stems of `insuranse` and
`insurance` are far apart. Of several terms, one with the same first letter is taken, which is hardly ever wrong (Yannakoudakis
and Fawthrop, 1983), and of these the one that most chunks have.
"""

from collections.abc import Iterable, Iterator
from string import ascii_lowercase

LETTERS_MIN = 5
"""A shorter term has too many neighbours."""
LETTERS_MAX = 24
BEGINNING = 4
"""So many first letters are right, where two edits are looked for."""
TWO_EDITS_LETTERS_MIN = 7
VOCABULARY_MAX = 1_500
"""Terms of one beginning that are looked at."""
MISTAKES_MAX = 3
"""Of one question."""


def may_be_wrong(term: str) -> bool:
    """Whether this is a word, and long enough to tell what it was meant to be."""
    return LETTERS_MIN <= len(term) <= LETTERS_MAX and term.isascii() and term.isalpha()


def one_slip_away(word: str) -> list[str]:
    """What one edit makes of it, or two letters doubled or not."""
    return sorted({*one_edit_away(word), *(twice for once in _doublings(word) for twice in _doublings(once))} - {word})


def _doublings(word: str) -> Iterator[str]:
    """With one letter doubled, or one of two equal ones left out."""
    for place, letter in enumerate(word):
        if word[place + 1 : place + 2] == letter:
            yield word[:place] + word[place + 1 :]
        else:
            yield word[:place] + letter + word[place:]


def one_edit_away(term: str) -> list[str]:
    """All that one edit makes of it, about 54 for each letter."""
    return sorted({edited for edited in _edits(term) if edited != term})


def _edits(term: str) -> Iterator[str]:
    for place in range(len(term) + 1):
        head, tail = term[:place], term[place:]
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in ascii_lowercase)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        yield from (head + letter + tail for letter in ascii_lowercase)


def two_edits_away(term: str, vocabulary: Iterable[str]) -> list[str]:
    """Those terms of the vocabulary that two edits make of it."""
    return [known for known in vocabulary if abs(len(known) - len(term)) <= 2 and edits_between(term, known) <= 2]


def edits_between(one: str, other: str) -> int:
    """The optimal string alignment distance: edits that overlap nowhere."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        now = [row]
        for column, wanted in enumerate(other, 1):
            least = min(last[column] + 1, now[-1] + 1, last[column - 1] + (letter != wanted))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == wanted:
                least = min(least, before[column - 2] + 1)
            now.append(least)
        before, last = last, now
    return last[-1]
