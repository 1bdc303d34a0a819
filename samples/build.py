"""Render the sample handbook's DOCX and PDF documents from their Markdown sources.

Each file in `sources/` opens with a small front matter (`output`, `title`, `owner`, `date`), and its `output` names
the rendered document under the handbook. The body uses a plain subset of Markdown: headings from `##`, paragraphs
with `**bold**` phrases, lists and tables; a thematic break (`---`) starts a new page. Nothing depends on the clock, so
that a rebuild with the same library versions gives the same bytes.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import docx
from docx.document import Document
from docx.enum.text import WD_BREAK
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace
from markdown_it import MarkdownIt
from markdown_it.token import Token

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "sources"
HANDBOOK = HERE.parent / "src" / "refdesk" / "samples" / "handbook"
COMPANY = "Brennick Ferries"
INK = (24, 50, 74)
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a ZIP entry can carry


@dataclass(frozen=True)
class Block:
    """One piece of a document: its text, or for a table its rows, the first of them the heading."""

    kind: Literal["heading", "paragraph", "bullet", "number", "table", "page_break"]
    text: str = ""
    level: int = 0
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Source:
    """A parsed source file."""

    output: str
    title: str
    owner: str
    date: datetime
    blocks: tuple[Block, ...]

    @property
    def byline(self) -> str:
        return f"Owner: {self.owner}. In force from {self.date.day} {self.date:%B %Y}."


def read_source(path: Path) -> Source:
    _, front_matter, body = path.read_text("utf-8").split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in front_matter.strip().splitlines())
    return Source(
        output=fields["output"],
        title=fields["title"],
        owner=fields["owner"],
        date=datetime.fromisoformat(fields["date"]).replace(tzinfo=UTC),
        blocks=tuple(blocks(body)),
    )


def blocks(body: str) -> Iterator[Block]:
    """Yield the blocks of a Markdown text in reading order."""
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    lists: list[Literal["bullet", "number"]] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        match token.type:
            case "heading_open":
                yield Block("heading", tokens[at + 1].content, level=int(token.tag[1]) - 1)
            case "paragraph_open":
                yield Block(lists[-1] if lists else "paragraph", tokens[at + 1].content.replace("\n", " "))
            case "bullet_list_open":
                lists.append("bullet")
            case "ordered_list_open":
                lists.append("number")
            case "bullet_list_close" | "ordered_list_close":
                lists.pop()
            case "hr":
                yield Block("page_break")
            case "table_open":
                end = next(i for i in range(at, len(tokens)) if tokens[i].type == "table_close")
                yield Block("table", rows=table_rows(tokens[at:end]))
                at = end
        at += 1


def table_rows(tokens: list[Token]) -> tuple[tuple[str, ...], ...]:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(token.content)
    return tuple(map(tuple, rows))


# --- DOCX ---


def render_docx(source: Source) -> bytes:
    document = docx.Document()
    properties = document.core_properties
    properties.title, properties.author, properties.last_modified_by = source.title, source.owner, source.owner
    properties.created = properties.modified = source.date.replace(tzinfo=None)
    properties.comments = ""
    document.add_paragraph(source.title, style="Title")
    document.add_paragraph(source.byline)
    for block in source.blocks:
        add_to_docx(document, block)
    written = io.BytesIO()
    document.save(written)
    return with_fixed_dates(written.getvalue())


def add_to_docx(document: Document, block: Block) -> None:
    match block.kind:
        case "heading":
            document.add_heading(block.text, block.level)
        case "page_break":
            document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)
        case "table":
            table = document.add_table(rows=0, cols=len(block.rows[0]), style="Light Grid Accent 1")
            for row in block.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        case _:
            style = {"bullet": "List Bullet", "number": "List Number"}.get(block.kind)
            paragraph = document.add_paragraph(style=style)
            for position, phrase in enumerate(re.split(r"\*\*", block.text)):
                paragraph.add_run(phrase).bold = position % 2 == 1


def with_fixed_dates(package: bytes) -> bytes:
    """Rewrite a ZIP package so that no entry carries the time of writing."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as old, zipfile.ZipFile(written, "w") as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), old.read(name), zipfile.ZIP_DEFLATED)
    return written.getvalue()


# --- PDF ---


class HandbookPdf(FPDF):
    """A4 pages with the company and title at the head and the page number at the foot."""

    def __init__(self, source: Source) -> None:
        super().__init__(format="A4")
        self.source = source
        self.set_margins(25, 25, 25)
        self.set_auto_page_break(auto=True, margin=25)
        self.set_title(source.title)
        self.set_author(source.owner)
        self.set_creator(COMPANY)
        self.set_lang("en")
        self.set_creation_date(source.date)

    def header(self) -> None:
        self.set_y(12)
        self.set_font("Helvetica", "", 9)
        self.set_text_color(90)
        self.cell(0, 5, f"{COMPANY} | {self.source.title}", border="B")
        self.set_y(25)

    def footer(self) -> None:
        self.set_y(-17)
        self.set_font("Helvetica", "", 9)
        self.set_text_color(90)
        self.cell(0, 5, f"Page {self.page_no()} of {{nb}}", align="R")

    def write_block(self, block: Block, number: int) -> None:
        match block.kind:
            case "heading":
                self.ln(3)
                self.write_text(block.text, size=15 if block.level == 1 else 12, style="B", color=INK)
            case "page_break":
                self.add_page()
            case "table":
                self.write_table(block.rows)
            case "bullet":
                self.write_mark("\x95")  # the bullet of the core fonts' encoding
                self.write_text(block.text, indent=6, gap=1.5)
            case "number":
                self.write_mark(f"{number}.")
                self.write_text(block.text, indent=6, gap=1.5)
            case _:
                self.write_text(block.text)

    def write_mark(self, mark: str) -> None:
        self.set_font("Times", "", 11.5)
        self.set_text_color(0)
        self.cell(6, 5.6, mark)

    def write_text(
        self,
        text: str,
        *,
        size: float = 11.5,
        style: str = "",
        color: tuple[int, int, int] = (0, 0, 0),
        indent: float = 0,
        gap: float = 2.5,
    ) -> None:
        self.set_x(self.l_margin + indent)
        self.set_font("Helvetica" if style else "Times", style, size)
        self.set_text_color(*color)
        self.multi_cell(0, size * 0.49, text, align="L", markdown=not style, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(gap)

    def write_table(self, rows: tuple[tuple[str, ...], ...]) -> None:
        self.set_font("Helvetica", "", 10)
        self.set_text_color(0)
        widths = [max(len(row[column]) + 3 for row in rows) for column in range(len(rows[0]))]
        with self.table(
            rows,
            col_widths=widths,
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=FontFace(emphasis="BOLD", color=INK),
            line_height=6.5,
            text_align="LEFT",
        ):
            pass
        self.ln(4)


def render_pdf(source: Source) -> bytes:
    pdf = HandbookPdf(source)
    pdf.add_page()
    pdf.write_text(source.title, size=22, style="B", color=INK)
    pdf.write_text(source.byline, gap=4)
    number = 0
    for block in source.blocks:
        number = number + 1 if block.kind == "number" else 0
        pdf.write_block(block, number)
    return bytes(pdf.output())


def main() -> None:
    renderers = {".docx": render_docx, ".pdf": render_pdf}
    for path in sorted(SOURCES.glob("*.md")):
        source = read_source(path)
        target = HANDBOOK / source.output
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(renderers[target.suffix](source))
        print(f"{path.name} -> {source.output}")


if __name__ == "__main__":
    main()
