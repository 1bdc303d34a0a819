"""What a question names by an identifier: the passages that have it come before those that are merely alike.

Of a thousand passages that differ in a number only, all are near the question, and BM25's one rare word among five common ones
does not outweigh how near the others are. But nobody writes ``KRN-8359`` who means another part.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from refdesk.index.chunks import Passage

BONUS = 2.0
"""In standard deviations, as that of a second hop (`ranking`)."""
RARE_MAX = 6
"""An identifier that more of the passages have tells them apart no better than a word."""
CHARACTERS_MIN = 4
DIGITS_MIN = 3  # where no letter is a capital: ``krn-8359`` is an identifier, ``cobalt-60`` is a word
NUMBER_DIGITS_MIN = 5  # of a number alone: a shorter one may be an amount or a year
IDENTIFIERS_MAX = 8  # of one question

_TOKEN = re.compile(r"[A-Za-z0-9]{1,40}(?:[-_./:#][A-Za-z0-9]{1,40}){0,8}")
_PART = re.compile(r"\d+|[A-Za-z]+")
_ORDINAL = re.compile(r"\d+(?:s|st|nd|rd|th)|(?:early|mid|late)-\d{4}s?", re.I)  # decades, too
_JOINT = "[-_./:# ]?"


def named_first(question: str, passages: Sequence[Passage]) -> list[Passage]:
    """The passages, which come best first; those with a rare identifier of the question are moved up."""
    moved: set[int] = set()
    for pattern in _identifiers(question):
        having = [place for place, passage in enumerate(passages) if pattern.search(_all_of(passage))]
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


def _identifiers(question: str) -> Iterator[re.Pattern[str]]:
    """A pattern for each, however its parts are joined."""
    found = {tuple(_PART.findall(token)): None for token in _TOKEN.findall(question) if _is_identifier(token)}
    for parts in list(found)[:IDENTIFIERS_MAX]:
        yield _joined(parts)


def _joined(parts: Sequence[str]) -> re.Pattern[str]:
    return re.compile(f"(?<![A-Za-z0-9]){_JOINT.join(parts)}(?![A-Za-z0-9])", re.IGNORECASE)


def _is_identifier(token: str) -> bool:
    letters, digits = sum(map(str.isalpha, token)), sum(map(str.isdigit, token))
    if not letters or not digits:
        return digits >= NUMBER_DIGITS_MIN
    if letters + digits < CHARACTERS_MIN or _ORDINAL.fullmatch(token):
        return False
    return digits >= DIGITS_MIN or any(map(str.isupper, token))
