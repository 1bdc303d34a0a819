"""Comments of Office documents are read with who made them, behind what they are about."""

import io

import openpyxl
from openpyxl.comments import Comment
from tests.support.office import NAMESPACES, package, word
from tests.support.reading import lines, read

from refdesk.outside import media_types as kinds


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def about(identifier: int) -> str:
    return f'<w:r><w:commentReference w:id="{identifier}"/></w:r>'


def said(identifier: int, author: str, *paragraphs: str) -> str:
    inside = "".join(f"<w:p>{run(text)}</w:p>" for text in paragraphs)
    return f'<w:comment w:id="{identifier}" w:author="{author}" w:date="2026-05-01T10:00:00Z">{inside}</w:comment>'


def test_a_comment_of_word_comes_behind_its_paragraph_or_table() -> None:
    """With author and day; one on a deleted text is gone with it, and one that says nothing is none."""
    cell = "<w:tc><w:p>{}</w:p></w:tc>"
    table = f"<w:tbl><w:tr>{cell.format(run('Part'))}{cell.format(run('Price'))}</w:tr>"
    table += f"<w:tr>{cell.format(run('Bolt'))}{cell.format(run('1.25') + about(2))}</w:tr></w:tbl>"
    body = (
        f"<w:p>{run('Thirty days')}{about(1)}{run(' of leave.')}<w:del>{about(3)}</w:del>{about(4)}{about(9)}</w:p>{table}"
        f"<w:p>{run('Next.')}</w:p>"
    )
    comments = (
        said(1, "Ada Jones", "Still true?", "Ask HR.") + said(2, "", "Net.") + said(3, "B", "Gone.") + said(4, "C")
    )
    assert lines(read(word(body, comments=comments), kinds.DOCX)) == [
        *("paragraph: Thirty days of leave.", "paragraph: Comment (Ada Jones, 2026-05-01): Still true?\nAsk HR."),
        *("head: Part | Price", "row: Bolt | 1.25", "paragraph: Comment (2026-05-01): Net.", "paragraph: Next."),
    ]


def presentation(comments: str, authors: str, kind: str) -> bytes:
    """One slide with comments, in a presentation with a list of authors of this kind."""
    office = {
        "": {"r": ("officeDocument", "ppt/presentation.xml")},
        "ppt/presentation.xml": {"r1": ("slide", "slides/s.xml"), "r2": (kind, "people.xml")},
        "ppt/slides/s.xml": {"r1": ("comments", "../comments/c.xml")},
    }
    shape = "<p:sp><p:txBody><a:p><a:r><a:t>Goals</a:t></a:r></a:p></p:txBody></p:sp>"
    parts = {
        "ppt/presentation.xml": f'<p:presentation {NAMESPACES}><p:sldIdLst><p:sldId r:id="r1"/></p:sldIdLst></p:presentation>',
        "ppt/slides/s.xml": f"<p:sld {NAMESPACES}><p:cSld><p:spTree>{shape}</p:spTree></p:cSld></p:sld>",
        "ppt/people.xml": f"<p:list {NAMESPACES}>{authors}</p:list>",
        "ppt/comments/c.xml": f"<p:cmLst {NAMESPACES}>{comments}</p:cmLst>",
    }
    return package(parts, office)


def test_comments_of_a_slide_come_behind_it() -> None:
    """In the old form and the new one, there with the answers to each."""
    old = presentation(
        '<p:cm authorId="0" dt="2026-05-01T10:00:00"><p:pos/><p:text>Too many.</p:text></p:cm>',
        '<p:cmAuthor id="0" name="Ada Jones"/>',
        "commentAuthors",
    )
    assert lines(read(old, kinds.PPTX)) == ["paragraph: Goals", "paragraph: Comment (Ada Jones, 2026-05-01): Too many."]
    body = "<p:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:txBody>"
    reply = f'<p:replyLst><p:reply authorId="{{B}}" created="2026-05-02T00:00:00">{body.format("Why?")}</p:reply></p:replyLst>'
    new = presentation(
        f'<p:cm authorId="{{a}}" created="2026-05-01T10:00:00.1">{reply}{body.format("Too many.")}</p:cm>',
        '<p:author id="{A}" name="Ada Jones"/><p:author id="{B}" name="Ben"/>',
        "authors",
    )
    assert lines(read(new, kinds.PPTX))[1:] == [
        "paragraph: Comment (Ada Jones, 2026-05-01): Too many.",
        "paragraph: Comment (Ben, 2026-05-02): Why?",
    ]


def test_a_note_on_a_cell_comes_behind_its_sheet_with_its_row() -> None:
    """So that it is found by what the row is about; not if it is hidden. The name that Excel puts first is not there twice."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Stock"
    for row in (["Part", "Price"], ["Bolt", 1.25], ["Nut", 0.75]):
        sheet.append(row)
    sheet["B2"].comment = Comment("Ada Jones:\nUntil May.", "Ada Jones")
    sheet["D9"].comment = Comment("Far away.", "")
    sheet["C2"], sheet["C3"] = "secret", "secret"
    sheet["C3"].comment = sheet["A4"].comment = Comment("Not shown.", "")
    sheet["A4"] = "Washer"
    sheet.column_dimensions["C"].hidden = sheet.row_dimensions[4].hidden = True
    buffer = io.BytesIO()
    book.save(buffer)
    assert lines(read(buffer.getvalue(), kinds.XLSX)) == [
        *("part2: Stock", "head: Part | Price", "row: Bolt | 1.25", "row: Nut | 0.75"),
        *("paragraph: B2, Bolt | 1.25:\nComment (Ada Jones): Until May.", "paragraph: D9:\nComment: Far away."),
    ]


def test_a_thread_on_a_cell_is_read_once_with_its_answers() -> None:
    """The note that stands for it in older programs is none of its comments."""
    cell = '<c r="{}" t="inlineStr"><is><t>{}</t></is></c>'
    sheet = f'<worksheet><sheetData><row r="1">{cell.format("A1", "Bolt")}</row></sheetData></worksheet>'
    thread = '<threadedComment ref="A1" dT="{}" personId="{}"><text>{}</text></threadedComment>'
    stand_in = '<comment ref="A1" authorId="0"><text><t>[Threaded comment] Your version of Excel …</t></text></comment>'
    parts = {
        "xl/workbook.xml": f'<workbook {NAMESPACES}><sheets><sheet name="S" r:id="r1"/></sheets></workbook>',
        "xl/worksheets/s.xml": sheet,
        "xl/comments.xml": "<comments><authors><author>tc={1}</author></authors>"
        f"<commentList>{stand_in}</commentList></comments>",
        "xl/threads.xml": "<ThreadedComments>"
        + thread.format("2026-05-01T10:00:00.00", "{a}", "Enough?")
        + thread.format("2026-05-02T10:00:00.00", "{B}", "Yes.")
        + "</ThreadedComments>",
        "xl/people.xml": '<personList><person displayName="Ada Jones" id="{A}"/>'
        '<person displayName="Ben" id="{B}"/></personList>',
    }
    relations = {
        "": {"r": ("officeDocument", "xl/workbook.xml")},
        "xl/workbook.xml": {"r1": ("worksheet", "worksheets/s.xml"), "r2": ("person", "people.xml")},
        "xl/worksheets/s.xml": {"r1": ("comments", "../comments.xml"), "r2": ("threadedComment", "../threads.xml")},
    }
    assert lines(read(package(parts, relations), kinds.XLSX)) == [
        *("part2: S", "paragraph: Bolt"),
        "paragraph: A1, Bolt:\nComment (Ada Jones, 2026-05-01): Enough?\nComment (Ben, 2026-05-02): Yes.",
    ]
