"""PDFs are read in the order in which people read them, with what they have filled in."""

from pathlib import Path

import fpdf
import pytest
from tests.support.pdfs import Text, pdf
from tests.support.reading import lines, read

from refdesk.indexing.extraction import extract
from refdesk.indexing.frames import Request
from refdesk.indexing.parsed import ParsingLimits
from refdesk.indexing.readers.pdf_glyphs import logical_order
from refdesk.outside import media_types as kinds


def found(*pages: list[Text], fields: list[str] | None = None) -> list[str]:
    return lines(read(pdf(*pages, fields=fields), kinds.PDF))


def words(*pages: list[Text]) -> str:
    return " ".join(read(pdf(*pages), kinds.PDF).text.split())


def test_cells_of_one_character_stay_apart() -> None:
    """Pieces that were drawn one by one are words where there is a gap, and one word where there is none."""
    row = [(50, 700, "York"), (120, 700, "2022"), (160, 700, "9"), (200, 700, "x"), (240, 700, "-")]
    assert words(row) == "York 2022 9 x -"
    assert words([(50, 700, "Ga"), (62.23, 700, "sket")]) == "Gasket"


def test_rows_of_a_table_stay_rows() -> None:
    """They do not run on into each other like the lines of a paragraph."""
    table = [(x, y, f"{name}{y}") for y in (700, 680, 660) for x, name in ((50, "a"), (200, "b"), (350, "c"))]
    assert found(table) == ["head: a700 b700 c700", "row: a680 b680 c680", "row: a660 b660 c660"]


@pytest.mark.parametrize("step", [12, 16, 24])
@pytest.mark.parametrize(
    "rows",
    [
        ["1 234 567", "x y z", "word 5 word"],
        ["Size Left Right", "S 1 2", "M 3 4", "XL 7 8"],
        ["Item Code", "7 A", "8 B", "9 C"],
        ["Nr Name", "1 Anna", "2 Bo", "3 Cid"],
    ],
)
def test_a_row_begins_with_a_single_letter(rows: list[str], step: int) -> None:
    """It is not the last cell of the row above."""
    table = [(60 + 110 * x, 700 - step * y, cell) for y, row in enumerate(rows) for x, cell in enumerate(row.split())]
    assert [line.partition(": ")[2] for line in found(table)] == rows


def test_the_header_of_a_table_is_known() -> None:
    """So that it stays with the rows where a long table is cut."""
    table = [
        (50, 700, "Town"),
        (200, 700, "Staff"),
        (50, 680, "York"),
        (200, 680, "9"),
        (50, 660, "Bath"),
        (200, 660, "12"),
    ]
    assert found(table) == ["head: Town Staff", "row: York 9", "row: Bath 12"]


LEFT = [
    *("The gate opens at seven in the", "morning and closes at eight in"),
    *("the evening. Visitors ring at", "the second door, not the first."),
]
RIGHT = [
    *("Parking is free for the whole", "day behind hall four. Lorries"),
    *("keep to the lane on the left", "and wait until they are called."),
]


@pytest.mark.parametrize("by_rows", [True, False])
def test_two_columns_are_read_one_after_the_other(by_rows: bool) -> None:
    """However they were drawn; a title above them stays above."""
    halves = zip(LEFT, RIGHT, strict=True)
    rows = [[(50.0, 700 - 12.0 * n, left), (320.0, 700 - 12.0 * n, right)] for n, (left, right) in enumerate(halves)]
    pieces = [piece for row in rows for piece in row]
    if not by_rows:
        pieces = [row[0] for row in rows] + [row[1] for row in rows]
    assert words([(50, 750, "House rules"), *pieces]) == " ".join(["House rules", *LEFT, *RIGHT])


def field(kind: str, box: str, value: str) -> str:
    return f"/Subtype /Widget /FT /{kind} /T (f{box.replace(' ', '')}) /Rect [{box}] /V {value} /F 4"


def test_what_was_typed_into_a_form_stands_behind_its_label() -> None:
    """Texts, choices and switches that are on; without any drawing of theirs."""
    labels = [(50, 700, "Surname:"), (300, 700, "Class:"), (50, 680, "Needs visa"), (50, 660, "Needs car")]
    fields = [
        field("Tx", "110 697 200 711", "(Keller)"),
        field("Ch", "350 697 420 711", "(economy)"),
        field("Btn", "110 677 122 691", "/Yes /AS /Yes /AP << /N << /Yes 3 0 R /Off 3 0 R >> >>"),
        field("Btn", "110 657 122 671", "/Off /AS /Off /AP << /N << /Yes 3 0 R /Off 3 0 R >> >>"),
        field("Tx", "50 600 200 614", "(No label)"),
    ]
    text = read(pdf(labels, fields=fields), kinds.PDF).text
    assert text.split() == "Surname: Keller Class: economy Needs visa [x] Needs car No label".split()


def test_remarks_on_a_page_are_read_behind_it() -> None:
    """Notes, and comments on marked words; hidden ones are not."""
    fields = [
        "/Subtype /Text /Rect [50 500 60 510] /Contents (Check with Ms Adler) /F 4",
        "/Subtype /Highlight /Rect [50 700 90 710] /Contents (Since March) /QuadPoints [50 710 90 710 50 700 90 700]",
        "/Subtype /Text /Rect [50 480 60 490] /Contents (secret) /F 2",
    ]
    assert found([(50, 700, "Drawing list of hall 4.")], fields=fields) == [
        *("paragraph: Drawing list of hall 4.", "paragraph: Check with Ms Adler", "paragraph: Since March")
    ]


def page(*texts: str) -> list[Text]:
    return [(50.0, 760 - 14.0 * line, text) for line, text in enumerate(texts)]


def test_pages_of_a_form_keep_their_figures() -> None:
    """Lines in which only figures differ are no running lines, and on short pages no line is."""
    slips = [
        page("Pay slip May 2026", f"Employee {who}", f"Gross {pay} EUR", "Tax class 1")
        for who, pay in (("Ann", 3120), ("Bo", 2890), ("Cy", 3300))
    ]
    text = read(pdf(*slips), kinds.PDF).text
    assert [text.count(each) for each in ("Gross 3120", "Gross 2890", "Gross 3300", "Tax class 1", "May 2026")] == [
        1,
        1,
        1,
        3,
        3,
    ]


def test_running_lines_are_read_once_and_page_numbers_not_at_all() -> None:
    """On pages long enough to have any."""
    body = [f"Sentence {word} of the page says something of its own." for word in "abcdefghijkl"]
    pages = [
        page("Handbook 2026", *[f"{line} {word}" for line in body], f"Page {number} of 3")
        for number, word in enumerate(("x", "y", "z"), start=1)
    ]
    parsed = read(pdf(*pages), kinds.PDF)
    assert (parsed.text.count("Handbook 2026"), parsed.text.count("Page")) == (1, 0)
    assert {block.page for block in parsed.blocks} == {1, 2, 3}


@pytest.mark.parametrize(
    ("visual", "logical"),
    [
        ("םולש", "שלום"),
        ("הגרדמב 12 חרדח", "חדרח 12 במדרגה"),
        ("floor 3 הרדח", "floor 3 חדרה"),
        ("םולש Anna םולש", "שלום Anna שלום"),
        ("plain words", "plain words"),
    ],
)
def test_right_to_left_text_is_put_in_the_order_in_which_it_is_read(visual: str, logical: str) -> None:
    """Figures and Latin words inside it stay as they are."""
    assert logical_order(list(visual)) == logical


def book(text: str = "The contract.") -> fpdf.FPDF:
    made = fpdf.FPDF()
    made.set_font("Helvetica", size=11)
    made.add_page()
    made.cell(0, 6, text)
    return made


def test_files_inside_a_pdf_are_parts_of_it(tmp_path: Path) -> None:
    """Those in its list and those pinned to a page, read by their own readers, on their own pages; PDFs in PDFs."""
    inner = book("The annex.")
    inner.embed_file(bytes=b"# Prices\n\nCopper costs 4 euros.", basename="prices.md")
    outer = book()
    outer.embed_file(bytes=b"<invoice><total currency='EUR'>119.00</total></invoice>", basename="factur-x.xml")
    outer.embed_file(bytes=bytes(inner.output()), basename="annex.pdf")
    pinned = tmp_path / "Zinn und Kupfer.txt"
    pinned.write_text("Tin costs 5 euros.")
    outer.file_attachment_annotation(pinned, x=20, y=60)
    parsed = read(bytes(outer.output()), kinds.PDF)
    assert lines(parsed)[:8] == [
        *("paragraph: The contract.", "part2: Attachment: factur-x.xml", "item: invoice", "item: total: currency: EUR, 119.00"),
        *("part2: Attachment: annex.pdf", "paragraph: The annex.", "part8: Attachment: prices.md", "heading13: Prices"),
    ]  # fmt: skip
    assert "part2: Attachment: Zinn und Kupfer.txt" in lines(parsed) and "Tin costs 5 euros." in parsed.text
    assert [block.page for block in parsed.blocks[:6]] == [1, None, None, None, None, 1]
    assert (parsed.pages, parsed.notes) == (1, ())


def test_what_is_inside_a_pdf_and_cannot_be_read_is_named() -> None:
    """Whatever is the matter with it, the PDF and its other files are read."""
    outer = book()
    for content, name in (
        (b"\x7fELF\x02\x01" + bytes(60), "tool.exe"),
        (b"\n", "empty.txt"),
        (b"Tin: 5 euros.", "tin.txt"),
    ):
        outer.embed_file(bytes=content, basename=name)
    parsed = read(bytes(outer.output()), kinds.PDF)
    assert {note.attachment: note.code for note in parsed.notes} == dict.fromkeys(
        ("tool.exe", "empty.txt"), "attachment_unread"
    )
    assert all(text in parsed.text for text in ("The contract.", "Tin: 5 euros.", "[Not read: tool.exe is a program"))


def test_files_inside_a_pdf_are_bounded() -> None:
    """In number, size and depth, as those of a mail are."""
    deep = book("Layer 0.")
    for layer in range(1, 4):
        outer = book(f"Layer {layer}.")
        outer.embed_file(bytes=bytes(deep.output()), basename=f"layer{layer - 1}.pdf")
        deep = outer
    for name in ("a.txt", "b.txt"):
        deep.embed_file(bytes=b"x" * 90, basename=name)
    source = bytes(deep.output())
    for limits, said in (
        (ParsingLimits(attachment_depth_max=2), {"layer0.pdf": "REFDESK_ATTACHMENT_DEPTH_MAX"}),
        (ParsingLimits(attachments_max=4), {"b.txt": "REFDESK_ATTACHMENTS_MAX"}),
        (
            ParsingLimits(attachment_bytes_max=80),
            dict.fromkeys(("layer2.pdf", "a.txt", "b.txt"), "ATTACHMENT_BYTES_MAX"),
        ),
    ):
        parsed = extract(source, Request(media_type=kinds.PDF, filename="x"), limits=limits)
        assert {note.attachment: said[note.attachment or ""] in note.text for note in parsed.notes} == dict.fromkeys(
            said, True
        )
        assert "Layer 3." in parsed.text
