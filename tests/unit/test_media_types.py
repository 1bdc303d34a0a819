"""What kind of file an upload is: by content first, by name second, by the sender's word last."""

import io
import os
import zipfile

import pytest

from refdesk.contracts.errors import UnsupportedMediaType
from refdesk.outside import media_types as kinds
from refdesk.outside.detection import HEAD_BYTES, detect_media_type


def zip_of(*members: tuple[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, zipfile.ZIP_STORED if name == "mimetype" else None)
    return buffer.getvalue()


def ole_of(stream: str) -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + stream.encode("utf-16-le") + bytes(100)


@pytest.mark.parametrize(
    ("head", "filename", "declared", "expected"),
    [
        (b"%PDF-1.7\n\x00\xff", "report.docx", kinds.DOCX, kinds.PDF),
        (b"about the mark %PDF-1.7", "notes.md", None, kinds.MARKDOWN),
        (b"{\\rtf1 x}", "old.doc", None, kinds.RTF),
        (zip_of(("[Content_Types].xml", "wordprocessingml")), "a.bin", None, kinds.DOCX),
        (zip_of(("xl/workbook.xml", "x")), None, None, kinds.XLSX),
        (zip_of(("mimetype", "application/epub+zip"), ("x", "y")), None, None, kinds.EPUB),
        (zip_of(("META-INF/container.xml", "x"), ("mimetype", "application/epub+zip")), None, None, kinds.EPUB),
        (zip_of(("[Content_Types].xml", "ms-excel.sheet.binary.macroEnabled")), "a.xlsb", None, kinds.XLSB),
        (ole_of("Book"), "a.xls", None, kinds.XLS),
        (b"BEGIN:VCALENDAR\r\n", None, None, kinds.CALENDAR),
        (zip_of(("mimetype", kinds.ODT), ("content.xml", "y")), "x.docx", None, kinds.ODT),
        (ole_of("WordDocument"), None, None, kinds.DOC),
        (ole_of("__properties_version1.0"), "x.doc", None, kinds.MSG),
        (ole_of("EncryptedPackage"), "x.xlsx", None, kinds.XLSX),
        (b"# Title", "readme.md", "text/plain", kinds.MARKDOWN),
        (b"# Title", None, "text/x-markdown; charset=utf-8", kinds.MARKDOWN),
        (b"a,b\n1,2", "t.csv", "application/octet-stream", kinds.CSV),
        (b"<!-- x --><!DOCTYPE html><p>", "page", None, kinds.HTML),
        (b"\n<?xml version='1.0'?>\n<!-- a --> <!-- b -->\n<html>", "page", None, kinds.HTML),
        (b"<!---->" * 9000, None, None, kinds.TEXT),  # 25 of them once took 13 s, 40 for ever
        (b"Part\tPrice\nBolt\t1.25\n", "list.xls", None, kinds.CSV),
        (b"<html><table>", "list.xls", None, kinds.HTML),
        (b"<?xml version='1.0'?><Workbook/>", "list.xls", None, kinds.XML),
        (b"<!-- <html>", None, None, kinds.TEXT),
        (b"From: a@b\nTo: c@d\nSubject: x\n\nhi", None, None, kinds.EML),
        (b'{"cells": [], "nbformat": 4}', None, None, kinds.NOTEBOOK),
        ("plain text".encode("utf-16-le"), "x.unknown", None, kinds.TEXT),
        ("caf\u00e9".encode("cp1252") * 10, None, None, kinds.TEXT),
        (b"MZ is a country code", "a.txt", None, kinds.TEXT),
        (b"text with a stray \x00 byte or two", "a.txt", None, kinds.TEXT),
        (b"", "empty.pdf", None, kinds.PDF),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "scan.txt", "text/plain", kinds.PNG),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", None, None, kinds.JPEG),
        (b"no picture", "notes.png", None, kinds.TEXT),
        ("é".encode() * 40_000, "cut.txt", None, kinds.TEXT),
    ],
)
def test_a_kind_is_known_by_its_content(head: bytes, filename: str | None, declared: str | None, expected: str) -> None:
    """Magic bytes and members decide; a name decides between texts; a wrong name changes nothing."""
    assert detect_media_type(head[:HEAD_BYTES], filename, declared) == expected


@pytest.mark.parametrize(
    ("head", "advice"),
    [
        (b"II*\x00\x08\x00", r"x\.txt is a picture \(TIFF\); upload it as PNG"),
        (zip_of(("notes/a.txt", "x")), r"x\.txt is an archive \(ZIP\); unpack it"),
        (b"\x1f\x8b\x08\x00", "is an archive .*unpack it"),
        (b"\x7fELF\x02\x01\x01\x00", "is a program"),
        (b"\x00\x00\x00\x20ftypisom", "is a recording .*transcript"),
        (ole_of("Something else"), "is an OLE file"),
        (b"\xffWPC\x10\x00", "is a document of WordPerfect, .*save it as DOCX"),
        (b"\xdb\xa5\x2d\x00", "is a document of Word 2, .*save it as DOCX"),
        (b"\x09\x04\x06\x00\x00\x00", "is a document of Excel 4, "),
        (zip_of(("Index/Document.iwa", "x")), "is a document of Apple Pages; export it as DOCX"),
        (
            b"\x01" + os.urandom(4096),
            "is neither text nor a known document format; convert it to one of these: Markdown",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_advice(head: bytes, advice: str) -> None:
    """The refusal names the kind and the way out, whatever the file calls itself."""
    with pytest.raises(UnsupportedMediaType, match=advice):
        detect_media_type(head, "x.txt", "text/plain")


def test_every_extension_belongs_to_one_kind() -> None:
    """The table of supported kinds has no double entries, and its names are plain lower case."""
    extensions = [extension for kind in kinds.SUPPORTED.values() for extension in kind.extensions]
    assert len(extensions) == len(set(extensions))
    assert all(extension == extension.lower().strip(".") for extension in extensions)
