"""Which kind of Markdown block each sentence of an answer belongs to, and whether it claims anything.

Models write headings, lists, tables and code. Only what can be right or wrong is checked; the rest is structure.
"""

import re

from refdesk.answering.sentences import CITATION, Cut
from refdesk.contracts.answers import Block

_FENCE = re.compile(r"\s*(?:```|~~~)")
_HEADING = re.compile(r"\s*#{1,6}\s")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s")
_RULE = re.compile(r"-{3,}|\*{3,}|_{3,}|={3,}")
_SEPARATOR = re.compile(r"[|:\-+\s]+")
_EMPHASISED = re.compile(r"(?:(?:[-*+•]|\d{1,3}[.)])\s)?(?:\*\*|__)[^*_]+(?:\*\*|__):?")
_LETTER = re.compile(r"[^\W_]")


class Blocks:
    """Follows the lines of one answer."""

    def __init__(self) -> None:
        self._kind: Block = "paragraph"
        self._in_code = False
        self._table_rows = 0

    def next(self, cut: Cut) -> Block:
        """The kind of block that the next sentence belongs to."""
        if cut.begins_line or self._in_code:
            self._kind = self._of_line(cut.text)
            self._table_rows = self._table_rows + 1 if self._kind in ("table_header", "table_row") else 0
        return self._kind

    def _of_line(self, line: str) -> Block:
        if _FENCE.match(line):
            self._in_code = not self._in_code
            return "code"
        if self._in_code:
            return "code"
        if _HEADING.match(line):
            return "heading"
        if line.lstrip().startswith("|"):
            return "table_header" if self._table_rows == 0 else "table_row"
        if _RULE.fullmatch(line):
            return "rule"
        if _ITEM.match(line):
            return "list_item"
        return "quote" if line.lstrip().startswith(">") else "paragraph"


def is_claim(text: str, block: Block) -> bool:
    """Whether the sentence says something that can be right or wrong. Structure, lead-ins and questions do not."""
    if block not in ("paragraph", "list_item", "table_row", "quote"):
        return False
    bare = CITATION.sub("", text).rstrip()
    if bare.endswith((":", "?")) or _SEPARATOR.fullmatch(bare) or _EMPHASISED.fullmatch(bare):
        return False
    return _LETTER.search(bare) is not None
