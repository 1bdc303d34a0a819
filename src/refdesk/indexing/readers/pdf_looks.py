"""How a page of a PDF looks, and where on it a text stands. Runs inside the sandbox only.

A text is found by its letters and figures alone, so that line ends, hyphens and ligatures do not hide it; what is not found whole
is looked for by its beginning. Places are shares of the page as it is shown, from its upper left corner.
"""

import ctypes
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pypdfium2
import pypdfium2.raw

from refdesk.indexing.archives import damaged, encrypted
from refdesk.indexing.frames import Mark, PageMarks
from refdesk.indexing.parsed import rejected

pdfium: Any = pypdfium2.raw  # C functions, without types

FINE = 100_000
"""Pixels of the imagined device on which places are taken."""
BEGINNING_MIN = 24
"""Letters and figures of a text's beginning that find it; fewer say too little."""
SAME_LINE = 0.5
"""Of the lower height must overlap for two marks to be one."""
COMPRESSION = 6
COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # by channels: grey, RGB, RGB with alpha; the PNG specification, 11.2.1


def draw_page(content: bytes, *, page: int, width: int, pixels_max: int, name: str) -> bytes:
    """The page as PNG, so wide in pixels, or as wide as ``pixels_max`` lets it be. Raises DocumentRejected."""
    with _page(content, page, name) as shown:
        page_width, page_height = shown.get_size()
        scale = width / max(page_width, 1.0)
        fewer = (pixels_max / max(page_width * page_height * scale * scale, 1.0)) ** 0.5
        bitmap = shown.render(scale=scale * min(1.0, fewer), rev_byteorder=True)
        return _png(bitmap)


def find_marks(content: bytes, *, page: int, text: str, name: str) -> PageMarks:
    """Raises DocumentRejected."""
    with _page(content, page, name) as shown:
        glyphs = shown.get_textpage()
        try:
            found = _found(glyphs, text)
            boxes = [box for index in found if (box := _box(shown, glyphs, index)) is not None]
        finally:
            glyphs.close()
    return PageMarks(page, list(_lines(boxes)))


@contextmanager
def _page(content: bytes, page: int, name: str) -> Iterator[pypdfium2.PdfPage]:
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise encrypted(name) from error
        raise damaged(name, f"not readable as PDF: {error}") from error
    try:
        if not 1 <= page <= len(document):
            raise rejected(f"{name} has no page {page}", f"it has {len(document):,}", limit=len(document), actual=page)
        document.init_forms()
        shown = document[page - 1]
        try:
            yield shown
        finally:
            shown.close()
    except pypdfium2.PdfiumError as error:
        raise damaged(name, f"page {page} cannot be drawn: {error}") from error
    finally:
        document.close()


def _png(bitmap: pypdfium2.PdfBitmap) -> bytes:
    """Eight bits a channel, no filter: pages are mostly of one colour."""
    pixels, stride, used = memoryview(bitmap.buffer), bitmap.stride, bitmap.width * bitmap.n_channels
    lines = b"".join(b"\0" + bytes(pixels[row * stride : row * stride + used]) for row in range(bitmap.height))
    header = struct.pack(">IIBBBBB", bitmap.width, bitmap.height, 8, COLOUR_TYPES[bitmap.n_channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, COMPRESSION)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, data) for kind, data in parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _found(glyphs: pypdfium2.PdfTextPage, text: str) -> range | list[int]:
    """The places of the text's characters on the page."""
    letters: list[str] = []
    places: list[int] = []
    for index in range(glyphs.count_chars()):
        code = pdfium.FPDFText_GetUnicode(glyphs.raw, index)
        for letter in _letters(chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else " "):
            letters.append(letter)
            places.append(index)
    whole, wanted = "".join(letters), "".join(_letters(text))
    while len(wanted) >= 1:
        if (at := whole.find(wanted)) >= 0:
            return places[at : at + len(wanted)]
        if len(wanted) <= BEGINNING_MIN:
            return []
        wanted = wanted[: max(BEGINNING_MIN, len(wanted) // 2)]
    return []


def _letters(text: str) -> list[str]:
    return [letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalnum()]


def _box(page: pypdfium2.PdfPage, glyphs: pypdfium2.PdfTextPage, index: int) -> Mark | None:
    """The room of a character, as the page is shown: turned, where it is."""
    rect = pdfium.FS_RECTF()
    if not pdfium.FPDFText_GetLooseCharBox(glyphs.raw, index, rect):
        return None
    one, other = _shown(page, rect.left, rect.top), _shown(page, rect.right, rect.bottom)
    left, right = sorted((one[0], other[0]))
    top, bottom = sorted((one[1], other[1]))
    return Mark(left, top, right - left, bottom - top)


def _shown(page: pypdfium2.PdfPage, x: float, y: float) -> tuple[float, float]:
    across, down = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDF_PageToDevice(page.raw, 0, 0, FINE, FINE, 0, x, y, across, down)
    return across.value / FINE, down.value / FINE


def _lines(boxes: list[Mark]) -> Iterator[Mark]:
    """One mark for the characters of a line."""
    line: Mark | None = None
    for box in boxes:
        if line is not None and _share_line(line, box):
            line = _around(line, box)
            continue
        if line is not None:
            yield _rounded(line)
        line = box
    if line is not None:
        yield _rounded(line)


def _share_line(line: Mark, box: Mark) -> bool:
    overlap = min(line.top + line.height, box.top + box.height) - max(line.top, box.top)
    return overlap > SAME_LINE * min(line.height, box.height)


def _around(line: Mark, box: Mark) -> Mark:
    left, top = min(line.left, box.left), min(line.top, box.top)
    right = max(line.left + line.width, box.left + box.width)
    bottom = max(line.top + line.height, box.top + box.height)
    return Mark(left, top, right - left, bottom - top)


def _rounded(mark: Mark) -> Mark:
    return Mark(*(round(value, 5) for value in (mark.left, mark.top, mark.width, mark.height)))
