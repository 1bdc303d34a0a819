"""Documents of short pages, slides and sheets, with one fact on each: whoever cites it must name the right one."""

import io
import random
from dataclasses import dataclass

import openpyxl

from tests.support import office
from tests.support.pdfs import pdf

THINGS = ("badge", "locker", "parking card", "projector", "visitor pass", "meeting room", "spare key", "bicycle stand")
SAYINGS = (
    "The deposit for {thing} {code} is {value} euros.",
    "{code} is the {thing} on floor {value}.",
    "Whoever returns {thing} {code} late pays {value} euros a week.",
    "Of the {thing} {code} there are {value} pieces.",
)
QUESTIONS = (
    "What is the deposit for {thing} {code}?",
    "On which floor is the {thing} {code}?",
    "What does returning {thing} {code} late cost?",
    "How many pieces of the {thing} {code} are there?",
)
FILLERS = (
    "",
    "Ask at the desk.",
    "See the house rules for all else.",
    "This page was checked in May by the facility team.",
)
SHEETS = ("North", "South", "East", "West", "Annex", "Cellar", "Roof", "Yard", "Gate")
DOCUMENTS, FACTS = 60, 500
KINDS = ("pdf", "pptx", "docx", "xlsx")


@dataclass(frozen=True)
class Planted:
    """A question, the words that answer it, the file in which they stand, and the page or the sheet."""

    question: str
    answer: str
    file: str
    page: int | None
    sheet: str | None


@dataclass(frozen=True)
class ShortPages:
    """A file and the facts in it."""

    name: str
    content: bytes
    facts: list[Planted]


def documents() -> list[ShortPages]:
    """60 files of four kinds with 500 facts, one a page."""
    return [_document(number, FACTS // DOCUMENTS + (number < FACTS % DOCUMENTS)) for number in range(DOCUMENTS)]


def _document(number: int, pages: int) -> ShortPages:
    kind, chance = KINDS[number % len(KINDS)], random.Random(number)
    name = f"rules-{number:02}.{kind}"
    facts, texts = [], []
    for page in range(1, pages + 1):
        saying = chance.randrange(len(SAYINGS))
        known = {"thing": chance.choice(THINGS), "code": f"T{number:02}-{page:02}{chance.randrange(10)}"}
        answer = SAYINGS[saying].format(**known, value=chance.randrange(2, 90))
        sheet = SHEETS[page - 1] if kind == "xlsx" else None
        facts.append(Planted(QUESTIONS[saying].format(**known), answer, name, None if sheet else page, sheet))
        texts.append([line for line in (chance.choice(FILLERS), answer, chance.choice(FILLERS)) if line])
    return ShortPages(name, MAKERS[kind](texts), facts)


def _pdf(pages: list[list[str]]) -> bytes:
    return pdf(*([(50.0, 700.0 - 30 * line, text) for line, text in enumerate(texts)] for texts in pages))


def _slides(pages: list[list[str]]) -> bytes:
    def shape(text: str) -> str:
        return f"<p:sp><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"

    return office.slides(*("".join(map(shape, texts)) for texts in pages))


def _word(pages: list[list[str]]) -> bytes:
    def paragraph(text: str) -> str:
        return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"

    page_break = '<w:p><w:r><w:br w:type="page"/></w:r></w:p>'
    return office.word(page_break.join("".join(map(paragraph, texts)) for texts in pages))


def _sheets(pages: list[list[str]]) -> bytes:
    book = openpyxl.Workbook()
    del book["Sheet"]
    for texts in pages:
        sheet = book.create_sheet(SHEETS[len(book.worksheets)])
        sheet.append(["No.", "Rule"])
        for row in enumerate(texts, start=1):
            sheet.append(list(row))
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


MAKERS = {"pdf": _pdf, "pptx": _slides, "docx": _word, "xlsx": _sheets}
