"""PDF to blocks. A PDF has glyphs and places, neither words nor lines nor paragraphs.

pdfium puts glyphs together to words and lines in the order in which they were drawn. What it leaves to us:

* pieces on one line that were drawn one by one: they are joined, with a space where there is a gap;
* two columns of prose that were drawn row by row: they are read one after the other;
* rows of a table: they stay lines, for a space of theirs is no space between words;
* right-to-left text, which is stored in the order of its places: it is put in the order in which it is read;
* what people typed into forms, beside its label, and what they wrote on the page.

Paragraphs, running lines and hyphens are `pdf_pages`' matter. What this does not do: headings (their guesses from font sizes were
wrong more often than right on our samples), tables without gaps, or text in pictures.
"""

import ctypes
import re
import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pypdfium2
import pypdfium2.raw

from refdesk.indexing.archives import damaged, encrypted
from refdesk.indexing.parsed import DocumentWriter, ParsingLimits, rejected
from refdesk.indexing.pdf_pages import HEAD, ROW, Page, read_pages
from refdesk.indexing.readers.tables import has_values, is_header

pdfium: Any = pypdfium2.raw  # C functions, without types

_COLUMN_GAP = 1.2  # of the height of the letters: a wider gap divides columns or cells
_WORD_GAP = 0.18  # of the height: a wider gap between pieces is a space
_SAME_LINE = 0.5  # of the lower height must overlap
_PROSE_CHARACTERS_MIN = 18  # on the average, in each half of a line of two columns
_COLUMN_LINES_MIN = 4
_ROWS_MIN = 2
_LINE = re.compile(r"([^\r\n\x02]++\x02?)[\r\n]*+")  # U+0002: a hyphen at the end of a line
_MARKED = frozenset(
    {pdfium.FPDF_ANNOT_TEXT, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_STAMP, pdfium.FPDF_ANNOT_CARET}
    | {
        pdfium.FPDF_ANNOT_HIGHLIGHT,
        pdfium.FPDF_ANNOT_UNDERLINE,
        pdfium.FPDF_ANNOT_STRIKEOUT,
        pdfium.FPDF_ANNOT_SQUIGGLY,
    }
    | {pdfium.FPDF_ANNOT_SQUARE, pdfium.FPDF_ANNOT_CIRCLE, pdfium.FPDF_ANNOT_LINE, pdfium.FPDF_ANNOT_INK}
)
_SWITCHES = frozenset({pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON})
_PLAIN_SWITCH = frozenset({"", "yes", "on", "1", "true"})


def read_pdf(
    content: bytes, writer: DocumentWriter, recognised: dict[int, str], *, limits: ParsingLimits
) -> tuple[int, tuple[int, ...]]:
    """Writes a PDF; how many pages it has, and which of them hold no text and have not been recognised."""
    document = _opened(content, writer.name)
    try:
        if len(document) > limits.pages_max:
            raise rejected(
                f"{writer.name} has {len(document):,} pages; the limit is {limits.pages_max:,}",
                "split it, or raise REFDESK_PARSE_PAGES_MAX",
                limit=limits.pages_max,
                actual=len(document),
            )
        writer.title = document.get_metadata_value("Title") or None
        document.init_forms()
        pages = [_page(document, number) for number in range(len(document))]
        scanned = [number for number, page in enumerate(pages, start=1) if not page.lines and number not in recognised]
        for number, blocks in enumerate(read_pages(pages, recognised), start=1):
            writer.page = number
            for kind, text in blocks:
                writer.add(kind, text)
        return len(pages), tuple(scanned)
    except pypdfium2.PdfiumError as error:
        raise damaged(writer.name, f"not readable as PDF: {error}") from error
    finally:
        document.close()


def _opened(content: bytes, name: str) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise encrypted(name) from error
        raise damaged(name, f"not readable as PDF: {error}") from error


@dataclass(slots=True)
class _Piece:
    """A stretch of text on one line."""

    text: str
    left: float
    right: float
    bottom: float
    top: float

    @property
    def height(self) -> float:
        return max(self.top - self.bottom, 0.1)

    def shares_line(self, other: "_Piece") -> bool:
        overlap = min(self.top, other.top) - max(self.bottom, other.bottom)
        return overlap > _SAME_LINE * min(self.height, other.height)


@dataclass(slots=True)
class _Line:
    """Cells, from left to right: a line of prose has one."""

    cells: list[_Piece] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(cell.text for cell in self.cells)


def _page(document: pypdfium2.PdfDocument, number: int) -> Page:
    try:
        page = document[number]
    except pypdfium2.PdfiumError:
        return Page([], [])  # one broken page does not hide the others
    try:
        text_page = page.get_textpage()
        lines = _lines(_pieces(text_page))
        remarks: list[str] = []
        for piece, is_field in _annotations(document, page):
            if is_field:
                _place_field(piece, lines)
            elif piece.text not in remarks:
                remarks.append(piece.text)
        texts = list(_in_reading_order(lines))
        text_page.close()
        return Page(texts, remarks)
    finally:
        page.close()


# Glyphs to pieces


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


def _pieces(text_page: pypdfium2.PdfTextPage) -> Iterator[_Piece]:
    glyphs = _Glyphs(text_page)
    for match in _LINE.finditer(glyphs.text):
        start, end = match.span(1)
        if any(unicodedata.bidirectional(character) in {"R", "AL"} for character in match[1]):
            yield from _right_to_left(glyphs, start, end)
        else:
            yield from _left_to_right(glyphs, start, end)


def _left_to_right(glyphs: _Glyphs, start: int, end: int) -> Iterator[_Piece]:
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
            if next_left - right > _COLUMN_GAP * max(top - bottom, 1.0):
                yield _piece(text[begin : before + 1], left, right, bottom, top)
                left, _, bottom, top = glyphs.box(index)
                begin = index
        before = index
    if begin >= 0:
        first, last = glyphs.box(begin), glyphs.box(before)
        yield _piece(text[begin : before + 1], left, max(last[1], first[1]), min(bottom, last[2]), max(top, last[3]))


def _piece(text: str, left: float, right: float, bottom: float, top: float) -> _Piece:
    return _Piece(text, left, right, bottom, top)


def _right_to_left(glyphs: _Glyphs, start: int, end: int) -> Iterator[_Piece]:
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
        if before is not None and left - before[1] > _WORD_GAP * max(top - bottom, 1.0) and visual[-1] != " " != text:
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


# Pieces to lines


def _lines(pieces: Iterator[_Piece]) -> list[_Line]:
    lines: list[_Line] = []
    for piece in pieces:
        last = lines[-1].cells[-1] if lines else None
        if last is None or not last.shares_line(piece) or piece.left < last.left:
            lines.append(_Line([piece]))
            continue
        gap, height = piece.left - last.right, max(last.height, piece.height)
        if gap > _COLUMN_GAP * height:
            lines[-1].cells.append(piece)
        else:
            last.text += ("" if gap <= _WORD_GAP * height else " ") + piece.text
            last.right, last.top, last.bottom = piece.right, max(last.top, piece.top), min(last.bottom, piece.bottom)
    return lines


def _in_reading_order(lines: list[_Line]) -> Iterator[str]:
    """Columns of prose one after the other; rows of a table are marked."""
    at = 0
    while at < len(lines):
        columns = _run(lines, at, _is_prose)
        if columns >= _COLUMN_LINES_MIN and _is_two_columns(lines[at : at + columns]):
            for column in (0, 1):
                yield from (line.cells[column].text for line in lines[at : at + columns] if column < len(line.cells))
            at += columns
            continue
        rows = _run(lines, at, lambda line: len(line.cells) > 1)
        if rows >= _ROWS_MIN:
            grid = [[cell.text for cell in line.cells] for line in lines[at : at + rows]]
            headed = is_header(grid) and (has_values(grid) or len(grid[0]) > 2)
            yield from ((HEAD if headed and not row else ROW) + " ".join(cells) for row, cells in enumerate(grid))
            at += rows
        else:
            yield lines[at].text
            at += 1


def _run(lines: list[_Line], start: int, holds: Callable[[_Line], bool]) -> int:
    count = 0
    while start + count < len(lines) and holds(lines[start + count]):
        count += 1
    return count


def _is_prose(line: _Line) -> bool:
    """Two halves; the last lines of a column may be short."""
    return len(line.cells) == 2


def _is_two_columns(lines: list[_Line]) -> bool:
    """Halves of words, with the right ones beginning below each other."""
    lefts = sorted(line.cells[1].left for line in lines)
    middle = lefts[len(lefts) // 2]
    aligned = sum(abs(left - middle) < 2 * lines[0].cells[0].height for left in lefts)
    lengths = [sum(len(line.cells[column].text) for line in lines) / len(lines) for column in (0, 1)]
    words = [cell.text for line in lines for cell in line.cells]
    figures = sum(
        any(character.isdigit() for character in text) and len(text) < _PROSE_CHARACTERS_MIN for text in words
    )
    return aligned > 0.8 * len(lines) and min(lengths) >= _PROSE_CHARACTERS_MIN and figures < 0.2 * len(words)


# Forms and remarks


def _annotations(document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage) -> Iterator[tuple[_Piece, bool]]:
    """What was typed into fields (True), and what was written on the page (False), each with its place."""
    form = document.formenv.raw if document.formenv else None
    for index in range(pdfium.FPDFPage_GetAnnotCount(page.raw)):
        annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
        if not annotation:
            continue
        try:
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            if pdfium.FPDFAnnot_GetFlags(annotation) & pdfium.FPDF_ANNOT_FLAG_HIDDEN:
                continue
            if kind == pdfium.FPDF_ANNOT_WIDGET and form:
                text = _field_value(form, annotation)
            else:
                text = _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents") if kind in _MARKED else ""
            if text.strip():
                yield _placed(text.strip(), annotation), kind == pdfium.FPDF_ANNOT_WIDGET
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _field_value(form: object, annotation: object) -> str:
    kind = pdfium.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in {pdfium.FPDF_FORMFIELD_PUSHBUTTON, pdfium.FPDF_FORMFIELD_SIGNATURE}:
        return ""
    if kind not in _SWITCHES:
        return _string(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation)
    if not pdfium.FPDFAnnot_IsChecked(form, annotation):
        return ""
    exported = _string(pdfium.FPDFAnnot_GetFormFieldExportValue, form, annotation)
    return "[x]" if exported.lower() in _PLAIN_SWITCH else f"[x] {exported}"


def _string(ask: Callable[..., int], *arguments: object) -> str:
    """A string that pdfium writes as UTF-16 into a buffer, once it is known how long it is."""
    size = ask(*arguments, None, 0)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    ask(*arguments, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", errors="replace")


def _placed(text: str, annotation: object) -> _Piece:
    rect = pdfium.FS_RECTF()
    pdfium.FPDFAnnot_GetRect(annotation, rect)
    return _Piece(text, rect.left, rect.right, min(rect.bottom, rect.top), max(rect.bottom, rect.top))


def _place_field(piece: _Piece, lines: list[_Line]) -> None:
    """Puts a value behind its label, the nearest text on its line before it; without one it is a line of its own."""
    for line in lines:
        for index, cell in enumerate(line.cells):
            following = line.cells[index + 1].left if index + 1 < len(line.cells) else float("inf")
            if cell.shares_line(piece) and cell.left <= piece.left < following:
                cell.text += f" {piece.text}"
                return
    above = [index for index, line in enumerate(lines) if line.cells[0].bottom >= piece.top - piece.height / 2]
    lines.insert(max(above, default=-1) + 1, _Line([piece]))
