"""What Outlook packs into winmail.dat is found as if it were attached to the mail."""

from email.message import EmailMessage

import pytest
from tests.support.reading import lines, read

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.readers import transport
from refdesk.outside import media_types as kinds
from refdesk.outside.detection import detect_media_type

OBJECT_KIND = bytes(16)


def attribute(level: int, name: int, data: bytes) -> bytes:
    checksum = sum(data) & 0xFFFF
    return (
        bytes([level])
        + name.to_bytes(4, "little")
        + len(data).to_bytes(4, "little")
        + data
        + checksum.to_bytes(2, "little")
    )


def properties(**values: str | bytes | int) -> bytes:
    """By their numbers: text as Unicode, bytes as binary, numbers as a moment; one with a name of its own comes first."""
    own = b"\x1f\x00\x00\x80" + bytes(16) + b"\1\0\0\0" + padded("Own".encode("utf-16-le"))
    own += b"\1\0\0\0" + padded(b"x\0")
    made = b""
    for number, value in values.items():
        if isinstance(value, int):
            made += b"\x40\x00" + bytes.fromhex(number[1:])[::-1] + value.to_bytes(8, "little")
            continue
        kind = b"\x1f\x00" if isinstance(value, str) else b"\x02\x01"
        content = f"{value}\0".encode("utf-16-le") if isinstance(value, str) else value
        made += kind + bytes.fromhex(number[1:])[::-1] + b"\1\0\0\0" + padded(content)
    return (len(values) + 1).to_bytes(4, "little") + own + made


def padded(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content + bytes(-len(content) % 4)


def packed(*attachments: bytes, **message: str | bytes | int) -> bytes:
    head = transport.SIGNATURE + b"\1\0" + attribute(1, 0x00069007, (1251).to_bytes(4, "little") + bytes(4))
    return head + attribute(1, 0x00069003, properties(**message)) + b"".join(attachments)


def attached(name: str, content: bytes, **more: str | bytes) -> bytes:
    short = attribute(2, 0x00018010, "прайс~1.csv".encode("cp1251") + b"\0") + attribute(2, 0x0006800F, content)
    return (
        attribute(2, 0x00069002, bytes(14))
        + short
        + (attribute(2, 0x00069005, properties(x3707=name, **more)) if name else b"")
    )


PRICES = attached("Preise März.csv", b"Part,Price\nBolt,1.25\n")
MESSAGE = {"x0037": "Offer of May", "x0C1A": "Ada Jones", "x0039": 133_900_000_000_000_000}


def mail(content: bytes, *, text: str, kind: str = "application/ms-tnef") -> list[str]:
    message = EmailMessage()
    message["From"], message["Subject"] = "Ada Jones <ada@example.org>", "Offer"
    if text:
        message.set_content(text)
    message.add_attachment(
        content, maintype=kind.partition("/")[0], subtype=kind.partition("/")[2], filename="winmail.dat"
    )
    return lines(read(message.as_bytes(), kinds.EML))


@pytest.mark.parametrize("kind", ["application/ms-tnef", "application/vnd.ms-tnef", "application/octet-stream"])
def test_what_is_packed_beside_a_text_is_attached_to_the_mail(kind: str) -> None:
    """Under its own long name, or its short one in the code page that the file says; the text is not there twice."""
    content = packed(PRICES, attached("", b"a,b\n1,2\n"), **MESSAGE, x1000="Here they are.")
    found = mail(content, text="Here they are.", kind=kind)
    assert found[2:] == [
        *("paragraph: Here they are.", "part8: Attachment: Preise März.csv", "head: Part | Price", "row: Bolt | 1.25"),
        *("part8: Attachment: прайс~1.csv", "head: a | b", "row: 1 | 2"),
    ]


def test_a_file_of_its_own_is_a_message() -> None:
    """With its sender, subject and text."""
    content = packed(PRICES, **MESSAGE, x1000="Here they are.")
    assert detect_media_type(content, "winmail.dat", None) == kinds.TNEF
    parsed = read(content, kinds.TNEF)
    assert parsed.title == "Offer of May"
    assert lines(parsed)[:3] == [
        "part1: Ada Jones, 2025-04-24",
        "fields: From: Ada Jones\nDate: 2025-04-24 20:26+00:00\nSubject: Offer of May",
        "paragraph: Here they are.",
    ]


def test_a_message_in_a_message_is_a_part() -> None:
    """And is read as one; a page is read in its own encoding."""
    inner = packed(x0037="Inner", x1013="<p>Über</p>".encode("cp1252"))
    embedded = attribute(2, 0x00069002, bytes(14)) + attribute(2, 0x00069005, properties(x3701=OBJECT_KIND + inner))
    found = mail(packed(embedded), text="Text.")
    assert found[3:] == ["part8: Inner", "fields: Subject: Inner", "paragraph: Über"]


# What [MS-OXRTFCP] gives as its example, 3.1 and 3.2.
HELLO = bytes.fromhex(
    "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
)


def test_compressed_rich_text_is_read_where_there_is_no_other() -> None:
    """By the example of the specification, and by a run that copies itself."""
    assert transport.unpacked(HELLO) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    again = bytes.fromhex("1a0000001c0000004c5a4675e2d44b51410004205758595a0d6e7d010eb0")
    assert transport.unpacked(again) == b"{\\rtf1 WXYZWXYZWXYZWXYZWXYZ}"
    plain = b"{\\rtf1 as it is}"
    assert transport.unpacked(bytes(4) + len(plain).to_bytes(4, "little") + b"MELA" + bytes(4) + plain) == plain
    assert "paragraph: hello world" in mail(packed(x1009=HELLO), text="")
    assert not any("hello" in line for line in mail(packed(PRICES, x1009=HELLO), text="Hullo."))


@pytest.mark.parametrize(
    "content",
    [
        packed(PRICES)[:-20],
        transport.SIGNATURE + b"\1\0" + attribute(1, 0x00069003, b"\xff\xff\xff\xff"),
        transport.SIGNATURE + b"\1\0" + attribute(1, 0x00069003, b"\1\0\0\0\x77\x00\x01\x10"),
        transport.SIGNATURE + b"\1\0" + attribute(1, 0x00069003, b"\1\0\0\0\x1f\x00\x01\x10\xff\xff\xff\xff\1\0\0\0"),
    ],
    ids=["cut off", "properties missing", "type unknown", "count too large"],
)
def test_a_damaged_one_is_refused_by_name(content: bytes) -> None:
    """As a document, and as an attachment of a mail that is read all the same."""
    with pytest.raises(DocumentRejected, match="is damaged"):
        read(content, kinds.TNEF, "winmail.dat")
    found = mail(content, text="Text.")
    assert found[2] == "paragraph: Text."
    assert found[-1].startswith("paragraph: [Not read: winmail.dat is damaged (")


def test_messages_packed_in_each_other_without_end_are_cut_off() -> None:
    """No recursion is deeper than the limit."""
    content = packed(x0037="0")
    for number in range(1, 60):
        inner = attribute(2, 0x00069005, properties(x3701=OBJECT_KIND + content))
        content = packed(attribute(2, 0x00069002, bytes(14)) + inner, x0037=str(number))
    assert "fields: Subject: 55" in mail(content, text="Text.")
