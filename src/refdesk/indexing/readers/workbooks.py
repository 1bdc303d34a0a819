"""Workbooks to blocks: each visible sheet is a part, its cells read as they are shown.

XLSX is read row by row with its number formats, so that a cell in the last corner of a sheet costs no memory. calamine (in Rust)
reads the other kinds of workbook, and those that are too large to be read at leisure, without number formats.

What this does not do: compute formulas (the value that was stored with them counts), charts, or hidden rows.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from io import BytesIO
from itertools import chain
from typing import NamedTuple
from xml.etree.ElementTree import Element, iterparse

import python_calamine

from refdesk.indexing.parsed import DocumentWriter, row_text
from refdesk.indexing.readers.comments import people, sheet_comments
from refdesk.indexing.readers.numbers import is_elapsed, is_moment, show_moment, show_number
from refdesk.indexing.readers.packages import Package, attribute, child, inside, local
from refdesk.indexing.readers.tables import write_sheet

_FORMATTED_BYTES_MAX = 48 * 1024 * 1024
"""Of a sheet's XML: beyond it, reading the formats would take longer than a document may."""
_MERGED_COLUMNS_MAX = 256
_MERGED_ROWS_MAX = 10_000
_COLUMNS_MAX = 16_384
_GAP_MAX = 256  # blank columns before a cell: more of them say nothing
_ROW_CHARACTERS = 200  # of a row that is named with a comment
_COLUMN = re.compile(rb"<(?:\w+:)?col ([^<>]*)>")
_ATTRIBUTE = re.compile(rb'\b(\w++)="(\d{1,6})"')
_HIDDEN = re.compile(rb'hidden="(?:1|true)"')
_MERGE = re.compile(rb'mergeCell\s++ref="([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})"')

_EPOCH, _EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)  # noqa: DTZ001 - a sheet has no time zone
_LEAP_DAY_1900 = 60  # which there was not, and which Excel counts
_DATE = "yyyy-mm-dd"  # where the machine that shows the sheet decides
_BUILT_IN = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    14: _DATE,
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: f"{_DATE} hh:mm",
    37: "#,##0;(#,##0)",
    38: "#,##0;(#,##0)",
    39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;(#,##0.00)",
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss",
    48: "##0.0E+0",
    49: "@",
    **dict.fromkeys((*range(27, 32), 36, *range(50, 59)), _DATE),
    **dict.fromkeys(range(32, 36), "h:mm:ss"),
}
"""Number formats that a workbook need not write down (ECMA-376 18.8.30)."""


class _Row(NamedTuple):
    """A row of a sheet; ``number`` counts from 0."""

    number: int
    texts: list[str]
    is_hidden: bool = False


Ranges = list[tuple[int, int]]
"""First and last of ranges of columns, from 0."""
Merged = list[tuple[tuple[int, int], tuple[int, int]]]
"""First and last (row, column) of ranges of merged cells, from 0."""


def read_xlsx(content: bytes, writer: DocumentWriter) -> None:
    """Writes an Excel workbook with its figures, dates and percentages as shown."""
    package = Package(content)
    if package.largest("xl/worksheets/") > _FORMATTED_BYTES_MAX:
        read_workbook(content, writer)
        return
    writer.title = package.title()
    main = package.main_part()
    book, related = package.xml(main), package.related(main)
    cells, named = _Cells(package, book, dict(related.values())), people(package, related)
    for sheet in inside(book, "sheet"):
        relation = next((value for key, value in sheet.attrib.items() if key.endswith("}id")), "")
        kind, part = related.get(relation, ("", ""))
        if kind == "worksheet" and (attribute(sheet, "state") or "visible") == "visible":
            name = attribute(sheet, "name") or ""
            sheet_bytes = package.bytes(part)
            hidden = _hidden_columns(sheet_bytes)
            said = _Said(sheet_comments(package, part, named), hidden)
            rows = _unmerged(said.watched(cells.rows(part)), _merged(sheet_bytes))
            _write_sheet(writer, name, _without(hidden, rows), said.lines)
    if cells.valueless:
        formulas = "One formula" if cells.valueless == 1 else f"{cells.valueless:,} formulas"
        advice = "open it in its program, save it, and upload the new copy"
        writer.note("values_missing", f"{formulas} of {writer.name} came without a value; {advice}.")


def read_workbook(content: bytes, writer: DocumentWriter) -> None:
    """Writes a workbook of any kind that calamine knows. Raises ValueError."""
    try:
        _read_plainly(content, writer)
    except python_calamine.CalamineError as error:
        raise ValueError(str(error)) from error


def _read_plainly(content: bytes, writer: DocumentWriter) -> None:
    book = python_calamine.CalamineWorkbook.from_filelike(BytesIO(content))
    for about in book.sheets_metadata:
        if (
            about.typ == python_calamine.SheetTypeEnum.WorkSheet
            and about.visible == python_calamine.SheetVisibleEnum.Visible
        ):
            sheet = book.get_sheet_by_name(about.name)
            values = sheet.to_python(skip_empty_area=False)
            rows = (_Row(number, [_plain(value) for value in row]) for number, row in enumerate(values))
            _write_sheet(writer, about.name, _unmerged(rows, sheet.merged_cell_ranges or []))


def _write_sheet(
    writer: DocumentWriter, name: str, rows: Iterable[list[str]], remarks: Callable[[], Iterable[str]] = tuple
) -> None:
    """A sheet that has something is a part, with the remarks, which are known once its rows have been read, at its end."""
    lines = iter(rows)
    first = next((row for row in lines if any(row)), None)
    if first is not None:
        with writer.part(name, level=2):
            write_sheet(writer, chain([first], lines))
            for remark in remarks():
                writer.add("paragraph", remark)


class _Said:
    """What was said about cells of a sheet that are shown, with the rows in which these stand."""

    def __init__(self, comments: Mapping[str, Sequence[str]], hidden: Ranges) -> None:
        shown = {cell: said for cell, said in comments.items() if not _is_in(_column(cell, after=0), hidden)}
        self._comments = shown
        self._hidden = hidden
        self._rows: dict[int, str] = dict.fromkeys(map(_row_of, shown), "")

    def watched(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        """The rows as they are, and on the way those that something was said about."""
        for row in rows:
            if row.number in self._rows and row.is_hidden:
                del self._rows[row.number]
            elif row.number in self._rows:
                shown = (text for column, text in enumerate(row.texts) if text and not _is_in(column, self._hidden))
                self._rows[row.number] = row_text(list(shown))[:_ROW_CHARACTERS]
            yield row

    def lines(self) -> Iterator[str]:
        for cell, said in self._comments.items():
            row = self._rows.get(_row_of(cell))
            if row is not None:
                yield "\n".join([f"{cell}, {row}:" if row else f"{cell}:", *said])


def _row_of(reference: str) -> int:
    """``C7`` stands in row 6, counted from 0; -1 for no place at all."""
    digits = reference.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return int(digits) - 1 if digits.isdecimal() and len(digits) < 8 else -1


class _Cells:
    """The cells of a workbook as its sheets show them."""

    def __init__(self, package: Package, book: Element | None, parts: dict[str, str]) -> None:
        self._package = package
        properties = child(book, "workbookPr")
        old = properties is not None and (attribute(properties, "date1904") or "0") in {"1", "true"}
        self._epoch = _EPOCH_1904 if old else _EPOCH
        self._strings = list(_shared_strings(package, parts.get("sharedStrings", "")))
        self._formats = _formats(package.xml(parts.get("styles", "")))
        self.valueless = 0
        """Formulas whose value the program that saved the workbook did not compute."""

    def rows(self, part: str) -> Iterator[_Row]:
        """Each row that is there."""
        number = -1
        for row in _elements(self._package, part, "row"):
            number = int(attribute(row, "r") or number + 2) - 1
            texts: list[str] = []
            for cell in row:
                column = _column(attribute(cell, "r") or "", after=len(texts))
                texts.extend([""] * min(_GAP_MAX, column - len(texts)))
                texts.append(self._shown(cell))
            yield _Row(number, texts, is_hidden=attribute(row, "hidden") in {"1", "true"})

    def _shown(self, cell: Element) -> str:
        kind = attribute(cell, "t") or "n"
        if kind == "inlineStr":
            return _words(child(cell, "is"))
        value = child(cell, "v")
        text = (value.text or "") if value is not None else ""
        if not text and child(cell, "f") is not None:
            self.valueless += 1
        if kind == "s":
            return self._strings[int(text)] if text else ""
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(text, text)
        return self._figure(text, int(attribute(cell, "s") or 0)) if kind == "n" and text else text

    def _figure(self, text: str, style: int) -> str:
        value, code = float(text), self._formats[style] if style < len(self._formats) else "General"
        if not is_moment(code):
            return show_number(value, code)
        if is_elapsed(code):
            return show_moment(timedelta(days=value), code)
        days = value + 1 if self._epoch == _EPOCH and 0 < value < _LEAP_DAY_1900 else value
        try:
            return show_moment(self._epoch + timedelta(seconds=round(days * 86_400)), code)
        except OverflowError:
            return show_number(value, None)


def _merged(sheet: bytes) -> Merged:
    """The ranges of merged cells, which stand behind the cells of a sheet."""
    behind = sheet.rfind(b"sheetData")
    return [
        (_place(match[1], match[2]), _place(match[3], match[4])) for match in _MERGE.finditer(sheet, max(0, behind))
    ]


def _is_in(column: int, ranges: Ranges) -> bool:
    return any(first <= column <= last for first, last in ranges)


def _hidden_columns(sheet: bytes) -> Ranges:
    """First and last of ranges of hidden columns, from 0; they stand before the cells."""
    ahead = sheet[: max(0, sheet.find(b"sheetData"))]
    ranges = [dict(_ATTRIBUTE.findall(column)) for column in _COLUMN.findall(ahead) if _HIDDEN.search(column)]
    return [(int(each.get(b"min", b"1")) - 1, int(each.get(b"max", b"0")) - 1) for each in ranges]


def _without(columns: Ranges, rows: Iterable[list[str]]) -> Iterable[list[str]]:
    if not columns:
        return rows
    gone = {column for first, last in columns for column in range(first, min(last, _COLUMNS_MAX) + 1)}
    return ([text for column, text in enumerate(row) if column not in gone] for row in rows)


def _place(letters: bytes, row: bytes) -> tuple[int, int]:
    return int(row) - 1, _column(letters.decode("ascii"), after=0)


def _shared_strings(package: Package, part: str) -> Iterator[str]:
    for element in _elements(package, part, "si"):
        yield _words(element)


def _words(element: Element | None) -> str:
    """The text of a cell without its phonetic guide."""
    parts: list[str] = []
    for each in element if element is not None else ():
        if local(each) == "t":
            parts.append(each.text or "")
        elif local(each) == "r":
            parts.extend(run.text or "" for run in each if local(run) == "t")
    return "".join(parts)


def _formats(styles: Element | None) -> list[str]:
    """The number format of each cell style."""
    own = {attribute(each, "numFmtId"): attribute(each, "formatCode") or "General" for each in inside(styles, "numFmt")}
    found: list[str] = []
    cell_styles = child(styles, "cellXfs")
    for style in cell_styles if cell_styles is not None else ():
        number = attribute(style, "numFmtId") or "0"
        found.append(own.get(number) or _BUILT_IN.get(int(number), "General"))
    return found


def _elements(package: Package, part: str, name: str) -> Iterator[Element]:
    """The elements of a name in a part, one after the other; each is forgotten when the next is asked for."""
    stream = package.open(part)
    if stream is None:
        return
    above: list[Element] = []
    for event, element in iterparse(stream, ("start", "end")):  # noqa: S314 - in the sandbox; expat bounds entities
        if event == "start":
            above.append(element)
            continue
        above.pop()
        if local(element) == name:
            yield element
            above[-1].clear()


def _column(reference: str, *, after: int) -> int:
    """``C7`` is column 2; without a reference it is the next one."""
    column = 0
    for letter in reference:
        if not letter.isalpha():
            break
        column = column * 26 + ord(letter.upper()) - ord("A") + 1
    return max(after, min(column - 1, _COLUMNS_MAX)) if column else after


def _plain(value: object) -> str:
    """A value without its format; a day has no hour, and a figure that is whole no decimals."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="minutes").removesuffix(" 00:00")
    if isinstance(value, bool):
        return str(value).upper()
    return show_number(value, None) if isinstance(value, int | float) else str(value)


def _unmerged(rows: Iterable[_Row], merged: Merged) -> Iterator[list[str]]:
    """The rows with the value of merged cells in each place that they cover; a gap is a blank row.

    Hidden ones are left out, but for a merged cell that reaches out of them.
    """
    waiting = sorted(merged, reverse=True)
    covering: list[tuple[int, int, int, str]] = []  # last row, first column, last column, value
    expected = 0
    for number, row, is_hidden in rows:
        if number > expected:
            yield []
        expected = number + 1
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
        if not is_hidden:
            yield row
