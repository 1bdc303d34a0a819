"""Counting tokens without a network and without knowing the model's vocabulary.

Two estimates, each safe on the side where it is used:

* ``input_tokens`` errs upwards: a prompt packed by it does not overflow the model's window. Runs of letters count one token
  per four, digits one per two, everything outside ASCII one per UTF-8 byte (no byte-level vocabulary does worse).
* ``output_tokens`` errs downwards: words and marks. A model that keeps its own limit is never cut by ours; one that ignores
  it is.
"""

import re
from math import ceil

_PIECE = re.compile(
    r"(?P<letters> ?[A-Za-z]+)|(?P<digits>[0-9]+)|(?P<blank>\s+)|(?P<mark>[!-~])|(?P<other>.)", re.DOTALL
)
_UNIT = re.compile(r"[^\W_]+|[^\w\s]|_")

LETTERS_PER_TOKEN = 4
DIGITS_PER_TOKEN = 2


def input_tokens(text: str) -> int:
    """An upper estimate of the tokens of ``text`` in any current byte-pair vocabulary."""
    total = 0
    for piece in _PIECE.finditer(text):
        match piece.lastgroup:
            case "letters":
                total += ceil(len(piece.group().lstrip()) / LETTERS_PER_TOKEN)
            case "digits":
                total += ceil(len(piece.group()) / DIGITS_PER_TOKEN)
            case "blank":
                total += 0 if piece.group() == " " else 1
            case "mark":
                total += 1
            case _:
                total += len(piece.group().encode())
    return total


def output_tokens(text: str) -> int:
    """A lower estimate: the words and marks of ``text``."""
    return sum(1 for _ in _UNIT.finditer(text))


def cut(text: str, tokens: int) -> str:
    """The longest beginning of ``text`` with at most ``tokens`` words and marks."""
    for count, unit in enumerate(_UNIT.finditer(text)):
        if count == tokens:
            return text[: unit.start()].rstrip()
    return text
