"""Presentations (PPTX) to blocks: each slide is a page, its title a heading, and its notes and comments belong to it.

Shapes are read as people read them, from top to bottom and from left to right; the title comes first.
What this does not do: animations, or words inside pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from refdesk.indexing.parsed import DocumentWriter
from refdesk.indexing.readers.comments import people, slide_comments
from refdesk.indexing.readers.equations import equation
from refdesk.indexing.readers.packages import Package, attribute, child, inside, local, write_chart
from refdesk.indexing.readers.tables import Grid, write_table

_TITLES = frozenset({"title", "ctrTitle"})
_RUNNING = frozenset({"sldNum", "dt", "ftr", "hdr"})
_BAND = 360_000  # EMU, one centimetre: shapes whose tops differ by less stand side by side
_DEPTH_MAX = 20


def read_slides(content: bytes, writer: DocumentWriter) -> int:
    """Writes a presentation; how many slides it has."""
    package = Package(content)
    main = package.main_part() or "ppt/presentation.xml"
    related = package.related(main)
    writer.title = package.title()
    named = people(package, related)
    slides = [related.get(attribute(each, "id") or "", ("", ""))[1] for each in _slide_ids(package.xml(main))]
    for number, part in enumerate(slides, start=1):
        writer.page = number
        _SlideReader(package, part, writer).read()
        for text in slide_comments(package, package.related(part), named):
            writer.add("paragraph", text)
    return len(slides)


def _slide_ids(presentation: Element | None) -> Iterator[Element]:
    for element in inside(presentation, "sldId"):
        relation = {key: value for key, value in element.attrib.items() if key.endswith("}id")}  # not its own number
        made = Element("sldId", relation)
        yield made


@dataclass(slots=True)
class _Shape:
    element: Element
    top: int | None
    left: int
    is_title: bool
    order: int


@dataclass(slots=True)
class _Places:
    """Where a layout puts what fills its places, by number and by kind."""

    by_number: dict[str, tuple[int, int]] = field(default_factory=dict)
    by_kind: dict[str, tuple[int, int]] = field(default_factory=dict)


class _SlideReader:
    def __init__(self, package: Package, part: str, writer: DocumentWriter) -> None:
        self._package = package
        self._part = part
        self._writer = writer
        self._related = package.related(part)

    def read(self) -> None:
        slide = self._package.xml(self._part)
        places = self._places()
        self._shapes(next(inside(slide, "spTree"), None), places)
        self._notes()

    def _shapes(self, tree: Element | None, places: _Places) -> None:
        """What was grouped is read together, where the group stands."""
        shapes = [self._placed(element, places, order) for order, element in enumerate(_together(tree))]
        self._fill_in(shapes)
        for shape in sorted(shapes, key=_reading_order):
            if local(shape.element) == "grpSp":
                self._shapes(shape.element, places)
            else:
                self._shape(shape)

    def _places(self) -> _Places:
        found = _Places()
        layout = next((self._package.xml(name) for each, name in self._related.values() if each == "slideLayout"), None)
        for element in _flat(next(inside(layout, "spTree"), None)):
            place, at = _place(element), _offset(element)
            if place is not None and at is not None:
                found.by_number[attribute(place, "idx") or "0"] = at
                found.by_kind.setdefault(attribute(place, "type") or "body", at)
        return found

    def _placed(self, element: Element, places: _Places, order: int) -> _Shape:
        is_group = local(element) == "grpSp"
        place, at, kind = None if is_group else _place(element), _offset(element), ""
        if is_group and at is None:
            at = min(filter(None, map(_offset, _flat(element))), default=None)
        if place is not None:
            kind = attribute(place, "type") or "body"
            at = at or places.by_number.get(attribute(place, "idx") or "0") or places.by_kind.get(kind)
        titled = kind in _TITLES or (is_group and any(_is_title(each) for each in _flat(element)))
        return _Shape(element, at[0] if at else None, at[1] if at else 0, titled, order)

    @staticmethod
    def _fill_in(shapes: list[_Shape]) -> None:
        """A shape of which nobody knows the place stands behind the one before it in the file."""
        top, left = 0, 0
        for shape in shapes:
            if shape.top is None:
                shape.top, shape.left = top, left
            top, left = shape.top, shape.left

    def _shape(self, shape: _Shape) -> None:
        element = shape.element
        if shape.is_title:
            self._writer.add("heading", " ".join(_text(each) for each in inside(element, "p")), level=2)
        elif local(element) == "graphicFrame":
            self._graphic(element)
        elif local(element) == "pic":
            described = next(inside(element, "cNvPr"), None)
            self._writer.add("paragraph", (attribute(described, "descr") or "") if described is not None else "")
        else:
            for paragraph in inside(child(element, "txBody"), "p"):
                self._paragraph(paragraph)

    def _paragraph(self, paragraph: Element) -> None:
        properties = child(paragraph, "pPr")
        bulleted = child(properties, "buChar") is not None or child(properties, "buAutoNum") is not None
        deep = properties is not None and (attribute(properties, "lvl") or "0") != "0"
        text = _text(paragraph).strip()
        if text:
            self._writer.add("item" if bulleted or deep else "paragraph", f"- {text}" if bulleted or deep else text)

    def _graphic(self, frame: Element) -> None:
        for table in inside(frame, "tbl"):
            self._table(table)
        for element in frame.iter():
            if local(element) == "chart" and (identifier := attribute(element, "id")):
                write_chart(self._writer, self._package.xml(self._related.get(identifier, ("", ""))[1]))
            elif local(element) == "relIds" and (identifier := attribute(element, "dm")):
                for paragraph in inside(self._package.xml(self._related.get(identifier, ("", ""))[1]), "p"):
                    self._writer.add("item", _text(paragraph))

    def _table(self, table: Element) -> None:
        grid = Grid()
        for row in (each for each in table if local(each) == "tr"):
            grid.open_row()
            for cell in (each for each in row if local(each) == "tc"):
                if attribute(cell, "hMerge") in {"1", "true"} or attribute(cell, "vMerge") in {"1", "true"}:
                    continue
                text = " ".join(_text(each) for each in inside(cell, "p"))
                grid.add(text, columns=_count(cell, "gridSpan"), rows=_count(cell, "rowSpan"))
        grid.close_row()
        properties = child(table, "tblPr")
        styled = properties is not None and attribute(properties, "firstRow") in {"1", "true"}
        write_table(self._writer, grid.rows, headers=1 if styled and len(grid.rows) > 1 else None)

    def _notes(self) -> None:
        notes = next((self._package.xml(name) for kind, name in self._related.values() if kind == "notesSlide"), None)
        for element in _flat(next(inside(notes, "spTree"), None)):
            place = _place(element)
            if place is not None and attribute(place, "type") == "body":
                texts = [text for each in inside(child(element, "txBody"), "p") if (text := _text(each).strip())]
                if texts:
                    self._writer.add("paragraph", "Notes: " + "\n".join(texts))


def _reading_order(shape: _Shape) -> tuple[bool, int, int, int]:
    return not shape.is_title, (shape.top or 0) // _BAND, shape.left, shape.order


def _flat(tree: Element | None, depth: int = 0) -> Iterator[Element]:
    """The shapes of a slide, those in groups included."""
    for element in _together(tree):
        if local(element) != "grpSp":
            yield element
        elif depth < _DEPTH_MAX:
            yield from _flat(element, depth + 1)


def _together(tree: Element | None) -> Iterator[Element]:
    """The shapes and groups of a slide, or of a group, without running ones."""
    for element in tree if tree is not None else ():
        name = local(element)
        if name == "grpSp":
            yield element
        elif name == "AlternateContent":
            yield from _together(next((way for way in element if len(way)), None))
        elif name in {"sp", "graphicFrame", "pic", "cxnSp"}:
            place = _place(element)
            hidden = any((attribute(each, "hidden") or "0") in {"1", "true"} for each in inside(element, "cNvPr"))
            if not hidden and (place is None or attribute(place, "type") not in _RUNNING):
                yield element


def _place(shape: Element) -> Element | None:
    return next(inside(shape, "ph"), None)


def _is_title(shape: Element) -> bool:
    place = _place(shape)
    return place is not None and attribute(place, "type") in _TITLES


def _offset(shape: Element) -> tuple[int, int] | None:
    """(top, left) of a shape or a group, where it says so itself."""
    transform = child(shape, "grpSpPr" if local(shape) == "grpSp" else "spPr", "xfrm")
    at = child(child(shape, "xfrm") if transform is None else transform, "off")
    return (int(attribute(at, "y") or 0), int(attribute(at, "x") or 0)) if at is not None else None


def _count(cell: Element, name: str) -> int:
    text = attribute(cell, name) or ""
    return min(1000, int(text)) if text.isdecimal() else 1


def _text(paragraph: Element) -> str:
    """The words of a paragraph; a field that counts slides is none."""
    parts: list[str] = []
    for element in paragraph:
        name = local(element)
        if name == "br":
            parts.append("\n")
        elif name == "r" or (name == "fld" and attribute(element, "type") != "slidenum"):
            parts.extend((each.text or "").replace("\v", "\n") for each in inside(element, "t"))
        elif name in {"m", "AlternateContent"}:
            chosen = element if name == "m" else next((way for way in element if len(way)), element)
            parts.extend(equation(each) for each in inside(chosen, "oMath"))
    return "".join(parts)
