"""Text recognition: scans through the real parser processes and the real tesseract."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from email.message import EmailMessage

import fpdf
import pytest
from PIL import Image, ImageDraw, ImageFont

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.parsing import ParsedDocument, ParserPool, ParsingLimits
from refdesk.indexing.recognition import RecognitionLimits, find_data
from refdesk.outside import media_types as kinds
from refdesk.settings.reading import PoolSizes

DATA_DIR = find_data("eng")
RECOGNITION = RecognitionLimits(data_dir=str(DATA_DIR))
PAGES = ("Every ferry carries forty life jackets.", "The harbour office opens at seven.", "Dogs travel free of charge.")

recognised = pytest.mark.skipif(
    DATA_DIR is None,
    reason="SCANS ARE NOT TESTED: tesseract has no English here. Install tesseract-ocr-eng to run them.",
)


def picture(text: str) -> Image.Image:
    image = Image.new("L", (1000, 200), "white")
    ImageDraw.Draw(image).text((40, 60), text, fill="black", font=ImageFont.load_default(size=44))
    return image


def file_of(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def scan(*pages: str, first: str = "") -> bytes:
    """A PDF of pictures; before them a page with a text layer, if one is given."""
    document = fpdf.FPDF()
    document.set_font("Helvetica", size=11)
    if first:
        document.add_page()
        document.cell(0, 6, first)
    for page in pages:
        document.add_page()
        document.image(picture(page), w=180)
    return bytes(document.output())


def pool(limits: RecognitionLimits | None) -> ParserPool:
    return ParserPool(limits=ParsingLimits(recognition=limits), sizes=PoolSizes(workers=1))


@pytest.fixture
async def reader() -> AsyncIterator[ParserPool]:
    async with pool(RECOGNITION) as reader:
        yield reader


@recognised
async def test_a_scan_is_read_page_by_page(reader: ParserPool) -> None:
    """The text of pictures, each sentence on its own page."""
    parsed = await reader.parse(scan(*PAGES), kinds.PDF, "scan.pdf")
    assert [(block.page, parsed.text[block.start : block.end]) for block in parsed.blocks] == list(enumerate(PAGES, 1))
    assert (parsed.pages, parsed.scanned) == (3, ())


@recognised
async def test_scanned_pages_between_others_are_read_too(reader: ParserPool) -> None:
    """A text layer on one page does not hide that others have none."""
    parsed = await reader.parse(scan(PAGES[0], first="A covering letter."), kinds.PDF, "mixed.pdf")
    assert [(block.page, parsed.text[block.start : block.end]) for block in parsed.blocks] == [
        (1, "A covering letter."),
        (2, PAGES[0]),
    ]


@recognised
@pytest.mark.parametrize(("media_type", "kind"), [(kinds.PNG, "PNG"), (kinds.JPEG, "JPEG")])
async def test_a_picture_is_read(reader: ParserPool, media_type: str, kind: str) -> None:
    """A photographed page has no number."""
    parsed = await reader.parse(file_of(picture(PAGES[0]), kind), media_type, "photo")
    assert [(block.page, parsed.text[block.start : block.end]) for block in parsed.blocks] == [(None, PAGES[0])]


@recognised
async def test_what_shows_no_text_is_refused(reader: ParserPool) -> None:
    """An empty page and a damaged picture, each with its reason."""
    with pytest.raises(DocumentRejected, match=r"No text could be recognised in blank\.png; upload a clearer scan"):
        await reader.parse(file_of(picture(""), "PNG"), kinds.PNG, "blank.png")
    with pytest.raises(DocumentRejected, match=r"page 1 of torn\.png cannot be recognised \(.*; scan it anew"):
        await reader.parse(file_of(picture(PAGES[0]), "PNG")[:300], kinds.PNG, "torn.png")


@recognised
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (replace(RECOGNITION, pages_max=2), r"3 pages are to be recognised; the limit is 2; .*REFDESK_OCR_PAGES_MAX"),
        (replace(RECOGNITION, pages_max=0), r"3 pages .* the limit is 0; .*REFDESK_OCR_PAGES_MAX"),
        (replace(RECOGNITION, page_s=0.001), r"Page 1 of scan\.pdf .*REFDESK_OCR_PAGE_SECONDS_MAX"),
        (replace(RECOGNITION, total_s=0.0), r"All of scan\.pdf could not be read .*REFDESK_OCR_SECONDS_MAX"),
    ],
)
async def test_recognition_is_bounded_and_names_the_bound(limits: RecognitionLimits, message: str) -> None:
    """In pages, seconds a page, and seconds in all."""
    async with pool(limits) as reader:
        with pytest.raises(DocumentRejected, match=message):
            await reader.parse(scan(*PAGES), kinds.PDF, "scan.pdf")
        assert (await reader.parse(b"next", kinds.TEXT)).text == "next"


@pytest.mark.parametrize("limits", [None, replace(RECOGNITION, pages_max=0), replace(RECOGNITION, total_s=0.0)])
async def test_pages_that_have_text_are_indexed_whatever_becomes_of_the_others(
    limits: RecognitionLimits | None,
) -> None:
    """A scanned appendix does not cost the contract."""
    async with pool(limits) as reader:
        parsed = await reader.parse(scan(PAGES[0], first="A covering letter."), kinds.PDF, "mixed.pdf")
    assert (parsed.text, parsed.scanned) == ("A covering letter.", (2,))


@pytest.mark.parametrize(
    ("content", "media_type", "what"),
    [
        (scan(PAGES[0]), kinds.PDF, "x has no text layer"),
        (file_of(picture(PAGES[0]), "PNG"), kinds.PNG, "x is a picture"),
    ],
)
async def test_without_recognition_a_scan_is_refused_with_what_to_install(
    content: bytes, media_type: str, what: str
) -> None:
    """The reason stands with the document; once the data is there, a retry reads it."""
    async with pool(None) as reader:
        with pytest.raises(DocumentRejected, match=f"{what}, and there is no text recognition.*tesseract-ocr-eng"):
            await reader.parse(content, media_type, "x")


# -- attachments


def mail(*attachments: tuple[bytes, str, str], subject: str = "Rules") -> EmailMessage:
    """Attachments are (content, media type, name)."""
    made = EmailMessage()
    made["Subject"] = subject
    made.set_content("See attached.")
    for content, media_type, name in attachments:
        kind, _, subtype = media_type.partition("/")
        made.add_attachment(content, maintype=kind, subtype=subtype, filename=name)
    return made


def standing(parsed: ParsedDocument, text: str) -> tuple[int | None, str]:
    """On which page of what part a text stands."""
    [place] = [n for n, block in enumerate(parsed.blocks) if parsed.text[block.start : block.end] == text]
    part = next(block for block in reversed(parsed.blocks[:place]) if block.kind == "part")
    return parsed.blocks[place].page, parsed.text[part.start : part.end]


@recognised
async def test_scans_in_attachments_are_read(reader: ParserPool) -> None:
    """In mails, in mails attached to mails, in PDFs; on their own pages, under their own names."""
    inner = mail((scan(PAGES[2]), kinds.PDF, "dogs.pdf"), subject="Inner")
    made = mail(
        (b"Nothing to see.", kinds.TEXT, "a.txt"),
        (scan(PAGES[0], first="A covering letter."), kinds.PDF, "rules.pdf"),
        (inner.as_bytes(), "application/octet-stream", "inner.eml"),
        (file_of(picture(PAGES[1]), "PNG"), kinds.PNG, "door.png"),
    )
    parsed = await reader.parse(made.as_bytes(), kinds.EML, "rules.eml")
    assert standing(parsed, "A covering letter.") == (1, "Attachment: rules.pdf")
    assert standing(parsed, PAGES[0]) == (2, "Attachment: rules.pdf")
    assert standing(parsed, PAGES[1]) == (None, "Attachment: door.png")
    assert standing(parsed, PAGES[2]) == (1, "Attachment: dogs.pdf")
    assert (parsed.notes, parsed.scans) == ((), ())
    book = fpdf.FPDF()
    book.set_font("Helvetica", size=11)
    book.add_page()
    book.cell(0, 6, "The charter.")
    book.embed_file(bytes=scan(PAGES[0]), basename="annex.pdf")
    parsed = await reader.parse(bytes(book.output()), kinds.PDF, "charter.pdf")
    assert standing(parsed, PAGES[0]) == (1, "Attachment: annex.pdf")


@recognised
async def test_recognition_of_attachments_is_bounded(reader: ParserPool) -> None:
    """Pages of all of them count together; what is not read is named with the reason, and the others are read."""
    made = mail(
        (scan(PAGES[0]), kinds.PDF, "one.pdf"),
        (scan(PAGES[1], PAGES[2]), kinds.PDF, "two.pdf"),
        (file_of(picture(""), "PNG"), kinds.PNG, "blank.png"),
        (file_of(picture(PAGES[0]), "PNG")[:300], kinds.PNG, "torn.png"),
    )
    async with pool(replace(RECOGNITION, pages_max=2)) as bounded:
        parsed = await bounded.parse(made.as_bytes(), kinds.EML, "rules.eml")
    assert PAGES[0] in parsed.text and PAGES[1] not in parsed.text
    said = {note.attachment: note.text for note in parsed.notes}
    assert set(said) == {"two.pdf", "blank.png", "torn.png"}
    assert "3 pages are to be recognised; the limit is 2" in said["two.pdf"]
    assert "blank.png contains no text" in said["blank.png"]
    assert "3 pages" in said["torn.png"] or "cannot be recognised" in said["torn.png"]


async def test_without_recognition_scans_in_attachments_are_named() -> None:
    """And the mail is read."""
    async with pool(None) as reader:
        parsed = await reader.parse(mail((scan(PAGES[0]), kinds.PDF, "a.pdf")).as_bytes(), kinds.EML, "rules.eml")
    assert [(note.code, note.attachment) for note in parsed.notes] == [("attachment_unread", "a.pdf")]
    assert "See attached." in parsed.text and parsed.scans == ()
