"""Word documents (DOCX) to blocks, as they stand: what is inserted is text, what is deleted, moved away or hidden is not.

The body is read element by element, so that a long document costs the memory of a paragraph. What stands beside the flow comes
right behind the paragraph or table it belongs to: text boxes, charts, diagrams, notes, comments, tables inside tables. Headers
and footers come first, once each. Pages are known only where Word has stored its page breaks, or the author has set some.

What this does not do: equations beyond their characters, or the layout of pages.
"""

import re
from collections.abc import Iterator
from typing import IO
from xml.etree.ElementTree import Element, iterparse

from refdesk.indexing.parsed import DocumentWriter, Kind
from refdesk.indexing.readers.comments import comment
from refdesk.indexing.readers.numbering import Numbering
from refdesk.indexing.readers.packages import (
    Package,
    attribute,
    child,
    inside,
    is_on,
    local,
    number,
    value,
    write_chart,
)
from refdesk.indexing.readers.tables import Grid, has_values, write_table
from refdesk.indexing.readers.word_styles import Style, Styles
from refdesk.indexing.readers.word_text import (
    GONE,
    PAGE_FIELDS,
    RENDERED,
    SET,
    Aside,
    WordText,
    choice_of,
    field_names,
    is_placeholder,
)

_BREAK_MARKS = (b"lastRenderedPageBreak", b'="page"', b"pageBreakBefore")
_BREAK = re.compile(f"[{SET}{RENDERED}]")
_SET_BREAK = re.compile(f"({SET})")
_PLAIN_STYLES = frozenset({"", "TableGrid", "TableNormal", "NormalTable"})
_FIRST_ROW = 0x20  # ECMA-376 17.4.55
_SPAN_MAX = 100  # Word allows 63 columns


def read_word(content: bytes, writer: DocumentWriter) -> int | None:
    """Writes a Word document; how many pages it has, where that is known."""
    return _WordReader(Package(content), writer).read()


class _WordReader:
    def __init__(self, package: Package, writer: DocumentWriter) -> None:
        self._package = package
        self._writer = writer
        self._part = package.main_part() or "word/document.xml"
        self._related = package.related(self._part)
        self._styles = Styles(self._related_xml("styles"))
        self._text = WordText(self._styles, self._related)
        self._numbering = Numbering(self._related_xml("numbering"))
        self._notes = {
            kind: {attribute(note, "id") or "": note for note in inside(self._related_xml(f"{kind}s"), kind)}
            for kind in ("footnote", "endnote", "comment")
        }
        self._carried = ""
        self._page = 1
        self._paged = False
        self._fresh = True  # no text has come on this page yet

    def read(self) -> int | None:
        content = self._package.bytes(self._part)
        self._paged = any(mark in content for mark in _BREAK_MARKS)
        self._writer.title = self._package.title()
        self._write_running_texts()
        stream = self._package.open(self._part)
        if stream is None:
            raise ValueError("there is no document in it")
        for block in _children_of_body(stream):
            self._block(block)
        return self._page if self._paged else None

    def _related_xml(self, kind: str) -> Element | None:
        return next((self._package.xml(name) for each, name in self._related.values() if each == kind), None)

    def _write_running_texts(self) -> None:
        """Headers and footers once each, without page numbers."""
        texts: dict[str, None] = {}
        for kind, name in self._related.values():
            if kind in {"header", "footer"}:
                for paragraph in inside(self._package.xml(name), "p"):
                    self._text.forget_fields()
                    text = _BREAK.sub("", self._text.of(paragraph, Aside())).strip()
                    counted = any(field_name in PAGE_FIELDS for field_name in field_names(paragraph))
                    if len(text) > (16 if counted else 1):
                        texts[text] = None
        for text in texts:
            self._writer.add("paragraph", text)

    def _block(self, element: Element) -> None:
        name = local(element)
        if name == "p":
            self._paragraph(element)
        elif name == "tbl":
            self._table(element)
        elif name == "AlternateContent":
            self._blocks(choice_of(element))
        elif name not in GONE and not is_placeholder(element):
            self._blocks(element)

    def _blocks(self, parent: Element | None) -> None:
        for element in parent if parent is not None else ():
            self._block(element)

    def _paragraph(self, element: Element) -> None:
        properties = child(element, "pPr")
        style = self._styles.of(properties)
        aside = Aside()
        if is_on(child(properties, "pageBreakBefore")):
            self._turn(SET)
        text = "" if style.hidden else self._text.of(element, aside)
        if child(properties, "rPr", "del") is not None:  # its end is deleted: it goes on in the next one
            self._carried += text
            return
        text, self._carried = self._carried + text, ""
        label = self._label(properties, style) if _BREAK.sub("", text).strip() else None
        self._write(self._kind(label, style, properties), text, label=label, level=self._level(style, properties))
        self._write_aside(aside)
        section = child(properties, "sectPr")
        if section is not None and value(section, "type") != "continuous":
            self._turn(SET)

    def _kind(self, label: str | None, style: Style, properties: Element | None) -> Kind:
        return "heading" if self._level(style, properties) else "item" if label else "paragraph"

    def _level(self, style: Style, properties: Element | None) -> int:
        level = number(properties, "outlineLvl", default=style.level - 1) + 1
        return min(level, 6) if level < 10 else 0

    def _label(self, properties: Element | None, style: Style) -> str | None:
        inherited_id, inherited_level = style.numbering or ("0", 0)
        number_id = value(properties, "numPr", "numId") or inherited_id
        depth = number(properties, "numPr", "ilvl", default=inherited_level)
        return self._numbering.label(number_id, depth) if number_id != "0" else None

    def _write(self, kind: Kind, text: str, *, label: str | None, level: int) -> None:
        """Writes a paragraph; breaks that the author has set divide it, others only move the page on behind it."""
        behind = 0
        for stretch in _SET_BREAK.split(text):
            if stretch == SET:
                self._turn(SET)
                continue
            words = stretch.lstrip(f"{RENDERED} \n\t")
            for _ in range(stretch[: len(stretch) - len(words)].count(RENDERED)):
                self._turn(RENDERED)
            behind = words.count(RENDERED)
            words = words.replace(RENDERED, "")
            if words.strip():
                self._writer.page = self._page if self._paged else None
                self._writer.add(kind, f"{label} {words.strip()}" if label else words, level=level)
                self._fresh, label = False, None
            for _ in range(behind):
                self._turn(RENDERED)

    def _turn(self, mark: str) -> None:
        """A page break; the one that Word stores behind one that was set is the same."""
        if mark == SET or not self._fresh:
            self._page += 1
        self._fresh = True

    def _write_aside(self, aside: Aside) -> None:
        for text in aside.pictures:
            self._writer.add("paragraph", text)
        for box in aside.boxes:
            self._blocks(box)
        for kind, name in aside.parts:
            if kind == "chart":
                write_chart(self._writer, self._package.xml(name))
            else:
                for paragraph in inside(self._package.xml(name), "p"):
                    self._writer.add("item", "".join(each.text or "" for each in inside(paragraph, "t")))
        for table in aside.tables:
            self._table(table)
        for kind, identifier in aside.notes:
            note = self._notes[kind].get(identifier)
            if kind == "comment":
                self._comment(note)
                continue
            for paragraph in inside(note, "p"):
                beside = Aside()
                self._write("paragraph", self._text.of(paragraph, beside), label=None, level=0)
                self._write_aside(beside)

    def _comment(self, note: Element | None) -> None:
        if note is not None:
            text = "\n".join(self._text.of(paragraph, Aside()) for paragraph in inside(note, "p"))
            self._writer.add(
                "paragraph", comment(text, author=attribute(note, "author"), moment=attribute(note, "date"))
            )

    # Tables

    def _table(self, table: Element) -> None:
        rows = [row for row in _parts(table, "tr") if not self._is_gone(row)]
        if all(len(list(_parts(row, "tc"))) <= 1 for row in rows):  # it lays out a page, or frames a text
            for row in rows:
                for cell in _parts(row, "tc"):
                    self._blocks(cell)
            return
        grid, pages, aside = Grid(), [], Aside()
        above: dict[int, str] = {}
        headers, bold = 0, True
        for index, row in enumerate(rows):
            grid.open_row()
            properties = child(row, "trPr")
            if is_on(child(properties, "tblHeader")) and headers == index:
                headers += 1
            texts, above = self._row(row, above, aside)
            for text in texts:
                grid.add(_BREAK.sub("", text))
            bold = bold and (index > 0 or _is_bold(row))
            self._turn_within(texts)
            pages.append(self._page)
            self._fresh = self._fresh and not any(texts)
        self._write_table(grid.rows, pages, headers=headers or int(bold and len(rows) > 1), styled=_is_styled(table))
        self._write_aside(aside)

    def _write_table(self, rows: list[list[str]], pages: list[int], *, headers: int, styled: bool) -> None:
        sink = _Paged(self._writer, [page for page, row in zip(pages, rows, strict=True) if any(map(str.strip, row))])
        guess = styled or has_values(rows) or max(map(len, rows), default=0) > 2
        write_table(sink if self._paged else self._writer, rows, headers=headers or None, guess=guess)

    def _turn_within(self, texts: list[str]) -> None:
        """Word stores a break in each cell of a row that stands on the next page."""
        if any(SET in text for text in texts):
            self._turn(SET)
        elif any(RENDERED in text for text in texts):
            self._turn(RENDERED)

    def _is_gone(self, row: Element) -> bool:
        properties = child(row, "trPr")
        return child(properties, "del") is not None or is_on(child(properties, "hidden"))

    def _row(self, row: Element, above: dict[int, str], aside: Aside) -> tuple[list[str], dict[int, str]]:
        """The cells of a row, a spanned one in each column, and what may hang down from it."""
        texts = [""] * min(_SPAN_MAX, number(row, "trPr", "gridBefore"))
        hanging: dict[int, str] = {}
        for cell in _parts(row, "tc"):
            merge = child(cell, "tcPr", "vMerge")
            text = self._cell(cell, aside)
            if merge is not None and attribute(merge, "val") != "restart":
                text = above.get(len(texts), "")
            for _ in range(min(_SPAN_MAX, number(cell, "tcPr", "gridSpan", default=1))):
                if merge is not None:
                    hanging[len(texts)] = text
                texts.append(text)
        return texts, hanging

    def _cell(self, cell: Element, aside: Aside) -> str:
        texts: list[str] = []
        waiting = list(reversed(list(cell)))
        while waiting:
            element = waiting.pop()
            name = local(element)
            if name == "p":
                properties = child(element, "pPr")
                style = self._styles.of(properties)
                text = "" if style.hidden else self._text.of(element, aside)
                label = self._label(properties, style) if text.strip() else None
                texts.append(f"{label} {text}" if label else text)
            elif name == "tbl":
                aside.tables.append(element)
            elif name not in GONE and not is_placeholder(element):
                waiting.extend(reversed(list(element)))
        return " ".join(filter(None, texts))


class _Paged:
    """Gives each row of a table its page."""

    def __init__(self, writer: DocumentWriter, pages: list[int]) -> None:
        self._writer = writer
        self._pages = list(reversed(pages))

    def add(self, kind: Kind, text: str, *, level: int = 0) -> None:
        if self._pages:
            self._writer.page = self._pages.pop()
        self._writer.add(kind, text, level=level)


def _children_of_body(stream: IO[bytes]) -> Iterator[Element]:
    """The elements of the body one after the other; each is forgotten when the next is asked for."""
    above: list[Element] = []
    for event, element in iterparse(stream, ("start", "end")):  # noqa: S314 - in the sandbox; expat bounds entities
        if event == "start":
            above.append(element)
            continue
        above.pop()
        if len(above) == 2 and local(above[1]) == "body":
            yield element
            above[1].clear()


def _parts(parent: Element, name: str) -> Iterator[Element]:
    """Rows of a table or cells of a row, those inside content controls included, in order."""
    for element in parent:
        if local(element) == name:
            yield element
        elif local(element) in {"sdt", "sdtContent", "customXml", "ins", "moveTo"}:
            yield from _parts(element, name)


def _is_bold(row: Element) -> bool:
    runs = [run for run in inside(row, "r") if any(each.text for each in inside(run, "t"))]
    return bool(runs) and all(is_on(child(run, "rPr", "b")) for run in runs)


def _is_styled(table: Element) -> bool:
    """Whether the table's style sets off its first row."""
    look = child(table, "tblPr", "tblLook")
    if look is None or (value(table, "tblPr", "tblStyle") or "") in _PLAIN_STYLES:
        return False
    return attribute(look, "firstRow") == "1" or bool(int(attribute(look, "val") or "0", 16) & _FIRST_ROW)
