"""Tables as text: comma-separated values and their relatives."""

import csv
import io
import re
from collections import Counter
from contextlib import suppress
from itertools import islice

from refdesk.indexing.parsed import DocumentWriter
from refdesk.indexing.readers.plain import read_plain
from refdesk.indexing.readers.tables import write_sheet

_FIELD_CHARACTERS_MAX = 1_000_000
_SEPARATOR_LINE = re.compile(r"sep=(.)\n", re.I)
_DELIMITERS = "\t;|,"
_DELIMITER_ROWS = 50
_DELIMITER_CHARACTERS = 64 * 1024


def read_delimited(text: str, writer: DocumentWriter, *, delimiter: str | None = None) -> None:
    """The delimiter is the one given, or that the text declares, or that makes a table of it."""
    csv.field_size_limit(_FIELD_CHARACTERS_MAX)
    text = text.lstrip("\ufeff").replace("\0", "")
    if declared := _SEPARATOR_LINE.match(text):  # Excel's
        delimiter, text = declared[1], text[declared.end() :]
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter or _delimiter(text)))
    except csv.Error:
        read_plain(text, writer)
        return
    write_sheet(writer, rows)


def _delimiter(text: str) -> str:
    """The one that makes the most rows equally wide; of equals the one that prose and figures use less."""
    return max(_DELIMITERS, key=lambda delimiter: _evenness(text[:_DELIMITER_CHARACTERS], delimiter))


def _evenness(sample: str, delimiter: str) -> float:
    rows = csv.reader(io.StringIO(sample), delimiter=delimiter)
    widths = Counter[int]()
    with suppress(csv.Error):
        widths.update(len(row) for row in islice(rows, _DELIMITER_ROWS) if row)
    several = [count for width, count in widths.items() if width > 1]
    return max(several, default=0) / max(1, widths.total())
