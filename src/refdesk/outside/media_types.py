"""What kind of file is this? Decided by its content first, by its name second, by what the sender says last.

The Document Service asks on upload, so that a file nobody can read is refused at the door. Binary formats tell by their
first bytes, containers (ZIP, OLE) by their members; all text looks alike, so there the name decides between Markdown,
CSV, HTML and the rest, and content only where no name helps. What it does not do: open the file. Whether a PDF is a
sound PDF is the parser's business.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from refdesk.contracts.errors import UnsupportedMediaType

HEAD_BYTES = 64 * 1024
"""How much of a file `detect_media_type` wants to see. More does no harm, and helps with containers."""

OOXML = "application/vnd.openxmlformats-officedocument."
ODF = "application/vnd.oasis.opendocument."
DOCX, PPTX, XLSX = (
    f"{OOXML}{kind}" for kind in ("wordprocessingml.document", "presentationml.presentation", "spreadsheetml.sheet")
)
DOC, PPT, XLS = "application/msword", "application/vnd.ms-powerpoint", "application/vnd.ms-excel"
XLSB = "application/vnd.ms-excel.sheet.binary.macroenabled.12"
ODT, ODS, ODP = (f"{ODF}{kind}" for kind in ("text", "spreadsheet", "presentation"))
PDF, EPUB, RTF = "application/pdf", "application/epub+zip", "application/rtf"
EML, MSG, MBOX = "message/rfc822", "application/vnd.ms-outlook", "application/mbox"
CALENDAR = "text/calendar"
MARKDOWN, TEXT, HTML, XHTML = "text/markdown", "text/plain", "text/html", "application/xhtml+xml"
CSV, TSV = "text/csv", "text/tab-separated-values"
XML, JSON, JSON_LINES = "application/xml", "application/json", "application/x-ndjson"
NOTEBOOK, YAML, TOML = "application/x-ipynb+json", "application/x-yaml", "application/toml"
PNG, JPEG = "image/png", "image/jpeg"
ORG, RST, LATEX = "text/x-org", "text/x-rst", "application/x-latex"


@dataclass(frozen=True, slots=True)
class MediaKind:
    """A kind of file that can be indexed: what people call it, and how its files are named."""

    name: str
    extensions: tuple[str, ...]


SUPPORTED: dict[str, MediaKind] = {
    MARKDOWN: MediaKind("Markdown", ("md", "markdown", "mdown", "mkd", "mdx")),
    TEXT: MediaKind("plain text", ("txt", "text", "log", "asc")),
    HTML: MediaKind("HTML", ("html", "htm")),
    XHTML: MediaKind("XHTML", ("xhtml", "xht")),
    PDF: MediaKind("PDF", ("pdf",)),
    DOCX: MediaKind("Word document", ("docx", "docm", "dotx", "dotm")),
    PPTX: MediaKind("PowerPoint presentation", ("pptx", "pptm", "ppsx", "potx")),
    XLSX: MediaKind("Excel workbook", ("xlsx", "xlsm", "xltx")),
    XLSB: MediaKind("binary Excel workbook", ("xlsb",)),
    DOC: MediaKind("Word 97-2003 document", ("doc", "dot")),
    PPT: MediaKind("PowerPoint 97-2003 presentation", ("ppt", "pps")),
    XLS: MediaKind("Excel 97-2003 workbook", ("xls", "xlt")),
    ODT: MediaKind("OpenDocument text", ("odt", "ott")),
    ODS: MediaKind("OpenDocument spreadsheet", ("ods",)),
    ODP: MediaKind("OpenDocument presentation", ("odp",)),
    RTF: MediaKind("rich text", ("rtf",)),
    EPUB: MediaKind("EPUB book", ("epub",)),
    EML: MediaKind("e-mail", ("eml",)),
    MSG: MediaKind("Outlook message", ("msg",)),
    MBOX: MediaKind("mailbox", ("mbox",)),
    CALENDAR: MediaKind("calendar", ("ics",)),
    CSV: MediaKind("comma-separated values", ("csv",)),
    TSV: MediaKind("tab-separated values", ("tsv", "tab")),
    NOTEBOOK: MediaKind("Jupyter notebook", ("ipynb",)),
    XML: MediaKind("XML", ("xml",)),
    JSON: MediaKind("JSON", ("json",)),
    JSON_LINES: MediaKind("JSON lines", ("jsonl", "ndjson")),
    YAML: MediaKind("YAML", ("yaml", "yml")),
    TOML: MediaKind("TOML", ("toml",)),
    ORG: MediaKind("Org mode", ("org",)),
    RST: MediaKind("reStructuredText", ("rst",)),
    LATEX: MediaKind("LaTeX", ("tex", "latex")),
    PNG: MediaKind("PNG picture of text", ("png",)),
    JPEG: MediaKind("JPEG picture of text", ("jpg", "jpeg")),
}

PICTURES = frozenset({PNG, JPEG})
"""Text recognition alone can read these. A PNG or JPEG has one page; a TIFF may have many, so it has to come as a PDF."""

_ALIASES = {
    "text/x-markdown": MARKDOWN,
    "application/csv": CSV,
    "text/x-csv": CSV,
    "text/xml": XML,
    "text/rtf": RTF,
    "text/json": JSON,
    "text/yaml": YAML,
    "application/yaml": YAML,
    "application/jsonl": JSON_LINES,
    "application/x-tex": LATEX,
    "text/x-tex": LATEX,
}

_BY_EXTENSION = {extension: media_type for media_type, kind in SUPPORTED.items() for extension in kind.extensions}

_TEXT_TYPES = frozenset(
    {
        MARKDOWN,
        TEXT,
        HTML,
        XHTML,
        EML,
        MBOX,
        CALENDAR,
        CSV,
        TSV,
        NOTEBOOK,
        XML,
        JSON,
        JSON_LINES,
        YAML,
        TOML,
        ORG,
        RST,
        LATEX,
    }
)

_PICTURE = "is a picture ({}); upload it as PNG or JPEG, or as a PDF"
_ARCHIVE = (
    "is an archive ({}); unpack it and upload the documents inside, or mirror the folder with `refdesk sync FOLDER`"
)
_RECORDING = "is a recording ({}); upload a transcript instead"
_OLDER = "is a document of {}, which cannot be read here; open it in LibreOffice and save it as DOCX, XLSX or PDF"
_APPLE = "is a document of Apple {}; export it as {} or PDF"
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
    (b"\x1f\x8b", _ARCHIVE, "gzip"),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE, "7z"),
    (b"Rar!\x1a\x07", _ARCHIVE, "RAR"),
    (b"BZh", _ARCHIVE, "bzip2"),
    (b"\xfd7zXZ\x00", _ARCHIVE, "xz"),
    (b"\x28\xb5\x2f\xfd", _ARCHIVE, "zstd"),
    (b"MZ", _PROGRAM, "Windows"),
    (b"\x7fELF", _PROGRAM, "Linux"),
    (b"OggS", _RECORDING, "Ogg"),
    (b"ID3", _RECORDING, "MP3"),
    (b"fLaC", _RECORDING, "FLAC"),
    (b"\x1aE\xdf\xa3", _RECORDING, "Matroska"),
)

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Names of the streams that each kind of OLE file must hold ([MS-DOC] 2.1, [MS-XLS] 2.1, [MS-PPT] 2.1, [MS-OXMSG] 2.1).
_OLE_STREAMS = (
    ("WordDocument", DOC),
    ("PowerPoint Document", PPT),
    ("Workbook", XLS),
    ("Book", XLS),  # Excel 5 and 95
    ("__properties_version1.0", MSG),
)
_CONTENT_TYPES = (
    (b"ms-excel.sheet.binary", XLSB),
    (b"wordprocessingml", DOCX),
    (b"ms-word", DOCX),
    (b"presentationml", PPTX),
    (b"ms-powerpoint", PPTX),
    (b"spreadsheetml", XLSX),
    (b"ms-excel", XLSX),
)
_MEMBER_PREFIXES = ((b"word/", DOCX), (b"ppt/", PPTX), (b"xl/", XLSX))

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
    named = _by_name(filename) or _by_declaration(declared)
    if not head:
        return named or TEXT
    if found := _by_signature(head, filename, named):
        return found
    encoding = text_encoding(head)
    if encoding is None:
        advice = f"is neither text nor a known document format; convert it to one of these: {supported_names()}"
        raise _unsupported(filename, advice)
    text = head.decode(encoding, errors="replace").lstrip("\ufeff")
    return _text_kind(text, named if named in _TEXT_TYPES else None)


def supported_names() -> str:
    """What can be uploaded, for people: ``Markdown (.md), PDF (.pdf) …``."""
    return ", ".join(f"{kind.name} (.{kind.extensions[0]})" for kind in SUPPORTED.values())


def text_encoding(head: bytes) -> str | None:
    """The character encoding of a text, judged by its beginning; None when it is no text at all.

    Windows-1252 stands for every 8-bit encoding: without a declaration they cannot be told apart.
    """
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if head.startswith(mark):
            return encoding
    sample = head[:HEAD_BYTES]
    if wide := _utf16_without_mark(sample):
        return wide
    # Text holds no control characters; a few stray ones are forgiven. Compressed data has 11 % (28 of 256 codes).
    if _is_utf8(sample) and _control_share(sample) <= 0.1:
        return "utf-8"
    if wide := _utf16_of_any_script(sample):
        return wide
    return "cp1252" if not _is_utf8(sample) and _control_share(sample) <= 0.01 else None


def _by_name(filename: str | None) -> str | None:
    return _BY_EXTENSION.get(filename.rpartition(".")[2].lower()) if filename and "." in filename else None


def _by_declaration(declared: str | None) -> str | None:
    plain = (declared or "").partition(";")[0].strip().lower()
    plain = _ALIASES.get(plain, plain)
    return plain if plain in SUPPORTED else None


def _by_signature(head: bytes, filename: str | None, named: str | None) -> str | None:
    if _is_pdf(head, named):
        return PDF
    if head.startswith(b"{\\rtf"):
        return RTF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(head, filename, named)
    if head.startswith(_OLE):
        return _ole_kind(head, filename, named)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    _refuse_known_binaries(head, filename)
    return None


def _is_pdf(head: bytes, named: str | None) -> bool:
    """Whether the mark stands where readers look for it: within 1024 bytes (ISO 32000-1, implementation note 13).

    A text *about* PDF may hold the mark too; there only the very beginning counts.
    """
    if head.lstrip(b"\xef\xbb\xbf\r\n\t \0").startswith(b"%PDF-"):
        return True
    return named not in _TEXT_TYPES and b"%PDF-" in head[:1024]


def _refuse_known_binaries(head: bytes, filename: str | None) -> None:
    for signature, advice, kind in _REFUSED:
        if head.startswith(signature) and not _is_clean_text(head):
            raise _unsupported(filename, advice.format(kind))
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] in {b"WAVE", b"AVI "}):
        raise _unsupported(filename, _RECORDING.format("audio or video"))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        raise _unsupported(filename, _PICTURE.format("WebP"))


def _zip_kind(head: bytes, filename: str | None, named: str | None) -> str:
    members = list(_zip_members(head))
    names = [member.name for member in members]
    if b"mimetype" in names and (kind := _declared_inside(members[names.index(b"mimetype")].beginning(head))):
        return kind
    if b"META-INF/container.xml" in names and any(name.endswith(b".opf") for name in names):
        return EPUB
    _refuse_apple(names, filename)
    if b"[Content_Types].xml" in names:
        listed = members[names.index(b"[Content_Types].xml")].beginning(head)
        for marker, kind in _CONTENT_TYPES:
            if marker in listed:
                return kind
    for prefix, kind in _MEMBER_PREFIXES:
        if any(name.startswith(prefix) for name in names):
            return kind
    if b"[Content_Types].xml" in names and named in {DOCX, PPTX, XLSX}:
        return named
    if not names and named in {DOCX, PPTX, XLSX, XLSB, ODT, ODS, ODP, EPUB}:
        return named  # truncated or damaged: the parser will say so
    raise _unsupported(filename, _ARCHIVE.format("ZIP"))


def _refuse_apple(names: list[bytes], filename: str | None) -> None:
    """Pages, Numbers and Keynote keep their documents in a form that nothing else reads."""
    if not any(name.endswith(b".iwa") or name in {b"Index.zip", b"index.apxl", b"index.xml"} for name in names):
        return
    extension = (filename or "").rpartition(".")[2].lower()
    program, target = {"numbers": ("Numbers", "XLSX"), "key": ("Keynote", "PPTX")}.get(extension, ("Pages", "DOCX"))
    raise _unsupported(filename, _APPLE.format(program, target))


@dataclass(frozen=True, slots=True)
class _ZipMember:
    """A member of a ZIP by its local header (APPNOTE.TXT 4.3.7)."""

    name: bytes
    start: int
    compressed_bytes: int
    stored: bool

    def beginning(self, head: bytes) -> bytes:
        """The first 64 KiB of its content, as far as ``head`` has them."""
        if self.stored:
            return head[self.start : self.start + min(self.compressed_bytes, HEAD_BYTES)]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(head[self.start :], HEAD_BYTES)
        except zlib.error:
            return b""


def _zip_members(head: bytes) -> Iterator[_ZipMember]:
    """The members that begin within ``head``."""
    position = 0
    while (position := head.find(b"PK\x03\x04", position)) >= 0:
        header = head[position : position + 30]
        if len(header) < 30:
            return
        name_bytes, extra_bytes = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        name = head[position + 30 : position + 30 + name_bytes]
        start = position + 30 + name_bytes + extra_bytes
        yield _ZipMember(name, start, int.from_bytes(header[18:22], "little"), stored=header[8:10] == b"\0\0")
        position = max(start, position + 30)


def _declared_inside(mimetype: bytes) -> str | None:
    declared = mimetype.decode("ascii", errors="replace").strip().removesuffix("-template")
    return declared if declared in {ODT, ODS, ODP, EPUB} else None


def _ole_kind(head: bytes, filename: str | None, named: str | None) -> str:
    for stream, kind in _OLE_STREAMS:
        if stream.encode("utf-16-le") in head:
            return kind
    if "EncryptedPackage".encode("utf-16-le") in head:
        return named if named in {DOCX, PPTX, XLSX} else DOCX  # the parser asks for one without password
    if named in {DOC, PPT, XLS, MSG, DOCX, PPTX, XLSX}:
        return named  # the directory lies beyond the head
    raise _unsupported(filename, "is an OLE file, but not of Word, Excel, PowerPoint or Outlook; convert it to PDF")


def _text_kind(text: str, named: str | None) -> str:
    if named is not None and named != TEXT:
        return named
    if _is_html(text[:4096]):
        return HTML
    if text.lstrip()[:10].lower().startswith(("<?xml", "<!doctype")):
        return XML
    if text.lstrip().startswith("{") and '"nbformat"' in text and '"cells"' in text:
        return NOTEBOOK
    if named is None and text.startswith("From ") and _is_mail(text.partition("\n")[2]):
        return MBOX
    if text[:20].upper().startswith("BEGIN:VCALENDAR"):
        return CALENDAR
    return EML if named is None and _is_mail(text) else TEXT


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


def _utf16_without_mark(sample: bytes) -> str | None:
    pairs = len(sample) // 2
    if pairs < 2:
        return None
    if sample[1::2].count(0) > 0.6 * pairs and sample[::2].count(0) < 0.1 * pairs:
        return "utf-16-le"
    if sample[::2].count(0) > 0.6 * pairs and sample[1::2].count(0) < 0.1 * pairs:
        return "utf-16-be"
    return None


def _utf16_of_any_script(sample: bytes) -> str | None:
    """Cyrillic, Chinese and their like: of a space, a figure or a line end one byte is NUL, nearly always the same."""
    for codec, upper, lower in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        even = sample[: len(sample) // 2 * 2]
        if even[upper::2].count(0) <= 2 * even[lower::2].count(0):
            continue
        text = even.decode(codec, errors="replace")
        if sum(map(_is_ordinary, text)) >= 0.98 * len(text):
            return codec
    return None


def _is_ordinary(character: str) -> bool:
    return character in "\t\n\r\ufeff" or (character != "\ufffd" and unicodedata.category(character)[0] in "LMNPSZ")


_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\r\f\x1b") + b"\x7f"


def _control_share(sample: bytes) -> float:
    return (len(sample) - len(sample.translate(None, _CONTROL))) / len(sample) if sample else 0.0


def _is_clean_text(sample: bytes) -> bool:
    return _control_share(sample) == 0.0 and _is_utf8(sample)


def _is_utf8(sample: bytes) -> bool:
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and len(sample) - error.start < 4  # a character cut in two
    return True


def _unsupported(filename: str | None, reason: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(f"{filename or 'The file'} {reason}.")
