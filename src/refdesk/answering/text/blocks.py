"""Which kind of Markdown block each sentence of an answer belongs to, and whether it claims anything.

Models write headings, lists, tables and code. Only what can be right or wrong is checked; the rest is structure.
"""

import re

from refdesk.answering.text.sentences import CITATION, COLONS, QUESTION_MARKS, Cut
from refdesk.answering.text.units import CELL_SEPARATOR
from refdesk.contracts.answers import Block

_CONTAINERS = re.compile(r"(?:\s*(?:>|(?:[-*+•]|\d{1,3}[.)])\s))*+\s*")
_FENCE = re.compile(r"`{3,}|~{3,}")
_FORMULA = re.compile(r"(?P<dollars>\$\$)|\\\[")
_HEADING = re.compile(r"#{1,6}\s")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s")
_RULE = re.compile(r"-{3,}|\*{3,}|_{3,}|={3,}")
_SEPARATOR = re.compile(r"[|:\-+\s]+")
_EMPHASISED = re.compile(r"(?:(?:[-*+•]|\d{1,3}[.)])\s)?(?:\*\*|__)[^*_]+(?:\*\*|__):?")
_TAGS = re.compile(r"(?:<[^<>]+>\s*)+")
_LETTER = re.compile(r"[^\W_]")
_CLOSING = "\"'”’»*_)"
"""What may stand behind the last sign of a sentence."""


class Blocks:
    """Follows the lines of one answer."""

    def __init__(self) -> None:
        self._kind: Block = "paragraph"
        self._end = ""
        """What ends the code or the formula that is open."""
        self._table_rows = 0

    def next(self, cut: Cut) -> Block:
        """The kind of block that the next sentence belongs to."""
        if self._end:
            self._kind = "code"
            if self._ends(cut.text):
                self._end = ""
        elif cut.begins_line:
            self._kind = self._of_line(cut.text)
            self._table_rows = self._table_rows + 1 if self._kind in ("table_header", "table_row") else 0
        return self._kind

    def _ends(self, line: str) -> bool:
        if self._end in ("$$", "\\]"):
            return self._end in line
        return line.strip("> ").rstrip(self._end[0]) == "" and self._end in line

    def _of_line(self, line: str) -> Block:
        """By what stands behind the signs of quotes and list items."""
        bare = line[match.end() :] if (match := _CONTAINERS.match(line)) else line
        if (fence := _FENCE.match(bare)) is not None:
            self._end = fence.group()
            return "code"
        if (formula := _FORMULA.match(bare)) is not None:
            return self._of_formula(bare, formula)
        if _HEADING.match(bare):
            return "heading"
        if bare.startswith("|") or CELL_SEPARATOR in bare:
            return "table_header" if self._table_rows == 0 else "table_row"
        if _RULE.fullmatch(line):
            return "rule"
        if _ITEM.match(line):
            return "list_item"
        return "quote" if line.lstrip().startswith(">") else "paragraph"

    def _of_formula(self, line: str, opened: re.Match[str]) -> Block:
        """One that fills its line is nobody's claim, nor are those of several lines."""
        end = "$$" if opened["dollars"] else "\\]"
        closed = line.find(end, opened.end())
        if closed < 0:
            self._end = end
        return "code" if closed < 0 or not line[closed + 2 :].strip(" .,;") else "paragraph"


def is_claim(text: str, block: Block) -> bool:
    """Whether the sentence says something that can be right or wrong. Structure, lead-ins and questions do not."""
    if block not in ("paragraph", "list_item", "table_row", "quote"):
        return False
    bare = CITATION.sub("", text).rstrip()
    if bare.rstrip(_CLOSING).endswith((*COLONS, *QUESTION_MARKS)) or any(
        one.fullmatch(bare) for one in (_SEPARATOR, _EMPHASISED, _TAGS)
    ):
        return False
    return _LETTER.search(bare) is not None
