"""PDF to blocks. A PDF has glyphs and places, neither words nor lines nor paragraphs.

pdfium puts glyphs together to words and lines in the order in which they were drawn. What it leaves to us:

* pieces on one line that were drawn one by one (`pdf_glyphs`): they are joined, with a space where there is a gap;
* two columns of prose that were drawn row by row: they are read one after the other;
* rows of a table: they stay lines, for a space of theirs is no space between words;
* right-to-left text, which is stored in the order of its places (`pdf_glyphs`): it is put in the order in which it is read;
* what people typed into forms, beside its label, and what they wrote on the page (`pdf_annotations`).

Paragraphs, running lines and hyphens are `pdf_pages`' matter. What this does not do: headings (their guesses from font sizes were
wrong more often than right on our samples), tables without gaps, or text in pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pypdfium2

from refdesk.indexing.archives import damaged, encrypted
from refdesk.indexing.parsed import DocumentWriter, ParsingLimits, rejected
from refdesk.indexing.pdf_pages import HEAD, ROW, Page, read_pages
from refdesk.indexing.readers.pdf_annotations import annotations
from refdesk.indexing.readers.pdf_files import Attach, embedded_files, has_files
from refdesk.indexing.readers.pdf_glyphs import COLUMN_GAP, WORD_GAP, Piece, pieces_of
from refdesk.indexing.readers.tables import has_values, is_header

_PROSE_CHARACTERS_MIN = 18  # on the average, in each half of a line of two columns
_COLUMN_LINES_MIN = 4
_ROWS_MIN = 2


def read_pdf(
    content: bytes, writer: DocumentWriter, recognised: dict[int, str], *, limits: ParsingLimits, attach: Attach
) -> tuple[int, tuple[int, ...]]:
    """Writes a PDF and what is attached to it; how many pages it has, and which hold no text and have not been recognised."""
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
        writer.page = None
        for file in embedded_files(document, pinned=[number for number, page in enumerate(pages) if page.has_files]):
            attach(*file)
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
class _Line:
    """Cells, from left to right: a line of prose has one."""

    cells: list[Piece] = field(default_factory=list)

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
        lines = _lines(pieces_of(text_page))
        remarks: list[str] = []
        for piece, is_field in annotations(document, page):
            if is_field:
                _place_field(piece, lines)
            elif piece.text not in remarks:
                remarks.append(piece.text)
        texts = list(_in_reading_order(lines))
        text_page.close()
        return Page(texts, remarks, has_files=has_files(page))
    finally:
        page.close()


# Pieces to lines


def _lines(pieces: Iterator[Piece]) -> list[_Line]:
    lines: list[_Line] = []
    for piece in pieces:
        last = lines[-1].cells[-1] if lines else None
        if last is None or not last.shares_line(piece) or piece.left < last.left:
            lines.append(_Line([piece]))
            continue
        gap, height = piece.left - last.right, max(last.height, piece.height)
        if gap > COLUMN_GAP * height:
            lines[-1].cells.append(piece)
        else:
            last.text += ("" if gap <= WORD_GAP * height else " ") + piece.text
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


def _place_field(piece: Piece, lines: list[_Line]) -> None:
    """Puts a value behind its label, the nearest text on its line before it; without one it is a line of its own."""
    for line in lines:
        for index, cell in enumerate(line.cells):
            following = line.cells[index + 1].left if index + 1 < len(line.cells) else float("inf")
            if cell.shares_line(piece) and cell.left <= piece.left < following:
                cell.text += f" {piece.text}"
                return
    above = [index for index, line in enumerate(lines) if line.cells[0].bottom >= piece.top - piece.height / 2]
    lines.insert(max(above, default=-1) + 1, _Line([piece]))
