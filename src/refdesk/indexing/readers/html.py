"""HTML to blocks, as its reader sees it: pages, mail bodies and the HTML inside Markdown.

What a page hides, its navigation and its cookie notice are no text. Where a page says which part is its own (`main`, else
`article`), only that part is. Pages nest tables for layout: only a table with two columns and no other table in it is data.
Reading is one pass without recursion, so depth costs nothing.
"""

import re
from collections import Counter
from html.parser import HTMLParser

from refdesk.indexing.parsed import DocumentWriter, Kind, Sink
from refdesk.indexing.readers.tables import Grid, has_values, write_table

_SILENT = frozenset({"script", "style", "template", "svg", "noscript", "iframe", "object", "canvas", "audio", "video"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BREAKS = frozenset(
    "address article aside blockquote body button caption center dd details dialog div dl dt fieldset figcaption figure"
    " footer form header hgroup hr html legend main menu nav ol optgroup option p section select summary tbody textarea"
    " tfoot thead ul".split()
)
_TABLE_PARTS = frozenset({"table", "tr", "td", "th"})
_VOID = frozenset("area base basefont br col embed frame hr img input keygen link meta param source track wbr".split())
_TABLE_DEPTH_MAX = 16
_SPAN_MAX = 1000  # columns; the standard's own bound
_ROWS_SPANNED_MAX = 65_534
_INLINE_SPACE = re.compile(r"[ \t\n\r\f]+")

_HIDING = re.compile(r"(?:display:none|visibility:(?:hidden|collapse))(?![\w-])")
_NOTICE = re.compile(
    r"(?:^|[-_ ])(?:cookies?|gdpr|consent)[-_]?(?:consent|banner|bar|notice|notification|popup|modal|overlay|message|dialog"
    r"|alert|wall|wrapper|container|disclaimer|info|law|hint|prompt|box|layer|manager)(?![a-z])"
    r"|(?:^| )(?:cookies?|onetrust[-\w]*|cybotcookiebot\w*|cc-(?:window|banner)|cookieconsent|cmp-\w+)(?: |$)"
)
_NOTICE_TAGS = frozenset({"div", "section", "aside", "dialog", "form", "footer", "p", "span"})
# Elements that may lack an end tag, and the start tags that end them.
_IMPLIED_ENDS = {
    "p": _BREAKS | _HEADINGS.keys() | {"table", "pre"},
    "li": frozenset({"li"}),
    "td": frozenset({"td", "th", "tr"}),
    "th": frozenset({"td", "th", "tr"}),
    "tr": frozenset({"tr"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
    "option": frozenset({"option"}),
}
_CONTAINERS = ("table", "ul", "ol", "menu", "dl", "select")
_ENDING = _BREAKS | _TABLE_PARTS
_MAIN_CHARACTERS_MIN = 200
_MAIN_SHARE_MIN = 0.25
_ARTICLE_SHARE_MIN = 0.5


def read_html(text: str, writer: DocumentWriter) -> None:
    """Writes an HTML document; ``<title>`` is its title."""
    page = _read(text, hide=True)
    if page.is_cut_off:  # something hidden is never closed: rather too much text than none
        page = _read(text, hide=False)
    for kind, line, level in page.chosen():
        writer.add(kind, line, level=level)
    writer.title = writer.title or page.title


def feed_html(fragment: str, sink: Sink) -> None:
    """Writes a piece of HTML that stands within another document."""
    page = _read(fragment, hide=True)
    for kind, line, level, _ in page.lines:
        sink.add(kind, line, level=level)


def _read(text: str, *, hide: bool) -> "_HtmlReader":
    reader = _HtmlReader(hide=hide)
    reader.feed(text)
    reader.close()
    return reader


class _Table:
    """An open table. Its content waits here until it is known whether the table holds data or lays out a page."""

    def __init__(self) -> None:
        self.nested = False
        self.content: list[tuple[Kind, str, int]] = []
        self._grid = Grid()
        self._outside: list[str] = []
        self._headers = 0
        self._is_header = False  # the open row, as far as it goes
        self._bold: bool | None = None  # all of the first row
        self._cell: list[str] | None = None
        self._span = (1, 1)

    def add(self, kind: Kind, text: str, *, level: int = 0) -> None:
        self.content.append((kind, text, level))
        (self._outside if self._cell is None else self._cell).append(text)

    def open_row(self) -> None:
        self.close_row()
        self._grid.open_row()
        self._is_header = True

    def open_cell(self, *, heading: bool, columns: int, rows: int) -> None:
        self.close_cell()
        if not self._grid.rows:
            self.open_row()
        self._is_header = self._is_header and heading
        self._cell, self._span = [], (columns, rows)

    def close_cell(self) -> None:
        if self._cell is not None:
            self._grid.add(" ".join(self._cell), columns=self._span[0], rows=self._span[1])
            self._cell = None

    def close_row(self) -> None:
        self.close_cell()
        rows = len(self._grid.rows)
        if rows and self._is_header and self._headers == rows - 1:
            self._headers = rows
        self._is_header = False

    def see_letters(self, *, bold: bool) -> None:
        """Text has come; whether the first row is all bold tells whether it is a header."""
        if self._cell is not None and len(self._grid.rows) == 1:
            self._bold = bold and self._bold is not False

    def write(self, sink: Sink) -> None:
        self.close_row()
        self._grid.close_row()
        rows = self._grid.rows
        if self.nested or not any(len({cell for cell in row if cell.strip()}) > 1 for row in rows):
            for kind, text, level in self.content:
                sink.add(kind, text, level=level)
            return
        for text in self._outside:
            sink.add("paragraph", text)
        if self._headers or self._bold:
            write_table(sink, rows, headers=self._headers or 1)
        else:
            write_table(sink, rows, guess=has_values(rows) or max(map(len, rows)) > 2)


class _Skipped:
    """An element whose content is no text, and what is open inside it."""

    def __init__(self, root: str) -> None:
        self._open = [root]
        self._counts = Counter(self._open)

    def starts(self, tag: str) -> bool:
        """Whether a start tag ends it, for its own end tag may be left out."""
        if tag in _IMPLIED_ENDS.get(self._open[0], ()) and not self._nests():
            return True
        if tag not in _VOID:
            self._open.append(tag)
            self._counts[tag] += 1
        return False

    def ends(self, tag: str) -> bool:
        """Whether an end tag ends it; 'its parent' may have ended where its own end tag is left out."""
        if not self._counts[tag]:
            return self._open[0] in _IMPLIED_ENDS and tag in _ENDING and not self._nests()
        while (last := self._open.pop()) != tag:
            self._counts[last] -= 1
        self._counts[tag] -= 1
        return not self._open

    def _nests(self) -> bool:
        """Whether it holds, so far open, another list or table whose items and rows are not its neighbours."""
        return any(self._counts[tag] for tag in _CONTAINERS)

    @property
    def root(self) -> str | None:
        return self._open[0] if self._open else None


class _HtmlReader(HTMLParser):
    """Collects text up to the next block border and keeps it as a line, or hands it to the innermost open table."""

    def __init__(self, *, hide: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.title: str | None = None
        self.lines: list[tuple[Kind, str, int, str]] = []
        """Kind, text, level, and the part of the page: "main", "article" or ""."""
        self._hide = hide
        self._skipped: _Skipped | None = None
        self._parts: Counter[str] = Counter()
        self._main: tuple[str, int] | None = None  # an element with that role, and how deep its like are nested in it
        self._tables: list[_Table] = []
        self._buffer: list[str] = []
        self._numbers: list[int | None] = []
        self._marker = ""
        self._item = False
        self._level = 0
        self._bold = 0
        self._preformatted = False
        self._titling = False

    @property
    def is_cut_off(self) -> bool:
        """Whether something hidden goes on to the end of the text."""
        return self._hide and self._skipped is not None and self._skipped.root not in _SILENT

    def add(self, kind: Kind, text: str, *, level: int = 0) -> None:
        part = "main" if self._parts["main"] else "article" if self._parts["article"] else ""
        self.lines.append((kind, text, level, part))

    def chosen(self) -> list[tuple[Kind, str, int]]:
        """The lines of the page's own part where it has one, else all."""
        sizes: Counter[str] = Counter()
        for _, text, _, part in self.lines:
            sizes[part] += len(text)
        total, wanted = sizes.total(), {"main", "article", ""}
        if sizes["main"] >= min(_MAIN_CHARACTERS_MIN, _MAIN_SHARE_MIN * total) > 0:
            wanted = {"main"}
        elif sizes["article"] >= _ARTICLE_SHARE_MIN * total > 0:
            wanted = {"article"}
        return [(kind, text, level) for kind, text, level, part in self.lines if part in wanted]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipped:
            if not self._skipped.starts(tag):
                return
            self._skipped = None
        if tag in _SILENT or (self._hide and tag not in _VOID and _is_hidden(tag, dict(attrs))):
            if tag not in _SILENT and (tag in _BREAKS or tag in _HEADINGS):
                self._flush()
            self._skipped = _Skipped(tag)
        elif tag == "br":
            self._buffer.append("\x0b")
        elif tag == "title":
            self._titling = not self.title
        elif tag in {"b", "strong"}:
            self._bold += 1
        elif tag in _TABLE_PARTS:
            self._flush()
            self._open_table_part(tag, dict(attrs))
        elif tag in _HEADINGS or tag in _BREAKS or tag in {"li", "pre"}:
            self._flush()
            self._open_block(tag, dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)  # HTML knows no self-closing elements but those without content, and XHTML's
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            if self._skipped.ends(tag):
                by_parent = self._skipped.root is not None
                self._skipped = None
                if by_parent:
                    self.handle_endtag(tag)
        elif tag == "title":
            self._titling = False
        elif tag in {"b", "strong"}:
            self._bold = max(0, self._bold - 1)
        elif tag in _TABLE_PARTS:
            self._flush()
            self._close_table_part(tag)
        elif tag in _HEADINGS or tag in _BREAKS or tag in {"li", "pre"}:
            self._flush()
            self._close_block(tag)

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        if self._titling:
            self.title = (self.title or "") + data
            return
        self._buffer.append(data)
        if self._tables and data.strip():
            self._tables[-1].see_letters(bold=bool(self._bold))

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
        (self._tables[-1] if self._tables else self).add(kind, text, level=self._level)

    def _open_block(self, tag: str, attrs: dict[str, str | None]) -> None:
        if tag in _HEADINGS:
            self._level = _HEADINGS[tag]
        elif tag == "pre":
            self._preformatted = True
        elif tag in {"ol", "ul", "menu"}:
            self._numbers.append(_number(attrs.get("start"), default=1) if tag == "ol" else None)
        elif tag == "li":
            self._open_item(attrs)
        elif tag in {"main", "article"}:
            self._parts[tag] += 1
        if self._main and tag == self._main[0]:
            self._main = (tag, self._main[1] + 1)
        elif attrs.get("role") == "main" and tag != "main" and not self._main:
            self._main = (tag, 1)
            self._parts["main"] += 1

    def _open_item(self, attrs: dict[str, str | None]) -> None:
        number = self._numbers[-1] if self._numbers else None
        if number is not None:
            number = _number(attrs.get("value"), default=number)
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
        elif tag in {"main", "article"}:
            self._parts[tag] = max(0, self._parts[tag] - 1)
        if self._main and tag == self._main[0]:
            self._main = (tag, self._main[1] - 1) if self._main[1] > 1 else None
            self._parts["main"] -= not self._main

    def _open_table_part(self, tag: str, attrs: dict[str, str | None]) -> None:
        if tag == "table":
            if self._tables:
                self._tables[-1].nested = True
            if len(self._tables) < _TABLE_DEPTH_MAX:
                self._tables.append(_Table())
        elif self._tables and tag == "tr":
            self._tables[-1].open_row()
        elif self._tables:
            rows = _number(attrs.get("rowspan"), default=1)
            self._tables[-1].open_cell(
                heading=tag == "th",
                columns=max(1, min(_SPAN_MAX, _number(attrs.get("colspan"), default=1))),
                rows=min(_ROWS_SPANNED_MAX, rows or _ROWS_SPANNED_MAX),
            )

    def _close_table_part(self, tag: str) -> None:
        if not self._tables:
            return
        if tag == "table":
            table = self._tables.pop()
            table.write(self._tables[-1] if self._tables else self)
        else:
            self._tables[-1].close_cell()


def _number(text: str | None, *, default: int) -> int:
    """A count in an attribute."""
    digits = (text or "").strip()
    return int(digits) if digits.isdecimal() and len(digits) < 10 else default


def _is_hidden(tag: str, attrs: dict[str, str | None]) -> bool:
    if tag == "nav" or attrs.get("role") == "navigation" or (tag == "dialog" and "open" not in attrs):
        return True
    if ("hidden" in attrs and attrs["hidden"] != "until-found") or attrs.get("aria-hidden") == "true":
        return True
    if (style := attrs.get("style")) and _HIDING.search("".join(style.lower().split())):
        return True
    if tag not in _NOTICE_TAGS:
        return False
    return any(name and _NOTICE.search(name.lower()) for name in (attrs.get("id"), attrs.get("class")))
