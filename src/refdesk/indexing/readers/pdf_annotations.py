"""What was typed into the forms of a PDF page, and what was written on it."""

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pypdfium2
import pypdfium2.raw

from refdesk.indexing.readers.pdf_glyphs import Piece

pdfium: Any = pypdfium2.raw  # C functions, without types

_MARKED = frozenset(
    {pdfium.FPDF_ANNOT_TEXT, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_STAMP, pdfium.FPDF_ANNOT_CARET}
    | {
        pdfium.FPDF_ANNOT_HIGHLIGHT,
        pdfium.FPDF_ANNOT_UNDERLINE,
        pdfium.FPDF_ANNOT_STRIKEOUT,
        pdfium.FPDF_ANNOT_SQUIGGLY,
    }
    | {pdfium.FPDF_ANNOT_SQUARE, pdfium.FPDF_ANNOT_CIRCLE, pdfium.FPDF_ANNOT_LINE, pdfium.FPDF_ANNOT_INK}
)
_SWITCHES = frozenset({pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON})
_PLAIN_SWITCH = frozenset({"", "yes", "on", "1", "true"})


def annotations(document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage) -> Iterator[tuple[Piece, bool]]:
    """What was typed into fields (True), and what was written on the page (False), each with its place."""
    form = document.formenv.raw if document.formenv else None
    for index in range(pdfium.FPDFPage_GetAnnotCount(page.raw)):
        annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
        if not annotation:
            continue
        try:
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            if pdfium.FPDFAnnot_GetFlags(annotation) & pdfium.FPDF_ANNOT_FLAG_HIDDEN:
                continue
            if kind == pdfium.FPDF_ANNOT_WIDGET and form:
                text = _field_value(form, annotation)
            else:
                text = _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents") if kind in _MARKED else ""
            if text.strip():
                yield _placed(text.strip(), annotation), kind == pdfium.FPDF_ANNOT_WIDGET
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _field_value(form: object, annotation: object) -> str:
    kind = pdfium.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in {pdfium.FPDF_FORMFIELD_PUSHBUTTON, pdfium.FPDF_FORMFIELD_SIGNATURE}:
        return ""
    if kind not in _SWITCHES:
        return _string(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation)
    if not pdfium.FPDFAnnot_IsChecked(form, annotation):
        return ""
    exported = _string(pdfium.FPDFAnnot_GetFormFieldExportValue, form, annotation)
    return "[x]" if exported.lower() in _PLAIN_SWITCH else f"[x] {exported}"


def _string(ask: Callable[..., int], *arguments: object) -> str:
    """A string that pdfium writes as UTF-16 into a buffer, once it is known how long it is."""
    size = ask(*arguments, None, 0)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    ask(*arguments, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", errors="replace")


def _placed(text: str, annotation: object) -> Piece:
    rect = pdfium.FS_RECTF()
    pdfium.FPDFAnnot_GetRect(annotation, rect)
    return Piece(text, rect.left, rect.right, min(rect.bottom, rect.top), max(rect.bottom, rect.top))
