"""Mail is read as a mail program shows it."""

import base64
import io
import quopri
from email.message import EmailMessage

import docx
import pytest
from tests.support.reading import lines, read

from refdesk.contracts.errors import DocumentRejected
from refdesk.outside import media_types as kinds

GREETINGS = {
    "Die Gebühr beträgt fünf Euro, größere Schlüssel kosten mehr.": (
        "iso-8859-1",
        "windows-1252",
        "iso-8859-15",
        "utf-8",
        "utf-16",
    ),
    "Opłata wynosi pięć złotych, większe klucze są droższe.": ("iso-8859-2", "windows-1250"),
    "Плата составляет пять рублей, большие ключи дороже.": ("koi8-r", "windows-1251", "iso-8859-5"),
    "费用是五元，大钥匙更贵。": ("gb2312", "gbk", "gb18030"),
    "費用是五元，大鑰匙更貴。": ("big5",),
    "料金は五円です。大きい鍵はもっと高いです。": ("iso-2022-jp", "shift_jis", "euc-jp"),
    "요금은 다섯 원이고 큰 열쇠는 더 비쌉니다.": ("euc-kr", "ks_c_5601-1987"),
    "Η αμοιβή είναι πέντε ευρώ.": ("iso-8859-7", "windows-1253"),
    "האגרה היא חמישה שקלים.": ("iso-8859-8", "windows-1255"),
}
CASES = [(text, charset) for text, charsets in GREETINGS.items() for charset in charsets]


def mail(message: EmailMessage | bytes) -> list[str]:
    return lines(read(message if isinstance(message, bytes) else message.as_bytes(), kinds.EML))


def message(subject: str = "Keys", body: str = "") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Ada <ada@example.org>", "bob@example.org", subject
    made["Date"] = "Mon, 02 Mar 2026 09:30:00 +0100"
    if body:
        made.set_content(body)
    return made


@pytest.mark.parametrize(("text", "charset"), CASES)
@pytest.mark.parametrize("transfer", ["8bit", "base64", "quoted-printable"])
@pytest.mark.parametrize("kind", ["plain", "html"])
def test_a_body_is_read_in_the_charset_its_header_names(text: str, charset: str, transfer: str, kind: str) -> None:
    """Every charset in every transfer encoding, as text and as HTML."""
    content = text.encode(charset)
    if transfer == "base64":
        content = base64.encodebytes(content)
    elif transfer == "quoted-printable":
        content = quopri.encodestring(content)
    header = f"Subject: x\nContent-Type: text/{kind}; charset={charset}\nContent-Transfer-Encoding: {transfer}\n\n"
    assert lines(read(header.encode() + content, kinds.EML))[-1] == f"paragraph: {text}"


@pytest.mark.parametrize(("text", "charset"), [case for case in CASES if case[1] != "utf-16"])
def test_a_charset_that_is_wrong_or_missing_is_found_out(text: str, charset: str) -> None:
    """Senders claim ASCII or UTF-8 for what is neither."""
    for claim in ("", "; charset=us-ascii", "; charset=utf-8", "; charset=x-nonsense"):
        source = f"Subject: x\nContent-Type: text/plain{claim}\n\n".encode() + text.encode(charset)
        assert read(source, kinds.EML).text.endswith(text) or charset in {"iso-8859-8", "windows-1255"}


def test_header_lines_are_read_in_their_own_encodings() -> None:
    """Encoded words of several charsets, and raw bytes."""
    source = (
        b"From: =?iso-8859-2?Q?Micha=B3?= <m@x.example>\nTo: =?gb2312?B?zfXOsA==?= <w@x.example>\nCc: not@shown.example\n"
        b"Bcc: secret@x.example\nSubject: =?utf-8?q?Schl=C3=BCssel?= =?utf-8?q?_f=C3=BCr?= =?iso-8859-1?q?_K=F6ln?=\n"
        b"Date: Mon, 02 Mar 2026 09:30:00 +0100\n\nhello\n"
    )
    parsed = read(source, kinds.EML)
    assert parsed.title == "Schlüssel für Köln"
    assert parsed.text.startswith(
        "From: Michał <m@x.example>\nTo: 王伟 <w@x.example>\nCc: not@shown.example\nDate: Mon, 02 Mar 2026 09:30:00 +0100\n"
    )
    assert "secret" not in parsed.text
    raw = read("Subject: Ключи от третьей комнаты\n\nx".encode("koi8_r"), kinds.EML)
    assert raw.title == "Ключи от третьей комнаты"


def test_html_mail_keeps_its_tables_and_lists() -> None:
    """Cells apart, entities decoded, the hidden preview text gone."""
    made = message()
    made.add_alternative(
        '<div style="display:none">Preview</div><p>Your order &amp; delivery:</p><table><tr><th>Article<th>Price</tr>'
        "<tr><td>Gasket<td>4.50</tr></table><ul><li>Pay by 3 May</ul>",
        subtype="html",
    )
    assert mail(made)[1:] == [
        *("paragraph: Your order & delivery:", "head: Article | Price", "row: Gasket | 4.50", "item: - Pay by 3 May")
    ]


def test_of_two_alternatives_html_is_read_and_what_only_the_plain_text_says() -> None:
    """Nothing is read twice, nothing is lost."""
    made = message(body="The gate opens at seven (http://x.example/long?link=1).\n\nOnly here: code 4711.\n")
    made.add_alternative("<p>The gate <b>opens</b> at seven.</p>", subtype="html")
    assert mail(made)[1:] == ["paragraph: The gate opens at seven.", "paragraph: Only here: code 4711."]


def test_a_forwarded_message_is_a_section_with_its_subject() -> None:
    """With its own header lines and attachments, however deep."""
    inner = message("Budget of hall 4", "It is 1,200 euros.")
    inner.add_attachment(b"Chairs: 40 pieces.", maintype="text", subtype="plain", filename="chairs.txt")
    outer = message("Fwd: see below", "Please read.")
    outer.add_attachment(inner)
    found = mail(outer)
    assert found[1:3] == ["paragraph: Please read.", "heading2: Budget of hall 4"]
    assert found[3].startswith("paragraph: From: Ada <ada@example.org>")
    assert found[4:] == [
        "paragraph: It is 1,200 euros.",
        "heading4: Attachment: chairs.txt",
        "paragraph: Chairs: 40 pieces.",
    ]


def test_attachments_are_sections_read_by_their_own_readers() -> None:
    """Their headings stand below their name; a name in another alphabet is read; what cannot be read is said."""
    document = docx.Document()
    document.add_heading("Rates", level=1)
    document.add_paragraph("A night costs 80 euros.")
    buffer = io.BytesIO()
    document.save(buffer)
    made = message(body="See attached.")
    made.add_attachment(buffer.getvalue(), maintype="application", subtype="octet-stream", filename="Übernachtung.docx")
    made.add_attachment(b"a;b\n1;2\n", maintype="text", subtype="csv", filename="list.csv")
    made.add_attachment(b"\x89PNG\r\n\x1a\n", maintype="image", subtype="png", filename="logo.png")
    made.add_attachment(b"%PDF-1.7 nonsense", maintype="application", subtype="pdf", filename="broken.pdf")
    made.add_attachment(bytes(range(256)) * 9, maintype="application", subtype="x-odd", filename="odd.bin")
    found = mail(made)
    assert found[1:7] == [
        *("paragraph: See attached.", "heading2: Attachment: Übernachtung.docx", "heading3: Rates"),
        *("paragraph: A night costs 80 euros.", "heading2: Attachment: list.csv", "head: a | b"),
    ]
    assert found[8] == "heading2: Attachment: logo.png"
    assert found[9] == "heading2: Attachment: broken.pdf"
    assert found[10].startswith("paragraph: [Not read: broken.pdf is damaged")
    assert found[12].startswith("paragraph: [Not read: odd.bin is neither text")
    assert read(made.as_bytes(), kinds.EML).title == "Keys"


INVITATION = (
    "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;TZID=Europe/Berlin:20260501T100000\r\nDTEND:20260501T110000Z\r\n"
    'SUMMARY:Fire drill\\, hall 4\r\nLOCATION:Gate\r\n  B\r\nORGANIZER;CN="Jones; Ann":mailto:ann@x.example\r\n'
    "BEGIN:VALARM\r\nDESCRIPTION:Reminder\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


def test_an_invitation_says_what_when_where_and_with_whom() -> None:
    """As a part of a mail, and as a file."""
    shown = (
        "paragraph: Start: 2026-05-01 10:00 Europe/Berlin\nEnd: 2026-05-01 11:00 UTC\nEvent: Fire drill, hall 4\n"
        "Location: Gate B\nOrganizer: Jones; Ann <ann@x.example>"
    )
    made = message(body="You are invited.")
    made.add_alternative(INVITATION, subtype="calendar")
    assert mail(made)[-1] == shown
    assert kinds.detect_media_type(INVITATION.encode(), "x", None) == kinds.CALENDAR
    assert lines(read(INVITATION, kinds.CALENDAR, "drill.ics")) == [shown]


def test_a_mailbox_has_a_section_for_each_message() -> None:
    """A line of the text that begins with From is no border."""
    box = "".join(
        f"From ada@x.example Mon Mar  2 09:30:00 2026\nFrom: ada@x.example\nTo: bob@x.example\nSubject: Note {number}\n\n"
        f"From here it is {number} miles.\n>From the gate: {number}.\n\n"
        for number in (1, 2)
    )
    assert kinds.detect_media_type(box.encode(), None, None) == kinds.MBOX
    for source in (box, box.replace("\n", "\r\n")):
        found = lines(read(source, kinds.MBOX))
        assert [line for line in found if line.startswith("heading")] == ["heading1: Note 1", "heading1: Note 2"]
        assert found[-1] == "paragraph: From here it is 2 miles.\nFrom the gate: 2."


def test_flowed_text_is_joined() -> None:
    """RFC 3676: a space at the end of a line says that it goes on."""
    source = b"Subject: x\nContent-Type: text/plain; format=flowed\n\nThe gate \nopens.\n\nAt seven.\n"
    assert mail(source)[1:] == ["paragraph: The gate opens.", "paragraph: At seven."]


def test_malformed_mail_is_read_as_far_as_it_goes() -> None:
    """No part of it may hide the rest."""
    for source in (
        b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nfine\n",
        b"Subject: x\nContent-Type: multipart/mixed\n\nfine\n",
        b"Subject: =?utf-8?b?!!?=\nContent-Transfer-Encoding: base64\n\nZmluZQ\n",
        b'Subject: x\nContent-Type: text/plain; charset="\n\nfine\n',
        b"\n\nSubject: x\n\nfine\n",
    ):
        assert read(source, kinds.EML).text.endswith("fine")


def test_an_encrypted_message_is_refused() -> None:
    """Of which only who wrote to whom could be read."""
    with pytest.raises(DocumentRejected, match="decrypt it"):
        read(b"MIME-Version: 1.0\nContent-Type: multipart/encrypted\n\nx", kinds.EML)
