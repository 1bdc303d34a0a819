"""OpenDocument texts, spreadsheets and presentations to blocks. Cells hold what is shown beside the value that is meant."""

import re
import zipfile
from collections.abc import Container, Iterator
from io import BytesIO
from xml.etree.ElementTree import Element, fromstring

from refdesk.indexing.archives import ZIP
from refdesk.indexing.parsed import DocumentWriter, Kind
from refdesk.indexing.readers.comments import comment
from refdesk.indexing.readers.numbering import written
from refdesk.indexing.readers.packages import attribute, child, inside, local
from refdesk.indexing.readers.tables import Grid, write_sheet, write_table

_NO_TEXT = frozenset({"tracked-changes", "ruby-text", "hidden-text", "hidden-paragraph", "desc", "title"})
_ASIDE = frozenset({"note", "text-box", "table", "control", "annotation"})  # inside a paragraph: comes behind it
_WHOLE = frozenset({"table", "control", "annotation"})  # of these, what is read as it is
_NUMBERED = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}
_PICTURE = re.compile(rb"(<[\w-]{1,20}:binary-data>)[^<]*+")
_REPEATED_MAX = 256
_BLANK_ROWS_MAX = 2
_BAND_CM = 1.0


def read_spreadsheet(content: bytes, writer: DocumentWriter) -> None:
    """Writes an OpenDocument spreadsheet; each visible sheet is a part."""
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
                with writer.part(attribute(table, "name") or "", level=2):
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


def read_text(content: bytes, writer: DocumentWriter) -> int | None:
    """Writes an OpenDocument text; how many pages it has, where its page breaks are stored."""
    return _TextReader(_content(content, writer), writer).read()


class _TextReader:
    """Walks the body of a text; what stands in a paragraph's margin comes right behind it."""

    def __init__(self, document: Element, writer: DocumentWriter) -> None:
        self._document = document
        self._writer = writer
        self._page = 1
        self._paged = False
        self._hidden: set[str | None] = set()
        self._breaking: set[str | None] = set()
        self._numbers: dict[tuple[str, int], tuple[str, int]] = {}
        self._controls = {attribute(each, "id"): _control(each) for form in inside(document, "form") for each in form}

    def read(self) -> int | None:
        self._learn_styles()
        body = child(self._document, "body", "text")
        self._paged = bool(self._breaking) or next(inside(body, "soft-page-break"), None) is not None
        self._blocks(body)
        return self._page if self._paged else None

    def _learn_styles(self) -> None:
        for style in inside(self._document, "style"):
            for properties in style:
                if attribute(properties, "display") == "none":
                    self._hidden.add(attribute(style, "name"))
                if attribute(properties, "break-before") == "page":
                    self._breaking.add(attribute(style, "name"))
        for style in inside(self._document, "list-style"):
            for level in style:
                form = _NUMBERED.get(attribute(level, "num-format") or "")
                if local(level) == "list-level-style-number" and form:
                    key = attribute(style, "name") or "", _count(level, "level")
                    self._numbers[key] = form, _count(level, "start-value")

    def _blocks(self, parent: Element | None) -> None:
        for element in parent if parent is not None else ():
            self._block(element)

    def _block(self, element: Element) -> None:
        name = local(element)
        if name == "h":
            self._paragraph(element, "heading", level=min(6, _count(element, "outline-level")))
        elif name == "p":
            self._paragraph(element, "paragraph")
        elif name == "list":
            self._list(element, attribute(element, "style-name") or "", 1)
        elif name == "table":
            self._writer.page = self._page if self._paged else None
            headers = sum(
                1 for part in element if local(part) == "table-header-rows" for _ in _children(part, "table-row")
            )
            write_table(self._writer, _rows(element), headers=headers or None)
        elif name == "soft-page-break":
            self._page += 1
        elif name == "control":
            self._writer.add("paragraph", self._controls.get(attribute(element, "control"), ""))
        elif name == "annotation":
            self._writer.add("paragraph", _comment(element))
        elif name not in _NO_TEXT and name != "forms" and attribute(element, "display") != "none":
            self._blocks(element)

    def _paragraph(self, element: Element, kind: Kind, *, level: int = 0, label: str = "") -> None:
        style = attribute(element, "style-name")
        if style in self._hidden:
            return
        if style in self._breaking and self._writer.place.blocks:
            self._page += 1
        self._writer.page = self._page if self._paged else None
        aside: list[Element] = []
        self._writer.add(kind, label + _text(element, aside, self._hidden).strip(), level=level)
        self._page += sum(1 for _ in inside(element, "soft-page-break"))
        for each in aside:
            self._block(each) if local(each) in _WHOLE else self._blocks(each)

    def _list(self, listed: Element, style: str, depth: int) -> None:
        form, count = self._numbers.get((style, depth), ("", 1))
        for item in listed:
            if local(item) not in {"list-item", "list-header"}:
                continue
            count = _count(item, "start-value") if attribute(item, "start-value") else count
            label = f"{written(count, form)}. " if form else "- "
            for element in item:
                if local(element) == "list":
                    self._list(element, attribute(element, "style-name") or style, depth + 1)
                elif local(element) in {"p", "h"}:
                    is_heading = local(element) == "h"
                    level = min(6, _count(element, "outline-level")) if is_heading else 0
                    self._paragraph(element, "heading" if is_heading else "item", level=level, label=label)
                    label = ""
            count += local(item) == "list-item"


def _control(element: Element) -> str:
    """What a form's label says, or what its field was filled with."""
    if attribute(element, "current-state") == "checked":
        return f"[x] {attribute(element, 'label') or ''}"
    return next(filter(None, (attribute(element, name) for name in ("label", "current-value", "value"))), "")


def _comment(annotation: Element) -> str:
    author, moment = (next((each.text for each in inside(annotation, name)), None) for name in ("creator", "date"))
    return comment("\n".join(_text(each) for each in inside(annotation, "p")), author=author, moment=moment)


def _content(content: bytes, writer: DocumentWriter) -> Element:
    if not content.startswith(ZIP):  # all in one file of XML
        document = fromstring(_PICTURE.sub(rb"\1", content))  # noqa: S314 - in the sandbox; expat bounds entities
        writer.title = next((each.text for each in inside(child(document, "meta"), "title")), None)
        return document
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if "meta.xml" in archive.namelist():
            meta = fromstring(archive.read("meta.xml"))  # noqa: S314
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


def _text(element: Element, aside: list[Element] | None = None, hidden: Container[str | None] = ()) -> str:
    """The words of a paragraph with its spaces, tabs and line breaks; what stands beside them goes to ``aside``."""
    parts = [element.text or ""]
    for each in element:
        name = local(each)
        if name == "s":
            parts.append(" " * min(100, _count(each, "c")))
        elif name in {"tab", "line-break"}:
            parts.append("\t" if name == "tab" else "\n")
        elif name in _ASIDE:
            if aside is not None:
                aside.append(
                    each if name == "table" else next((part for part in each if local(part) == "note-body"), each)
                )
        elif name not in _NO_TEXT and (name != "span" or attribute(each, "style-name") not in hidden):
            parts.append(_text(each, aside, hidden))
        parts.append(each.tail or "")
    return "".join(parts)
