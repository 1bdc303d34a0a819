"""A terminal as far as an answer needs one: lines, the cursor, and what has left the screen at its top."""

import io
import re

_SIGNS = re.compile(r"\x1b\[(?P<number>\d*)(?P<kind>[A-Z])|\x1b\[[?\d;]*[a-z]|(?P<sign>[\r\n])|(?P<text>[^\x1b\r\n]+)")


class Screen(io.StringIO):
    """What is written to it, as a person sees it. It forgives nothing: an unknown sign is an error."""

    def __init__(self, *, height: int) -> None:
        super().__init__()
        self.lines = [""]
        self._height = height
        self._row = self._column = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        end = 0
        for found in _SIGNS.finditer(text):
            assert found.start() == end, repr(text[end : found.start()])
            end = found.end()
            self._obey(found)
        assert end == len(text), repr(text[end:])
        return len(text)

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()

    def _obey(self, found: re.Match[str]) -> None:
        if found["text"]:
            line = self.lines[self._row].ljust(self._column)
            self._column += len(found["text"])
            self.lines[self._row] = line[: self._column - len(found["text"])] + found["text"] + line[self._column :]
        elif found["sign"] == "\r":
            self._column = 0
        elif found["sign"] == "\n":
            self._row, self._column = self._row + 1, 0
            if self._row == len(self.lines):
                self.lines.append("")
        elif found["kind"] == "A":
            top = max(0, len(self.lines) - self._height)
            self._row = max(top, self._row - int(found["number"] or 1))
        elif found["kind"] == "K":
            assert found["number"] == "2"
            self.lines[self._row] = ""
        else:
            assert found["kind"] is None, found.group()
