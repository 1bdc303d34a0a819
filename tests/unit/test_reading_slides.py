"""Presentations are read slide by slide, as their audience and their speaker see them."""

from tests.support.office import NAMESPACES, slides
from tests.support.reading import lines, read

from refdesk.outside import media_types as kinds


def shape(text: str, place: str = "", at: tuple[int, int] | None = None) -> str:
    """A text box, or what fills a place; ``at`` is (left, top) in centimetres."""
    offset = f'<a:xfrm><a:off x="{at[0] * 360000}" y="{at[1] * 360000}"/></a:xfrm>' if at else ""
    paragraphs = "".join(
        f"<a:p>{inside if inside.startswith('<') else run(inside)}</a:p>" for inside in text.split("|")
    )
    return (
        f"<p:sp><p:nvSpPr><p:cNvPr/><p:nvPr>{place}</p:nvPr></p:nvSpPr><p:spPr>{offset}</p:spPr>"
        f"<p:txBody>{paragraphs}</p:txBody></p:sp>"
    )


def run(text: str, properties: str = "") -> str:
    return f"<a:r><a:rPr {properties}/><a:t>{text}</a:t></a:r>"


TITLE = '<p:ph type="title"/>'


def test_a_slide_is_read_in_the_order_of_its_places() -> None:
    """Its title first, then from top to bottom and from left to right; places of the layout count."""
    layout = shape("", TITLE, (2, 1)) + shape("", '<p:ph type="body" idx="1"/>', (2, 5))
    tree = (
        shape("Footer note", at=(2, 16))
        + shape("Right", at=(14, 5))
        + shape("Left", '<p:ph idx="1"/>')
        + shape("Goals", TITLE)
        + shape("7", '<p:ph type="sldNum"/>')
        + f"<p:grpSp>{shape('Grouped', at=(2, 9))}</p:grpSp>"
    )
    parsed = read(slides(tree, shape("Second"), layout=layout), kinds.PPTX)
    assert lines(parsed) == [
        *("heading2: Goals", "paragraph: Left", "paragraph: Right", "paragraph: Grouped", "paragraph: Footer note"),
        "paragraph: Second",
    ]
    assert [block.page for block in parsed.blocks] == [1, 1, 1, 1, 1, 2]
    assert parsed.pages == 2


def test_what_was_grouped_is_read_together() -> None:
    """Two cards side by side, each of a heading and a text, wherever the group was moved to."""

    def group(left: int, *inside: str) -> str:
        place = f'<a:off x="{left * 360000}" y="1800000"/><a:ext cx="9" cy="9"/><a:chOff x="0" y="0"/>'
        return f"<p:grpSp><p:grpSpPr><a:xfrm>{place}</a:xfrm></p:grpSpPr>{''.join(inside)}</p:grpSp>"

    cards = group(14, shape("Late", at=(0, 0)), shape("From ten", at=(0, 3)))
    cards += group(2, group(0, shape("From six", at=(0, 3))), shape("Early", at=(0, 0)))
    parsed = read(slides(cards + shape("Shifts", TITLE)), kinds.PPTX)
    assert [parsed.text[block.start : block.end] for block in parsed.blocks] == [
        *("Shifts", "Early", "From six", "Late", "From ten")
    ]


def test_a_formula_on_a_slide_is_written_on_one_line() -> None:
    """As in Word."""
    power = "<m:sSup><m:e><m:r><m:t>v</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
    formula = (
        f"<mc:AlternateContent><mc:Choice><m:oMath>{power}</m:oMath></mc:Choice><mc:Fallback/></mc:AlternateContent>"
    )
    assert lines(read(slides(shape(f"{run('Energy ')}{formula}")), kinds.PPTX)) == ["paragraph: Energy v^2"]


def test_bold_and_underlined_words_are_plain_words() -> None:
    """No marks of another format leak in; breaks and bullets are kept."""
    text = run("Very ", 'b="1"') + run("important", 'u="sng"') + "<a:br/>" + run("news")
    bullet = '<a:pPr><a:buChar char="*"/></a:pPr>' + run("a point")
    assert lines(read(slides(shape(f"{text}|{bullet}")), kinds.PPTX)) == [
        "paragraph: Very important\nnews",
        "item: - a point",
    ]


def test_speaker_notes_belong_to_their_slide() -> None:
    """What is said but not shown is asked for, too."""
    notes = f"<p:notes {NAMESPACES}><p:cSld><p:spTree>" + shape("Mention 84,000 euros.", '<p:ph type="body" idx="1"/>')
    notes += shape("12", '<p:ph type="sldNum"/>') + "</p:spTree></p:cSld></p:notes>"
    parsed = read(slides(shape("Goals", TITLE), notesSlide=notes), kinds.PPTX)
    assert lines(parsed) == ["heading2: Goals", "paragraph: Notes: Mention 84,000 euros."]
    assert parsed.blocks[1].page == 1


def test_a_table_has_its_header_and_fills_its_spans() -> None:
    """As on a sheet."""

    def cell(text: str, attributes: str = "") -> str:
        return f"<a:tc {attributes}><a:txBody><a:p>{run(text)}</a:p></a:txBody></a:tc>"

    table = (
        '<p:graphicFrame><a:graphic><a:graphicData><a:tbl><a:tblPr firstRow="1"/>'
        + "".join(
            f"<a:tr>{first}{cell(second)}</a:tr>"
            for first, second in (
                (cell("Region"), "Town"),
                (cell("North", 'rowSpan="2"'), "Leeds"),
                (cell("", 'vMerge="1"'), "York"),
            )
        )
        + "</a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
    )
    assert lines(read(slides(table), kinds.PPTX)) == ["head: Region | Town", "row: North | Leeds", "row: North | York"]


def test_a_chart_is_read_as_the_table_it_draws() -> None:
    """Its title, its series and their values in their format."""

    def points(kind: str, values: list[str], code: str = "") -> str:
        numbered = "".join(f'<c:pt idx="{index}"><c:v>{value}</c:v></c:pt>' for index, value in enumerate(values))
        return f"<c:{kind}><c:numRef><c:numCache>{code}{numbered}</c:numCache></c:numRef></c:{kind}>"

    series = "".join(
        f"<c:ser><c:tx><c:strRef><c:strCache><c:pt idx='0'><c:v>{name}</c:v></c:pt></c:strCache></c:strRef></c:tx>"
        f"{points('cat', ['2025', '2026'])}{points('val', values, '<c:formatCode>0.0%</c:formatCode>')}</c:ser>"
        for name, values in (("Rail", ["0.125", "0.2"]), ("Road", ["0.875", "0.8"]))
    )
    chart = (
        f"<c:chartSpace {NAMESPACES}><c:chart>"
        f"<c:title><c:tx><c:rich><a:p>{run('Share of freight')}</a:p></c:rich></c:tx></c:title>"
        f"<c:plotArea><c:barChart>{series}</c:barChart></c:plotArea></c:chart></c:chartSpace>"
    )
    frame = (
        '<p:graphicFrame><a:graphic><a:graphicData><c:chart r:id="chart"/></a:graphicData></a:graphic></p:graphicFrame>'
    )
    assert lines(read(slides(frame, chart=chart), kinds.PPTX)) == [
        *(
            "paragraph: Share of freight",
            "head: | Rail | Road",
            "row: 2025 | 12.5% | 87.5%",
            "row: 2026 | 20.0% | 80.0%",
        )
    ]
