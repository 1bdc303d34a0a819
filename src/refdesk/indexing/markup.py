"""Markdown and HTML to blocks.

Both are read here rather than by the general parser because their headings, lists and tables are explicit and must not be
lost, and because HTML pages nest tables for layout: only a table with two columns and no other table in it is data.
Reading is one pass without recursion, so depth costs nothing.
"""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from markdown_it.token import Token

from refdesk.indexing.parsed import DocumentWriter, Kind, Sink, row_text

_FENCE = re.compile(r"^---[ \t]*+$", re.M)
_FRONT_TITLE = re.compile(r"^title[ \t]*+:(.*+)$", re.M | re.I)

_SILENT = frozenset({"script", "style", "template", "svg", "noscript", "iframe", "object", "canvas", "audio", "video"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BREAKS = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure footer"
    " form header hgroup hr html legend main menu nav ol p section summary ul".split()
)
_TABLE_DEPTH_MAX = 16
_INLINE_SPACE = re.compile(r"[ \t\n\r\f]+")


def read_markdown(text: str, writer: DocumentWriter) -> None:
    """Writes a Markdown document. Front matter gives the title and is not text; a page that has nothing else is its title."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n")
    if (first := _FENCE.match(text)) and (last := _FENCE.search(text, first.end() + 1)):
        title = _FRONT_TITLE.search(text, first.end(), last.start())
        writer.title = _unquoted(title[1].strip()) if title else None
        text = text[last.end() + 1 :]
        if writer.title and not text.strip():
            writer.add("heading", writer.title, level=1)
    _MarkdownReader(writer).read(text)


def _unquoted(text: str) -> str:
    return text.removeprefix(text[:1] if text[:1] in "\"'" else "").removesuffix(
        text[-1:] if text[-1:] in "\"'" else ""
    )


def read_html(text: str, writer: DocumentWriter) -> None:
    """Writes an HTML document; ``<title>`` is its title."""
    reader = _HtmlReader(writer)
    reader.feed(text)
    reader.close()
    writer.title = writer.title or reader.title


class _MarkdownReader:
    """Walks the flat token list of markdown-it: ``x_open … inline … x_close``."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._markers: list[str] = []
        self._numbers: list[int | None] = []
        self._cells: list[str] | None = None
        self._in_head = False
        self._level = 0
        self._steps: dict[str, Callable[[Token], None]] = {
            "heading_open": self._open_heading,
            "heading_close": self._close_heading,
            "bullet_list_open": lambda _: self._numbers.append(None),
            "ordered_list_open": lambda token: self._numbers.append(int(token.attrGet("start") or 1)),
            "bullet_list_close": lambda _: self._close_list(),
            "ordered_list_close": lambda _: self._close_list(),
            "list_item_open": lambda _: self._open_item(),
            "thead_open": lambda _: self._set_head(inside=True),
            "thead_close": lambda _: self._set_head(inside=False),
            "tr_open": lambda _: self._open_row(),
            "tr_close": lambda _: self._close_row(),
            "inline": self._inline,
            "fence": lambda token: self._sink.add("code", token.content),
            "code_block": lambda token: self._sink.add("code", token.content),
            "html_block": lambda token: _feed_html(token.content, self._sink),
        }

    def read(self, text: str) -> None:
        for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
            if step := self._steps.get(token.type):
                step(token)

    def _open_heading(self, token: Token) -> None:
        self._level = int(token.tag[1])

    def _close_heading(self, _: Token) -> None:
        self._level = 0

    def _close_list(self) -> None:
        self._numbers.pop()
        self._markers.clear()

    def _open_item(self) -> None:
        number = self._numbers[-1]
        if number is not None:
            self._numbers[-1] = number + 1
        self._markers[:] = ["- " if number is None else f"{number}. "]

    def _set_head(self, *, inside: bool) -> None:
        self._in_head = inside

    def _open_row(self) -> None:
        self._cells = []

    def _close_row(self) -> None:
        self._sink.add("head" if self._in_head else "row", row_text(self._cells or []))
        self._cells = None

    def _inline(self, token: Token) -> None:
        text = "".join(_inline_text(token.children or []))
        if self._cells is not None:
            self._cells.append(text)
        elif self._level:
            self._sink.add("heading", text, level=self._level)
        elif self._numbers:
            marker = self._markers.pop() if self._markers else ""
            self._sink.add("item", marker + text)
        else:
            self._sink.add("paragraph", text)


def _inline_text(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"text", "code_inline", "image"}:
            yield token.content
        elif token.type == "softbreak":
            yield " "
        elif token.type == "hardbreak" or (token.type == "html_inline" and token.content.lower().startswith("<br")):
            yield "\n"


def _feed_html(fragment: str, sink: Sink) -> None:
    reader = _HtmlReader(sink)
    reader.feed(fragment)
    reader.close()


class _Table:
    """An open table. Its content waits here until it is known whether the table holds data or lays out a page."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.headed = False
        self.nested = False
        self.content: list[tuple[Kind, str, int]] = []
        self._cell: list[str] | None = None

    def add(self, kind: Kind, text: str, *, level: int = 0) -> None:
        self.content.append((kind, text, level))
        if self._cell is not None:
            self._cell.append(text)

    def open_row(self) -> None:
        self.close_cell()
        self.rows.append([])

    def open_cell(self, *, heading: bool) -> None:
        self.close_cell()
        if not self.rows:
            self.rows.append([])
        if heading and len(self.rows) == 1:
            self.headed = True
        self._cell = []

    def close_cell(self) -> None:
        if self._cell is not None:
            self.rows[-1].append(" ".join(self._cell))
            self._cell = None

    def write(self, sink: Sink) -> None:
        self.close_cell()
        lines = [line for line in (row_text(row) for row in self.rows) if line]
        if not self._is_data():
            for kind, text, level in self.content:
                sink.add(kind, text, level=level)
            return
        for number, line in enumerate(lines):
            sink.add("head" if number == 0 and self.headed and len(lines) > 1 else "row", line)

    def _is_data(self) -> bool:
        return not self.nested and any(sum(1 for cell in row if cell.strip()) > 1 for row in self.rows)


class _HtmlReader(HTMLParser):
    """Collects text up to the next block border and hands it to the sink, or to the innermost open table."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(convert_charrefs=True)
        self.title: str | None = None
        self._sink = sink
        self._tables: list[_Table] = []
        self._buffer: list[str] = []
        self._silent: list[str] = []
        self._numbers: list[int | None] = []
        self._marker = ""
        self._item = False
        self._level = 0
        self._preformatted = False
        self._titling = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag == "br":
            self._buffer.append("\x0b")
        elif tag == "title":
            self._titling = not self.title
        elif tag in {"table", "tr", "td", "th"}:
            self._flush()
            self._open_table_part(tag)
        elif tag in _HEADINGS or tag in _BREAKS or tag in {"li", "pre"}:
            self._flush()
            self._open_block(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            if tag in self._silent:
                del self._silent[self._silent.index(tag) :]
        elif tag == "title":
            self._titling = False
        elif tag in {"table", "tr", "td", "th"}:
            self._flush()
            self._close_table_part(tag)
        elif tag in _HEADINGS or tag in _BREAKS or tag in {"li", "pre"}:
            self._flush()
            self._close_block(tag)

    def handle_data(self, data: str) -> None:
        if self._titling:
            self.title = (self.title or "") + data
        elif not self._silent:
            self._buffer.append(data)

    def close(self) -> None:
        super().close()
        self._flush()
        while self._tables:
            self._close_table_part("table")

    def _flush(self) -> None:
        text, self._buffer = "".join(self._buffer), []
        if not self._preformatted:
            text = _INLINE_SPACE.sub(" ", text)
        text = text.replace("\x0b", "\n")
        if not text.strip():
            return
        kind: Kind = (
            "code" if self._preformatted else "heading" if self._level else "item" if self._item else "paragraph"
        )
        if kind == "item":
            text, self._marker = self._marker + text.strip(), ""
        (self._tables[-1] if self._tables else self._sink).add(kind, text, level=self._level)

    def _open_block(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._level = _HEADINGS[tag]
        elif tag == "pre":
            self._preformatted = True
        elif tag in {"ol", "ul", "menu"}:
            self._numbers.append(1 if tag == "ol" else None)
        elif tag == "li":
            self._open_item()

    def _open_item(self) -> None:
        number = self._numbers[-1] if self._numbers else None
        if number is not None:
            self._numbers[-1] = number + 1
        self._item, self._marker = True, "- " if number is None else f"{number}. "

    def _close_block(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._level = 0
        elif tag == "pre":
            self._preformatted = False
        elif tag in {"ol", "ul", "menu"} and self._numbers:
            self._numbers.pop()
            self._item = bool(self._numbers)
        elif tag == "li":
            self._item = False

    def _open_table_part(self, tag: str) -> None:
        if tag == "table":
            if self._tables:
                self._tables[-1].nested = True
            if len(self._tables) < _TABLE_DEPTH_MAX:
                self._tables.append(_Table())
        elif self._tables and tag == "tr":
            self._tables[-1].open_row()
        elif self._tables:
            self._tables[-1].open_cell(heading=tag == "th")

    def _close_table_part(self, tag: str) -> None:
        if not self._tables:
            return
        if tag == "table":
            table = self._tables.pop()
            table.write(self._tables[-1] if self._tables else self._sink)
        else:
            self._tables[-1].close_cell()
