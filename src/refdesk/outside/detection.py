"""What kind of file is this? Decided by its content first, by its name second, by what the sender says last.

The Document Service asks on upload, so that a file nobody can read is refused at the door. Binary formats tell by their
first bytes, containers (ZIP, OLE) by their members; all text looks alike, so there the name decides between Markdown,
CSV, HTML and the rest, and content only where no name helps. What it does not do: open the file. Whether a PDF is a
sound PDF is the parser's business.
"""

import re

from refdesk.outside import media_types as kinds
from refdesk.outside.containers import ARCHIVE, OLE, ole_kind, zip_kind
from refdesk.outside.text_encoding import is_clean_text, text_encoding

HEAD_BYTES = 64 * 1024
"""How much of a file `detect_media_type` wants to see. More does no harm, and helps with containers."""

_PICTURE = "is a picture ({}); upload it as PNG or JPEG, or as a PDF"
_RECORDING = "is a recording ({}); upload a transcript instead"
_OLDER = "is a document of {}, which cannot be read here; open it in LibreOffice and save it as DOCX, XLSX or PDF"
_PROGRAM = "is a program ({}); upload the document itself"

# First bytes of kinds that are common and cannot be indexed: https://www.garykessler.net/library/file_sigs.html
_REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (b"GIF8", _PICTURE, "GIF"),
    (b"BM", _PICTURE, "BMP"),
    (b"II*\x00", _PICTURE, "TIFF"),
    (b"MM\x00*", _PICTURE, "TIFF"),
    (b"\xffWPC", _OLDER, "WordPerfect"),
    (b"\xdb\xa5", _OLDER, "Word 2"),
    (b"\x31\xbe\x00\x00", _OLDER, "Windows Write"),
    (b"\x09\x00\x04\x00", _OLDER, "Excel 2"),
    (b"\x09\x02\x06\x00", _OLDER, "Excel 3"),
    (b"\x09\x04\x06\x00", _OLDER, "Excel 4"),
    (b"\x00\x00\x1a\x00", _OLDER, "Lotus 1-2-3"),
    (b"AT&TFORM", "is a scan ({}); upload it as PDF", "DjVu"),
    (b"\x1f\x8b", ARCHIVE, "gzip"),
    (b"7z\xbc\xaf\x27\x1c", ARCHIVE, "7z"),
    (b"Rar!\x1a\x07", ARCHIVE, "RAR"),
    (b"BZh", ARCHIVE, "bzip2"),
    (b"\xfd7zXZ\x00", ARCHIVE, "xz"),
    (b"\x28\xb5\x2f\xfd", ARCHIVE, "zstd"),
    (b"MZ", _PROGRAM, "Windows"),
    (b"\x7fELF", _PROGRAM, "Linux"),
    (b"OggS", _RECORDING, "Ogg"),
    (b"ID3", _RECORDING, "MP3"),
    (b"fLaC", _RECORDING, "FLAC"),
    (b"\x1aE\xdf\xa3", _RECORDING, "Matroska"),
)

_BEGINNINGS = (("BEGIN:VCALENDAR", kinds.CALENDAR), ("BEGIN:VCARD", kinds.CARDS), ("WEBVTT", kinds.WEBVTT))
_FLAT = re.compile(
    rf"""<office:document\s[^<>]{{0,4000}}office:mimetype=["']{re.escape(kinds.ODF)}(text|spreadsheet|presentation)["-]"""
)
_HTML_START = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.I)
_BEFORE_HTML = (("<!--", "-->"), ("<?xml", ">"))
_MAIL_HEADER = re.compile(
    r"(?:from|to|cc|subject|date|received|message-id|mime-version|return-path|delivered-to|content-type)[ \t]*+:", re.I
)
_HEADER_LINE = re.compile(r"(?:[!-9;-~]++[ \t]*+:|[ \t])")


def detect_media_type(head: bytes, filename: str | None, declared: str | None) -> str:
    """The media type of a file, one of the keys of `SUPPORTED`.

    ``head`` is the beginning of the file (`HEAD_BYTES`, or all of it), ``declared`` the sender's Content-Type. Raises
    `UnsupportedMediaType` with what to do about it.
    """
    named = kinds.by_name(filename) or kinds.by_declaration(declared)
    if not head:
        return named or kinds.TEXT
    if found := _by_signature(head, filename, named):
        return found
    encoding = text_encoding(head)
    if encoding is None:
        advice = f"is neither text nor a known document format; convert it to one of these: {kinds.supported_names()}"
        raise kinds.unsupported(filename, advice)
    text = head.decode(encoding, errors="replace").lstrip("\ufeff")
    kind = _text_kind(text, named if named in kinds.TEXTS else None)
    return (
        kinds.CSV if kind == kinds.TEXT and named in {kinds.XLS, kinds.XLSX} else kind
    )  # as many programs export lists


def _by_signature(head: bytes, filename: str | None, named: str | None) -> str | None:
    if _is_pdf(head, named):
        return kinds.PDF
    if head.startswith(b"{\\rtf"):
        return kinds.RTF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return zip_kind(head, filename, named)
    if head.startswith(OLE):
        return ole_kind(head, filename, named)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return kinds.PNG
    if head.startswith(b"\xff\xd8\xff"):
        return kinds.JPEG
    if head.startswith(b"\x78\x9f\x3e\x22"):
        return kinds.TNEF
    _refuse_known_binaries(head, filename)
    return None


def _is_pdf(head: bytes, named: str | None) -> bool:
    """Whether the mark stands where readers look for it: within 1024 bytes (ISO 32000-1, implementation note 13).

    A text *about* PDF may hold the mark too; there only the very beginning counts.
    """
    if head.lstrip(b"\xef\xbb\xbf\r\n\t \0").startswith(b"%PDF-"):
        return True
    return named not in kinds.TEXTS and b"%PDF-" in head[:1024]


def _refuse_known_binaries(head: bytes, filename: str | None) -> None:
    for signature, advice, kind in _REFUSED:
        if head.startswith(signature) and not is_clean_text(head):
            raise kinds.unsupported(filename, advice.format(kind))
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] in {b"WAVE", b"AVI "}):
        raise kinds.unsupported(filename, _RECORDING.format("audio or video"))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        raise kinds.unsupported(filename, _PICTURE.format("WebP"))


def _text_kind(text: str, named: str | None) -> str:
    if named in {None, kinds.TEXT, kinds.XML} and (flat := _FLAT.search(text[:4096])):
        return f"{kinds.ODF}{flat[1]}-flat-xml"
    if named is not None and named != kinds.TEXT:
        return named
    if _is_html(text[:4096]):
        return kinds.HTML
    if text.lstrip()[:10].lower().startswith(("<?xml", "<!doctype")):
        return kinds.XML
    if text.lstrip().startswith("{") and '"nbformat"' in text and '"cells"' in text:
        return kinds.NOTEBOOK
    if named is None and text.startswith("From ") and _is_mail(text.partition("\n")[2]):
        return kinds.MBOX
    for beginning, kind in _BEGINNINGS:
        if text[:20].upper().startswith(beginning):
            return kind
    return kinds.EML if named is None and _is_mail(text) else kinds.TEXT


def _is_html(text: str) -> bool:
    """Whether a page begins here, behind any comments and declarations."""
    at = _start(text, 0)
    while ends := [end for begin, end in _BEFORE_HTML if text[at : at + len(begin)].lower() == begin]:
        end = text.find(ends[0], at)
        if end < 0:
            return False
        at = _start(text, end + len(ends[0]))
    return _HTML_START.match(text, at) is not None


def _start(text: str, at: int) -> int:
    """The next place that is not white space."""
    while text[at : at + 1].isspace():
        at += 1
    return at


def _is_mail(text: str) -> bool:
    lines = text.replace("\r\n", "\n").partition("\n\n")[0].splitlines()[:100]
    known = sum(1 for line in lines if _MAIL_HEADER.match(line))
    return known >= 3 and all(_HEADER_LINE.match(line) for line in lines)
