"""Formats that kreuzberg reads: it turns a document into a tree, which is written block by block."""

import re
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import kreuzberg

from refdesk.indexing.archives import OLE, ZIP, damaged, encrypted, is_whole_ole
from refdesk.indexing.parsed import DocumentWriter, rejected, row_text
from refdesk.outside import media_types as kinds

RUST_PANIC = "PanicException"  # pyo3 derives it from BaseException, and exports it nowhere
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_NOTE_MARK = re.compile(r"\s*\[\^[\w-]{1,20}\]:[ \t]*")
_PAGE_MARK = re.compile(r"<!-- PAGE (\d+) -->")


def read_tree(content: bytes, media_type: str, writer: DocumentWriter) -> int | None:
    """Writes a document of any kind that kreuzberg knows; returns the number of slides, where there are some."""
    result = _kreuzberg(content, media_type, name=writer.name)
    metadata: dict[str, Any] = dict(result.metadata)
    writer.title = metadata.get("title")
    nodes: list[Any] = list(result.document["nodes"]) if result.document else []
    reader = _TreeReader(writer, media_type)
    for node in nodes:
        reader.read(node)
    return reader.slides


class _TreeReader:
    """Writes the nodes of kreuzberg's document tree, which come in reading order."""

    def __init__(self, writer: DocumentWriter, media_type: str) -> None:
        self.slides: int | None = None
        self._writer = writer
        self._media_type = media_type
        self._steps: dict[str, Callable[[dict[str, Any]], None]] = {
            "title": lambda content: writer.add("heading", content["text"], level=1),
            "heading": lambda content: writer.add("heading", content["text"], level=content.get("level") or 1),
            "paragraph": self._paragraph,
            "formula": self._paragraph,
            "footnote": self._footnote,
            "list_item": lambda content: writer.add("item", f"- {content['text'].strip()}"),
            "code": lambda content: writer.add("code", content["text"]),
            "image": lambda content: writer.add("paragraph", content.get("description") or ""),
            "table": self._table,
            "slide": self._slide,
        }

    def read(self, node: dict[str, Any]) -> None:
        content = node["content"]
        if node.get("content_layer") in {"header", "footer"}:
            return  # running lines of a word processor: on every page, on no topic
        if step := self._steps.get(content["node_type"]):
            step(content)

    def _paragraph(self, content: dict[str, Any]) -> None:
        text = content.get("text") or ""
        text = text[mark.end() :] if (mark := _NOTE_MARK.match(text)) else text
        if self._media_type == kinds.PPTX and (mark := _PAGE_MARK.fullmatch(text.strip())):
            self._start_slide(int(mark[1]))
        else:
            self._writer.add("paragraph", text)

    def _footnote(self, content: dict[str, Any]) -> None:
        if self._media_type != kinds.PPT:  # there it repeats the slides
            self._paragraph(content)

    def _slide(self, content: dict[str, Any]) -> None:
        self._start_slide(int(content.get("number") or 1))
        self._writer.add("heading", content.get("title") or "", level=2)

    def _start_slide(self, number: int) -> None:
        self._writer.page = self.slides = number

    def _table(self, content: dict[str, Any]) -> None:
        rows = list(_grid_rows(content["grid"]))
        for number, (row, is_header) in enumerate(rows):
            self._writer.add("head" if is_header and number == 0 and len(rows) > 1 else "row", row_text(row))


def _grid_rows(grid: dict[str, Any]) -> Iterator[tuple[list[str], bool]]:
    cells = sorted(grid.get("cells") or [], key=lambda cell: (cell["row"], cell["col"]))
    for _, group in groupby(cells, key=lambda cell: cell["row"]):
        row = list(group)
        texts = [_LINK.sub(r"\1", cell.get("content") or "") for cell in row]
        if any(text.strip() for text in texts):
            yield texts, all(cell.get("is_header") for cell in row)


def _kreuzberg(content: bytes, media_type: str, *, name: str) -> kreuzberg.ExtractionResult:
    config = kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="markdown",
        include_document_structure=True,
        pages=kreuzberg.PageConfig(extract_pages=True, insert_page_markers=media_type == kinds.PPTX),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
    )
    try:
        return kreuzberg.extract_bytes_sync(content, media_type, config)
    except kreuzberg.KreuzbergError as error:
        if "password" in str(error).lower() or "encrypted" in str(error).lower():
            raise encrypted(name) from error
        raise _unreadable(name, content, media_type, _reason(error)) from error
    except BaseException as error:
        if type(error).__name__ != RUST_PANIC:
            raise
        raise _unreadable(name, content, media_type, str(error)) from error


def _unreadable(name: str, content: bytes, media_type: str, reason: str) -> Exception:
    """What holds together as a file is not called damaged: it may be older, or of another program, than our readers know."""
    kind = kinds.SUPPORTED[media_type].name
    if content.startswith(ZIP) or (content.startswith(OLE) and is_whole_ole(content)):
        short = " ".join(reason.split())[:160].rstrip(". ")
        return rejected(
            f"{name} cannot be read here as {kind} ({short})",
            "open it in LibreOffice or Microsoft Office, save it as DOCX, XLSX, PPTX or PDF, and upload the new copy",
        )
    return damaged(name, f"not readable as {kind}: {reason}")


def _reason(error: Exception) -> str:
    """The last part of a chained message: ``ParsingError: Invalid PDF: FormatError`` repeats itself before."""
    parts = [part.strip() for part in str(error).split(":") if part.strip()]
    return ": ".join(dict.fromkeys(parts[-2:])) if parts else type(error).__name__
