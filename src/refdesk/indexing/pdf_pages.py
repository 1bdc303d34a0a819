"""The pages of a PDF as paragraphs: running headers and footers go, broken words and lines are mended.

PDF has glyphs and places, no paragraphs; pdfium returns lines in the order of the content stream, and puts U+0002 where it
saw a hyphen at a line's end. What this does not do: find headings (their guesses from font sizes were wrong more often than
right on our samples and cost three times the time) or tables (their rows come out as lines).
"""

import re
from collections import Counter
from collections.abc import Iterator

from refdesk.indexing.paragraphs import join_lines, typical_width

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_COMPOUND = re.compile(r"(?<![^\W\d_])[^\W\d_]++-[^\W\d_]++")
_BROKEN = re.compile(r"(?<![^\W\d_])([^\W\d_]++)(?:\x02|-\n)\s*+([^\W\d_]++)")
_LEADERS = re.compile(r"(?:\. ?){5,}")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})

_RUNNING_PAGES_MIN = 3
_RUNNING_SHARE_MIN = 0.6
_RUNNING_DEPTH = 3  # lines at the top and at the bottom that may be running ones
_RUNNING_CHARACTERS_MAX = 200


def read_pages(pages: list[str]) -> Iterator[list[str]]:
    """The paragraphs of each page, in order; a page without text has none."""
    texts = [_plain(page) for page in pages]
    lined = _without_running_lines([[line for line in text.split("\n") if line.strip()] for text in texts])
    hyphens = _Hyphens(texts)
    for lines in lined:
        mended = hyphens.mend("\n".join(line.rstrip() for line in lines)).split("\n")
        yield list(join_lines(mended, width=typical_width(mended)))


def mend_hyphens(text: str) -> str:
    """Words that were broken at line ends made whole, in a text that stands alone."""
    return _Hyphens([text]).mend(text)


def _plain(page: str) -> str:
    """Ligatures as letters; the dots that lead from a title to its page number as one ellipsis."""
    text = page.replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES)
    return _LEADERS.sub(" … ", text) if "....." in text or ". . ." in text else text


class _Hyphens:
    """Decides whether a hyphen at a line's end belongs to the word, by what the rest of the document writes."""

    def __init__(self, texts: list[str]) -> None:
        self._words = {word.lower() for text in texts for word in _WORD.findall(_BROKEN.sub(" ", text))}
        self._compounds = {word.lower() for text in texts for word in _COMPOUND.findall(text)}

    def mend(self, text: str) -> str:
        return _BROKEN.sub(self._join, text).replace("\x02", "-")

    def _join(self, match: re.Match[str]) -> str:
        left, right = match.groups()
        return f"{left}-{right}" if self._keeps_hyphen(left.lower(), right) else f"{left}{right}"

    def _keeps_hyphen(self, left: str, right: str) -> bool:
        if left + right.lower() in self._words:
            return False
        if f"{left}-{right.lower()}" in self._compounds or not right.islower():
            return True
        return left in self._words and right in self._words and len(right) > 3


def _without_running_lines(pages: list[list[str]]) -> list[list[str]]:
    if len(pages) < _RUNNING_PAGES_MIN:
        return pages
    kept = [list(page) for page in pages]
    for end in (0, -1):
        reached = list(kept)
        for _ in range(_RUNNING_DEPTH):
            reached = _drop_running(
                reached, end=end, pages_min=max(_RUNNING_PAGES_MIN, len(pages) * _RUNNING_SHARE_MIN)
            )
    return kept


def _drop_running(pages: list[list[str]], *, end: int, pages_min: float) -> list[list[str]]:
    """Drops the outermost line where it runs through the document; returns the pages that lost one."""
    counts = Counter(_outline(page[end]) for page in pages if page)
    running = {outline for outline, count in counts.items() if count >= pages_min and outline}
    hit = [page for page in pages if page and _outline(page[end]) in running]
    for page in hit:
        del page[end]
    return hit


def _outline(line: str) -> str:
    """A line with its numbers made equal: ``Page 3 of 12`` runs through a document like ``Page 4 of 12``."""
    return _DIGITS.sub("#", " ".join(line.split()).casefold()) if len(line) <= _RUNNING_CHARACTERS_MAX else ""
