"""Office Open XML packages (DOCX, PPTX): their parts, how these refer to each other, and what several formats have inside."""

import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import IO
from xml.etree.ElementTree import Element, fromstring

from refdesk.indexing.parsed import Sink
from refdesk.indexing.readers.numbers import show_number
from refdesk.indexing.readers.tables import write_table


def local(element: Element) -> str:
    """An element's name without its namespace: transitional, strict and extended documents differ in these alone."""
    return str(element.tag).rpartition("}")[2]


def attribute(element: Element, name: str) -> str | None:
    """An attribute's value, whatever its namespace."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), None)


def child(element: Element | None, *names: str) -> Element | None:
    """The first child of the first child … of these names."""
    for name in names:
        element = None if element is None else next((each for each in element if local(each) == name), None)
    return element


def value(element: Element | None, *names: str) -> str | None:
    """What the first child of the first child … is set to."""
    found = child(element, *names)
    return attribute(found, "val") if found is not None else None


def number(element: Element | None, *names: str, default: int = 0) -> int:
    """The same as a whole number."""
    text = value(element, *names) or ""
    return int(text) if text.lstrip("-").isdecimal() else default


def inside(element: Element | None, name: str) -> Iterator[Element]:
    """All elements of that name within another, in order."""
    return (each for each in element.iter() if local(each) == name) if element is not None else iter(())


def is_on(element: Element | None) -> bool:
    """Whether a switch is there and not switched off (ST_OnOff)."""
    return element is not None and (attribute(element, "val") or "1").lower() not in {"0", "false", "off"}


class Package:
    """The parts of a package by their names."""

    def __init__(self, content: bytes) -> None:
        self._archive = zipfile.ZipFile(BytesIO(content))
        self._names = {name.lower(): name for name in self._archive.namelist()}

    def open(self, part: str) -> IO[bytes] | None:
        name = self._names.get(part.lower())
        return self._archive.open(name) if name else None

    def bytes(self, part: str) -> bytes:
        stream = self.open(part)
        return stream.read() if stream else b""

    def xml(self, part: str) -> Element | None:
        content = self.bytes(part)
        return fromstring(content) if content else None  # noqa: S314 - in the sandbox; expat loads nothing and bounds entities

    def largest(self, folder: str) -> int:
        """The unpacked size of the largest part in a folder."""
        sizes = [each.file_size for each in self._archive.infolist() if each.filename.lower().startswith(folder)]
        return max(sizes, default=0)

    def main_part(self) -> str:
        """The document itself."""
        return next((target for kind, target in self.related("").values() if kind == "officeDocument"), "")

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """The parts a part refers to: id to (kind, name)."""
        folder, name = posixpath.split(part)
        relations = self.xml(posixpath.join(folder, "_rels", f"{name}.rels"))
        found: dict[str, tuple[str, str]] = {}
        for each in relations if relations is not None else ():
            if attribute(each, "TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, attribute(each, "Target") or "")).lstrip("/")
                found[attribute(each, "Id") or ""] = ((attribute(each, "Type") or "").rpartition("/")[2], target)
        return found

    def title(self) -> str | None:
        """What the document's properties call it."""
        core = next(
            (target for kind, target in self.related("").values() if kind == "core-properties"), "docProps/core.xml"
        )
        return next((each.text for each in inside(self.xml(core), "title") if each.text), None)


def write_chart(sink: Sink, chart: Element | None) -> None:
    """Writes a chart as the table it draws, below its title."""
    if chart is None:
        return
    plot = next(inside(chart, "plotArea"), None)
    title = child(next(inside(chart, "chart"), None), "title")
    sink.add("paragraph", "".join(each.text or "" for each in inside(title, "t")))
    names: list[str] = [""]
    rows: dict[str, dict[int, str]] = {}
    for series in inside(plot, "ser"):
        labels = dict(_points(_either(series, "cat", "xVal")))
        values = _either(series, "val", "yVal")
        names.append(next((each.text or "" for each in inside(child(series, "tx"), "v")), ""))
        for index, value in _points(values):
            rows.setdefault(labels.get(index, str(int(index) + 1)), {})[len(names) - 1] = value
    table = [[label, *(cells.get(column, "") for column in range(1, len(names)))] for label, cells in rows.items()]
    if any(names):
        write_table(sink, [names, *table], headers=1)
    else:
        write_table(sink, table, headers=0)


def _either(element: Element, one: str, other: str) -> Element | None:
    found = child(element, one)
    return child(element, other) if found is None else found


def _points(values: Element | None) -> Iterator[tuple[str, str]]:
    code = next((each.text for each in inside(values, "formatCode")), None)
    for point in inside(values, "pt"):
        text = next((each.text or "" for each in inside(point, "v")), "")
        with suppress(ValueError):
            text = show_number(float(text), code) if code else text
        yield attribute(point, "idx") or "0", text
