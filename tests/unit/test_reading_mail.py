"""Mail is read as a mail program shows it."""

import base64
import io
import quopri
import re
import struct
from email.message import EmailMessage

import docx
import pytest
from oxmsg.storage import Storage, Stream
from tests.support.reading import lines, read

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.chunking import chunk
from refdesk.indexing.extraction import extract
from refdesk.indexing.frames import Request
from refdesk.indexing.parsed import ParsingLimits
from refdesk.indexing.readers.outlook import OutlookMessage, message_in
from refdesk.outside import media_types as kinds
from refdesk.outside.detection import detect_media_type

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
        "Michał, 2026-03-02\n\nFrom: Michał <m@x.example>\n"
        "To: 王伟 <w@x.example>\nCc: not@shown.example\nDate: Mon, 02 Mar 2026 09:30:00 +0100\n"
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
    assert mail(made)[2:] == [
        *("paragraph: Your order & delivery:", "head: Article | Price", "row: Gasket | 4.50", "item: - Pay by 3 May")
    ]


def test_of_two_alternatives_html_is_read_and_what_only_the_plain_text_says() -> None:
    """Nothing is read twice, nothing is lost."""
    made = message(body="The gate opens at seven (http://x.example/long?link=1).\n\nOnly here: code 4711.\n")
    made.add_alternative("<p>The gate <b>opens</b> at seven.</p>", subtype="html")
    assert mail(made)[2:] == ["paragraph: The gate opens at seven.", "paragraph: Only here: code 4711."]


def test_a_forwarded_message_is_a_section_with_its_subject() -> None:
    """With its own header lines and attachments, however deep."""
    inner = message("Budget of hall 4", "It is 1,200 euros.")
    inner.add_attachment(b"Chairs: 40 pieces.", maintype="text", subtype="plain", filename="chairs.txt")
    outer = message("Fwd: see below", "Please read.")
    outer.add_attachment(inner)
    found = mail(outer)
    assert found[2:4] == ["paragraph: Please read.", "part8: Budget of hall 4 (Ada, 2026-03-02)"]
    assert found[4].startswith("fields: From: Ada <ada@example.org>")
    assert found[5:] == [
        "paragraph: It is 1,200 euros.",
        "part14: Attachment: chairs.txt",
        "paragraph: Chairs: 40 pieces.",
    ]


def test_attachments_are_parts_read_by_their_own_readers() -> None:
    """Their headings stand below their name; a name in another alphabet is read; what cannot be read is said, as a note too."""
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
    assert found[0].startswith("part1: Ada, 2026-03-02")
    del found[0]
    assert found[1:7] == [
        *("paragraph: See attached.", "part8: Attachment: Übernachtung.docx", "heading13: Rates"),
        *("paragraph: A night costs 80 euros.", "part8: Attachment: list.csv", "head: a | b"),
    ]
    assert found[8:10] == [
        "part8: Attachment: logo.png",
        "paragraph: [Not read: logo.png is a picture; upload it by itself to have its text recognised.]",
    ]
    assert found[10] == "part8: Attachment: broken.pdf"
    assert found[11].startswith("paragraph: [Not read: broken.pdf is damaged")
    assert found[13].startswith("paragraph: [Not read: odd.bin is neither text")
    parsed = read(made.as_bytes(), kinds.EML)
    assert parsed.title == "Keys"
    assert [(note.code, note.attachment) for note in parsed.notes] == [
        ("attachment_unread", name) for name in ("logo.png", "broken.pdf", "odd.bin")
    ]


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
    assert detect_media_type(INVITATION.encode(), "x", None) == kinds.CALENDAR
    assert lines(read(INVITATION, kinds.CALENDAR, "drill.ics")) == [shown]


def test_a_mailbox_has_a_section_for_each_message() -> None:
    """A line of the text that begins with From is no border."""
    box = "".join(
        f"From ada@x.example Mon Mar  2 09:30:00 2026\nFrom: ada@x.example\nTo: bob@x.example\nSubject: Note {number}\n\n"
        f"From here it is {number} miles.\n>From the gate: {number}.\n\n"
        for number in (1, 2)
    )
    assert detect_media_type(box.encode(), None, None) == kinds.MBOX
    for source in (box, box.replace("\n", "\r\n")):
        found = lines(read(source, kinds.MBOX))
        parts = [line for line in found if line.startswith("part")]
        assert parts == ["part1: Note 1 (ada@x.example)", "part1: Note 2 (ada@x.example)"]
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


def test_the_text_of_an_attachment_is_never_cited_under_another_name() -> None:
    """Small parts share no chunk; the name of the message, too, is kept under any number of headings."""
    made = message("Offer of May", "Prices below.")
    for name, price in (("copper.txt", 4), ("tin.txt", 5)):
        made.add_attachment(f"A sheet costs {price} euros.".encode(), maintype="text", subtype="plain", filename=name)
    deep = "".join(f"{'#' * level} {'Heading ' * 12}{level}\n\n" for level in range(1, 7))
    made.add_attachment(f"{deep}Zinc costs 6 euros.".encode(), maintype="text", subtype="markdown", filename="zinc.md")
    box = b"From a@x Mon Mar  2 09:30:00 2026\n" + made.as_bytes()
    found = chunk(read(box, kinds.MBOX), token_spans=lambda text: [match.span() for match in re.finditer(r"\w+", text)])
    name = "Offer of May (Ada, 2026-03-02)"
    assert [(each.heading, "euros" in each.text) for each in found[:4]] == [
        (name, False),
        (name, False),
        (f"{name} › Attachment: copper.txt", True),
        (f"{name} › Attachment: tin.txt", True),
    ]
    assert (found[4].heading or "").startswith(f"{name} › Attachment: zinc.md › Heading")


def test_two_messages_of_one_subject_share_no_passage() -> None:
    """As in every thread."""
    box = "".join(
        f"From {who}@x.example Mon Mar  2 09:30:00 2026\nFrom: {who}@x.example\nSubject: Re: Lunch\n\nAt {hour}.\n\n"
        for who, hour in (("ann", "noon"), ("bob", "one"))
    )
    found = chunk(read(box, kinds.MBOX), token_spans=lambda text: [match.span() for match in re.finditer(r"\w+", text)])
    names = ["Re: Lunch (ann@x.example)", "Re: Lunch (bob@x.example)"]
    assert [each.heading for each in found] == [name for name in names for _ in ("fields", "text")]


def test_who_wrote_when_stands_apart_from_the_text() -> None:
    """In a passage of its own; the text's passage has it in its heading, and is found by what it says."""
    parsed = read(message("Lunch", "At noon.").as_bytes(), kinds.EML)
    header, text = chunk(parsed, token_spans=lambda text: [match.span() for match in re.finditer(r"\w+", text)])
    assert header.text.endswith("Subject: Lunch")
    assert (text.heading, text.text) == ("Ada, 2026-03-02", "At noon.")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ParsingLimits(attachments_max=2), "and of one document 2 are read"),
        (ParsingLimits(attachment_bytes_max=20), "the limit for an attachment is 20"),
        (ParsingLimits(characters_max=300), "has more than 300 characters"),
        (ParsingLimits(characters_max=450), "has more than 450 characters"),
    ],
)
def test_attachments_beyond_a_limit_are_named(limits: ParsingLimits, reason: str) -> None:
    """The message and the attachments within it are read."""
    made = message(body="See attached.")
    for number, length in enumerate((5, 5, 500)):
        made.add_attachment(b"x" * length, maintype="text", subtype="plain", filename=f"{number}.txt")
    parsed = extract(made.as_bytes(), Request(media_type=kinds.EML, filename="x"), limits=limits)
    assert "part8: Attachment: 2.txt" in lines(parsed)
    assert [(note.attachment, reason in note.text) for note in parsed.notes] == [("2.txt", True)]
    assert parsed.text.count("xxxxx") == 2


def nested(depth: int, made: EmailMessage) -> EmailMessage:
    for number in range(depth):
        outer = message(f"Layer {number}", f"This is layer {number}.")
        outer.add_attachment(made)
        made = outer
    return made


def test_messages_too_deep_in_others_are_named() -> None:
    """Those that hold them are read."""
    parsed = read(nested(10, message("Core", "The core.")).as_bytes(), kinds.EML)
    assert "This is layer 1." in parsed.text
    assert "part56: Layer 0 (Ada, 2026-03-02)" in lines(parsed)
    assert "This is layer 0." not in parsed.text
    said = "Layer 0 (Ada, 2026-03-02) is a message in 8 others; upload it by itself."
    assert [note.text for note in parsed.notes] == [said]


def test_attachments_that_failed_before_are_left_out() -> None:
    """By their numbers, whatever is attached to an attached message."""
    made = message(body="See attached.")
    inner = message("Inner", "Inside.")
    inner.add_attachment(b"Deep.", maintype="text", subtype="plain", filename="deep.txt")
    made.add_attachment(inner.as_bytes(), maintype="application", subtype="octet-stream", filename="inner.eml")
    for name in ("two.txt", "three.txt"):
        made.add_attachment(f"This is {name}.".encode(), maintype="text", subtype="plain", filename=name)
    began: list[int] = []
    request = Request(media_type=kinds.EML, filename="x", unread={2: "two.txt is a bomb."})
    parsed = extract(made.as_bytes(), request, limits=ParsingLimits(), began=began.append)
    assert "Deep." in parsed.text and "This is three.txt." in parsed.text and "This is two.txt" not in parsed.text
    assert [note.text for note in parsed.notes] == ["two.txt is a bomb."]
    assert [number for number in began if number] == [1, 3]
    request = Request(media_type=kinds.EML, filename="x", unread={1: "one is a bomb."}, unread_from=2)
    parsed = extract(made.as_bytes(), request, limits=ParsingLimits())
    assert [note.attachment for note in parsed.notes] == ["inner.eml", "two.txt", "three.txt"]


def test_pictures_in_the_text_of_a_message_are_no_attachments() -> None:
    """The logo of every signature."""
    made = message()
    made.set_content("<p>Hello <img src='cid:logo'></p>", subtype="html")
    made.add_related(b"\x89PNG\r\n\x1a\n", "image", "png", cid="<logo>", filename="image001.png", disposition="inline")
    parsed = read(made.as_bytes(), kinds.EML)
    assert lines(parsed)[2:] == ["paragraph: Hello"]
    assert parsed.notes == ()


def test_what_a_page_is_made_with_is_no_text() -> None:
    """A page saved as one file has its style sheets in it, and a newsletter its page once more, for other programs."""
    kinds_of = (("html", "<p>Opens at eleven.</p>"), ("css", "body{color:red}"), ("x-amp-html", "<html ⚡4email>Opens"))
    made = (
        b'Subject: Canteen\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary="x"\n\n'
        + b"".join(
            f"--x\nContent-Type: text/{subtype}; charset=utf-8\n\n{content}\n".encode() for subtype, content in kinds_of
        )
        + b"--x--\n"
    )
    assert lines(read(made, kinds.EML))[-1] == "paragraph: Opens at eleven."


def test_a_footer_behind_an_attachment_belongs_to_the_message() -> None:
    """Mailing lists add one."""
    made = message(body="See attached.")
    made.add_attachment(b"Copper: 4.", maintype="text", subtype="plain", filename="a.txt")
    made.add_attachment(b"Unsubscribe at x.example", maintype="text", subtype="x-footer", disposition="inline")
    assert mail(made)[3:] == [
        *("paragraph: Unsubscribe at x.example", "part8: Attachment: a.txt", "paragraph: Copper: 4.")
    ]


def test_a_doubtful_body_is_noted() -> None:
    """Of the message, with the file that it is in."""
    source = b"Subject: x\nContent-Type: text/plain\n\n" + "Zebranie w piątek".encode("cp1250")
    (note,) = read(source, kinds.EML, "plan.eml").notes
    assert note.code == "encoding_doubtful"
    assert note.text.startswith("A message in plan.eml does not say how its text is encoded: read as Windows-1250")


BINARY, STRING = 0x0102, 0x001F


def storage(path: str, *, header: int, values: dict[int, bytes | str], parts: tuple[Storage, ...] = ()) -> Storage:
    """A storage of Outlook's, with its properties ([MS-OXMSG] 2.4)."""
    streams, entries = [], b"\0" * header
    for name, value in values.items():
        kind = BINARY if isinstance(value, bytes) else STRING
        content = value if isinstance(value, bytes) else value.encode("utf-16-le")
        entries += struct.pack("<HHIII", kind, name, 6, len(content), 0)
        streams.append(Stream(f"{path}/__substg1.0_{name:04X}{kind:04X}", content))
    return Storage(path, (Stream(f"{path}/__properties_version1.0", entries), *streams), parts)


def test_a_message_in_a_message_of_outlook_is_read() -> None:
    """With its own subject, body and attachments; HTML that is not what the message claims does not stop it."""
    file = storage("a/f/__attach_version1.0_#0", header=8, values={0x3707: "rates.txt", 0x3701: b"Four euros."})
    inner = storage(
        "a/__substg1.0_3701000D", header=24, values={0x0037: "Old offer", 0x1000: "Three euros."}, parts=(file,)
    )
    attached = storage("a/__attach_version1.0_#0", header=8, values={}, parts=(inner,))
    page = "<p>Größe: fünf</p>".encode("cp1252") + b"\x81"
    found = message_in(storage("a", header=32, values={0x0037: "New offer", 0x1013: page}, parts=(attached,)))
    assert found.page.text.startswith("<p>Größe: fünf</p>")
    (forwarded,) = [each.content for each in found.attachments]
    assert isinstance(forwarded, OutlookMessage)
    assert (forwarded.headers["Subject"], forwarded.plain) == ("Old offer", "Three euros.")
    assert [(each.name, each.content) for each in forwarded.attachments] == [("rates.txt", b"Four euros.")]
