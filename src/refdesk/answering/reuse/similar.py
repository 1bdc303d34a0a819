"""Reusing the answer to a similar question, for those who switch it on: off by default, and then only where it is safe.

Encoders score negated and reversed questions at 0.83 to 0.99 (docs/adr/0011), so similarity alone proves nothing. A hit needs
all of these:

* the same retrieved passages in the same versions, history, model and parameters: they are the key under which questions
  are remembered, so a hit stands on exactly what the asker's own search has just found;
* similarity above a threshold;
* the same *particulars*, in the same order: numbers, quoted strings, names, months and weekdays, negations, and words that
  turn a question round (before and after, more and less, first and last …);
* the other words that both use in the same order, too: swapped words ask something else.

What this does not do: look further than the newest questions on the same passages.
"""

import logging
import re

import msgspec
import numpy as np
from numpy.typing import NDArray

from refdesk.answering.text.sentences import STOP_WORDS, stem
from refdesk.outside import telemetry
from refdesk.outside.valkey.client import Valkey, ValkeyError

logger = logging.getLogger(__name__)

REMEMBERED_MAX = 32
"""Questions remembered on the same passages."""

_TURNING = (
    "no not never none nobody nothing neither nor without cannot can't don't doesn't didn't won't isn't aren't wasn't "
    "shouldn't mustn't except unless excluding including only also instead before after until since during more less fewer "
    "most least over under above below up down in out from to into off on first last next previous minimum maximum min max "
    "earliest latest old new start begin end stop open close increase decrease raise lower allow forbid allowed forbidden "
    "permitted prohibited required optional always sometimes was were will would had has have must should may might can "
    "january february march april june july august september october november december monday tuesday wednesday thursday "
    "friday saturday sunday today tomorrow yesterday day days week weeks month months year years hour hours minute minutes "
    "one two three four five six seven eight nine ten second third fourth fifth sixth seventh eighth ninth tenth half double "
    "daily weekly monthly yearly annual annually who whom whose when where why which how what many much long often"
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_PARTICULAR = re.compile(
    r"(?P<quoted>\"[^\"]*+\"|“[^“”]*+”|«[^«»]*+»|`[^`]*+`)|(?P<number>(?<![^\W\d])[^\W\d]*+\d[\w.,:/%-]*+)"
    r"|(?P<word>[^\W\d_][\w'’-]*+)|(?P<sign>[€$£%])"
)


def particulars(question: str) -> tuple[str, ...]:
    """What two questions must have in common, in order, to be the same question in other words."""
    turning = frozenset(_TURNING.split())
    found = []
    for position, match in enumerate(_PARTICULAR.finditer(question)):
        text = match.group()
        lower = text.casefold().replace("’", "'")
        is_name = match.lastgroup == "word" and position > 0 and text != text.lower()
        if match.lastgroup != "word" or is_name or lower in turning or lower.endswith("n't"):
            found.append(lower.rstrip(".,:"))
    return tuple(found)


def same_matter(one: str, other: str) -> bool:
    """Whether two questions have the same particulars, and the words they share in the same order."""
    ours, theirs = _stems(one), _stems(other)
    shared = set(ours) & set(theirs)
    in_order = [word for word in ours if word in shared] == [word for word in theirs if word in shared]
    return in_order and particulars(one) == particulars(other)


def _stems(question: str) -> list[str]:
    return [stem(match) for match in _WORD.findall(question) if match.casefold() not in STOP_WORDS]


class Remembered(msgspec.Struct, frozen=True, array_like=True):
    """A question that was answered: its words, its vector (float32 bytes), and the log that answers it."""

    question: str
    vector: bytes
    log_id: str


class SimilarQuestions:
    """``similarity_min`` is a cosine. Valkey down: nothing is found and nothing is remembered."""

    def __init__(self, valkey: Valkey, *, similarity_min: float, retention_s: int) -> None:
        self._valkey = valkey
        self._similarity_min = similarity_min
        self._retention_s = retention_s

    async def find(self, question: str, vector: NDArray[np.float32], *, key: str) -> str | None:
        """The log of the most similar question with the same particulars; None when none is similar enough."""
        try:
            stored = await self._valkey.command("LRANGE", key, 0, REMEMBERED_MAX - 1)
        except ValkeyError as error:
            logger.debug("similar questions cannot be looked up: %s", error)
            return None
        best, best_similarity, outcome = None, self._similarity_min, "miss"
        for remembered in (msgspec.msgpack.decode(item, type=Remembered) for item in stored):
            similarity = float(np.frombuffer(remembered.vector, np.float32) @ vector)
            if similarity < best_similarity:
                continue
            if same_matter(remembered.question, question):
                best, best_similarity = remembered.log_id, similarity
            else:
                outcome = "reject"
        if best is None:
            telemetry.cache_requests.labels("semantic", outcome).inc()
        return best

    async def remember(self, question: str, vector: NDArray[np.float32], *, key: str, log_id: str) -> None:
        item = msgspec.msgpack.encode(Remembered(question, vector.astype(np.float32).tobytes(), log_id))
        try:
            await self._valkey.commands(
                [("LPUSH", key, item), ("LTRIM", key, 0, REMEMBERED_MAX - 1), ("EXPIRE", key, self._retention_s)]
            )
        except ValkeyError as error:
            logger.debug("a question is not remembered: %s", error)
