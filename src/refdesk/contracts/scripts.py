"""Scripts without spaces between words: their words are looked for by pairs of letters, and few models of meaning read them."""

import re
from collections.abc import Iterator
from itertools import pairwise

UNSPACED = re.compile(
    "[\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f]+"
)
"""Thai, Lao, Burmese, Khmer, kana, Chinese characters; Hangul, too, whose words carry their particles."""


def is_unspaced(text: str) -> bool:
    """Whether at least half of the text's letters are of such scripts."""
    letters = sum(len(run) for run in UNSPACED.findall(text))
    return letters > 0 and 2 * letters >= sum(map(str.isalpha, text))


def pairs(run: str) -> Iterator[str]:
    """Each two letters that stand beside each other; a letter that stands alone."""
    yield from map("".join, pairwise(run)) if len(run) > 1 else (run,)


def set_apart(text: str) -> str:
    """The text with blanks around what is of such scripts: 每年25天 is 每年, 25 and 天."""
    return text if text.isascii() else UNSPACED.sub(r" \g<0> ", text)


def word_count(text: str) -> int:
    """How many words, of one or two letters where no spaces set them apart."""
    if text.isascii():
        return len(text.split())
    return len(UNSPACED.sub(" ", text).split()) + sum((len(run) + 1) // 2 for run in UNSPACED.findall(text))
