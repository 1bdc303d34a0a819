"""The glyphs of a PDF page as pieces of text on one line, in the order in which they are read."""

import re
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pypdfium2
import pypdfium2.raw

pdfium: Any = pypdfium2.raw  # C functions, without types

COLUMN_GAP = 1.2  # of the height of the letters: a wider gap divides columns or cells
WORD_GAP = 0.18  # of the height: a wider gap between pieces is a space
_SAME_LINE = 0.5  # of the lower height must overlap
_UPRIGHT_RADIANS_MAX = 0.1
_BEFORE_SINGLE = re.compile(r"(?<! ) ++(?=\S(?: |\Z))")
_LINE = re.compile(r"([^\r\n\x02]++\x02?)[\r\n]*+")  # U+0002: a hyphen at the end of a line


@dataclass(slots=True)
class Piece:
    """A stretch of text on one line."""

    text: str
    left: float
    right: float
    bottom: float
    top: float

    @property
    def height(self) -> float:
        return max(self.top - self.bottom, 0.1)

    def shares_line(self, other: "Piece") -> bool:
        overlap = min(self.top, other.top) - max(self.bottom, other.bottom)
        return overlap > _SAME_LINE * min(self.height, other.height)


class _Glyphs:
    """The characters of a page as pdfium has put them together, and their boxes, which are asked for one by one."""

    def __init__(self, text_page: pypdfium2.PdfTextPage) -> None:
        count = text_page.count_chars()
        self._raw = text_page.raw
        self.text = text_page.get_text_range(0, count) if count > 0 else ""
        self.text = self.text.replace("\ufffe", "\x02")  # how pdfium writes a hyphen at the end of a line
        if len(self.text) != count:  # characters beyond 16 bits: then one by one
            codes = (pdfium.FPDFText_GetUnicode(self._raw, index) for index in range(count))
            self.text = "".join(chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else " " for code in codes)
        self._rect = pdfium.FS_RECTF()

    def box(self, index: int) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) of the room that the font gives a character, not of its ink."""
        rect = self._rect
        if not pdfium.FPDFText_GetLooseCharBox(self._raw, index, rect):
            return 0.0, 0.0, 0.0, 0.0
        return rect.left, rect.right, min(rect.bottom, rect.top), max(rect.bottom, rect.top)

    def breaks_line(self, before: int, behind: int) -> bool:
        """Whether upright letters go on above or below."""
        (_, _, bottom, top), (_, _, other_bottom, other_top) = self.box(before), self.box(behind)
        overlap, lower = min(top, other_top) - max(bottom, other_bottom), min(top - bottom, other_top - other_bottom)
        return overlap <= _SAME_LINE * lower and self._is_upright(before) and self._is_upright(behind)

    def _is_upright(self, index: int) -> bool:
        return bool(abs(pdfium.FPDFText_GetCharAngle(self._raw, index)) < _UPRIGHT_RADIANS_MAX)


def pieces_of(text_page: pypdfium2.PdfTextPage) -> Iterator[Piece]:
    """The pieces of a page, as they were drawn."""
    glyphs = _Glyphs(text_page)
    for match in _LINE.finditer(glyphs.text):
        for start, end in _on_one_line(glyphs, *match.span(1)):
            if any(unicodedata.bidirectional(character) in {"R", "AL"} for character in glyphs.text[start:end]):
                yield from _right_to_left(glyphs, start, end)
            else:
                yield from _left_to_right(glyphs, start, end)


def _on_one_line(glyphs: _Glyphs, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Before a line that begins with a single letter, pdfium writes a space for the break: the parts on a line of their own."""
    for space in _BEFORE_SINGLE.finditer(glyphs.text, start + 1, end):
        if glyphs.breaks_line(space.start() - 1, space.end()):
            yield start, space.start()
            start = space.end()
    yield start, end


def _left_to_right(glyphs: _Glyphs, start: int, end: int) -> Iterator[Piece]:
    text = glyphs.text
    begin, before = -1, -1
    left = bottom = top = right = 0.0
    for index in range(start, end):
        if text[index] == " ":
            continue
        if begin < 0:
            left, right, bottom, top = glyphs.box(index)
            begin = index
        elif text[index - 1] == " ":
            next_left = glyphs.box(index)[0]
            right = glyphs.box(before)[1]
            if next_left - right > COLUMN_GAP * max(top - bottom, 1.0):
                yield _piece(text[begin : before + 1], left, right, bottom, top)
                left, _, bottom, top = glyphs.box(index)
                begin = index
        before = index
    if begin >= 0:
        first, last = glyphs.box(begin), glyphs.box(before)
        yield _piece(text[begin : before + 1], left, max(last[1], first[1]), min(bottom, last[2]), max(top, last[3]))


def _piece(text: str, left: float, right: float, bottom: float, top: float) -> Piece:
    return Piece(text, left, right, bottom, top)


def _right_to_left(glyphs: _Glyphs, start: int, end: int) -> Iterator[Piece]:
    """A line with right-to-left letters, in the order in which it is read; its glyphs are taken by their places."""
    clusters: list[tuple[float, float, str]] = []
    marks: list[tuple[float, str]] = []
    bottom, top = float("inf"), 0.0
    for index in range(start, end):
        character = glyphs.text[index]
        left, right, low, high = glyphs.box(index)
        if unicodedata.category(character) == "Mn":
            marks.append(((left + right) / 2, character))
        elif character != " " or right > left:
            clusters.append((left, right, character))
            bottom, top = min(bottom, low), max(top, high)
    if not clusters:
        return
    clusters.sort(key=_middle)
    middles = [_middle(cluster) for cluster in clusters]
    for middle, mark in marks:  # above the letter that it is nearest to
        at = bisect(middles, middle)
        nearest = min(range(max(0, at - 1), min(len(middles), at + 1)), key=lambda index: abs(middles[index] - middle))
        clusters[nearest] = (*clusters[nearest][:2], clusters[nearest][2] + mark)
    visual: list[str] = []
    for before, (left, _, text) in zip([None, *clusters], clusters, strict=False):
        if before is not None and left - before[1] > WORD_GAP * max(top - bottom, 1.0) and visual[-1] != " " != text:
            visual.append(" ")
        visual.append(text)
    yield _piece(logical_order(visual), clusters[0][0], clusters[-1][1], bottom, top)


def _middle(cluster: tuple[float, float, str]) -> float:
    return (cluster[0] + cluster[1]) / 2


def logical_order(visual: list[str]) -> str:
    """Clusters from left to right, in the order in which they are read: runs, and what is in them, are turned around."""
    strong = [_is_rightward(cluster[0]) for cluster in visual]
    base = 2 * sum(each is True for each in strong) >= len(visual)
    directions = [
        base if before != after else before if before is not None else base
        for before, after in zip(_carried(strong), reversed(list(_carried(reversed(strong)))), strict=True)
    ]
    runs = [
        (rightward, [cluster for _, cluster in run])
        for rightward, run in groupby(zip(directions, visual, strict=True), key=lambda pair: pair[0])
    ]
    ordered = reversed(runs) if base else iter(runs)
    text = "".join("".join(reversed(run)) if rightward else "".join(run) for rightward, run in ordered)
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _is_rightward(character: str) -> bool | None:
    """Whether a character is read from right to left; None for one that goes with its neighbours."""
    kind = unicodedata.bidirectional(character)
    return True if kind in {"R", "AL"} else False if kind in {"L", "EN", "AN"} else None


def _carried(directions: Iterable[bool | None]) -> Iterator[bool | None]:
    """Each direction, or the last one before where there is none."""
    last: bool | None = None
    for direction in directions:
        last = last if direction is None else direction
        yield last
