"""The pages of a PDF as paragraphs: running headers and footers go, broken words and lines are mended.

What `readers.pdf` found on the pages are lines; pdfium puts U+0002 where it saw a hyphen at a line's end.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import NamedTuple

from refdesk.indexing.paragraphs import join_lines, split_paragraphs, typical_width
from refdesk.indexing.parsed import Kind

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_COMPOUND = re.compile(r"(?<![^\W\d_])[^\W\d_]++-[^\W\d_]++")
_BROKEN = re.compile(r"(?<![^\W\d_])([^\W\d_]++)(?:\x02|-\n)\s*+([^\W\d_]++)")
_PAGE_NUMBER = re.compile(
    r"[^\w#]*+(?:(?:page|p|seite|s|pagina|página|pág|side|sida|sivu|strona|str|стр|страница|第)[^\w#]*+)?#[^\w#]*+"
    r"(?:(?:of|von|de|di|sur|van|av|af|z|iz|из)?[^\w#]*+#)?[^\w#]*+(?:页|頁|ページ)?"
)
_LEADERS = re.compile(r"(?:\. ?){5,}")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})

ROW, HEAD = "\x03", "\x04"
"""Begin lines that are rows of a table, and its header."""

_LONG_PAGE_LINES = 12
_RUNNING_PAGES_MIN = 3
_RUNNING_SHARE_MIN = 0.6
_RUNNING_DEPTH = 3  # lines at the top and at the bottom that may be running ones
_RUNNING_CHARACTERS_MAX = 200


class Page(NamedTuple):
    """The lines of a page in reading order, rows of tables marked, and what was written on it afterwards."""

    lines: list[str]
    remarks: list[str]
    has_files: bool = False
    """Whether somebody pinned any to it."""


def read_pages(pages: Sequence[Page], recognised: Mapping[int, str]) -> Iterator[list[tuple[Kind, str]]]:
    """The paragraphs and rows of each page, in order; a page without text has none. ``recognised``: texts of scanned pages."""
    texts = [_plain("\n".join(page.lines)) for page in pages]
    lined = _without_running_lines([[line for line in text.split("\n") if line.strip()] for text in texts])
    hyphens = _Hyphens(texts)
    for number, (page, lines) in enumerate(zip(pages, lined, strict=True), start=1):
        mended = hyphens.mend("\n".join(line.rstrip() for line in lines)).split("\n")
        if text := recognised.get(number):
            yield [("paragraph", paragraph) for paragraph in split_paragraphs(mend_hyphens(text))]
        else:
            yield [*_blocks(mended), *(("paragraph", remark) for remark in page.remarks)]


def _blocks(lines: list[str]) -> Iterator[tuple[Kind, str]]:
    for is_row, group in groupby(lines, key=lambda line: line.startswith((HEAD, ROW))):
        stretch = list(group)
        if is_row:
            yield from (("head" if line[0] == HEAD else "row", line[1:]) for line in stretch)
        else:
            yield from (("paragraph", paragraph) for paragraph in join_lines(stretch, width=typical_width(stretch)))


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
    """Drops lines that run through the document; one that counts no pages stays where it comes first.

    Only the same line is one: figures in it must be the same, or count the pages. On short pages, which forms and certificates
    have, even such lines may be what each page says ("Room 101", "Room 102"): there only plain page numbers go.
    """
    if len(pages) < _RUNNING_PAGES_MIN:
        return pages
    kept = [list(page) for page in pages]
    are_long = median(map(len, pages)) >= _LONG_PAGE_LINES
    pages_min = max(_RUNNING_PAGES_MIN, len(pages) * _RUNNING_SHARE_MIN)
    for end in (0, -1):
        reached = dict(enumerate(kept))
        for _ in range(_RUNNING_DEPTH):
            reached = _drop_running(reached, end=end, pages_min=pages_min, are_long=are_long)
    return kept


def _drop_running(pages: dict[int, list[str]], *, end: int, pages_min: float, are_long: bool) -> dict[int, list[str]]:
    """Drops the outermost line where it runs through the document; returns the pages that lost one."""
    groups: dict[str, list[tuple[int, list[int]]]] = {}
    for number, page in pages.items():
        if page and len(page[end]) <= _RUNNING_CHARACTERS_MAX:
            line = " ".join(page[end].split()).casefold()
            groups.setdefault(_DIGITS.sub("#", line), []).append(
                (number, [int(each[:9]) for each in _DIGITS.findall(line)])
            )
    hit: dict[int, list[str]] = {}
    for outline, lines in groups.items():
        counting = _counts_pages(lines)
        if (
            len(lines) < pages_min
            or not (counting or _are_same(lines))
            or not (are_long or _PAGE_NUMBER.fullmatch(outline))
        ):
            continue
        for number, _ in lines if counting else lines[1:]:
            del pages[number][end]
            hit[number] = pages[number]
    return hit


def _counts_pages(lines: list[tuple[int, list[int]]]) -> bool:
    """Whether one of the figures goes up with the pages, and the others stay: ``Page 3 of 12``, ``Page 4 of 12``."""
    columns = list(zip(*(figures for _, figures in lines), strict=True))
    steady = [len(set(column)) == 1 for column in columns]
    counting = [
        len({figure - number for figure, (number, _) in zip(column, lines, strict=True)}) == 1 for column in columns
    ]
    return any(counting) and all(one or other for one, other in zip(steady, counting, strict=True))


def _are_same(lines: list[tuple[int, list[int]]]) -> bool:
    return all(figures == lines[0][1] for _, figures in lines)
