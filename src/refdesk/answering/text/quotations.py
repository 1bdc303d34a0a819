"""Document text as a prompt may hold it: nothing in it looks like a part of the prompt.

A passage may try to pass for another passage (``[2] Leave``), for the question, for another speaker (``system:``) or for the end
of a message (``<|im_end|>``). What could be read so is written otherwise, in the prompt only: people see, and the citation
check reads, the passage as it stands in its document.

    [2], [doc3]           {2}, {doc3}            numbers of passages; round brackets may be citations, too
    Question: Assistant:  Question - Assistant - words before a colon that name a part or a speaker
    <|eot_id|> <s> [INST] (eot_id) (s) (INST)    tokens of chat templates, known and unknown: tags without white space

Nothing is taken out, so that no two halves come together to what was between them; and what is put in cannot be a part of
a structure. What it does not do: judge what a passage says in plain words. The instruction and the fence are for that, as far
as a model heeds them.
"""

import re
from functools import lru_cache

from refdesk.answering.text.citations import CITED_AS

TEXTS_REMEMBERED = 512
"""Passages that are not gone through again: a prompt is counted and then sent, and the same ones answer many questions."""

_NUMBERS = re.compile(
    rf"[\[［【〔]\s*+(\^?+(?:[A-Za-z]{{2,12}}+[\s#:.]{{1,3}}+|(?:{CITED_AS})[=_-]?)?\d[^\[\]［］【】〔〕\n]{{0,40}}+)[\]］】〕]",
    re.IGNORECASE,
)
_SPEAKERS = (
    "questions?|answers?|passages?|sources?|context|instructions?|prompt|system|assistant|user|human|developer|tool|function"
    "|model|ai|bot"
)
_COLON = ":\uff1a\ufe13\ufe55\u2236"
_COLONS = re.compile(f"[{_COLON}]")
_SPEAKER_BEFORE = re.compile(rf"\b(?:{_SPEAKERS})\W{{0,12}}\Z", re.IGNORECASE)
SPEAKER_CHARACTERS = len("instructions") + 13
"""How far before a colon its word begins, at most; and one character more, where a word may go on."""
_TAG = re.compile(r"<(<?[/!|｜▁]{0,3}+\w[\w▁.:=/+-]{0,64}+[|｜▁]{0,3}+>?)>")
_HALF_TAG = re.compile(r"[<|｜](?:(?<=<)\s*+[|｜]|(?<=[|｜])\s*+>)")
_CAPITALS = re.compile(r"\[(/?[A-Z][A-Z_]{2,30}+)\]")
_ROUND = str.maketrans("<>", "()")


@lru_cache(maxsize=TEXTS_REMEMBERED)
def as_quotation(text: str) -> str:
    """The text with nothing in it that a prompt could be made of. Linear time; idempotent."""
    text = _NUMBERS.sub(r"{\1}", text)
    text = _COLONS.sub(_unless_speaking, text)
    text = _TAG.sub(_rounded, text)
    text = _HALF_TAG.sub(_rounded, text)
    return _CAPITALS.sub(r"(\1)", text)


def _unless_speaking(colon: re.Match[str]) -> str:
    start = max(0, colon.start() - SPEAKER_CHARACTERS)
    return " -" if _SPEAKER_BEFORE.search(colon.string, start, colon.start()) else colon.group()


def _rounded(match: re.Match[str]) -> str:
    """``<|eot_id|>`` as ``(eot_id)``."""
    return match.group().translate(_ROUND).replace("|", "").replace("｜", "")
