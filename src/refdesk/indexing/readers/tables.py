"""Tables of every format, once their cells are known: what is a title, what the header, what a row.

Stock list, May            a row with one cell above the table: a paragraph
Article | Price | Stock    the header: names, no figures (years and counters are names, too)
Bolt    | 1.25  | 300      rows

A header too long to be repeated before the rows of every passage is said with each cell instead:
``Article: Bolt | Price: 1.25 | Stock: 300``.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest

from refdesk.indexing.parsed import Sink, row_text

_FIGURE = re.compile(
    r"[-+(]?[€$£¥]?\s?\d[\d.,'’ \xa0\u202f]*+(?:\s?(?:%|‰|[€$£¥°]|[A-Z]{3}|(?:k|M|m|c|d)?[gmlWVAB]|h|min|s))?\)?"
)
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}(?:[-./]\d{1,4})?\.?(?:[T ]\d{1,2}:\d\d(?::\d\d)?.*)?|\d{1,2}:\d\d(?::\d\d)?")
_OTHER = re.compile(r"(?i:true|false|yes|no|n/?a|-+|–|—|✓|x)|(?<!\S)[^\s@]++@\S++|https?://\S++")
_YEAR = re.compile(r"(?:19|20)\d\d")
_CELL_CHARACTERS_MAX = 60  # in which a value is looked for
_NAME_CHARACTERS_MAX = 120  # a longer cell is no column's name
_TITLE_ROWS_MAX = 12
_HEADER_ROWS_MAX = 4
_LOOKED_AT = 50  # rows below a header
_HEADER_CHARACTERS_MAX = 320  # of a header that is repeated; about 80 tokens
_NAMED_CHARACTERS_MAX = (
    2_000_000  # of a table whose cells are said with their names; a larger one would swell beyond all bounds
)
_NAMED_ROW_CHARACTERS = 480  # of one block of such a row


def write_table(sink: Sink, rows: Iterable[Sequence[str]], *, headers: int | None = None, guess: bool = True) -> None:
    """Writes a table. ``headers`` rows are its header, where the format says so; else it is looked for if ``guess``.

    Rows of one cell above a header that was looked for are paragraphs. Several header rows become one.
    """
    grid = [cleaned for row in rows if any(cleaned := [" ".join(cell.split()) for cell in row])]
    if not grid:
        return
    if headers is None:
        titles = _titles(grid) if len(grid) > 1 else int(len(set(filter(None, grid[0]))) == 1)
        for row in grid[:titles]:
            sink.add("paragraph", row_text(list(dict.fromkeys(cell for cell in row if cell))))
        grid = grid[titles:]
        headers = _header_rows(grid) if guess else 0
        grid[: max(0, headers - 1)] = map(_spread, grid[: max(0, headers - 1)], grid[1:headers])
    headers = min(headers, len(grid) - 1) if grid else 0
    names, rows = _joined(grid[:headers]) if headers > 0 else [], grid[max(0, headers) :]
    length = sum(map(len, names))
    if length > _HEADER_CHARACTERS_MAX and length * len(rows) <= _NAMED_CHARACTERS_MAX:
        _write_named(sink, names, rows)
        return
    if names:
        sink.add("head", row_text(names))
    for row in rows:
        sink.add("row", row_text(_once(row)))


def _write_named(sink: Sink, names: list[str], rows: list[list[str]]) -> None:
    """Rows of many columns: each cell with the name of its column, in blocks that begin with the first cell of the row."""
    for row in rows:
        first, *others = [
            f"{name}: {cell}" if name and cell else cell for name, cell in zip_longest(names, row, fillvalue="")
        ]
        block = [first]
        for cell in filter(None, others):
            block.append(cell)
            if sum(map(len, block)) > _NAMED_ROW_CHARACTERS:
                sink.add("row", row_text(block))
                block = [first]
        if len(block) > 1:
            sink.add("row", row_text(block))


def write_sheet(sink: Sink, rows: Iterable[Sequence[str]]) -> None:
    """Writes what stands on a sheet: tables apart from each other by blank rows, or side by side with headers of their own.

    Names above a blank row above figures are the header of these.
    """
    open_table = False
    held: list[list[str]] = []
    for stretch in _stretches(rows):
        if held and not is_header(stretch) and _has_figures(stretch):
            stretch, held = held + stretch, []
        if held:
            open_table = _write_stretch(sink, held, open_table=open_table)
            held = []
        if _names_only(stretch):
            held = stretch
        else:
            open_table = _write_stretch(sink, stretch, open_table=open_table)
    if held:
        _write_stretch(sink, held, open_table=open_table)


def _write_stretch(sink: Sink, stretch: list[list[str]], *, open_table: bool) -> bool:
    """Writes rows without a blank one among them; whether a table is open behind them, in which others may go on."""
    for table in _side_by_side(stretch):
        goes_on = open_table and not _begins_table(table)
        write_table(sink, table, headers=0 if goes_on else None)
        open_table = open_table or len(table) > 1
    return open_table


def _stretches(rows: Iterable[Sequence[str]]) -> Iterator[list[list[str]]]:
    stretch: list[list[str]] = []
    for row in chain(rows, [[]]):
        cells = [" ".join(cell.split()) for cell in row]
        if any(cells):
            stretch.append(cells)
        elif stretch:
            yield stretch
            stretch = []


def _names_only(stretch: list[list[str]]) -> bool:
    """Whether it may be the header of what follows: a few rows without figures, the last one with several names."""
    if len(stretch) > _HEADER_ROWS_MAX or len({cell for cell in stretch[-1] if cell}) < 2:
        return False
    return not any(is_value(cell) and not _YEAR.fullmatch(cell) for row in stretch for cell in row)


def _has_figures(stretch: list[list[str]]) -> bool:
    return any(is_value(cell) for row in stretch for cell in row[1:])


def _begins_table(grid: list[list[str]]) -> bool:
    """Whether rows behind a blank one are a table of their own: with a title, or a header over figures."""
    return _titles(grid) > 0 or (is_header(grid) and has_values(grid))


def _side_by_side(grid: list[list[str]]) -> list[list[list[str]]]:
    """The tables that blank columns separate, where each has a header; else all as one."""
    width = max(map(len, grid))
    filled = [any(index < len(row) and row[index] for row in grid) for index in range(width)]
    if all(filled):
        return [grid]
    edges = [
        index for index in range(width + 1) if (index < width and filled[index]) != (index > 0 and filled[index - 1])
    ]
    parts = [[row[start:end] for row in grid] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    parts = [[row for row in part if any(row)] for part in parts]
    own = len(parts) > 1 and all(_stands_alone(part) for part in parts)
    return parts if own else [grid]


def _stands_alone(part: list[list[str]]) -> bool:
    """Whether a table has a header, and rows that begin with something else than figures: these belong to names on their left."""
    below = part[_titles(part) :]
    if not is_header(below):
        return False
    begin = [row[0] for row in below[1:] if row[0]]
    return len(begin) > len(below) // 2 and 2 * sum(map(_is_measure, begin)) < len(begin)


def _is_measure(cell: str) -> bool:
    return is_value(cell) and not cell.isdecimal()  # whole numbers may count the rows


def _header_rows(grid: Sequence[Sequence[str]]) -> int:
    """How many rows name the columns: below a first one others may stand that name what it groups."""
    if not is_header(grid) and not _begins_with_groups(grid):
        return 0
    count = 1
    while count < min(_HEADER_ROWS_MAX, len(grid) - 1) and _is_lower_header(grid, count):
        count += 1
    return count


def _begins_with_groups(grid: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names groups of columns, and those below it the columns."""
    return bool(grid) and not grid[0][0] and len(set(grid[0])) > 2 and _is_lower_header(grid, 1) and is_header(grid[1:])


def _spread(groups: Sequence[str], names: Sequence[str]) -> list[str]:
    """Names of groups over all their columns: up to the next one, or to a column without a name."""
    spread: list[str] = []
    for group, name in zip_longest(groups, names, fillvalue=""):
        spread.append(group or (spread[-1] if spread and name else ""))
    return spread


def _is_lower_header(grid: Sequence[Sequence[str]], number: int) -> bool:
    """Whether a row names columns and no row: its first cell is empty, it has no figures, and those below have."""
    if len(grid) < number + 2:
        return False
    row = grid[number]
    names = {cell for cell in row if cell}
    return not row[0] and len(names) > 1 and not any(map(is_value, names)) and has_values(grid[number:])


def is_header(grid: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns of those below."""
    if len(grid) < 2:
        return False
    first, below = grid[0], grid[1 : 1 + _LOOKED_AT]
    width = max(sum(map(bool, row)) for row in below)
    names = [cell for cell in first if cell]
    if len(names) < 2 or 2 * len(names) < width or len(set(names)) < 2:
        return False
    if any(len(name) > _NAME_CHARACTERS_MAX or "\n" in name for name in names):
        return False
    figures = [index for index, cell in enumerate(first) if is_value(cell)]
    if not figures:
        return True
    if 0 in figures or (first[0] and is_value(first[0])):
        return False
    return _are_counters([first[index] for index in figures])


def is_value(cell: str) -> bool:
    """Whether a cell holds a figure, a date or the like, which no column is named after."""
    cell = cell.strip()
    if not cell or len(cell) > _CELL_CHARACTERS_MAX:
        return False
    return any(kind.fullmatch(cell) for kind in (_FIGURE, _DATE, _OTHER))


def _are_counters(cells: list[str]) -> bool:
    """Years, days, classes: whole numbers that each come once."""
    if all(_YEAR.fullmatch(cell) for cell in cells):
        return len(set(cells)) == len(cells)
    if not all(cell.isdecimal() and len(cell) <= 4 for cell in cells) or len(cells) < 2:
        return False
    numbers = [int(cell) for cell in cells]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _titles(grid: list[list[str]]) -> int:
    """How many rows stand above the table proper: of one cell, or far narrower than the table whose header follows."""
    width = max(sum(map(bool, row)) for row in grid)
    for number, row in enumerate(grid[:_TITLE_ROWS_MAX]):
        cells = len({cell for cell in row if cell})
        if _begins_with_groups(grid[number:]):
            return number
        if cells > 1 and (2 * cells >= width or not any(is_header(grid[at:]) for at in range(number + 1, number + 4))):
            return number
    return 0


def _joined(rows: list[list[str]]) -> list[str]:
    """Header rows as one: ``2024 Staff`` below a cell ``2024`` that spans several columns."""
    width = max(map(len, rows))
    columns = [[row[index] for row in rows if index < len(row) and row[index]] for index in range(width)]
    return [" ".join(dict.fromkeys(names)) for names in columns]


def _once(row: list[str]) -> list[str]:
    """What spans the whole row, or all of it that is filled, is said once."""
    return row[:1] if len(row) > 1 and row[0] and len(set(filter(None, row))) == 1 else row


class Grid:
    """The cells of a table where some span several rows or columns: their value is in each place that they cover."""

    def __init__(self, *, cells_max: int = 200_000) -> None:
        self.rows: list[list[str]] = []
        self._hanging: dict[int, tuple[int, str]] = {}  # column: how many rows it still covers, value
        self._cells_left = cells_max

    def open_row(self) -> None:
        self.close_row()
        self.rows.append([])

    @property
    def filled(self) -> int:
        """How many places of the open row have a value by now, what hangs down into it included."""
        self._let_hang(self.rows[-1])
        return len(self.rows[-1])

    def add(self, text: str, *, columns: int = 1, rows: int = 1) -> None:
        """The next cell of the open row. Spans are cut where the table would grow beyond all bounds."""
        if not self.rows:
            self.rows.append([])
        row = self.rows[-1]
        self._let_hang(row)
        for _ in range(max(1, min(columns, self._cells_left))):
            if rows > 1:
                self._hanging[len(row)] = (rows, text)
            row.append(text)
            self._cells_left -= 1

    def close_row(self) -> None:
        """Completes the open row with what hangs down into it behind its last cell."""
        if not self.rows or not self._hanging:
            return
        row = self.rows[-1]
        while self._cells_left > 0 and len(row) <= max(self._hanging):
            row.append(self._hanging.get(len(row), (0, ""))[1])
            self._cells_left -= 1
        # Each of them has just taken a cell, so that all rows together look at no more of them than there are cells.
        below = self._hanging.items() if self._cells_left > 0 else ()
        self._hanging = {column: (left - 1, text) for column, (left, text) in below if left > 1}

    def _let_hang(self, row: list[str]) -> None:
        while self._cells_left > 0 and (hanging := self._hanging.get(len(row))):
            row.append(hanging[1])
            self._cells_left -= 1


def has_values(grid: Sequence[Sequence[str]]) -> bool:
    """Whether some column holds mostly figures and dates below a first row that has none there."""
    below = [row for row in grid[1 : 1 + _LOOKED_AT] if any(row)]
    for index, first in enumerate(grid[0] if grid else ()):
        values = sum(index < len(row) and is_value(row[index]) for row in below)
        if not is_value(first) and 2 * values >= max(1, len(below)):
            return True
    return False
