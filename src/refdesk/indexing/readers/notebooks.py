"""Jupyter notebooks: their words, their code and its output."""

import json
from typing import Any

from refdesk.indexing.markup import read_markdown
from refdesk.indexing.parsed import DocumentWriter
from refdesk.indexing.readers.structured import read_lines


def read_notebook(text: str, writer: DocumentWriter) -> None:
    """Cell by cell; what is no notebook after all is read as lines."""
    try:
        cells = json.loads(text)["cells"]
        for cell in cells:
            _read_cell(cell, writer)
    except (ValueError, KeyError, TypeError, AttributeError):
        read_lines(text, writer)


def _read_cell(cell: dict[str, Any], writer: DocumentWriter) -> None:
    source = "".join(cell.get("source", []))
    if cell.get("cell_type") == "markdown":
        read_markdown(source, writer)
        return
    writer.add("code", source)
    for output in cell.get("outputs", []):
        shown = output.get("text") or output.get("data", {}).get("text/plain", [])
        if output.get("output_type") == "error":
            shown = f"{output.get('ename', '')}: {output.get('evalue', '')}"
        writer.add("code", "".join(shown))
