"""Markdown to blocks: its headings, lists and tables are explicit and must not be lost."""

import re
from collections.abc import Callable, Iterator
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from refdesk.indexing.parsed import DocumentWriter, Sink, row_text
from refdesk.indexing.readers.html import feed_html

_FRONT = {mark: re.compile(rf"^{re.escape(mark)}[ \t]*+$", re.M) for mark in ("---", "+++")}
_FRONT_TITLE = re.compile(r"^title[ \t]*+[:=](.*+)$", re.M | re.I)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NOTE = re.compile(r" {0,3}\[\^([^\]\s]{1,60})\]:[ \t]*+(.*)")
_NOTE_MARK = re.compile(r"\[\^([^\]\s]{1,60})\]")
_ALERT = re.compile(r"^\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]\s*")


def read_markdown(text: str, writer: DocumentWriter) -> None:
    """Writes a Markdown document. Front matter gives the title and is not text; a page that has nothing else is its title."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n")
    fence = _FRONT.get(text[:3])
    if fence and (first := fence.match(text)) and (last := fence.search(text, first.end() + 1)):
        title = _FRONT_TITLE.search(text, first.end(), last.start())
        writer.title = _unquoted(title[1].strip()) if title else None
        text = text[last.end() + 1 :]
        if writer.title and not text.strip():
            writer.add("heading", writer.title, level=1)
    _MarkdownReader(writer).read(*_without_notes(text))


def _unquoted(text: str) -> str:
    return text.removeprefix(text[:1] if text[:1] in "\"'" else "").removesuffix(
        text[-1:] if text[-1:] in "\"'" else ""
    )


def _without_notes(text: str) -> tuple[str, dict[str, str]]:
    """The text without the footnotes that are defined in it, and these. What stands in a block of code is code."""
    if "[^" not in text:
        return text, {}
    kept: list[str] = []
    notes: dict[str, str] = {}
    fence, note = "", ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and not note:
            fence = mark[1] if not fence else "" if mark[1].startswith(fence) else fence
        if not fence and (found := _NOTE.fullmatch(line)):
            note = found[1]
            notes[note] = found[2]
        elif note and line.startswith(("  ", "\t")):
            notes[note] += f" {line.strip()}"
        else:
            note = ""
            kept.append(line)
    return "\n".join(kept), notes


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


class _MarkdownReader:
    """Walks the flat token list of markdown-it: ``x_open … inline … x_close``."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._markers: list[str] = []
        self._numbers: list[int | None] = []
        self._cells: list[str] | None = None
        self._in_head = False
        self._level = 0
        self._notes: dict[str, str] = {}
        self._noted: list[str] = []
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
            "table_close": lambda _: self._write_notes(),
            "inline": self._inline,
            "fence": lambda token: self._sink.add("code", token.content),
            "code_block": lambda token: self._sink.add("code", token.content),
            "html_block": lambda token: feed_html(token.content, self._sink),
        }

    def read(self, text: str, notes: dict[str, str]) -> None:
        """``notes``: the footnotes, by what marks them. Each comes behind what it is about."""
        self._notes = notes
        for token in _parser().parse(text):
            if step := self._steps.get(token.type):
                step(token)
        self._noted = list(self._notes)
        self._write_notes()

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
        text = self._said(token.children or [])
        if self._cells is not None:
            self._cells.append(text)
            return
        if self._level:
            self._sink.add("heading", text, level=self._level)
        elif self._numbers:
            marker = self._markers.pop() if self._markers else ""
            self._sink.add("item", marker + text)
        else:
            self._sink.add("paragraph", _ALERT.sub(lambda kind: f"{kind[1].capitalize()}: ", text, count=1))
        self._write_notes()

    def _said(self, tokens: list[Token]) -> str:
        """Without the marks of footnotes, which are put aside."""
        if self._notes:
            for token in tokens:
                if token.type == "text":
                    token.content = _NOTE_MARK.sub(self._put_aside, token.content)
        return "".join(_inline_text(tokens))

    def _put_aside(self, mark: re.Match[str]) -> str:
        if mark[1] not in self._notes:
            return mark[0]
        self._noted.append(mark[1])
        return ""

    def _write_notes(self) -> None:
        """Each once, behind the first thing that it is about."""
        noted, self._noted = self._noted, []
        for name in noted:
            if note := self._notes.get(name):
                self._notes[name] = ""
                self._sink.add("paragraph", "".join(_inline_text(_parser().parseInline(note)[0].children or [])))


def _inline_text(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"text", "code_inline", "image"}:
            yield token.content
        elif token.type == "softbreak":
            yield " "
        elif token.type == "hardbreak" or (token.type == "html_inline" and token.content.lower().startswith("<br")):
            yield "\n"
