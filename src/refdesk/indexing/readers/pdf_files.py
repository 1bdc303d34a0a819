"""Files inside a PDF: those in the document's list (an invoice's XML, a portfolio), and those that are pinned to a page."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pypdfium2
import pypdfium2.raw

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.parsed import rejected

pdfium: Any = pypdfium2.raw  # C functions, without types

File = tuple[Callable[[], bytes], str, str]
"""What unpacks it, its name, and its media type (PDFs hardly ever say one: none)."""
Attach = Callable[[Callable[[], bytes], str, str], None]
"""Takes a `File`."""


def has_files(page: pypdfium2.PdfPage) -> bool:
    """Whether any are pinned to a page."""
    return any(True for _ in _pins(page))


def embedded_files(document: pypdfium2.PdfDocument, *, pinned: Iterable[int]) -> Iterator[File]:
    """The files, each to be taken before the next; ``pinned`` are the pages (from 0 on) that have any."""
    for index in range(document.count_attachments()):
        yield _file(document.get_attachment(index))
    for number in pinned:
        page = document[number]
        try:
            for pin in _pins(page):
                if file := pdfium.FPDFAnnot_GetFileAttachment(pin):
                    yield _file(pypdfium2.PdfAttachment(file, document))
        finally:
            page.close()


def _pins(page: pypdfium2.PdfPage) -> Iterator[object]:
    for index in range(pdfium.FPDFPage_GetAnnotCount(page.raw)):
        annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
        if not annotation:
            continue
        try:
            if pdfium.FPDFAnnot_GetSubtype(annotation) == pdfium.FPDF_ANNOT_FILEATTACHMENT:
                yield annotation
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _file(attachment: pypdfium2.PdfAttachment) -> File:
    name = " ".join(attachment.get_name().split()) or "unnamed file"
    return partial(_content, attachment, name), name, ""


def _content(attachment: pypdfium2.PdfAttachment, name: str) -> bytes:
    try:
        return bytes(attachment.get_data())
    except pypdfium2.PdfiumError as error:
        raise _damaged(name) from error


def _damaged(name: str) -> DocumentRejected:
    return rejected(f"{name} cannot be taken out of the PDF", "save it from your PDF reader and upload that")
