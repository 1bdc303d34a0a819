"""Lines to paragraphs: plain text, mail bodies and PDF pages come as lines cut to some width.

A line that fills the width goes on in the next one; a short line ends where its author ended it. So each line end is one of
three: a joint inside a paragraph, a line feed that is meant (verse, address, list, table), or the end of a paragraph.
"""

import re
from collections.abc import Iterable, Iterator

_BULLET = re.compile(r"[-*+•●○◦▪■–—‣·\uf0b7]\s|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s|\[?\d{1,4}[-/:.]\d")
_RECORD = re.compile(
    r"\[[\w .:-]{1,60}\]$|[\w.-]{1,60} ?=|(?:#|//|--|;) |\x1b\["
    r"|(?:TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL|CRITICAL|Traceback)\b"
)
"""Begins a line of a log, or of a file of settings."""
_SENTENCE_END = re.compile(r"[.!?…:;。！？][\"'”’»)\]]*$")
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")

_FULL = 0.6  # of the width: a line from here on may have been broken by the margin
_SHORT = 0.85  # of the width: a sentence that ends before has ended its paragraph, too
_NARROW = 30  # characters: below it nothing is taken for a broken line


def split_paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a plain text, hard-wrapped lines joined. Blank lines separate paragraphs."""
    for paragraph in _BLANK_LINES.split(text):
        lines = paragraph.split("\n")
        yield from join_lines(lines, width=max(map(len, lines)), breaks=False)


def join_lines(lines: Iterable[str], *, width: int, breaks: bool = True) -> Iterator[str]:
    """Paragraphs of lines of about ``width`` characters; without ``breaks`` all lines are one paragraph."""
    paragraph: list[str] = []
    before = ""
    for raw in lines:
        line = raw.strip()
        if not line:
            continue
        if paragraph and breaks and _ends_paragraph(before, line, width):
            yield "".join(paragraph)
            paragraph = []
        if paragraph:
            paragraph.append(" " if _continues(before, line, width) else "\n")
        paragraph.append(line)
        before = line
    if paragraph:
        yield "".join(paragraph)


def typical_width(lines: list[str]) -> int:
    """The width to which most lines were set: the 9th decile, so that a few overlong ones do not count."""
    lengths = sorted(len(line) for line in lines if line.strip())
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _ends_paragraph(before: str, line: str, width: int) -> bool:
    return bool(_SENTENCE_END.search(before[-8:])) and len(before) < _SHORT * width and not _BULLET.match(line)


def _continues(before: str, line: str, width: int) -> bool:
    if _BULLET.match(line) or _RECORD.match(line):
        return False
    return line[0].islower() or (len(before) >= _NARROW and len(before) >= _FULL * width)
