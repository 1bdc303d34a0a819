"""Bytes to a `ParsedDocument`. Runs inside the sandbox only: everything here may hang, swell or crash.

Each format has its reader; where ours stumbles, and for all others, there is kreuzberg (`readers.trees`).
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from refdesk.indexing.archives import OLE, check_archive, encrypted, is_whole_ole
from refdesk.indexing.attachments import Attachments, Began
from refdesk.indexing.frames import Request
from refdesk.indexing.markup import read_markdown
from refdesk.indexing.parsed import DocumentWriter, ParsedDocument, ParsingLimits, Scan, rejected
from refdesk.indexing.pdf_pages import mend_hyphens
from refdesk.indexing.readers.asciidoc import read_asciidoc
from refdesk.indexing.readers.calendars import read_calendar
from refdesk.indexing.readers.cards import read_cards
from refdesk.indexing.readers.delimited import read_delimited
from refdesk.indexing.readers.html import read_html
from refdesk.indexing.readers.mail import MailReader
from refdesk.indexing.readers.notebooks import read_notebook
from refdesk.indexing.readers.opendocument import read_presentation, read_spreadsheet, read_text
from refdesk.indexing.readers.pdf import read_pdf
from refdesk.indexing.readers.plain import decoded, read_plain
from refdesk.indexing.readers.slides import read_slides
from refdesk.indexing.readers.structured import read_json, read_lines, read_xml, with_directives
from refdesk.indexing.readers.subtitles import read_subtitles
from refdesk.indexing.readers.trees import RUST_PANIC, read_tree
from refdesk.indexing.readers.word import read_word
from refdesk.indexing.readers.workbooks import read_workbook, read_xlsx
from refdesk.outside import media_types as kinds

_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")  # [MS-OFFCRYPTO] 2.3.4.4
_ENCRYPTED_MAIL = "content-type: multipart/encrypted".encode("utf-16-le")  # anywhere in Outlook's file
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
_MARKED_UP = frozenset({kinds.LATEX, kinds.ORG, kinds.RST})
_PLACEHOLDERS = frozenset({"untitled", "untitled document", "powerpoint presentation", "slide 1", "document1"})


def _nothing(_: int) -> None:
    """For those who read in a process of their own making."""


def extract(content: bytes, request: Request, *, limits: ParsingLimits, began: Began = _nothing) -> ParsedDocument:
    """Parses a document, or raises `DocumentRejected` with what is the matter and what to do.

    Without any text it returns only when there are pages whose text may be recognised, or has been. ``began`` is told of each
    attachment that is about to be read.
    """
    media_type, name = request.media_type, request.filename or "The document"
    if media_type not in kinds.SUPPORTED:
        raise rejected(f"{name} is of a kind that cannot be read ({media_type})", "convert it to PDF, DOCX or Markdown")
    if not content:
        raise rejected(f"{name} is empty", "upload a file that has content")
    extraction = _Extraction(name, request, limits=limits, began=began)
    pages, scanned = extraction.read(content, media_type, request.recognised)
    writer = extraction.writer
    if (writer.title or "").strip().lower() in _PLACEHOLDERS:
        writer.title = None
    document = writer.finish(pages=pages, scanned=scanned, scans=extraction.scans)
    if not document.blocks and not document.scanned and not request.recognised:
        raise rejected(f"{name} contains no text", "upload a file that has some", characters=0)
    return document


class _Extraction:
    """The reading of one document, and of what is attached to it."""

    def __init__(self, name: str, request: Request, *, limits: ParsingLimits, began: Began) -> None:
        self.writer = DocumentWriter(name=name, limits=limits)
        self._limits = limits
        self._attachments = Attachments(
            self.writer,
            self._read_attachment,
            request=request,
            limits=limits,
            began=began,
        )

    def read(self, content: bytes, media_type: str, recognised: dict[int, str]) -> tuple[int | None, tuple[int, ...]]:
        """How many pages there are, and which of them hold no text and have not been recognised."""
        writer = self.writer
        if content.startswith(OLE) and _ENCRYPTED_PACKAGE in content:
            raise encrypted(writer.name)
        if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            check_archive(content, name=writer.name, limits=self._limits)
        if media_type == kinds.PDF:
            return read_pdf(content, writer, recognised, limits=self._limits, attach=self._attachments.add)
        if media_type in kinds.PICTURES:
            return None, _read_picture(recognised, writer)
        return self._read_unpaged(content, media_type), ()

    @property
    def scans(self) -> list[Scan]:
        return self._attachments.scans

    def _read_attachment(self, content: bytes, media_type: str, recognised: dict[int, str]) -> tuple[int, ...]:
        return self.read(content, media_type, recognised)[1]

    def _read_unpaged(self, content: bytes, media_type: str) -> int | None:
        """How many slides or sheets there are, where a reader knows."""
        writer = self.writer
        if reader := self._bytes_reader(content, media_type):
            with _falling_back(writer):
                return reader(content)
        if text_reader := _TEXT_READERS.get(media_type):
            text_reader(decoded(content, media_type, writer), writer)
            return None
        if media_type == kinds.XML:
            with _falling_back(writer):
                read_xml(decoded(content, media_type, writer), writer)
                return None
        if media_type == kinds.RST:
            content = with_directives(decoded(content, media_type, writer)).encode()
        before = writer.place.blocks
        pages = read_tree(content, media_type, writer)
        if media_type in _MARKED_UP and writer.place.blocks == before:  # it does not follow the marks: then as it is
            read_plain(decoded(content, media_type, writer), writer)
        return pages

    def _bytes_reader(self, content: bytes, media_type: str) -> Callable[[bytes], int | None] | None:
        if media_type in _MAIL_READERS:
            return partial(_MAIL_READERS[media_type], MailReader(self.writer, self._attachments))
        reader = _BYTES_READERS.get(media_type)
        if reader is None or (content.startswith(OLE) and not is_whole_ole(content)):
            return None
        return lambda content: reader(content, self.writer)


def _read_outlook(reader: MailReader, content: bytes) -> None:
    if _ENCRYPTED_MAIL in content.lower():
        raise reader.encrypted()
    reader.read_outlook(content)


_MAIL_READERS: dict[str, Callable[[MailReader, bytes], None]] = {
    kinds.EML: MailReader.read,
    kinds.MSG: _read_outlook,
    kinds.MBOX: MailReader.read_mailbox,
    kinds.TNEF: MailReader.read_packed,
}

_BYTES_READERS: dict[str, Callable[[bytes, DocumentWriter], int | None]] = {
    kinds.DOCX: read_word,
    kinds.PPTX: read_slides,
    kinds.XLSX: read_xlsx,
    kinds.XLSB: read_workbook,
    kinds.XLS: read_workbook,
    kinds.ODT: read_text,
    kinds.ODS: read_spreadsheet,
    kinds.ODP: read_presentation,
    kinds.FODT: read_text,
    kinds.FODS: read_spreadsheet,
    kinds.FODP: read_presentation,
}
"""Readers of our own of formats that are no text; they return the number of pages, where there are some."""


@contextmanager
def _falling_back(writer: DocumentWriter) -> Iterator[None]:
    """Our own reader of a format stumbles: what it wrote is forgotten, and what comes behind the block tries."""
    place = writer.place
    try:
        yield
    except BaseException as error:
        if not isinstance(error, _STUMBLES) and type(error).__name__ != RUST_PANIC:
            raise
        writer.rewind(place)


_TEXT_READERS: dict[str, Callable[[str, DocumentWriter], None]] = {
    kinds.MARKDOWN: read_markdown,
    kinds.TEXT: read_plain,
    kinds.ASCIIDOC: read_asciidoc,
    kinds.HTML: read_html,
    kinds.XHTML: read_html,
    kinds.CSV: read_delimited,
    kinds.TSV: lambda text, writer: read_delimited(text, writer, delimiter="\t"),
    kinds.NOTEBOOK: read_notebook,
    kinds.CALENDAR: read_calendar,
    kinds.CARDS: read_cards,
    kinds.SUBRIP: read_subtitles,
    kinds.WEBVTT: read_subtitles,
    kinds.JSON: read_json,
    kinds.JSON_LINES: read_json,
    kinds.YAML: read_lines,
    kinds.TOML: read_lines,
}


def _read_picture(recognised: dict[int, str], writer: DocumentWriter) -> tuple[int, ...]:
    for text in recognised.values():
        read_plain(mend_hyphens(text), writer)
    return () if recognised else (1,)
