"""Workbooks to blocks: each visible sheet is a section, its cells read as they are shown.

openpyxl reads XLSX row by row and knows the number formats; calamine (in Rust) knows which cells are merged, and reads the other
kinds of workbook, and those that are too large to be read at leisure, without number formats. What this does not do: compute
formulas (the value that was stored with them counts), charts, comments, or hidden rows.
"""

import warnings
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from io import BytesIO
from itertools import chain
from typing import Any

import python_calamine
from openpyxl.reader.excel import load_workbook

from refdesk.indexing.parsed import DocumentWriter
from refdesk.indexing.readers.numbers import show_moment, show_number
from refdesk.indexing.readers.packages import Package
from refdesk.indexing.readers.tables import write_sheet

_FORMATTED_BYTES_MAX = 48 * 1024 * 1024
"""Of a sheet's XML: beyond it, reading the formats would take longer than a document may."""
_MERGED_COLUMNS_MAX = 256
_MERGED_ROWS_MAX = 10_000

Merged = list[tuple[tuple[int, int], tuple[int, int]]]
"""First and last (row, column) of ranges of merged cells, from 0."""


def read_xlsx(content: bytes, writer: DocumentWriter) -> None:
    """Writes an Excel workbook with its figures, dates and percentages as shown."""
    package = Package(content)
    if package.largest("xl/worksheets/") > _FORMATTED_BYTES_MAX:
        read_workbook(content, writer)
        return
    merged = _merged(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that are not kept on saving: nothing is saved
        book: Any = load_workbook(BytesIO(content), read_only=True, data_only=True)
        writer.title = package.title()
        for sheet in book.worksheets:
            if sheet.sheet_state == "visible":
                rows = _rows(sheet)
                _write_sheet(writer, sheet.title, _unmerged(rows, merged.get(sheet.title, [])))


def read_workbook(content: bytes, writer: DocumentWriter) -> None:
    """Writes a workbook of any kind that calamine knows."""
    book = python_calamine.CalamineWorkbook.from_filelike(BytesIO(content))
    for about in book.sheets_metadata:
        if (
            about.typ == python_calamine.SheetTypeEnum.WorkSheet
            and about.visible == python_calamine.SheetVisibleEnum.Visible
        ):
            sheet = book.get_sheet_by_name(about.name)
            rows = ([_plain(value) for value in row] for row in sheet.to_python(skip_empty_area=False))
            _write_sheet(writer, about.name, _unmerged(rows, sheet.merged_cell_ranges or []))


def _write_sheet(writer: DocumentWriter, name: str, rows: Iterable[list[str]]) -> None:
    lines = iter(rows)
    first = next((row for row in lines if any(row)), None)
    if first is not None:
        writer.add("heading", name, level=2)
        write_sheet(writer, chain([first], lines))


def _merged(content: bytes) -> dict[str, Merged]:
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(BytesIO(content))
        return {name: book.get_sheet_by_name(name).merged_cell_ranges or [] for name in book.sheet_names}
    except (python_calamine.CalamineError, ValueError, OSError):
        return {}


def _rows(sheet: Any) -> Iterator[list[str]]:
    sheet.reset_dimensions()  # what it says of its size may be wrong
    for row in sheet.iter_rows():
        yield [_shown(cell) for cell in row]


def _shown(cell: Any) -> str:
    """A cell as its sheet shows it."""
    value = cell.value
    if value is None or isinstance(value, str):
        return value or ""
    code = cell.number_format
    if isinstance(value, datetime | date | time | timedelta):
        return show_moment(value, code)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).upper()
    return show_number(value, code)


def _plain(value: object) -> str:
    """A value without its format; a day has no hour, and a figure that is whole no decimals."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="minutes").removesuffix(" 00:00")
    if isinstance(value, bool):
        return str(value).upper()
    return show_number(value, None) if isinstance(value, int | float) else str(value)


def _unmerged(rows: Iterable[list[str]], merged: Merged) -> Iterator[list[str]]:
    """The rows with the value of merged cells in each place that they cover."""
    waiting = sorted(merged, reverse=True)
    covering: list[tuple[int, int, int, str]] = []  # last row, first column, last column, value
    for number, row in enumerate(rows):
        covering = [each for each in covering if each[0] >= number]
        while waiting and waiting[-1][0][0] <= number:
            (first_row, first), (last_row, last) = waiting.pop()
            if first_row == number and first < len(row):
                last_row = min(last_row, first_row + _MERGED_ROWS_MAX)
                covering.append((last_row, first, min(last, first + _MERGED_COLUMNS_MAX), row[first]))
        for _, first, last, value in covering:
            if value:
                row.extend([""] * (last + 1 - len(row)))
                row[first : last + 1] = [value] * (last + 1 - first)
        yield row
