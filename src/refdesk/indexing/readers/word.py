"""Word documents (DOCX) to blocks, as they stand: what is inserted is text, what is deleted, moved away or hidden is not.

The body is read element by element, so that a long document costs the memory of a paragraph. What stands beside the flow comes
right behind the paragraph or table it belongs to: text boxes, charts, diagrams, footnotes, tables inside tables. Headers and
footers come first, once each. Pages are known only where Word has stored its page breaks, or the author has set some.

What this does not do: comments, equations beyond their characters, or the layout of pages.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO
from xml.etree.ElementTree import Element, iterparse

from refdesk.indexing.parsed import DocumentWriter, Kind
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

_HEADING = re.compile(r"heading ([1-9])", re.I)
_GONE = frozenset({"del", "moveFrom", "pPr", "rPr", "sdtPr", "tblPr", "trPr", "tcPr", "rt", "proofErr"})
_PAGE_FIELDS = frozenset({"PAGE", "NUMPAGES", "SECTIONPAGES"})
_BREAK_MARKS = (b"lastRenderedPageBreak", b'="page"', b"pageBreakBefore")
_SET, _RENDERED = "\x01", "\x02"  # page breaks among the text: characters that XML cannot hold
_BREAK = re.compile(f"[{_SET}{_RENDERED}]")
_SET_BREAK = re.compile(f"({_SET})")
_SYMBOLS = {"\uf0b7": "•", "\uf0a7": "▪", "\uf0fc": "✓", "\uf0fe": "☑", "\uf0a8": "☐", "\uf06f": "☐", "\uf0e0": "→"}
_PLAIN_STYLES = frozenset({"", "TableGrid", "TableNormal", "NormalTable"})
_STYLE_DEPTH_MAX = 20
_FIRST_ROW = 0x20  # ECMA-376 17.4.55
_SPAN_MAX = 100  # Word allows 63 columns


def read_word(content: bytes, writer: DocumentWriter) -> int | None:
    """Writes a Word document; how many pages it has, where that is known."""
    return _WordReader(Package(content), writer).read()


@dataclass(slots=True)
class _Style:
    """What a paragraph style says, with what it inherits."""

    level: int = 0
    numbering: tuple[str, int] | None = None
    hidden: bool = False


@dataclass(slots=True)
class _Aside:
    """What stands beside a paragraph's flow."""

    boxes: list[Element] = field(default_factory=list)
    tables: list[Element] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    parts: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


class _WordReader:
    def __init__(self, package: Package, writer: DocumentWriter) -> None:
        self._package = package
        self._writer = writer
        self._part = package.main_part() or "word/document.xml"
        self._related = package.related(self._part)
        self._styles = _Styles(self._related_xml("styles"))
        self._numbering = Numbering(self._related_xml("numbering"))
        self._notes = {
            kind: {attribute(note, "id") or "": note for note in inside(self._related_xml(f"{kind}s"), kind)}
            for kind in ("footnote", "endnote")
        }
        self._fields: list[str] = []
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
                    self._fields = []
                    text = _BREAK.sub("", self._text(paragraph, _Aside())).strip()
                    counted = any(field_name in _PAGE_FIELDS for field_name in _field_names(paragraph))
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
            self._blocks(_choice(element))
        elif name not in _GONE and not _is_placeholder(element):
            self._blocks(element)

    def _blocks(self, parent: Element | None) -> None:
        for element in parent if parent is not None else ():
            self._block(element)

    def _paragraph(self, element: Element) -> None:
        properties = child(element, "pPr")
        style = self._styles.of(properties)
        aside = _Aside()
        if is_on(child(properties, "pageBreakBefore")):
            self._turn(_SET)
        text = "" if style.hidden else self._text(element, aside)
        if child(properties, "rPr", "del") is not None:  # its end is deleted: it goes on in the next one
            self._carried += text
            return
        text, self._carried = self._carried + text, ""
        label = self._label(properties, style) if _BREAK.sub("", text).strip() else None
        self._write(self._kind(label, style, properties), text, label=label, level=self._level(style, properties))
        self._write_aside(aside)
        section = child(properties, "sectPr")
        if section is not None and value(section, "type") != "continuous":
            self._turn(_SET)

    def _kind(self, label: str | None, style: _Style, properties: Element | None) -> Kind:
        return "heading" if self._level(style, properties) else "item" if label else "paragraph"

    def _level(self, style: _Style, properties: Element | None) -> int:
        level = number(properties, "outlineLvl", default=style.level - 1) + 1
        return min(level, 6) if level < 10 else 0

    def _label(self, properties: Element | None, style: _Style) -> str | None:
        inherited_id, inherited_level = style.numbering or ("0", 0)
        number_id = value(properties, "numPr", "numId") or inherited_id
        depth = number(properties, "numPr", "ilvl", default=inherited_level)
        return self._numbering.label(number_id, depth) if number_id != "0" else None

    def _write(self, kind: Kind, text: str, *, label: str | None, level: int) -> None:
        """Writes a paragraph; breaks that the author has set divide it, others only move the page on behind it."""
        behind = 0
        for stretch in _SET_BREAK.split(text):
            if stretch == _SET:
                self._turn(_SET)
                continue
            words = stretch.lstrip(f"{_RENDERED} \n\t")
            for _ in range(stretch[: len(stretch) - len(words)].count(_RENDERED)):
                self._turn(_RENDERED)
            behind = words.count(_RENDERED)
            words = words.replace(_RENDERED, "")
            if words.strip():
                self._writer.page = self._page if self._paged else None
                self._writer.add(kind, f"{label} {words.strip()}" if label else words, level=level)
                self._fresh, label = False, None
            for _ in range(behind):
                self._turn(_RENDERED)

    def _turn(self, mark: str) -> None:
        """A page break; the one that Word stores behind one that was set is the same."""
        if mark == _SET or not self._fresh:
            self._page += 1
        self._fresh = True

    def _write_aside(self, aside: _Aside) -> None:
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
            for paragraph in inside(self._notes[kind].get(identifier), "p"):
                beside = _Aside()
                self._write("paragraph", self._text(paragraph, beside), label=None, level=0)
                self._write_aside(beside)

    # Words

    def _text(self, parent: Element, aside: _Aside) -> str:
        parts: list[str] = []
        self._inline(parent, parts.append, aside)
        return "".join(parts)

    def _inline(self, parent: Element, say: Callable[[str], None], aside: _Aside) -> None:
        for element in parent:
            name = local(element)
            if name == "r":
                self._run(element, say, aside)
            elif name == "AlternateContent":
                if (chosen := _choice(element)) is not None:
                    self._inline(chosen, say, aside)
            elif name in {"drawing", "pict", "object"}:
                self._drawing(element, aside)
            elif name == "fldSimple":
                if (attribute(element, "instr") or "").strip().partition(" ")[0].upper() not in _PAGE_FIELDS:
                    self._inline(element, say, aside)
            elif name not in _GONE and not _is_placeholder(element):
                self._inline(element, say, aside)

    def _run(self, run: Element, say: Callable[[str], None], aside: _Aside) -> None:
        properties = child(run, "rPr")
        hidden = is_on(child(properties, "vanish")) or self._styles.is_hidden(child(properties, "rStyle"))
        for element in run:
            name = local(element)
            if name == "fldChar":
                self._field(attribute(element, "fldCharType") or "")
            elif name == "instrText":
                if self._fields:
                    self._fields[-1] += element.text or ""
            elif hidden or self._in_page_field():
                continue
            elif name == "t":
                say(element.text or "")
            elif said := _character(element, name):
                say(said)
            elif name in {"footnoteReference", "endnoteReference"}:
                aside.notes.append((name.removesuffix("Reference"), attribute(element, "id") or ""))
            elif name in {"drawing", "pict", "object"}:
                self._drawing(element, aside)
            elif name == "AlternateContent":
                if (chosen := _choice(element)) is not None:
                    self._inline(chosen, say, aside)
            elif name == "ruby":
                base = child(element, "rubyBase")
                self._inline(element if base is None else base, say, aside)

    def _field(self, kind: str) -> None:
        if kind == "begin":
            self._fields.append("")
        elif kind == "separate" and self._fields:
            self._fields[-1] = f"={self._fields[-1].strip()}"
        elif kind == "end" and self._fields:
            self._fields.pop()

    def _in_page_field(self) -> bool:
        return any(each[1:].partition(" ")[0].upper() in _PAGE_FIELDS for each in self._fields if each.startswith("="))

    def _drawing(self, element: Element, aside: _Aside) -> None:
        waiting = [element]
        while waiting:
            each = waiting.pop()
            name = local(each)
            if name == "txbxContent":
                aside.boxes.append(each)
                continue
            if name == "docPr" and (text := attribute(each, "descr")):
                aside.pictures.append(text)
            elif name in {"chart", "relIds"} and (identifier := attribute(each, "id" if name == "chart" else "dm")):
                aside.parts.append(self._related.get(identifier, ("", "")))
            chosen = _choice(each) if name == "AlternateContent" else each
            waiting.extend(reversed(list(chosen if chosen is not None else ())))

    # Tables

    def _table(self, table: Element) -> None:
        rows = [row for row in _parts(table, "tr") if not self._is_gone(row)]
        if all(len(list(_parts(row, "tc"))) <= 1 for row in rows):  # it lays out a page, or frames a text
            for row in rows:
                for cell in _parts(row, "tc"):
                    self._blocks(cell)
            return
        grid, pages, aside = Grid(), [], _Aside()
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
        if any(_SET in text for text in texts):
            self._turn(_SET)
        elif any(_RENDERED in text for text in texts):
            self._turn(_RENDERED)

    def _is_gone(self, row: Element) -> bool:
        properties = child(row, "trPr")
        return child(properties, "del") is not None or is_on(child(properties, "hidden"))

    def _row(self, row: Element, above: dict[int, str], aside: _Aside) -> tuple[list[str], dict[int, str]]:
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

    def _cell(self, cell: Element, aside: _Aside) -> str:
        texts: list[str] = []
        waiting = list(reversed(list(cell)))
        while waiting:
            element = waiting.pop()
            name = local(element)
            if name == "p":
                properties = child(element, "pPr")
                style = self._styles.of(properties)
                text = "" if style.hidden else self._text(element, aside)
                label = self._label(properties, style) if text.strip() else None
                texts.append(f"{label} {text}" if label else text)
            elif name == "tbl":
                aside.tables.append(element)
            elif name not in _GONE and not _is_placeholder(element):
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


class _Styles:
    """The paragraph and character styles of a document."""

    def __init__(self, styles: Element | None) -> None:
        named = [style for style in styles if local(style) == "style"] if styles is not None else []
        self._elements = {attribute(style, "styleId") or "": style for style in named}
        self._resolved: dict[str, _Style] = {}
        self._default = next(
            (
                name
                for name, style in self._elements.items()
                if attribute(style, "type") == "paragraph" and (attribute(style, "default") or "0") in {"1", "true"}
            ),
            "",
        )

    def of(self, properties: Element | None) -> _Style:
        name = value(properties, "pStyle") or self._default
        if name not in self._resolved:
            self._resolved[name] = self._resolve(name)
        return self._resolved[name]

    def is_hidden(self, named: Element | None) -> bool:
        if named is None:
            return False
        style = self._elements.get(attribute(named, "val") or "")
        return is_on(child(style, "rPr", "vanish"))

    def _resolve(self, name: str) -> _Style:
        made = _Style()
        for style in self._lineage(name):
            if not made.level:
                made.level = _style_level(style)
            if not made.numbering and (number_id := value(style, "pPr", "numPr", "numId")):
                made.numbering = (number_id, number(style, "pPr", "numPr", "ilvl"))
            made.hidden = made.hidden or is_on(child(style, "rPr", "vanish"))
        return made

    def _lineage(self, name: str) -> Iterator[Element]:
        for _ in range(_STYLE_DEPTH_MAX):
            style = self._elements.get(name)
            if style is None:
                return
            yield style
            name = value(style, "basedOn") or ""


def _style_level(style: Element) -> int:
    title = value(style, "name") or ""
    if match := _HEADING.fullmatch(title):
        return min(6, int(match[1]))
    if title.lower() == "title":
        return 1
    level = number(style, "pPr", "outlineLvl", default=9)
    return min(6, level + 1) if level < 9 else 0


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


def _choice(alternatives: Element) -> Element | None:
    """One of several ways to say the same: the first that holds something."""
    ways = [each for each in alternatives if local(each) in {"Choice", "Fallback"}]
    return next((way for way in ways if len(way)), None)


def _is_placeholder(element: Element) -> bool:
    """A form field that nobody has filled in shows what is to be typed there."""
    return local(element) == "sdt" and is_on(child(element, "sdtPr", "showingPlcHdr"))


def _is_bold(row: Element) -> bool:
    runs = [run for run in inside(row, "r") if any(each.text for each in inside(run, "t"))]
    return bool(runs) and all(is_on(child(run, "rPr", "b")) for run in runs)


def _is_styled(table: Element) -> bool:
    """Whether the table's style sets off its first row."""
    look = child(table, "tblPr", "tblLook")
    if look is None or (value(table, "tblPr", "tblStyle") or "") in _PLAIN_STYLES:
        return False
    return attribute(look, "firstRow") == "1" or bool(int(attribute(look, "val") or "0", 16) & _FIRST_ROW)


def _field_names(paragraph: Element) -> Iterator[str]:
    for element in paragraph.iter():
        if local(element) == "instrText":
            yield (element.text or "").strip().partition(" ")[0].upper()
        elif local(element) == "fldSimple":
            yield (attribute(element, "instr") or "").strip().partition(" ")[0].upper()


def _character(element: Element, name: str) -> str:
    """What an element stands for that is one character."""
    if name in {"tab", "ptab"}:
        return "\t"
    if name == "br":
        return _SET if attribute(element, "type") == "page" else "\n"
    if name == "cr":
        return "\n"
    if name == "lastRenderedPageBreak":
        return _RENDERED
    if name == "noBreakHyphen":
        return "-"
    if name == "sym":
        code = attribute(element, "char") or ""
        symbol = chr(int(code, 16)) if code else ""
        return _SYMBOLS.get(symbol, "" if "\ue000" <= symbol <= "\uf8ff" else symbol)
    return ""
