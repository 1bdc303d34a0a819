"""Jupyter notebooks: their words, their code and its output."""

import json
from typing import Any

from refdesk.indexing.markup import read_markdown
from refdesk.indexing.parsed import DocumentWriter
from refdesk.indexing.readers.structured import read_lines


def read_notebook(text: str, writer: DocumentWriter) -> None:
    """Cell by cell; what is no notebook after all is read as lines."""
    try:
        for cell in _cells(json.loads(text)):
            _read_cell(cell, writer)
    except (ValueError, KeyError, TypeError, AttributeError):
        read_lines(text, writer)


def _cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Before the fourth format, which is of 2014, they stood on sheets."""
    if "worksheets" not in notebook:
        return list(notebook["cells"])
    return [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]


def _read_cell(cell: dict[str, Any], writer: DocumentWriter) -> None:
    source = "".join(cell.get("source") or cell.get("input") or [])
    if cell.get("cell_type") == "heading":
        writer.add("heading", source, level=int(cell.get("level", 1)))
        return
    if cell.get("cell_type") == "markdown":
        read_markdown(source, writer)
        return
    writer.add("code", source)
    for output in cell.get("outputs", []):
        shown = output.get("text") or output.get("data", {}).get("text/plain", [])
        if output.get("output_type") == "error":
            shown = f"{output.get('ename', '')}: {output.get('evalue', '')}"
        writer.add("code", "".join(shown))
