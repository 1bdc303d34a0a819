"""Tables for spreadsheets: CSV in which no text of other people's becomes a formula."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

CSV = "text/csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes."""


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """One line a row; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue()


def attachment(name: str) -> dict[str, str]:
    """The header with which a browser keeps a reply as a file of that name."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return "'" + value
    return "" if value is None else value
