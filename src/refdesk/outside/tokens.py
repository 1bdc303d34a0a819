"""Counting tokens without a network and without knowing the model's vocabulary. (With it: `vocabularies`.)

Two estimates, each safe on the side where it is used:

* ``input_tokens`` errs upwards: a prompt packed by it does not overflow the model's window. English prose costs a token per
  four letters of a word, other languages one per two; identifiers, base64 and the like one per 1.25 characters; each digit
  one; everything outside ASCII one per UTF-8 byte (no byte-level vocabulary does worse). Measured on SmolLM2's vocabulary
  of 49,152, smaller than most in use: never below the truth, and in the middle of 1,100 English passages 1.5 times it.
* ``output_tokens`` errs downwards: it counts the pieces that no vocabulary merges, words with the mark before them and
  runs of marks. A model that keeps its own limit is never cut by ours; one that ignores it is.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from math import ceil

CountTokens = Callable[[str], int]
"""Tokens of a text as one model counts them, or never fewer."""

TEXTS_REMEMBERED, CHARACTERS_REMEMBERED_MAX = 4096, 2000
"""Whose tokens are not counted again, and how long such a text is at most. A few megabytes in all."""

_PIECE = re.compile(
    r"(?P<word> ?[A-Z]?[a-z]++(?![A-Za-z0-9]))|(?P<code> ?[A-Za-z]+)|(?P<blank>\s+)|(?P<one>[!-~])|(?P<other>.)",
    re.DOTALL,
)
_UNIT = re.compile(r"(?:[^\w\s]|_)?[^\W_]+(?:['’][^\W_]{1,2}(?![^\W_]))?|(?:[^\w\s]|_)+")
_WORD = re.compile(r"[A-Za-z]+")
_ENGLISH = re.compile(
    r"\b(?:the|of|to|and|a|in|is|for|on|it|be|as|are|with|that|or|by|this|an|not|at|from)\b", re.IGNORECASE
)
"""The commonest words: about 0.3 of English prose, under 0.1 of anything else."""

ENGLISH_SHARE_MIN = 0.2
LETTERS_PER_TOKEN_ENGLISH = 4
LETTERS_PER_TOKEN = 2
CODE_LETTERS_PER_TOKEN = 1.25
BLANKS_PER_TOKEN = 2


def count_once(text: str, count: CountTokens) -> int:
    """``count(text)``, for what is counted again and again: a question, the passages that answer many of them."""
    return _remembered(text, count) if len(text) <= CHARACTERS_REMEMBERED_MAX else count(text)


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _remembered(text: str, count: CountTokens) -> int:
    return count(text)


def input_tokens(text: str) -> int:
    """An upper estimate of the tokens of ``text`` in any current byte-pair vocabulary."""
    per_token = LETTERS_PER_TOKEN_ENGLISH if _is_english(text) else LETTERS_PER_TOKEN
    total = 0
    for piece in _PIECE.finditer(text):
        match piece.lastgroup:
            case "word":
                total += ceil(len(piece.group().lstrip()) / per_token)
            case "code":
                total += ceil(len(piece.group().lstrip()) / CODE_LETTERS_PER_TOKEN)
            case "blank":
                total += ceil(len(piece.group()) / BLANKS_PER_TOKEN)
            case "one":
                total += 1
            case _:
                total += len(piece.group().encode())
    return total


def _is_english(text: str) -> bool:
    words = len(_WORD.findall(text))
    return words > 0 and len(_ENGLISH.findall(text)) >= ENGLISH_SHARE_MIN * words


def output_tokens(text: str) -> int:
    """A lower estimate: the words and runs of marks of ``text``."""
    if text.lstrip(" ").isalnum():  # as most pieces of an answer are
        return 1
    return len(_UNIT.findall(text))


def cut(text: str, tokens: int) -> str:
    """The longest beginning of ``text`` that counts at most ``tokens``."""
    for count, unit in enumerate(_UNIT.finditer(text)):
        if count == tokens:
            return text[: unit.start()].rstrip()
    return text
