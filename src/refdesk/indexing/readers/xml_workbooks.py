"""Workbooks in one file of XML ("XML Spreadsheet 2003"), as many programs export their lists."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from refdesk.indexing.parsed import DocumentWriter
from refdesk.indexing.readers.packages import attribute, child, local
from refdesk.indexing.readers.tables import Grid, write_sheet

_NAMESPACE = "{urn:schemas-microsoft-com:office:spreadsheet}"
_GAP_MAX = 256  # places and rows that are skipped: more of them say nothing
_SPAN_MAX = 256
_MIDNIGHT = "T00:00:00.000"


def is_workbook(root: Element) -> bool:
    return root.tag == f"{_NAMESPACE}Workbook"


def write_workbook(root: Element, writer: DocumentWriter) -> None:
    """Writes each visible sheet as a part, its figures without their formats."""
    for sheet in root:
        table, visible = child(sheet, "Table"), child(sheet, "WorksheetOptions", "Visible")
        if local(sheet) != "Worksheet" or table is None or (visible is not None and visible.text != "SheetVisible"):
            continue
        rows = list(_rows(table))
        if any(any(row) for row in rows):
            with writer.part(attribute(sheet, "Name") or "", level=2):
                write_sheet(writer, rows)


def _rows(table: Element) -> Iterator[list[str]]:
    grid, number = Grid(), 0
    shown: list[bool] = []
    for row in (each for each in table if local(each) == "Row"):
        place = _count(row, "Index", default=number + 1)
        for _ in range(min(_GAP_MAX, place - number - 1)):
            grid.open_row()
            shown.append(True)
        number = max(number + 1, place)
        grid.open_row()
        shown.append(attribute(row, "Hidden") != "1")
        for cell in (each for each in row if local(each) == "Cell"):
            place = _count(cell, "Index", default=0)
            for _ in range(min(_GAP_MAX, place - 1 - grid.filled)):
                grid.add("")
            across, down = (min(_SPAN_MAX, _count(cell, name, default=0)) for name in ("MergeAcross", "MergeDown"))
            grid.add(_shown(cell), columns=across + 1, rows=down + 1)
    grid.close_row()
    yield from (row for row, is_shown in zip(grid.rows, shown, strict=True) if is_shown)


def _shown(cell: Element) -> str:
    """What its value says; comments stand beside it."""
    data = child(cell, "Data")
    return "".join(data.itertext()).removesuffix(_MIDNIGHT) if data is not None else ""


def _count(element: Element, name: str, *, default: int) -> int:
    text = attribute(element, name) or ""
    return int(text) if text.isdecimal() and len(text) < 10 else default
