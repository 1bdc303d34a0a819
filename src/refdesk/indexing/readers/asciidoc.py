"""AsciiDoc to blocks, as its reader sees it: what is marked up is text, and marks, comments and settings are none.

Read line by line: headings, blocks between fences, tables, lists, and paragraphs. What this does not do: fetch what is included,
or decide conditions (all of their texts are there).
"""

import csv
import re
from collections.abc import Iterator, Sequence

from refdesk.indexing.parsed import Kind, Sink
from refdesk.indexing.readers.html import feed_html
from refdesk.indexing.readers.tables import Grid, write_table

_COLUMNS_MAX = 200
_SPAN_MAX = 1_000

# Lines
_SETTING = re.compile(r":(!?[\w-]{1,60}!?):(?:[ \t]++(.*))?")
_HEADING = re.compile(r"(={1,6}|#{1,6})[ \t]++(\S.*)")
_UNDERLINE = re.compile(r"([=\-~^+])\1{2,}")
_FENCE = re.compile(r"(-{4,}|\.{4,}|={4,}|\*{4,}|_{4,}|\+{4,}|/{4,}|--|`{3}[\w+-]*|[|,:!]={3,})")
_TITLE = re.compile(r"\.([^\s.].*)")
_STYLE = re.compile(r"\[([^\[\]]*|\[[^\[\]]*\])\]")
_ITEM = re.compile(r"[ \t]*+(\*{1,6}|-|\.{1,6}|\d{1,4}\.|[a-zA-Z]\.|<(?:\d{1,3}|\.)>)[ \t]++(\S.*)")
_TERM = re.compile(r"[ \t]*+(\S.{0,300}?)(?::{2,4}|;;)(?:[ \t]++(.*))?")
_NOTE = re.compile(r"(NOTE|TIP|IMPORTANT|WARNING|CAUTION):[ \t]++(.*)")
_CONDITION = re.compile(r"(?:ifdef|ifndef|ifeval|endif)::[^\[\]]*\[(.*)\]")
_SILENT = re.compile(r"(?:include|toc|video|audio)::.*|<{3,}|'{3,}|-{3}|\*{3}|//(?!/).*")
_PICTURE = re.compile(r"image::[^\[\]]*\[([^\[\]]*)\]")
_OLD_LEVELS = "=-~^+"
_NOTES = frozenset({"NOTE", "TIP", "IMPORTANT", "WARNING", "CAUTION"})

# Tables
_CELL = re.compile(
    r"(?:(?<=\s)|^)(?:(?:(\d{1,4})?(?:\.(\d{1,4}))?([+*]))?[<^>]?(?:\.[<^>])?[adehlmsv]?)?(?<!\\)\|", re.M
)
_REPEATED = re.compile(r"\s*+(\d{1,3})\*")
_COLS = re.compile(r"""cols\s*+=\s*+(?:"([^"]*)"|([^,"\]]*))""")
_HEADER = re.compile(r"%[\w%]{0,60}header|opt(?:ion)?s\s*+=[^\]]{0,60}header")

# Words
_ATTRIBUTE = re.compile(r"(?<!\\)\{([\w-]{1,60})\}")
_BUILT_IN = {
    "nbsp": " ",
    "sp": " ",
    "empty": "",
    "blank": "",
    "zwsp": "",
    "amp": "&",
    "lt": "<",
    "gt": ">",
    "plus": "+",
    "vbar": "|",
    "brvbar": "¦",
    "apos": "'",
    "quot": '"',
    "lsquo": "‘",
    "rsquo": "’",
    "ldquo": "“",
    "rdquo": "”",
    "deg": "°",
    "startsb": "[",
    "endsb": "]",
    "caret": "^",
    "asterisk": "*",
    "tilde": "~",
    "backslash": "\\",
    "backtick": "`",
    "two-colons": "::",
    "two-semicolons": ";;",
    "cpp": "C++",
    "wj": "",
}
_AS_IT_IS = re.compile(
    r"\+{3}(.{1,2000}?)\+{3}|pass:[a-z,]{0,20}\[([^\]]{0,2000})\]|(?<![\w+])\+(?![\s+])([^+\n]{1,300}?)(?<!\s)\+(?![\w+])"
)
_LINK = re.compile(r"(?:link:|(?=https?://|ftp://|irc://|mailto:))([^\s\[\]<>\"]{1,2000})\[([^\[\]]*)\]")
_REFERENCE = re.compile(r"<<#?([^<>,\n]{1,300})(?:,[ \t]*+([^<>]{0,300}))?>>|xref:([^\s\[\]]{1,500})\[([^\[\]]*)\]")
_FOOTNOTE = re.compile(r"footnote:[\w-]{0,60}\[([^\[\]]*)\]")
_MACRO = re.compile(
    r"(?<!\w)(kbd|btn|menu|image|icon|stem|latexmath|asciimath|indexterm2?|anchor|bibitem):([^\s\[\]:]{0,500})\[([^\[\]]*)\]"
)
_INDEX = re.compile(r"\(\(\([^()]*\)\)\)|\(\(([^()]*)\)\)")
_ANCHOR = re.compile(r"\[\[[^\[\]]*\]\]|(?<!\w)\[[.#][^\[\]\s]*\](?=[#*_`])")
_MARKS = tuple(
    re.compile(
        rf"{mark}{mark}([^{mark}\n]{{1,500}}){mark}{mark}|(?<![\w\\{mark}]){mark}(?![\s{mark}])([^{mark}]{{1,500}}?)(?<!\s){mark}(?!\w)"
    )
    for mark in (r"\*", "_", "#")
)
_CODE = re.compile(r"``([^`\n]{1,500})``|(?<![\w\\`])`(?![\s`])([^`]{1,500}?)(?<!\s)`(?!\w)")
_RAISED = re.compile(r"(?<=\w)([\^~])([\w+\-,]{1,60})\1")
_QUOTED = re.compile(r"\"`([^`]{1,1000})`\"|'`([^`]{1,1000})`'")
_HARD_BREAK = re.compile(r"[ \t]\+$", re.M)
_KEPT = re.compile(r"\x00(\d++)\x00")
_ESCAPED = re.compile(r"\\([*_`#{\[<:])")


def read_asciidoc(text: str, sink: Sink) -> None:
    """Writes an AsciiDoc document."""
    _Reader(text.replace("\r\n", "\n").split("\n"), sink).read()


class _Reader:
    def __init__(self, lines: list[str], sink: Sink) -> None:
        self._lines = lines
        self._at = 0
        self._sink = sink
        self._settings = dict(_BUILT_IN)
        self._style = ""
        self._attached = False
        """Whether a ``+`` says that what comes next belongs to the item before it."""
        self._counts: dict[str, int] = {}
        """How many items a numbered list has at each of its depths."""

    def read(self) -> None:
        while self._at < len(self._lines):
            line = self._lines[self._at].rstrip()
            if not (self._is_about(line) or self._is_block(line) or self._is_item(line)):
                self._paragraph(line)

    def _is_about(self, line: str) -> bool:
        """Whether this is no text but says something about it."""
        if not line or line == "+" or _SILENT.fullmatch(line):
            self._attached = line == "+"
            self._at += 1
            return True
        if setting := _SETTING.fullmatch(line):
            self._set(setting)
            return True
        if condition := _CONDITION.fullmatch(line):
            self._lines[self._at] = condition[1]
            return True
        if style := _STYLE.fullmatch(line):
            self._style = style[1]
            self._at += 1
            return True
        return False

    def _set(self, setting: re.Match[str]) -> None:
        value = setting[2] or ""
        self._at += 1
        while value.endswith(" \\") and self._at < len(self._lines):
            value = f"{value[:-1]}{self._lines[self._at].strip()}"
            self._at += 1
        self._settings[setting[1]] = value

    def _is_block(self, line: str) -> bool:
        """Whether a heading, a fence, a picture or a block's title stands here."""
        if heading := _HEADING.fullmatch(line):
            self._at += 1
            self._heading(heading[2], level=len(heading[1]))
        elif fence := _FENCE.fullmatch(line):
            self._at += 1
            self._fenced(fence[1])
        elif title := _TITLE.fullmatch(line):
            self._at += 1
            self._write("paragraph", title[1])
        elif picture := _PICTURE.fullmatch(line):
            self._at += 1
            self._write("paragraph", _first(picture[1]))
        elif line[:1] in " \t" and not _ITEM.fullmatch(line) and not _TERM.fullmatch(line):
            self._sink.add("code", "\n".join(self._until_blank()))
        else:
            return False
        return True

    def _heading(self, text: str, *, level: int) -> None:
        self._counts.clear()
        self._style = ""
        self._write("heading", text, level=level)

    def _fenced(self, fence: str) -> None:
        """What stands behind a fence: code and tables are read up to the next one; the others hold blocks."""
        mark = fence[0]
        if fence.endswith("===") and mark in "|,:!":
            self._table(self._until(fence), separator=mark)
        elif mark in "-.`" and len(fence) > 2:
            self._sink.add("code", "\n".join(self._until("```" if mark == "`" else fence)))
        elif mark == "+":
            feed_html("\n".join(self._until(fence)), self._sink)
        elif mark == "/":
            self._until(fence)
        if mark in "-.`+|,:!" and fence != "--":
            self._style = ""

    def _until(self, fence: str) -> list[str]:
        begin = self._at
        while self._at < len(self._lines) and self._lines[self._at].rstrip() != fence:
            self._at += 1
        found = self._lines[begin : self._at]
        self._at += 1
        return found

    def _until_blank(self) -> list[str]:
        begin = self._at
        while self._at < len(self._lines) and self._lines[self._at].strip():
            self._at += 1
        return self._lines[begin : self._at]

    def _is_item(self, line: str) -> bool:
        item, term = _ITEM.fullmatch(line), _TERM.fullmatch(line)
        if item:
            self._at += 1
            self._write("item", f"{self._label(item[1])} {self._joined(item[2])}")
        elif term:
            self._at += 1
            if not term[2]:
                self._skip_blank()
            self._write("item", f"- {term[1]}: {self._joined(term[2] or '')}".rstrip(": "))
        return bool(item or term)

    def _skip_blank(self) -> None:
        """A description may stand below its term, after blank lines, unless something else begins there."""
        at = self._at
        while at < len(self._lines) and not self._lines[at].strip():
            at += 1
        if at < len(self._lines) and not self._begins(self._lines[at].rstrip()):
            self._at = at

    def _label(self, mark: str) -> str:
        if mark[0] in "*-":
            return "-"
        if mark[0] != ".":
            return mark
        for deeper in [each for each in self._counts if len(each) > len(mark)]:
            del self._counts[deeper]
        self._counts[mark] = self._counts.get(mark, 0) + 1
        return f"{self._counts[mark]}."

    def _joined(self, first: str) -> str:
        """An item with the lines that go on in it."""
        lines = [first]
        while self._at < len(self._lines) and (line := self._lines[self._at].strip()) and not self._begins(line):
            lines.append(line)
            self._at += 1
        return "\n".join(filter(None, lines))

    @staticmethod
    def _begins(line: str) -> bool:
        patterns = (_SETTING, _HEADING, _FENCE, _TITLE, _STYLE, _ITEM, _TERM, _CONDITION, _SILENT, _PICTURE)
        return line == "+" or any(pattern.fullmatch(line) for pattern in patterns)

    def _paragraph(self, first: str) -> None:
        self._at += 1
        following = self._lines[self._at].rstrip() if self._at < len(self._lines) else ""
        if _UNDERLINE.fullmatch(following) and abs(len(following) - len(first)) <= 1:
            self._at += 1
            self._heading(first, level=1 + _OLD_LEVELS.index(following[0]))
            return
        lines = [first]
        while self._at < len(self._lines) and self._goes_on(line := self._lines[self._at].rstrip()):
            if not _SILENT.fullmatch(line):
                lines.append(line)
            self._at += 1
        text, style = "\n".join(lines), _first(self._style)
        self._style = ""
        if note := _NOTE.match(text):
            text = f"{note[1].capitalize()}: {text[note.start(2) :]}"
        elif style in _NOTES:
            text = f"{style.capitalize()}: {text}"
        if style in {"source", "listing", "literal"}:
            self._sink.add("code", text)
        else:
            if not self._attached:
                self._counts.clear()
            self._write("paragraph", text)
        self._attached = False

    def _goes_on(self, line: str) -> bool:
        """Whether a line belongs to the paragraph before it; in one that is attached to an item, the next item does not."""
        ends = (_FENCE, _STYLE, _CONDITION, _SETTING, *((_ITEM,) if self._attached else ()))
        return bool(line) and line != "+" and not any(each.fullmatch(line) for each in ends)

    def _write(self, kind: Kind, text: str, *, level: int = 0) -> None:
        """What a line says, and its footnotes behind it."""
        text, notes = self._words(text)
        self._sink.add(kind, text, level=level)
        for note in notes:
            self._sink.add("paragraph", note)

    # Tables

    def _table(self, lines: Sequence[str], *, separator: str) -> None:
        lines = [line for line in lines if not line.startswith("//")]
        style = self._style
        first = next((number for number, line in enumerate(lines) if line.strip()), 0)
        headed = bool(_HEADER.search(style)) or (
            first == 0 and len(lines) > 1 and not lines[1].strip() and len(_cells(lines[0], separator)) > 1
        )
        columns = _columns(style) or len(_cells(lines[first], separator)) if lines else 0
        grid = Grid()
        grid.open_row()
        for text, across, down in _cells("\n".join(lines), separator):
            while grid.filled >= max(1, columns):
                grid.open_row()
            grid.add(self._words(text)[0], columns=across, rows=down)
        grid.close_row()
        write_table(self._sink, grid.rows, headers=1 if headed else None)

    # Words

    def _words(self, text: str) -> tuple[str, list[str]]:
        """The text without its marks, and its footnotes."""
        kept: list[str] = []

        def keep(match: re.Match[str]) -> str:
            kept.append(next((each for each in match.groups() if each is not None), ""))
            return f"\x00{len(kept) - 1}\x00"

        text = _AS_IT_IS.sub(keep, text.replace("\x00", ""))
        text = _ATTRIBUTE.sub(lambda match: self._settings.get(match[1].lower(), match[0]), text)
        text = _QUOTED.sub(lambda match: f"“{match[1]}”" if match[1] else f"‘{match[2]}’", text)
        text = _CODE.sub(keep, text)
        notes = [_unmarked(note) for note in _FOOTNOTE.findall(text)]
        text = _unmarked(_FOOTNOTE.sub("", text))
        text = _HARD_BREAK.sub("", text)
        for _ in range(2):  # what is kept as it is may stand in code that is
            text = _KEPT.sub(lambda match: kept[int(match[1])], text)
        return text, [note for note in notes if note]


def _unmarked(text: str) -> str:
    text = _LINK.sub(lambda match: _link_text(match[2]) or match[1].removeprefix("mailto:"), text)
    text = _REFERENCE.sub(lambda match: match[2] or match[4] or match[1] or match[3], text)
    text = _MACRO.sub(_said, text)
    text = _INDEX.sub(lambda match: match[1] or "", text)
    text = _ANCHOR.sub("", text)
    for mark in _MARKS:
        text = mark.sub(lambda match: match[1] or match[2], text)
    text = _RAISED.sub(lambda match: match[2], text)
    return _ESCAPED.sub(r"\1", text)


def _said(match: re.Match[str]) -> str:
    kind, target, inside = match.groups()
    if kind == "menu":
        return " › ".join([target, *(part.strip() for part in inside.split(">") if part.strip())])
    if kind in {"icon", "indexterm", "anchor", "bibitem"}:
        return ""
    return _first(inside) if kind == "image" else inside


def _first(inside: str) -> str:
    """The first of the values in brackets: ``A map, 200, 100``."""
    return inside.partition(",")[0].strip().strip('"')


def _link_text(inside: str) -> str:
    """A text may have commas, unless settings follow: ``the form,window=_blank``."""
    text = inside if "=" not in inside or inside.startswith('"') else inside.partition(",")[0]
    return "" if "=" in text and not text.startswith('"') else text.strip('"').rstrip("^")


def _columns(style: str) -> int:
    """How many columns a table says it has."""
    found = _COLS.search(style)
    if found is None:
        return 0
    listed = [each for each in re.split("[,;]", found[1] or found[2] or "") if each.strip()]
    if len(listed) == 1 and listed[0].strip().isdecimal():  # a number, no list of widths
        return min(_COLUMNS_MAX, int(listed[0][:6]))
    repeated = map(_REPEATED.match, listed)
    return min(_COLUMNS_MAX, sum(int(each[1]) if each else 1 for each in repeated))


def _cells(text: str, separator: str) -> list[tuple[str, int, int]]:
    """(text, columns, rows) of each cell."""
    if separator in ",:":
        return [(cell, 1, 1) for row in _values(text.splitlines(), separator) for cell in row]
    if separator == "!":
        text = text.replace("|", "\\|").replace("!", "|")
    found = list(_CELL.finditer(text))
    ends = [*(match.start() for match in found[1:]), *([len(text)] if found else ())]
    return [cell for match, end in zip(found, ends, strict=True) for cell in _repeated(match, text[match.end() : end])]


def _values(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:  # a quotation mark that is never closed, or a cell beyond all bounds
        return [[line] for line in lines]


def _repeated(match: re.Match[str], inside: str) -> Iterator[tuple[str, int, int]]:
    text = inside.strip().replace("\\|", "|")
    across, down = (min(_SPAN_MAX, int(each or 1)) for each in match.group(1, 2))
    if match[3] == "*":
        yield from [(text, 1, 1)] * across
    else:
        yield text, across, down
