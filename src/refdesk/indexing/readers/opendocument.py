"""OpenDocument spreadsheets and presentations to blocks. Their cells hold what is shown beside the value that is meant."""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from xml.etree.ElementTree import Element, fromstring

from refdesk.indexing.parsed import DocumentWriter
from refdesk.indexing.readers.packages import attribute, child, inside, local
from refdesk.indexing.readers.tables import Grid, write_sheet, write_table

_NO_TEXT = frozenset({"annotation", "note", "tracked-changes", "ruby-text"})
_REPEATED_MAX = 256
_BLANK_ROWS_MAX = 2
_BAND_CM = 1.0


def read_spreadsheet(content: bytes, writer: DocumentWriter) -> None:
    """Writes an OpenDocument spreadsheet; each visible sheet is a section."""
    document = _content(content, writer)
    hidden = {
        attribute(style, "name")
        for style in inside(document, "style")
        if (properties := child(style, "table-properties")) is not None and attribute(properties, "display") == "false"
    }
    for table in inside(next(inside(document, "spreadsheet"), None), "table"):
        if attribute(table, "style-name") not in hidden:
            rows = _rows(table)
            if any(any(row) for row in rows):
                writer.add("heading", attribute(table, "name") or "", level=2)
                write_sheet(writer, rows)


def read_presentation(content: bytes, writer: DocumentWriter) -> int:
    """Writes an OpenDocument presentation; how many slides it has."""
    count = 0
    for count, page in enumerate(inside(_content(content, writer), "page"), start=1):
        writer.page = count
        frames = [each for each in page.iter() if local(each) in {"frame", "custom-shape"}]
        notes = next((each for each in page if local(each) == "notes"), None)
        beside = set(map(id, notes.iter())) if notes is not None else set()
        for frame in sorted((each for each in frames if id(each) not in beside), key=_reading_order):
            _write_frame(frame, writer)
        told = [text for each in inside(notes, "p") if (text := _text(each).strip())]
        if told:
            writer.add("paragraph", "Notes: " + "\n".join(told))
    return count


def _content(content: bytes, writer: DocumentWriter) -> Element:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if "meta.xml" in archive.namelist():
            meta = fromstring(archive.read("meta.xml"))  # noqa: S314 - in the sandbox; expat bounds entities
            writer.title = next((each.text for each in inside(meta, "title")), None)
        return fromstring(archive.read("content.xml"))  # noqa: S314


def _write_frame(frame: Element, writer: DocumentWriter) -> None:
    for table in inside(frame, "table"):
        write_table(writer, _rows(table))
        return
    texts = [(each, _text(each).strip()) for each in frame.iter() if local(each) in {"p", "h"}]
    if attribute(frame, "class") == "title":
        writer.add("heading", " ".join(text for _, text in texts), level=2)
        return
    listed = {id(each) for item in inside(frame, "list-item") for each in item}
    for element, text in texts:
        if text:
            writer.add("item" if id(element) in listed else "paragraph", f"- {text}" if id(element) in listed else text)


def _rows(table: Element) -> list[list[str]]:
    grid = Grid()
    for row in _children(table, "table-row"):
        if attribute(row, "visibility") in {"collapse", "filter"}:
            continue
        cells = [cell for cell in row if local(cell) in {"table-cell", "covered-table-cell"}]
        blank = not any(True for cell in cells for _ in inside(cell, "p"))
        for _ in range(min(_BLANK_ROWS_MAX if blank else _REPEATED_MAX, _count(row, "number-rows-repeated"))):
            grid.open_row()
            for cell in cells:
                _add_cell(grid, cell)
    grid.close_row()
    return grid.rows


def _add_cell(grid: Grid, cell: Element) -> None:
    if local(cell) == "covered-table-cell":
        return  # the one that covers it fills it
    text = "\n".join(_text(each) for each in cell if local(each) == "p")
    for _ in range(min(_REPEATED_MAX, _count(cell, "number-columns-repeated"))):
        grid.add(text, columns=_count(cell, "number-columns-spanned"), rows=_count(cell, "number-rows-spanned"))


def _children(parent: Element, name: str) -> Iterator[Element]:
    """Rows, those in groups and header rows included, but not those of a table inside a cell."""
    for element in parent:
        if local(element) == name:
            yield element
        elif local(element) in {"table-header-rows", "table-rows", "table-row-group"}:
            yield from _children(element, name)


def _count(element: Element, name: str) -> int:
    text = attribute(element, name) or ""
    return int(text) if text.isdecimal() and len(text) < 10 else 1


def _reading_order(frame: Element) -> tuple[bool, int, float]:
    title = attribute(frame, "class") == "title"
    return not title, int(_centimetres(attribute(frame, "y")) / _BAND_CM), _centimetres(attribute(frame, "x"))


def _centimetres(length: str | None) -> float:
    for unit, factor in (("cm", 1.0), ("mm", 0.1), ("in", 2.54), ("pt", 2.54 / 72)):
        if length and length.endswith(unit):
            try:
                return float(length.removesuffix(unit)) * factor
            except ValueError:
                break
    return 0.0


def _text(element: Element) -> str:
    """The words of a paragraph with its spaces, tabs and line breaks."""
    parts = [element.text or ""]
    for each in element:
        name = local(each)
        if name == "s":
            parts.append(" " * min(100, int(attribute(each, "c") or 1)))
        elif name in {"tab", "line-break"}:
            parts.append("\t" if name == "tab" else "\n")
        elif name not in _NO_TEXT:
            parts.append(_text(each))
        parts.append(each.tail or "")
    return "".join(parts)
