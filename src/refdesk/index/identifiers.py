"""What a text names by an identifier, and that passages which have it come before those that are merely alike.

Of a thousand passages that differ in a number only, all are near the question, and BM25's one rare word among five common ones
does not outweigh how near the others are. But nobody writes ``KRN-8359`` who means another part.

    KRN-8359, krn 8359, KRN8359     one and the same
    15th, 1950s, 4-letter           words with figures, no identifiers
    m31, PIN1, 400mg                short ones and amounts: no passages are moved up for them (``is_telling``)
    8359                            an amount or a year, unless nothing else is asked for
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from refdesk.index.chunks import Passage

BONUS = 1.0
"""In standard deviations (`ranking`): enough for the one of many look-alikes that is meant."""
RARE_MAX = 6
"""An identifier that more of the passages have tells them apart no better than a word."""
CHARACTERS_MIN = 4
DIGITS_MIN = 3  # where no letter is a capital, or a space joins them: ``cobalt-60`` is a word, ``MEK 1/2`` an acronym and figures
CAPITALS_DIGITS_MIN = 2  # where one is: ``TDP-43`` is an identifier, ``PIN1`` a name with a figure
NUMBER_DIGITS_MIN = (
    5  # of a number without letters: a shorter one may be an amount or a year, unless it is all of a text
)
IDENTIFIERS_MAX = 8  # of one text

_SIGN = "(?:(?=[\0-\u0dff])[^\\W_])"
"""A letter or digit of a script that sets words apart by spaces: below Thai. To exclude all above takes 10 ms to compile."""
_JOINT = r"[\W_]?"
_TOKEN = re.compile(
    rf"(?<!{_SIGN})(?:(?:[B-HJ-Z]|[A-Z]{{2,6}}) (?=\d))?{_SIGN}{{1,40}}(?:[-_./:#]{_SIGN}{{1,40}}){{0,8}}"
)
_WORD_WITH_FIGURES = re.compile(r"\d+(?:s|st|nd|rd|th)|(?:early|mid|late)-\d{4}s?|\d+(?:-[a-z]{3,})+", re.IGNORECASE)
_AMOUNT = re.compile(r"\d+(?:[.:]\d+)*(?:[a-zµμ]{2,5}|[ghlmsw])(?:/[A-Za-z]{1,2})?")


class Identifier(msgspec.Struct, frozen=True):
    """``text`` is as it was written, ``pattern`` finds it however its parts are joined."""

    text: str
    pattern: re.Pattern[str]
    is_telling: bool
    """Whether nobody writes it who means something else: neither a word with a figure nor an amount."""


def identifiers(text: str) -> list[Identifier]:
    """Those that a text has, in its order, each once."""
    return list(islice(_identifiers(text), IDENTIFIERS_MAX))


def named_first(question: str, passages: Sequence[Passage]) -> list[Passage]:
    """The passages, which come best first; those with a rare identifier of the question are moved up."""
    moved: set[int] = set()
    for identifier in identifiers(question):
        if identifier.is_telling:
            having = [place for place, passage in enumerate(passages) if identifier.pattern.search(_all_of(passage))]
            if len(having) <= RARE_MAX:
                moved.update(having)
    if not moved:
        return list(passages)
    scored = [
        msgspec.structs.replace(passage, score=passage.score + BONUS) if place in moved else passage
        for place, passage in enumerate(passages)
    ]
    return sorted(scored, key=lambda passage: -passage.score)


def _all_of(passage: Passage) -> str:
    return f"{passage.title}\n{passage.heading or ''}\n{passage.text}"


def _identifiers(text: str) -> Iterator[Identifier]:
    seen: set[str] = set()
    for token in _TOKEN.findall(text):
        signs = "".join(filter(str.isalnum, token))
        letters, digits = sum(map(str.isalpha, signs)), sum(map(str.isdigit, signs))
        digits_min = DIGITS_MIN if token == text.strip(" .?!#") else NUMBER_DIGITS_MIN
        if _is_identifier(token, letters, digits, digits_min=digits_min) and signs.casefold() not in seen:
            seen.add(signs.casefold())
            yield Identifier(token, _joined(signs), _is_telling(token, letters, digits))


def _is_identifier(token: str, letters: int, digits: int, *, digits_min: int) -> bool:
    """``digits_min``: of a number without letters."""
    if not letters or not digits:
        return digits >= digits_min
    return _WORD_WITH_FIGURES.fullmatch(token) is None


def _is_telling(token: str, letters: int, digits: int) -> bool:
    if not letters:
        return True
    if _AMOUNT.fullmatch(token):
        return False
    digits_min = CAPITALS_DIGITS_MIN if " " not in token and any(map(str.isupper, token)) else DIGITS_MIN
    return letters + digits >= CHARACTERS_MIN and digits >= digits_min


def _joined(signs: str) -> re.Pattern[str]:
    """With other signs, or none, between its letters and digits."""
    return re.compile(rf"(?<!{_SIGN})(?i:{_JOINT.join(map(re.escape, signs))})(?!{_SIGN})")
