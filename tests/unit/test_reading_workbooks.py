"""Workbooks are read as they are shown."""
# ruff: noqa: DTZ001 - a cell has no time zone

import io
import zipfile
from datetime import date, datetime, time, timedelta

import openpyxl
import pytest
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from tests.support.reading import lines, read

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.readers.numbers import show_moment, show_number
from refdesk.outside import media_types as kinds


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        *((1.0, "General", "1"), (0.1, None, "0.1"), (1234567.891, "General", "1234567.891"), (-3, "General", "-3")),
        *((0.125, "0.0%", "12.5%"), (0.4, "0%", "40%"), (1, "0.0%", "100.0%"), (-0.05, "0%", "-5%")),
        *((1200.5, '#,##0.00 "EUR"', "1,200.50 EUR"), (1200.5, "[$€-407] #,##0", "€ 1,200"), (0.5, "$0.00", "$0.50")),
        *((-12, "#,##0;(#,##0)", "(12)"), (-12, "#,##0;[Red]-#,##0", "-12"), (0, '0;-0;"none"', "none")),
        *(
            (42, "00000", "00042"),
            (1715550, "000-0000", "171-5550"),
            (1234.5, "0.##", "1234.5"),
            (1234, "0.##", "1234"),
        ),
        *((2500000, '0.0,,"M"', "2.5M"), (12345, "0.00E+00", "1.23E+04"), (7, "0_);(0)", "7"), (7, "# ?/?", "7")),
        *((5, '0" pcs"', "5 pcs"), (5, "@", "5"), (3.14159, "0.00_ ", "3.14")),
        *((1.5, "[0.00", "1.50"), (1.5, "0.00[", "1.50"), (1.5, "[[Red]0.00", "1.50")),
    ],
)
def test_a_figure_is_shown_in_its_format(value: float, code: str | None, shown: str) -> None:
    """Percentages, currencies, thousands, signs, leading noughts."""
    assert show_number(value, code) == shown


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        *(
            (datetime(2021, 3, 9), "dd.mm.yyyy", "09.03.2021"),
            (datetime(2021, 3, 9, 14, 5), "d/m/yy h:mm", "9/3/21 14:05"),
        ),
        *((datetime(2021, 3, 9), "mm-dd-yy", "2021-03-09"), (date(2026, 5, 1), "d mmmm yyyy", "1 May 2026")),
        *((datetime(2021, 3, 9, 14, 5), "h:mm AM/PM", "2:05 PM"), (time(8, 30), "h:mm:ss", "8:30:00")),
        *((timedelta(days=1, hours=2), "[hh]:mm:ss", "26:00:00"), (timedelta(minutes=90), "[m]:ss", "90:00")),
        *((datetime(2026, 12, 25), "ddd, dd mmm", "Fri, 25 Dec"), (datetime(2026, 5, 1), 'yyyy"-Q"m', "2026-Q5")),
        *(
            (datetime(2026, 5, 1), "[$-407]d. mmm yy;@", "1. May 26"),
            (datetime(2026, 5, 1), "General", "2026-05-01 00:00:00"),
        ),
    ],
)
def test_a_moment_is_shown_in_its_format(value: datetime | date | time | timedelta, code: str, shown: str) -> None:
    """Days without hours, hours without days; what depends on the machine as ISO 8601."""
    assert show_moment(value, code) == shown


def saved(book: openpyxl.Workbook) -> bytes:
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def test_a_workbook_is_read_as_it_is_shown() -> None:
    """Merged cells in each row, formats, a title, two tables on a sheet; hidden sheets are not read."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Branches"
    for row in (
        *(["Branches of 2026"], [], ["Region", "Branch", "Opened", "Share", "Open"]),
        *(["North", "Leeds", datetime(2021, 3, 9), 0.125, True], [None, "York", datetime(2022, 11, 30), 0.4, False]),
        *([], ["Owner", "Phone"], ["Adler", 4711]),
    ):
        sheet.append(row)
    sheet.merge_cells("A1:E1")
    sheet.merge_cells("A4:A5")
    for row in (4, 5):
        sheet[f"C{row}"].number_format, sheet[f"D{row}"].number_format = "dd.mm.yyyy", "0.0%"
    hidden = book.create_sheet("Hidden")
    hidden.append(["secret", "value"])
    hidden.sheet_state = "hidden"
    assert lines(read(saved(book), kinds.XLSX)) == [
        *("part2: Branches", "paragraph: Branches of 2026", "head: Region | Branch | Opened | Share | Open"),
        *("row: North | Leeds | 09.03.2021 | 12.5% | TRUE", "row: North | York | 30.11.2022 | 40.0% | FALSE"),
        *("head: Owner | Phone", "row: Adler | 4711"),
    ]


def test_what_a_sheet_hides_is_not_read() -> None:
    """Rows and columns, also of a merged cell, which is read where it shows; and days are counted as the book counts them."""
    book = openpyxl.Workbook()
    book.epoch = CALENDAR_MAC_1904
    sheet = book.worksheets[0]
    sheet.title = "Data"
    for row in (
        *(["Region", "Cost", "Item", "Due"], ["North", 1, "Pump", datetime(2026, 5, 1)]),
        *([None, 2, "secret", datetime(2026, 6, 1)], [None, 3, "Valve", datetime(2026, 7, 1)]),
    ):
        sheet.append(row)
    sheet.merge_cells("A2:A4")
    for row in (2, 3, 4):
        sheet[f"D{row}"].number_format = "dd.mm.yyyy"
    sheet.row_dimensions[2].hidden = sheet.row_dimensions[3].hidden = True
    sheet.column_dimensions["B"].hidden = True
    secret = book.create_sheet("Very hidden")
    secret.append(["secret"])
    secret.sheet_state = "veryHidden"
    assert lines(read(saved(book), kinds.XLSX)) == [
        *("part2: Data", "head: Region | Item | Due", "row: North | Valve | 01.07.2026")
    ]


def test_the_stored_value_of_a_formula_counts() -> None:
    """As the program that saved it had computed it."""
    book = openpyxl.Workbook()
    book.active.append(["Sum", "=SUM(A2:A3)"])
    source = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(book))) as before, zipfile.ZipFile(source, "w") as after:
        for name in before.namelist():
            after.writestr(
                name, before.read(name).replace(b"<v></v>", b"<v>42.5</v>").replace(b"<v />", b"<v>42.5</v>")
            )
    assert lines(read(source.getvalue(), kinds.XLSX))[-1] == "row: Sum | 42.5"


def ods(table: str, styles: str = "") -> bytes:
    buffer = io.BytesIO()
    names = "".join(f' xmlns:{name}="urn:x:{name}"' for name in ("office", "table", "text", "style"))
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", kinds.ODS)
        archive.writestr(
            "content.xml",
            f"<office:document-content{names}>{styles}<office:body><office:spreadsheet>{table}"
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return buffer.getvalue()


SPANNED = 'table:number-rows-spanned="2"'


def test_an_opendocument_sheet_is_read_as_it_is_shown() -> None:
    """Its cells hold what they show; spans, repetitions and hidden sheets."""

    def cell(text: str, attributes: str = "") -> str:
        return f"<table:table-cell {attributes}><text:p>{text}</text:p></table:table-cell>"

    shown = (
        f'<table:table table:name="Rates"><table:table-row>{cell("Town")}{cell("Share")}</table:table-row>'
        f"<table:table-row>{cell('Bath', SPANNED)}{cell('12,5<text:s/>%')}</table:table-row>"
        f'<table:table-row table:number-rows-repeated="1"><table:covered-table-cell/>{cell("7 %")}</table:table-row>'
        '<table:table-row table:number-rows-repeated="1048000"><table:table-cell table:number-columns-repeated="16384"/>'
        "</table:table-row>"
        "</table:table>"
    )
    hidden = (
        f'<table:table table:name="H" table:style-name="off"><table:table-row>{cell("secret")}</table:table-row>'
        "</table:table>"
    )
    style = '<style:style style:name="off"><style:table-properties table:display="false"/></style:style>'
    assert lines(read(ods(shown + hidden, style), kinds.ODS)) == [
        *("part2: Rates", "head: Town | Share", "row: Bath | 12,5 %", "row: Bath | 7 %")
    ]


def test_cells_in_far_corners_cost_nothing() -> None:
    """Programs leave a stray cell in the last row or column of a sheet."""
    book = openpyxl.Workbook()
    book.active["A1"], book.active["B2"], book.active["XFD1048576"] = "first", 2, "last"
    text = read(saved(book), kinds.XLSX).text
    assert ("first" in text, text.endswith("last"), len(text) < 2_000) == (True, True, True)


def test_what_is_no_workbook_is_refused_with_a_reason() -> None:
    """Whatever the libraries say to it; and a text with a name of Excel's is no crash."""
    for content in (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        b"nothing of the kind",
        b"PK\x03\x04" + bytes(40),
    ):
        for kind in (kinds.XLS, kinds.XLSX, kinds.XLSB, kinds.ODS):
            with pytest.raises(DocumentRejected, match="upload"):
                read(content, kind, "x")


def test_formulas_without_a_value_are_noted() -> None:
    """A program that is no spreadsheet stores the formula only; the figures beside it are read."""
    book = openpyxl.Workbook()
    for row in (["Part", "Price"], ["Gasket", 4.5], ["Seal", 2], ["Total", "=SUM(B2:B3)"]):
        book.worksheets[0].append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    parsed = read(buffer.getvalue(), kinds.XLSX, "parts.xlsx")
    assert lines(parsed)[1:] == ["head: Part | Price", "row: Gasket | 4.5", "row: Seal | 2", "row: Total"]
    [note] = parsed.notes
    assert note.code == "values_missing"
    assert note.text.startswith("One formula of parts.xlsx came without a value; open it in its program")


def test_a_workbook_of_one_file_of_xml_is_read_like_others() -> None:
    """With its header, skipped places, spans and days; hidden rows and sheets, and comments, are none of its cells."""
    spread = "urn:schemas-microsoft-com:office:spreadsheet"
    cell = '<Cell{}><Data ss:Type="String">{}</Data></Cell>'.format
    down, third = ' ss:MergeDown="1"', ' ss:Index="3"'
    rows = (
        f"<Row>{cell('', 'Part')}{cell('', 'Price')}{cell('', 'Since')}</Row>",
        f"<Row>{cell(down, 'Bolt')}{cell('', '1.25')}{cell('', '2026-05-01T00:00:00.000')}</Row>",
        f"<Row>{cell('', '1.50')}<Cell><Comment><Data>Said</Data></Comment></Cell></Row>",
        f'<Row ss:Hidden="1">{cell("", "Secret")}</Row>',
        f'<Row ss:Index="6">{cell("", "Nut")}{cell(third, "2026-05-02T10:30:00.000")}</Row>',
    )
    hidden = f"<Table><Row>{cell('', 'Secret')}</Row></Table><WorksheetOptions><Visible>SheetHidden</Visible></WorksheetOptions>"
    content = (
        f'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook xmlns="{spread}" xmlns:ss="{spread}">'
        f'<Worksheet ss:Name="Stock"><Table>{"".join(rows)}</Table></Worksheet>'
        f'<Worksheet ss:Name="Old">{hidden}</Worksheet></Workbook>'
    )
    assert lines(read(content, kinds.XML)) == [
        *("part2: Stock", "head: Part | Price | Since", "row: Bolt | 1.25 | 2026-05-01", "row: Bolt | 1.50"),
        "row: Nut | | 2026-05-02T10:30:00.000",
    ]
