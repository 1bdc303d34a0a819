"""What kind of file is in a container: ZIP files tell by their members, OLE files by their streams."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from refdesk.outside import media_types as kinds

_MEMBER_BYTES_MAX = 64 * 1024

ARCHIVE = (
    "is an archive ({}); unpack it and upload the documents inside, or mirror the folder with `refdesk sync FOLDER`"
)
_APPLE = "is a document of Apple {}; export it as {} or PDF"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Names of the streams that each kind of OLE file must hold ([MS-DOC] 2.1, [MS-XLS] 2.1, [MS-PPT] 2.1, [MS-OXMSG] 2.1).
_OLE_STREAMS = (
    ("WordDocument", kinds.DOC),
    ("PowerPoint Document", kinds.PPT),
    ("Workbook", kinds.XLS),
    ("Book", kinds.XLS),  # Excel 5 and 95
    ("__properties_version1.0", kinds.MSG),
)
_CONTENT_TYPES = (
    (b"ms-excel.sheet.binary", kinds.XLSB),
    (b"wordprocessingml", kinds.DOCX),
    (b"ms-word", kinds.DOCX),
    (b"presentationml", kinds.PPTX),
    (b"ms-powerpoint", kinds.PPTX),
    (b"spreadsheetml", kinds.XLSX),
    (b"ms-excel", kinds.XLSX),
)
_MEMBER_PREFIXES = ((b"word/", kinds.DOCX), (b"ppt/", kinds.PPTX), (b"xl/", kinds.XLSX))


def zip_kind(head: bytes, filename: str | None, named: str | None) -> str:
    members = list(_zip_members(head))
    names = [member.name for member in members]
    if b"mimetype" in names and (kind := _declared_inside(members[names.index(b"mimetype")].beginning(head))):
        return kind
    if b"META-INF/container.xml" in names and any(name.endswith(b".opf") for name in names):
        return kinds.EPUB
    _refuse_apple(names, filename)
    if b"[Content_Types].xml" in names:
        listed = members[names.index(b"[Content_Types].xml")].beginning(head)
        for marker, kind in _CONTENT_TYPES:
            if marker in listed:
                return kind
    for prefix, kind in _MEMBER_PREFIXES:
        if any(name.startswith(prefix) for name in names):
            return kind
    if b"[Content_Types].xml" in names and named in {kinds.DOCX, kinds.PPTX, kinds.XLSX}:
        return named
    if not names and named in {
        kinds.DOCX,
        kinds.PPTX,
        kinds.XLSX,
        kinds.XLSB,
        kinds.ODT,
        kinds.ODS,
        kinds.ODP,
        kinds.EPUB,
    }:
        return named  # truncated or damaged: the parser will say so
    raise kinds.unsupported(filename, ARCHIVE.format("ZIP"))


def _refuse_apple(names: list[bytes], filename: str | None) -> None:
    """Pages, Numbers and Keynote keep their documents in a form that nothing else reads."""
    if not any(name.endswith(b".iwa") or name in {b"Index.zip", b"index.apxl", b"index.xml"} for name in names):
        return
    extension = (filename or "").rpartition(".")[2].lower()
    program, target = {"numbers": ("Numbers", "XLSX"), "key": ("Keynote", "PPTX")}.get(extension, ("Pages", "DOCX"))
    raise kinds.unsupported(filename, _APPLE.format(program, target))


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
            return head[self.start : self.start + min(self.compressed_bytes, _MEMBER_BYTES_MAX)]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(head[self.start :], _MEMBER_BYTES_MAX)
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
    return declared if declared in {kinds.ODT, kinds.ODS, kinds.ODP, kinds.EPUB} else None


def ole_kind(head: bytes, filename: str | None, named: str | None) -> str:
    for stream, kind in _OLE_STREAMS:
        if stream.encode("utf-16-le") in head:
            return kind
    if "EncryptedPackage".encode("utf-16-le") in head:
        return (
            named if named in {kinds.DOCX, kinds.PPTX, kinds.XLSX} else kinds.DOCX
        )  # the parser asks for one without password
    if named in {kinds.DOC, kinds.PPT, kinds.XLS, kinds.MSG, kinds.DOCX, kinds.PPTX, kinds.XLSX}:
        return named  # the directory lies beyond the head
    raise kinds.unsupported(
        filename, "is an OLE file, but not of Word, Excel, PowerPoint or Outlook; convert it to PDF"
    )
