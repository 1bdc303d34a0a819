"""OpenDocument texts and presentations are read as they are shown."""

import io
import zipfile

import pytest
from tests.support.reading import lines, read

from refdesk.outside import media_types as kinds
from refdesk.outside.detection import detect_media_type


def odf(kind: str, body: str, styles: str = "") -> bytes:
    used = ("office", "table", "text", "style", "draw", "presentation", "svg", "dc")
    names = "".join(f' xmlns:{name}="urn:x:{name}"' for name in used)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("content.xml", f"<office:doc{names}>{styles}<office:body>{body}</office:body></office:doc>")
        archive.writestr("mimetype", kind)  # not the first: some programs write it so
    return buffer.getvalue()


def odt(body: str, styles: str = "") -> list[str]:
    return lines(read(odf(kinds.ODT, f"<office:text>{body}</office:text>", styles), kinds.ODT))


def test_a_text_is_read_as_it_stands() -> None:
    """Spaces, tabs and breaks; what is deleted or hidden is no text; notes, comments and boxes come behind their paragraph."""
    body = (
        "<text:tracked-changes><text:deletion><text:p>gone</text:p></text:deletion></text:tracked-changes>"
        '<text:h text:outline-level="2">Prices</text:h>'
        '<text:p>Gasket<text:tab/>12<text:s text:c="2"/>EUR<text:line-break/>net</text:p>'
        "<text:p>Leave<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Or less.</text:p>"
        "</text:note-body></text:note> is thirty."
        "<office:annotation><dc:creator>Ada Jones</dc:creator><dc:date>2026-05-01T10:00:00</dc:date>"
        "<text:p>Still</text:p><text:p>true?</text:p></office:annotation></text:p>"
        '<text:p>See <text:span text:style-name="off">hidden </text:span>the box.'
        "<draw:frame><draw:text-box><text:p>Ring twice.</text:p></draw:text-box></draw:frame></text:p>"
    )
    style = '<style:style style:name="off"><style:text-properties text:display="none"/></style:style>'
    assert odt(body, style) == [
        *("heading2: Prices", "paragraph: Gasket\t12  EUR\nnet", "paragraph: Leave is thirty.", "paragraph: Or less."),
        *(
            "paragraph: Comment (Ada Jones, 2026-05-01): Still\ntrue?",
            "paragraph: See the box.",
            "paragraph: Ring twice.",
        ),
    ]


def test_lists_are_numbered_and_cells_fill_what_they_span() -> None:
    """As they are shown."""
    level = '<text:list-level-style-number text:level="1" style:num-format="a"/>'
    style = f'<text:list-style style:name="L">{level}</text:list-style>'
    item = "<text:list-item><text:p>{}</text:p></text:list-item>"
    cell = "<table:table-cell {}><text:p>{}</text:p></table:table-cell>"
    row = "<table:table-row>{}</table:table-row>"
    table = row.format(cell.format("", "Region") + cell.format("", "Town")) + "".join(
        row.format(each)
        for each in (
            cell.format('table:number-rows-spanned="2"', "North") + cell.format("", "Leeds"),
            "<table:covered-table-cell/>" + cell.format("", "York 2"),
        )
    )
    listed = f'<text:list text:style-name="L">{item.format("one")}{item.format("two")}</text:list>'
    body = f"{listed}<table:table>{table}</table:table>"
    assert odt(body, style)[:2] == ["item: a. one", "item: b. two"]
    assert odt(body, style)[-2:] == ["row: North | Leeds", "row: North | York 2"]


def test_pages_are_known_by_the_breaks_that_are_stored() -> None:
    """Those that LibreOffice found when it last laid the text out."""
    broken = "<text:p>two <text:soft-page-break/>and three</text:p>"
    body = f"<text:p>one</text:p><text:soft-page-break/>{broken}<text:p>three</text:p>"
    parsed = read(odf(kinds.ODT, f"<office:text>{body}</office:text>"), kinds.ODT)
    assert ([block.page for block in parsed.blocks], parsed.pages) == ([1, 2, 3], 3)


def test_a_presentation_is_read_slide_by_slide() -> None:
    """Its title first, the others by their places, its notes last; known wherever its kind stands in the file."""

    def frame(text: str, attributes: str) -> str:
        return f"<draw:frame {attributes}><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>"

    page = (
        "<draw:page>"
        + frame("Low", 'svg:x="1cm" svg:y="9cm"')
        + frame("High", 'svg:x="1cm" svg:y="3cm"')
        + frame("Goals", 'presentation:class="title" svg:y="1cm"')
        + f"<presentation:notes>{frame('Say 84,000.', '')}</presentation:notes></draw:page>"
    )
    source = odf(kinds.ODP, f"<office:presentation>{page}<draw:page/></office:presentation>")
    assert detect_media_type(source, "deck.bin", None) == kinds.ODP
    parsed = read(source, kinds.ODP)
    assert lines(parsed) == ["heading2: Goals", "paragraph: High", "paragraph: Low", "paragraph: Notes: Say 84,000."]
    assert parsed.pages == 2


def test_what_a_text_hides_is_not_read() -> None:
    """Sections, paragraphs and words; what merely stands in a section is."""
    body = (
        '<text:section text:display="none"><text:p>secret</text:p></text:section>'
        "<text:section><text:p>Shown.</text:p></text:section>"
        "<text:p><text:hidden-text>secret</text:hidden-text>Kept <text:hidden-paragraph/>words.</text:p>"
        '<text:p text:style-name="off">secret</text:p>'
    )
    style = '<style:style style:name="off"><style:text-properties text:display="none"/></style:style>'
    assert odt(body, style) == ["paragraph: Shown.", "paragraph: Kept words."]


def test_tables_on_slides_have_their_header() -> None:
    """As those in texts do; a frame in a group is read, too."""
    cells = "".join(f"<table:table-cell><text:p>{text}</text:p></table:table-cell>" for text in ("Town", "Staff"))
    values = "".join(f"<table:table-cell><text:p>{text}</text:p></table:table-cell>" for text in ("York", "9"))
    row = "<table:table-row>{}</table:table-row>"
    table = f"<draw:frame><table:table>{row.format(cells)}{row.format(values)}</table:table></draw:frame>"
    grouped = (
        '<draw:g><draw:frame svg:y="9cm"><draw:text-box><text:p>Low</text:p></draw:text-box></draw:frame></draw:g>'
    )
    page = f"<office:presentation><draw:page>{grouped}{table}</draw:page></office:presentation>"
    assert lines(read(odf(kinds.ODP, page), kinds.ODP)) == ["head: Town | Staff", "row: York | 9", "paragraph: Low"]


def test_chapters_and_nested_lists_keep_their_levels() -> None:
    """Numbers go on where they are said to."""
    level = '<text:list-level-style-number text:level="{}" style:num-format="{}" text:start-value="{}"/>'
    style = f'<text:list-style style:name="L">{level.format(1, "1", 3)}{level.format(2, "i", 1)}</text:list-style>'
    item = "<text:list-item>{}</text:list-item>"
    inner = f"<text:list>{item.format('<text:p>deep</text:p>')}{item.format('<text:p>deeper</text:p>')}</text:list>"
    three, four = item.format(f"<text:p>three</text:p>{inner}"), item.format("<text:p>four</text:p>")
    body = f'<text:list text:style-name="L">{three}{four}</text:list>'
    chapter = '<text:h text:outline-level="1">Rules</text:h><text:h text:outline-level="3">Gate</text:h>'
    assert odt(chapter + body, style) == [
        *("heading1: Rules", "heading3: Gate", "item: 3. three", "item: i. deep", "item: ii. deeper", "item: 4. four")
    ]


@pytest.mark.parametrize(
    ("flat", "zipped", "body", "expected"),
    [
        (
            kinds.FODT,
            kinds.ODT,
            "<office:text><text:h>A</text:h><text:p>B</text:p></office:text>",
            ["heading1: A", "paragraph: B"],
        ),
        (
            kinds.FODS,
            kinds.ODS,
            '<office:spreadsheet><table:table table:name="S"><table:table-row><table:table-cell><text:p>1</text:p>'
            "</table:table-cell></table:table-row></table:table></office:spreadsheet>",
            ["part2: S", "paragraph: 1"],
        ),
        (
            kinds.FODP,
            kinds.ODP,
            '<office:presentation><draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>A</text:p>'
            "</draw:text-box></draw:frame></draw:page></office:presentation>",
            ["heading2: A"],
        ),
    ],
)
def test_one_file_of_xml_is_read_like_the_container(flat: str, zipped: str, body: str, expected: list[str]) -> None:
    """Known by its content, whatever its name; pictures in it are no text, and its title is that of its properties."""
    names = "".join(
        f' xmlns:{name}="urn:x:{name}"' for name in ("office", "table", "text", "draw", "presentation", "dc")
    )
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<office:document{names} office:version="1.3" office:mimetype="{zipped}">'
        "<office:meta><dc:title>Mine</dc:title></office:meta><office:scripts><office:binary-data>QUJD\n"
        f"</office:binary-data></office:scripts><office:body>{body}</office:body></office:document>"
    ).encode()
    assert [detect_media_type(content, name, None) for name in ("a.xml", "a", "a.txt")] == [flat] * 3
    parsed = read(content, flat)
    assert (lines(parsed), parsed.title) == (expected, "Mine")
