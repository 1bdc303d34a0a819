"""Citations as models spell them, in the one form that the rest of Refdesk reads.

A prompt asks for ``[1]``. Models also write ``[1-3]``, ``[^1]``, ``[1; 2]``, ``[Passage 1]``, ``[doc1]``, ``[ID:1]``, ``[[1]]``,
``[1](#1)``, ``【1】``, ``【1†x】``, ``\\[1\\]``, ``(1)`` and ``¹``. Each becomes ``[1]`` or ``[1, 2, 3]`` while the text streams:
what may become a citation is held back until it is one, or cannot be one any more. A citation of a passage that the model was
not given is removed. Code is left as it is.
"""

import re
from collections.abc import Collection

HELD_CHARACTERS_MAX = 48
"""The longest spelling of a citation; what is longer is text."""
CITED_MAX = 10
"""Passages one citation may name; a longer range is text."""

_RAISED_DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_LOWERED = str.maketrans(_RAISED_DIGITS, "0123456789")
CITED_AS = (
    "passages?|sources?|documents?|docs?|excerpts?|contexts?|chunks?|ids?|citations?|cites?|refs?|references?|quelle"
)
"""Words that may stand before the number."""
_WORD = rf"(?:(?:{CITED_AS}) ?[#:.=_-]? ?)?"
_LIST = rf"(?P<cited>\d{{1,3}}(?: ?(?:,|;|-|–|and|&) ?{_WORD}\d{{1,3}})*)"
_LINK = r"(?:\(#[\w.:-]{0,16}\))?"
_BRACKETED = re.compile(
    rf"\\?[\[【](?P<double>\[)?\^?{_WORD}{_LIST}(?:†[^\]】\n]{{0,24}})?\\?[\]】](?(double)\]){_LINK}", re.IGNORECASE
)
_ROUND = re.compile(r"\((?P<cited>\d{1,3}(?: ?[,;&–-] ?\d{1,3})*)\)")
_RAISED = re.compile(rf"(?P<cited>[{_RAISED_DIGITS}]{{1,3}})")
_OPENER = re.compile(rf"\\?[\[【]|\(|[{_RAISED_DIGITS}]|`")
_MAY_HOLD = re.compile(rf"[\[【(\\{_RAISED_DIGITS}`]")
_HELD = f"{{0,{HELD_CHARACTERS_MAX}}}"
_UNDECIDED = re.compile(
    rf" ?(?:\\?[\[【][^\]】\n`]{_HELD}(?:[\]】]\]?(?:\((?:#[\w.:-]{_HELD})?)?)?|\([\d ,;&–-]{_HELD}\)?|\\"
    rf"|[{_RAISED_DIGITS}]{{1,9}})?\Z"
)
"""What may become a citation, at the end of the text."""
_POWER = re.compile(r"(?<![^\W\d_])(?:[^\W\d_]|[kcdm]m) ?\Z")
"""A letter of its own, or a unit of length, before a raised digit: ``x²``, ``5 km²``."""
_BEFORE_CHARACTERS = 4
_PART = re.compile(r"(\d{1,3})(?: ?[-–] ?(\d{1,3}))?")


class CitationReader:
    """Reads one answer. ``known`` are the numbers of the passages that the model was given."""

    def __init__(self, known: Collection[int]) -> None:
        self.unknown = 0
        """Citations of nothing that were removed."""
        self._known = frozenset(known)
        self._held = ""
        self._before = "\n"
        """The last characters given out, as many as are looked at, and perhaps more."""
        self._in_code = False

    def read(self, text: str) -> str:
        """What can be shown now."""
        if not (self._held or text.endswith(" ") or _MAY_HOLD.search(text)):
            self._remember(text)
            return text
        whole = self._held + text
        end = self._decided_until(whole)
        self._held = whole[end:]
        return self._spelled(whole[:end], following=whole[end : end + 1])

    def rest(self) -> str:
        """What is left when the text has ended."""
        whole, self._held = self._held, ""
        return self._spelled(whole, following="")

    @staticmethod
    def _decided_until(whole: str) -> int:
        """Where the part begins of which nobody knows yet whether it is a citation."""
        found = _UNDECIDED.search(whole, max(0, len(whole) - HELD_CHARACTERS_MAX))
        return found.start() if found else len(whole)

    def _spelled(self, whole: str, *, following: str) -> str:
        said: list[str] = []
        done = 0
        for opener in _OPENER.finditer(whole):
            at = opener.start()
            if at < done:
                continue
            if opener.group() == "`":
                self._in_code = not self._in_code
                continue
            before = (self._before + whole[:at])[-_BEFORE_CHARACTERS:]
            found = None if self._in_code else self._citation(whole, at, before=before, following=following)
            if found is not None:
                citation, end = found
                said.append(whole[done:at] if citation else whole[done:at].removesuffix(" "))
                said.append(citation)
                done = end
        said.append(whole[done:])
        self._remember(whole)
        return "".join(said)

    def _remember(self, text: str) -> None:
        self._before = text if len(text) >= _BEFORE_CHARACTERS else self._before[-_BEFORE_CHARACTERS:] + text

    def _citation(self, whole: str, at: int, *, before: str, following: str) -> tuple[str, int] | None:
        """The citation that begins here in our spelling (empty when it cites nothing), and where it ends; None for text."""
        match = (_BRACKETED if whole[at] in "\\[【" else _ROUND if whole[at] == "(" else _RAISED).match(whole, at)
        if match is None:
            return None
        numbers = _numbers(match["cited"].translate(_LOWERED))
        known = [n for n in numbers if n in self._known]
        behind = whole[match.end() : match.end() + 1] or following
        if not numbers or not self._is_citation(match, known=known == numbers, before=before, behind=behind):
            return None
        if not known:
            self.unknown += 1
        return f"[{', '.join(map(str, known))}]" if known else "", match.end()

    @staticmethod
    def _is_citation(match: re.Match[str], *, known: bool, before: str, behind: str) -> bool:
        """Brackets behind a space or a stop always cite. Elsewhere, and for other signs, their place tells."""
        kind, last = match.group()[0], before[-1:]
        if kind in "\\[【":
            return known or not (last.isalnum() or last in "_)]" or behind == "(")
        if kind == "(":
            return known and last not in "\n(" and (not behind or behind in ".,;:!?\n")
        if not known or behind.isalnum() or _POWER.search(before) is not None:
            return False
        return last.isalpha() or last in ".,;:!?)”\"'" or (last == " " and not before[-2:-1].isspace())


def _numbers(cited: str) -> list[int]:
    """The numbers of ``1-3, 5``; none for a range that is too long or runs backwards."""
    numbers: list[int] = []
    for first, last in _PART.findall(cited):
        numbers.extend(range(int(first), int(last or first) + 1))
        if len(numbers) > CITED_MAX or int(last or first) < int(first):
            return []
    return list(dict.fromkeys(numbers))
