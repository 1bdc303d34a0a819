"""What a model thinks aloud inside its text, kept apart from its answer, however the text is cut.

Models that reason write ``<think>…</think>`` before their answer, or one of the other spellings below. Some have the opening
mark in their prompt template, so that only the closing one is in the text. A mark counts at the beginning of a line and outside
fenced code: an answer may speak of such marks.
"""

import re
from itertools import chain

from refdesk.outside.tokens import output_tokens

_SPELLINGS = (
    *((f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "thoughts", "reasoning", "reflection")),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("[think]", "[/think]"),
    ("◁think▷", "◁/think▷"),
)
"""The mark that opens a thought, in lower case, and the one that closes it."""
_CLOSERS = dict(_SPELLINGS)
_ENDS = {closer: re.compile(re.escape(closer), re.IGNORECASE) for closer in _CLOSERS.values()}
_MARKS = tuple(chain.from_iterable(_SPELLINGS))
_FENCES = ("```", "~~~")
_FIRST = frozenset(mark[0] for mark in (*_MARKS, *_FENCES))
_MARK_CHARACTERS_MAX = max(map(len, _MARKS))
BLANKS_MAX = 64
"""A line that begins with more of them begins with no mark."""
_BLANKS = re.compile(rf"[ \t]{{0,{BLANKS_MAX}}}")
ASSUMED_CLOSER = "</think>"


class Thinking:
    """Reads one answer. ``opened``: it begins with a thought, without a mark; if none closes it, it was the answer."""

    def __init__(self, *, opened: bool = False) -> None:
        self.tokens = 0
        """How many were thought."""
        self.was_aloud = False
        """A closing mark came behind words that looked like the answer."""
        self._closer: str | None = ASSUMED_CLOSER if opened else None
        """What ends the thought that the text is in."""
        self._assumed: list[str] | None = [] if opened else None
        """A thought that nothing has opened."""
        self._held = ""
        """What may be the beginning of a mark."""
        self._at_line_start = True
        self._in_code = False
        self._has_words = False

    @property
    def in_thought(self) -> bool:
        return self._closer is not None

    def read(self, text: str) -> str:
        """What of the answer can be shown now."""
        if not self._held and self._closer is None and not self._at_line_start and "\n" not in text:
            return text
        shown = self._read(self._held + text)
        if not self._has_words:
            shown = shown.lstrip()
            self._has_words = bool(shown)
        return shown

    def rest(self, *, is_complete: bool = True) -> str:
        """What is left when the text has ended; ``is_complete`` unless it was cut."""
        held, self._held = self._held, ""
        if self._assumed is not None and is_complete:
            answer = Thinking()
            text = answer.read("".join((*self._assumed, held))) + answer.rest()
            self._assumed = self._closer = None
            self.tokens = answer.tokens
            return text
        if self._closer is not None:
            self._think(held)
            return ""
        return held if self._has_words else held.lstrip()

    def _read(self, whole: str) -> str:
        self._held = ""
        shown: list[str] = []
        at = 0
        while at < len(whole):
            if self._closer is not None:
                at = self._think_on(whole, at, self._closer)
            elif self._at_line_start:
                at = self._begin_line(whole, at, shown)
            else:
                end = whole.find("\n", at) + 1
                self._at_line_start = end > 0
                shown.append(whole[at : end or len(whole)])
                at = end or len(whole)
        return "".join(shown)

    def _think_on(self, whole: str, at: int, closer: str) -> int:
        """Where the thought ends, or the text."""
        found = _ENDS[closer].search(whole, at)
        if found is not None:
            self._think(whole[at : found.start()])
            self._closer = self._assumed = None
            self._at_line_start = True
            return found.end()
        kept = _beginning_of(closer, whole[at:])
        self._think(whole[at : len(whole) - kept])
        self._held = whole[len(whole) - kept :]
        return len(whole)

    def _think(self, text: str) -> None:
        if text:
            self.tokens += output_tokens(text) or 1
            if self._assumed is not None:
                self._assumed.append(text)

    def _begin_line(self, whole: str, at: int, shown: list[str]) -> int:
        """Where to read on: behind a mark, or where the line begins that is none."""
        blanks = _BLANKS.match(whole, at)
        start = blanks.end() if blanks else at
        if start < len(whole) and whole[start] not in _FIRST:
            self._at_line_start = False
            return at
        head = whole[start : start + _MARK_CHARACTERS_MAX].lower()
        marks = _FENCES if self._in_code else (*_MARKS, *_FENCES)
        mark = next((mark for mark in marks if head.startswith(mark)), None)
        if mark is None and start - at < BLANKS_MAX and any(mark.startswith(head) for mark in marks):
            self._held = whole[at:]
            return len(whole)
        if mark is None or mark in _FENCES:
            self._in_code ^= mark is not None
            self._at_line_start = False
            return at
        self._closer = _CLOSERS.get(mark)
        self.was_aloud |= self._closer is None and (self._has_words or bool("".join(shown).strip()))
        return start + len(mark)


def _beginning_of(mark: str, text: str) -> int:
    """How many characters at the end of the text may begin the mark."""
    tail = text[1 - len(mark) :].lower()
    return next((len(tail) - at for at in range(len(tail)) if mark.startswith(tail[at:])), 0)
