"""Word documents are read as they stand."""

import pytest
from tests.support.office import word
from tests.support.reading import lines, read

from refdesk.outside import media_types as kinds


def docx(body: str, **parts: str) -> list[str]:
    return lines(read(word(body, **parts), kinds.DOCX))


def p(inside: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{inside}</w:p>"


def r(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (r("Gasket") + "<w:r><w:tab/><w:t>12 EUR</w:t></w:r>", "Gasket\t12 EUR"),
        (r("a") + "<w:r><w:br/></w:r>" + r("b") + "<w:r><w:cr/></w:r>" + r("c"), "a\nb\nc"),
        (r("well") + "<w:r><w:noBreakHyphen/></w:r>" + r("known"), "well-known"),
        (r("inter") + "<w:r><w:softHyphen/></w:r>" + r("national"), "international"),
        (r("half ") + '<w:r><w:sym w:font="Wingdings" w:char="F0FC"/></w:r>', "half ✓"),
        (r("old", "<w:vanish/>") + r("seen", '<w:vanish w:val="0"/>'), "seen"),
        (f"<w:del>{r('gone')}</w:del><w:ins>{r('come')}</w:ins>", "come"),
        (f"<w:moveFrom>{r('from')}</w:moveFrom><w:moveTo>{r('to')}</w:moveTo>", "to"),
        ("<w:del><w:r><w:delText>gone</w:delText></w:r></w:del>" + r("kept"), "kept"),
        (f'<w:hyperlink r:id="x">{r("a link")}</w:hyperlink><w:smartTag>{r(" tagged")}</w:smartTag>', "a link tagged"),
        (f"<w:sdt><w:sdtPr/><w:sdtContent>{r('filled in')}</w:sdtContent></w:sdt>", "filled in"),
        (
            f"<w:sdt><w:sdtPr><w:showingPlcHdr/></w:sdtPr><w:sdtContent>{r('Click here')}</w:sdtContent></w:sdt>{r('x')}",
            "x",
        ),
        (
            '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>REF x</w:instrText></w:r>'
            '<w:r><w:fldChar w:fldCharType="separate"/></w:r>'
            + r("clause 4")
            + '<w:r><w:fldChar w:fldCharType="end"/></w:r>',
            "clause 4",
        ),
        (
            "<w:ruby><w:rt><w:r><w:t>kana</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>漢字</w:t></w:r></w:rubyBase></w:ruby>",
            "漢字",
        ),
        ("<m:oMath><m:r><m:t>a=b</m:t></m:r></m:oMath>", "a=b"),
    ],
)
def test_a_paragraph_says_what_its_reader_sees(inside: str, expected: str) -> None:
    """Tabs, breaks, hyphens and symbols; what is deleted, moved away, hidden or only asked for is no text."""
    assert docx(p(inside)) == [f"paragraph: {expected}"]


def m(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (f"<m:f><m:num>{m('m+1')}</m:num><m:den>{m('2')}</m:den></m:f>", "(m+1)/2"),
        (f"<m:sSup><m:e>{m('v')}</m:e><m:sup>{m('2')}</m:sup></m:sSup>", "v^2"),
        (f"<m:sSub><m:e>{m('x')}</m:e><m:sub>{m('i')}</m:sub></m:sSub>", "x_i"),
        (f"<m:rad><m:deg/><m:e>{m('x+1')}</m:e></m:rad>", "√(x+1)"),
        (
            f"<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr><m:sub>{m('i=1')}</m:sub><m:sup>{m('n')}</m:sup>"
            f"<m:e>{m('i')}</m:e></m:nary>",
            "∑_(i=1)^n i",
        ),
        (
            f"<m:d><m:dPr><m:begChr m:val='['/><m:endChr m:val=']'/></m:dPr><m:e>{m('a')}</m:e><m:e>{m('b')}</m:e></m:d>",
            "[a|b]",
        ),
        (f"<m:func><m:fName>{m('sin')}</m:fName><m:e>{m('x')}</m:e></m:func>", "sin x"),
        (
            f"<m:m><m:mr><m:e>{m('1')}</m:e><m:e>{m('0')}</m:e></m:mr><m:mr><m:e>{m('0')}</m:e></m:mr></m:m>",
            "[1, 0; 0]",
        ),
        (f"<m:phant><m:phantPr><m:show m:val='0'/></m:phantPr><m:e>{m('x')}</m:e></m:phant>{m('y')}", "y"),
    ],
)
def test_a_formula_is_written_on_one_line(inside: str, expected: str) -> None:
    """Fractions, powers, roots and sums keep their meaning: half of v squared is not 2v2."""
    assert docx(p(f"<m:oMathPara><m:oMath>{m('E=')}{inside}</m:oMath></m:oMathPara>")) == [f"paragraph: E={expected}"]


def box(text: str) -> str:
    inside = f"<w:txbxContent>{p(r(text))}</w:txbxContent>"
    return (
        "<w:r><mc:AlternateContent><mc:Choice><w:drawing><wp:anchor><wps:wsp><wps:txbx>"
        f"{inside}</wps:txbx></wps:wsp></wp:anchor></w:drawing></mc:Choice>"
        f"<mc:Fallback><w:pict><v:textbox>{inside}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r>"
    )


@pytest.mark.parametrize("inside", [box("Ring twice.") + r("The gate."), r("The ") + box("Ring twice.") + r("gate.")])
def test_a_paragraph_with_a_text_box_keeps_its_own_words(inside: str) -> None:
    """The box comes behind it, once."""
    assert docx(p(inside) + p(r("Next."))) == ["paragraph: The gate.", "paragraph: Ring twice.", "paragraph: Next."]


def test_footnotes_come_behind_their_paragraph() -> None:
    """Without a mark in the sentence."""
    body = p(r("Thirty days") + '<w:r><w:footnoteReference w:id="2"/></w:r>' + r(" for all.")) + p(r("Next."))
    note = f'<w:footnote w:id="2">{p("<w:r><w:footnoteRef/></w:r>" + r("Part-timers less."))}</w:footnote>'
    assert docx(body, footnotes=note) == [
        *("paragraph: Thirty days for all.", "paragraph: Part-timers less.", "paragraph: Next.")
    ]


def test_headers_and_footers_are_read_once_and_page_numbers_not() -> None:
    """A letterhead tells the number and the date of a policy."""
    footer = p(r("Page ") + f'<w:fldSimple w:instr=" PAGE ">{r("7")}</w:fldSimple>') + p(r("Policy HR-12, May 2026"))
    assert docx(p(r("Body.")), header=p(r("Example Ltd")) * 2, footer=footer) == [
        *("paragraph: Example Ltd", "paragraph: Policy HR-12, May 2026", "paragraph: Body.")
    ]


STYLES = (
    '<w:style w:type="paragraph" w:styleId="U1"><w:name w:val="heading 1"/>'
    '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>'
    '<w:style w:type="paragraph" w:styleId="U2"><w:name w:val="heading 2"/>'
    '<w:pPr><w:numPr><w:ilvl w:val="1"/><w:numId w:val="1"/></w:numPr></w:pPr></w:style>'
    '<w:style w:type="paragraph" w:styleId="Own"><w:name w:val="Own"/><w:basedOn w:val="U2"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Off"><w:name w:val="Off"/><w:rPr><w:vanish/></w:rPr></w:style>'
)
NUMBERING = (
    '<w:abstractNum w:abstractNumId="7"><w:lvl w:ilvl="0"><w:start w:val="3"/><w:numFmt w:val="upperRoman"/>'
    '<w:lvlText w:val="%1."/></w:lvl><w:lvl w:ilvl="1"><w:isLgl/><w:lvlText w:val="%1.%2"/></w:lvl></w:abstractNum>'
    '<w:abstractNum w:abstractNumId="8"><w:lvl w:ilvl="0"><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="(%1)"/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum>'
    '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>'
    '<w:num w:numId="3"><w:abstractNumId w:val="8"/>'
    '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>'
)


def test_numbers_of_lists_and_headings_are_counted() -> None:
    """As Word shows them; styles pass them on."""

    def item(text: str, number: int, level: int = 0) -> str:
        return p(r(text), f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')

    body = (
        p(r("Scope"), '<w:pStyle w:val="U1"/>')
        + p(r("People"), '<w:pStyle w:val="Own"/>')
        + p(r("Places"), '<w:pStyle w:val="U2"/>')
        + p(r("Terms"), '<w:pStyle w:val="U1"/>')
        + p(r("Days"), '<w:pStyle w:val="U2"/>')
        + item("one", 2)
        + item("dot", 2, 1)
        + item("two", 2)
        + item("five", 3)
        + p(r("none"), '<w:numPr><w:numId w:val="0"/></w:numPr>')
        + p(r("hidden"), '<w:pStyle w:val="Off"/>')
    )
    assert docx(body, styles=STYLES, numbering=NUMBERING) == [
        *(
            "heading1: III. Scope",
            "heading2: 3.1 People",
            "heading2: 3.2 Places",
            "heading1: IV. Terms",
            "heading2: 4.1 Days",
        ),
        *("item: (a) one", "item: - dot", "item: (b) two", "item: (e) five", "paragraph: none"),
    ]


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{text if text.startswith('<') else p(r(text))}</w:tc>"


def row(*cells: str, properties: str = "") -> str:
    return f"<w:tr><w:trPr>{properties}</w:trPr>{''.join(cells)}</w:tr>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(rows)}</w:tbl>"


def test_cells_fill_what_they_span() -> None:
    """Downwards and sideways; deleted rows are gone, header rows are known."""
    body = table(
        row(cell("Region"), cell("Sales", '<w:gridSpan w:val="2"/>'), properties="<w:tblHeader/>"),
        row(cell("North", '<w:vMerge w:val="restart"/>'), cell("Leeds"), cell("4")),
        row(cell("", "<w:vMerge/>"), cell("York"), cell("5")),
        row(cell("South"), cell("Bath"), cell("6"), properties="<w:del/>"),
    )
    assert docx(body) == ["head: Region | Sales | Sales", "row: North | Leeds | 4", "row: North | York | 5"]


def test_a_table_in_a_cell_follows_as_a_table() -> None:
    """With its header; a table of one cell frames a text."""
    inner = table(row(cell("Size"), cell("Price")), row(cell("12"), cell("4.50")))
    assert docx(table(row(cell("Gasket"), cell(p(r("see")) + inner))) + table(row(cell("Framed.")))) == [
        *("row: Gasket | see", "head: Size | Price", "row: 12 | 4.50", "paragraph: Framed.")
    ]


def test_pages_are_known_by_the_breaks_that_are_stored() -> None:
    """Those of the author and those of Word, which stores its own behind the author's."""
    new, shown = '<w:r><w:br w:type="page"/></w:r>', "<w:r><w:lastRenderedPageBreak/></w:r>"
    body = (
        p(r("one") + new + shown + r("two"))
        + p(shown + r("three"))
        + p(r("three ") + shown + r("and four"))
        + p(r("four"))
        + table(row(cell("a"), cell("b")), row(cell(p(shown + r("c"))), cell("d")))
        + p(r("six"), "<w:pageBreakBefore/>")
    )
    parsed = read(word(body), kinds.DOCX)
    assert [(parsed.text[block.start : block.end], block.page) for block in parsed.blocks] == [
        *(
            ("one", 1),
            ("two", 2),
            ("three", 3),
            ("three and four", 3),
            ("four", 4),
            ("a | b", 4),
            ("c | d", 5),
            ("six", 6),
        )
    ]
    assert parsed.pages == 6
    assert read(word(p(r("one"))), kinds.DOCX).pages is None


def test_a_deleted_paragraph_mark_joins_two_paragraphs() -> None:
    """As Word does when the change is accepted."""
    assert docx(p(r("One "), "<w:rPr><w:del/></w:rPr>") + p(r("sentence."))) == ["paragraph: One sentence."]
