"""Bytes to a `ParsedDocument`. Runs inside the sandbox only: everything here may hang, swell or crash.

Formats whose structure is explicit in text (Markdown, HTML, CSV, notebooks, plain text) are read directly; the office
formats, mail and books go through kreuzberg's document tree, PDF through its pages.
"""

import csv
import io
import json
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, islice
from typing import Any

import kreuzberg
import olefile

from refdesk.indexing.archives import check_archive, damaged, encrypted
from refdesk.indexing.frames import Request
from refdesk.indexing.markup import read_markdown
from refdesk.indexing.paragraphs import split_paragraphs
from refdesk.indexing.parsed import DocumentWriter, ParsedDocument, ParsingLimits, rejected, row_text
from refdesk.indexing.pdf_pages import mend_hyphens
from refdesk.indexing.readers import encodings
from refdesk.indexing.readers.calendars import read_calendar
from refdesk.indexing.readers.html import read_html
from refdesk.indexing.readers.mail import MailReader
from refdesk.indexing.readers.opendocument import read_presentation, read_spreadsheet, read_text
from refdesk.indexing.readers.pdf import read_pdf
from refdesk.indexing.readers.slides import read_slides
from refdesk.indexing.readers.structured import read_json, read_lines, read_xml, with_directives
from refdesk.indexing.readers.tables import write_sheet
from refdesk.indexing.readers.word import read_word
from refdesk.indexing.readers.workbooks import read_workbook, read_xlsx
from refdesk.outside import media_types as kinds

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")  # [MS-OFFCRYPTO] 2.3.4.4
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?([a-zA-Z0-9_.:-]{2,40})""")
_DECLARING = frozenset({kinds.HTML, kinds.XHTML, kinds.XML})
_MAIL = frozenset({kinds.EML, kinds.MSG, kinds.MBOX})
_PIECE_BYTES = 1024 * 1024
_ATTACHMENT_DEPTH_MAX = 4  # messages attached to messages as files
_RUST_PANIC = "PanicException"  # pyo3 derives it from BaseException, and exports it nowhere
_STUMBLES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    SyntaxError,
    struct.error,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_PAGE_MARK = re.compile(r"<!-- PAGE (\d+) -->")
_PLACEHOLDERS = frozenset({"untitled", "untitled document", "powerpoint presentation", "slide 1", "document1"})
_CSV_FIELD_CHARACTERS_MAX = 1_000_000
_SEPARATOR_LINE = re.compile(r"sep=(.)\n", re.I)
_DELIMITERS = "\t;|,"
_DELIMITER_ROWS = 50
_DELIMITER_CHARACTERS = 64 * 1024


def extract(content: bytes, request: Request, *, limits: ParsingLimits) -> ParsedDocument:
    """Parses a document, or raises `DocumentRejected` with what is the matter and what to do.

    Without any text it returns only when there are pages whose text may be recognised, or has been.
    """
    media_type, name = request.media_type, request.filename or "The document"
    if media_type not in kinds.SUPPORTED:
        raise rejected(f"{name} is of a kind that cannot be read ({media_type})", "convert it to PDF, DOCX or Markdown")
    if not content:
        raise rejected(f"{name} is empty", "upload a file that has content")
    writer = DocumentWriter(name=name, limits=limits)
    pages, scanned = _read_into(writer, content, request, limits=limits)
    if (writer.title or "").strip().lower() in _PLACEHOLDERS:
        writer.title = None
    document = writer.finish(pages=pages, scanned=scanned)
    if not document.blocks and not document.scanned and not request.recognised:
        raise rejected(f"{name} contains no text", "upload a file that has some")
    return document


def _read_into(
    writer: DocumentWriter, content: bytes, request: Request, *, limits: ParsingLimits, depth: int = 0
) -> tuple[int | None, tuple[int, ...]]:
    """How many pages there are, and which of them hold no text and have not been recognised."""
    media_type, name = request.media_type, request.filename or "The document"
    if content.startswith(_OLE) and _ENCRYPTED_PACKAGE in content:
        raise encrypted(name)
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        check_archive(content, name=name, limits=limits)
    if media_type == kinds.PDF:
        return read_pdf(content, writer, request.recognised, limits=limits)
    if media_type in kinds.PICTURES:
        return None, _read_picture(request.recognised, writer)
    if media_type in _MAIL:
        with _falling_back(writer):
            _read_mail(writer, content, media_type, limits=limits, depth=depth)
            return None, ()
    if (read := _BYTES_READERS.get(media_type)) and not (content.startswith(_OLE) and not _is_whole_ole(content)):
        with _falling_back(writer):
            return read(content, writer), ()
    if reader := _TEXT_READERS.get(media_type):
        text, guess = _decode(content, media_type)
        reader(text, writer)
        _say_doubt(guess, writer)
        return None, ()
    if media_type == kinds.XML:
        with _falling_back(writer):
            read_xml(_decode(content, media_type)[0], writer)
            return None, ()
    if media_type == kinds.RST:
        content = with_directives(_decode(content, media_type)[0]).encode()
    return _read_tree(content, media_type, writer, name=name), ()


_BYTES_READERS: dict[str, Callable[[bytes, DocumentWriter], int | None]] = {
    kinds.DOCX: read_word,
    kinds.PPTX: read_slides,
    kinds.XLSX: read_xlsx,
    kinds.XLSB: read_workbook,
    kinds.XLS: read_workbook,
    kinds.ODT: read_text,
    kinds.ODS: read_spreadsheet,
    kinds.ODP: read_presentation,
}
"""Readers of our own of formats that are no text; they return the number of pages, where there are some."""


@contextmanager
def _falling_back(writer: DocumentWriter) -> Iterator[None]:
    """Our own reader of a format stumbles: what it wrote is forgotten, and what comes behind the block tries."""
    written, title = writer.written, writer.title
    try:
        yield
    except BaseException as error:
        if not isinstance(error, _STUMBLES) and type(error).__name__ != _RUST_PANIC:
            raise
        writer.rewind(written)
        writer.title = title


# Mail and what is attached to it


def _read_mail(writer: DocumentWriter, content: bytes, media_type: str, *, limits: ParsingLimits, depth: int) -> None:
    """Messages have no pages."""

    def attached(data: bytes, filename: str, declared: str) -> None:
        kind = kinds.detect_media_type(data[: kinds.HEAD_BYTES], filename, declared)
        if data and depth < _ATTACHMENT_DEPTH_MAX:
            _read_into(writer, data, Request(media_type=kind, filename=filename), limits=limits, depth=depth + 1)

    reader = MailReader(writer, attached)
    if media_type == kinds.MBOX:
        reader.read_mailbox(content)
    elif media_type == kinds.EML:
        reader.read(content)
    elif "content-type: multipart/encrypted".encode("utf-16-le") in content.lower():  # anywhere in Outlook's file
        raise rejected(f"{writer.name} is an encrypted message", "decrypt it and upload it again")
    else:
        reader.read_outlook(content)


# Plain text and its relatives


def _decode(content: bytes, media_type: str) -> tuple[str, encodings.Guess | None]:
    """The text, and the encoding it was read in where nothing declares one."""
    encoding, guess = kinds.text_encoding(content[: kinds.HEAD_BYTES]) or "cp1252", None
    declared = _CHARSET.search(content[:2048]) if media_type in _DECLARING else None
    if encoding.startswith("utf-") and encoding != "utf-8":
        text = content.decode(encoding, errors="replace")
    elif declared and encodings.codec_named(declared[1].decode("ascii")):
        text = encodings.decode(content, declared=declared[1].decode("ascii"))
    else:
        guess = encodings.guess(content)
        text = content.decode(guess.encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n"), guess


def _say_doubt(guess: encodings.Guess | None, writer: DocumentWriter) -> None:
    if guess is not None and guess.confidence < encodings.DOUBTFUL_BELOW:
        writer.add(
            "paragraph",
            f"[{writer.name} does not say how its text is encoded: read as {guess.name}, {guess.confidence:.2f} sure.]",
        )


def _read_text(text: str, writer: DocumentWriter) -> None:
    for paragraph in split_paragraphs(text.replace("\f", "\n\n")):
        writer.add("paragraph", paragraph)


def _read_table(text: str, writer: DocumentWriter, *, delimiter: str | None = None) -> None:
    csv.field_size_limit(_CSV_FIELD_CHARACTERS_MAX)
    text = text.lstrip("\ufeff").replace("\0", "")
    if declared := _SEPARATOR_LINE.match(text):  # Excel's
        delimiter, text = declared[1], text[declared.end() :]
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter or _delimiter(text)))
    except csv.Error:
        _read_text(text, writer)
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


def _read_notebook(text: str, writer: DocumentWriter) -> None:
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
        writer.add("code", "".join(shown))


_TEXT_READERS: dict[str, Callable[[str, DocumentWriter], None]] = {
    kinds.MARKDOWN: read_markdown,
    kinds.TEXT: _read_text,
    kinds.HTML: read_html,
    kinds.XHTML: read_html,
    kinds.CSV: _read_table,
    kinds.TSV: lambda text, writer: _read_table(text, writer, delimiter="\t"),
    kinds.NOTEBOOK: _read_notebook,
    kinds.CALENDAR: read_calendar,
    kinds.JSON: read_json,
    kinds.JSON_LINES: read_json,
    kinds.YAML: read_lines,
    kinds.TOML: read_lines,
}


# PDF and pictures


def _read_picture(recognised: dict[int, str], writer: DocumentWriter) -> tuple[int, ...]:
    for text in recognised.values():
        _read_text(mend_hyphens(text), writer)
    return () if recognised else (1,)


# Everything that kreuzberg turns into a tree


def _read_tree(content: bytes, media_type: str, writer: DocumentWriter, *, name: str) -> int | None:
    result = _kreuzberg(content, media_type, name=name, tree=True)
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


def _kreuzberg(content: bytes, media_type: str, *, name: str, tree: bool) -> kreuzberg.ExtractionResult:
    config = kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="markdown" if tree else "plain",
        include_document_structure=tree,
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
        if type(error).__name__ != _RUST_PANIC:
            raise
        raise _unreadable(name, content, media_type, str(error)) from error


def _unreadable(name: str, content: bytes, media_type: str, reason: str) -> Exception:
    """What holds together as a file is not called damaged: it may be older, or of another program, than our readers know."""
    kind = kinds.SUPPORTED[media_type].name
    if content.startswith(b"PK\x03\x04") or (content.startswith(_OLE) and _is_whole_ole(content)):
        short = " ".join(reason.split())[:160].rstrip(". ")
        return rejected(
            f"{name} cannot be read here as {kind} ({short})",
            "open it in LibreOffice or Microsoft Office, save it as DOCX, XLSX, PPTX or PDF, and upload the new copy",
        )
    return damaged(name, f"not readable as {kind}: {reason}")


def _is_whole_ole(content: bytes) -> bool:
    """Whether all its streams can be read ([MS-CFB])."""
    try:
        with olefile.OleFileIO(content) as container:
            for stream in container.listdir():
                with container.openstream(stream) as opened:
                    while opened.read(_PIECE_BYTES):
                        pass
    except (OSError, ValueError, IndexError):
        return False
    return True


def _reason(error: Exception) -> str:
    """The last part of a chained message: ``ParsingError: Invalid PDF: FormatError`` repeats itself before."""
    parts = [part.strip() for part in str(error).split(":") if part.strip()]
    return ": ".join(dict.fromkeys(parts[-2:])) if parts else type(error).__name__
