"""How a unit reads beside a question: as a whole, and word by word.

Two texts about the same thing have similar vectors, also when one asks for what the other does not say. The vectors of their
*tokens*, which come out of the same pass of the model, tell more (late interaction: Khattab and Zaharia, ColBERT, SIGIR 2020):

    How many benches are there at Market Square?          Station: Market Square · Docks: 36 · Opened: 2011
             .31                  .78    .81              ◀── each word's best likeness to a word of the unit

A word of the question that is like nothing in the unit is what the unit does not say.
"""

import re

import msgspec
import numpy as np

from refdesk.answering.text.sentences import STOP_WORDS
from refdesk.outside.embedding.vectors import Encoded, Vectors

LEAST = 0.05
"""Any two words are so much alike."""
_WORD = re.compile(r"[^\W_]+")


class Likeness(msgspec.Struct, frozen=True):
    """Cosines. Without token vectors, only ``whole`` is known."""

    whole: float
    """Of the two texts."""
    each: tuple[float, ...] = ()
    """Of each word of the question that carries meaning to the unit's word that is most like it."""
    back: float = 0.0
    """The other way round: the mean over what the unit says of its own."""

    @property
    def is_unread(self) -> bool:
        """Whether the model could not read one of the two (`vectors.unread`)."""
        return not self.each and self.whole == 0

    @property
    def words(self) -> float:
        """The mean of the words."""
        return sum(self.each) / len(self.each)

    @property
    def alike(self) -> float:
        """The harmonic mean: low when one word of the question is like nothing in the unit."""
        return len(self.each) / sum(1 / max(one, LEAST) for one in self.each)

    def joined(self, other: "Likeness") -> "Likeness":
        """Of two units that answer together: what one of them says need not be said by the other."""
        each = tuple(map(max, self.each, other.each))
        return Likeness(max(self.whole, other.whole), each, max(self.back, other.back))


class Reading:
    """A question, read once for all units."""

    def __init__(self, question: str, encoded: Encoded) -> None:
        self._encoded = encoded
        self._words = _words_by_tokens(question, encoded)

    def likeness(self, unit: Encoded, *, own_from: int) -> Likeness:
        """``own_from`` is where the unit begins to say something of its own, in characters."""
        whole = float(self._encoded.vector @ unit.vector)
        if not (len(self._words) and len(unit.tokens)):
            return Likeness(whole)
        alike = self._encoded.tokens @ unit.tokens.T
        each = self._words @ alike.max(axis=1)
        own = next((place for place, (start, _) in enumerate(unit.spans) if start >= own_from), 0)
        return Likeness(whole, tuple(each.tolist()), float(alike[:, own:].max(axis=0).mean()))


def _words_by_tokens(question: str, encoded: Encoded) -> Vectors:
    """(words, tokens) float32: of each word that carries meaning, the share of its tokens; of all as one where none does."""
    words: list[Vectors] = []
    read = encoded.spans[-1][1] if encoded.spans else 0
    for word in _WORD.finditer(question, 0, read):
        share = np.array([start < word.end() and end > word.start() for start, end in encoded.spans], dtype=np.float32)
        if share.any() and _carries_meaning(word.group()):
            words.append(share / share.sum())
    every = np.full((1, len(encoded.spans)), 1 / max(1, len(encoded.spans)), dtype=np.float32)
    return np.stack(words) if words else every[: len(encoded.spans)]


def _carries_meaning(word: str) -> bool:
    has_digit = any(map(str.isdigit, word))
    return has_digit or (len(word) > 2 and word.lower() not in STOP_WORDS)
