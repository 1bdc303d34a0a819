"""One page of a scan, or a picture, to its text. Runs inside the sandbox only."""

from pathlib import Path

import kreuzberg

from refdesk.indexing.parsed import rejected
from refdesk.outside import media_types as kinds

DPI = 200
"""Tesseract reads 10 point type well from here on; 300 took the same time and 70 MiB more."""


def recognise(content: bytes, media_type: str, *, page: int, languages: str, name: str) -> str:
    """The text of a page, counted from 1; empty when there is none. Raises DocumentRejected."""
    try:
        if media_type == kinds.PDF:
            content, media_type = _rendered(content, page), kinds.PNG
        return kreuzberg.extract_bytes_sync(content, media_type, _configuration(languages)).content
    except (kreuzberg.KreuzbergError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(". ")
        raise rejected(
            f"The text on page {page} of {name} cannot be recognised ({reason})",
            "scan it anew, smaller or cleaner, or upload its text",
        ) from error


def _rendered(content: bytes, page: int) -> bytes:
    path = Path("scan.pdf")
    try:
        path.write_bytes(content)
        return kreuzberg.render_pdf_page(str(path), page - 1, dpi=DPI)
    finally:
        path.unlink(missing_ok=True)


def _configuration(languages: str) -> kreuzberg.ExtractionConfig:
    tesseract = kreuzberg.TesseractConfig(language=languages, use_cache=False, enable_table_detection=False)
    return kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="plain",
        ocr=kreuzberg.OcrConfig(backend="tesseract", language=languages, tesseract_config=tesseract),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
    )
