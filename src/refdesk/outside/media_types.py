"""The kinds of file that can be indexed: their media types, what people call them, and how their files are named."""

from dataclasses import dataclass

from refdesk.contracts.errors import UnsupportedMediaType

OOXML = "application/vnd.openxmlformats-officedocument."
ODF = "application/vnd.oasis.opendocument."
DOCX, PPTX, XLSX = (
    f"{OOXML}{kind}" for kind in ("wordprocessingml.document", "presentationml.presentation", "spreadsheetml.sheet")
)
DOC, PPT, XLS = "application/msword", "application/vnd.ms-powerpoint", "application/vnd.ms-excel"
XLSB = "application/vnd.ms-excel.sheet.binary.macroenabled.12"
ODT, ODS, ODP = (f"{ODF}{kind}" for kind in ("text", "spreadsheet", "presentation"))
FODT, FODS, FODP = (f"{kind}-flat-xml" for kind in (ODT, ODS, ODP))
PDF, EPUB, RTF = "application/pdf", "application/epub+zip", "application/rtf"
EML, MSG, MBOX = "message/rfc822", "application/vnd.ms-outlook", "application/mbox"
TNEF = "application/ms-tnef"
CALENDAR, CARDS = "text/calendar", "text/vcard"
SUBRIP, WEBVTT = "application/x-subrip", "text/vtt"
MARKDOWN, TEXT, HTML, XHTML = "text/markdown", "text/plain", "text/html", "application/xhtml+xml"
CSV, TSV = "text/csv", "text/tab-separated-values"
XML, JSON, JSON_LINES = "application/xml", "application/json", "application/x-ndjson"
NOTEBOOK, YAML, TOML = "application/x-ipynb+json", "application/x-yaml", "application/toml"
PNG, JPEG = "image/png", "image/jpeg"
ORG, RST, LATEX, ASCIIDOC = "text/x-org", "text/x-rst", "application/x-latex", "text/asciidoc"


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
    FODT: MediaKind("flat OpenDocument text", ("fodt",)),
    FODS: MediaKind("flat OpenDocument spreadsheet", ("fods",)),
    FODP: MediaKind("flat OpenDocument presentation", ("fodp",)),
    RTF: MediaKind("rich text", ("rtf",)),
    EPUB: MediaKind("EPUB book", ("epub",)),
    EML: MediaKind("e-mail", ("eml", "mht", "mhtml")),
    MSG: MediaKind("Outlook message", ("msg",)),
    MBOX: MediaKind("mailbox", ("mbox",)),
    TNEF: MediaKind("attachments of Outlook", ("tnef",)),
    CALENDAR: MediaKind("calendar", ("ics",)),
    CARDS: MediaKind("contact cards", ("vcf", "vcard")),
    SUBRIP: MediaKind("subtitles", ("srt",)),
    WEBVTT: MediaKind("subtitles", ("vtt",)),
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
    ASCIIDOC: MediaKind("AsciiDoc", ("adoc", "asciidoc")),
    PNG: MediaKind("PNG picture of text", ("png",)),
    JPEG: MediaKind("JPEG picture of text", ("jpg", "jpeg")),
}

PICTURES = frozenset({PNG, JPEG})
"""Text recognition alone can read these. A PNG or JPEG has one page; a TIFF may have many, so it has to come as a PDF."""

_ALIASES = {
    "text/x-markdown": MARKDOWN,
    "text/x-vcard": CARDS,
    "text/directory": CARDS,
    "text/srt": SUBRIP,
    "application/csv": CSV,
    "text/x-csv": CSV,
    "text/xml": XML,
    "text/rtf": RTF,
    "text/x-asciidoc": ASCIIDOC,
    "application/vnd.ms-tnef": TNEF,
    "text/json": JSON,
    "text/yaml": YAML,
    "application/yaml": YAML,
    "application/jsonl": JSON_LINES,
    "application/x-tex": LATEX,
    "text/x-tex": LATEX,
}

_BY_EXTENSION = {extension: media_type for media_type, kind in SUPPORTED.items() for extension in kind.extensions}

TEXTS = frozenset(
    {
        MARKDOWN,
        TEXT,
        HTML,
        XHTML,
        EML,
        MBOX,
        CALENDAR,
        CARDS,
        SUBRIP,
        WEBVTT,
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
        ASCIIDOC,
        FODT,
        FODS,
        FODP,
    }
)
"""Kinds whose files hold text and nothing else."""


def supported_names() -> str:
    """What can be uploaded, for people: ``Markdown (.md), PDF (.pdf) …``."""
    return ", ".join(f"{kind.name} (.{kind.extensions[0]})" for kind in SUPPORTED.values())


def by_name(filename: str | None) -> str | None:
    return _BY_EXTENSION.get(filename.rpartition(".")[2].lower()) if filename and "." in filename else None


def by_declaration(declared: str | None) -> str | None:
    plain = (declared or "").partition(";")[0].strip().lower()
    plain = _ALIASES.get(plain, plain)
    return plain if plain in SUPPORTED else None


def unsupported(filename: str | None, reason: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(f"{filename or 'The file'} {reason}.")
