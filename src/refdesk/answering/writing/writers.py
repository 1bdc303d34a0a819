"""Who writes an answer: a language model (`generating`), or the extractor that quotes (`quoting.writer`). Both say text as it
comes and return a Verdict.

The output limit is ours: whatever the provider thinks of ``max_tokens``, the text is cut at the limit and the model stopped.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from refdesk.answering.follow_ups import FollowUp
from refdesk.answering.writing import prompting
from refdesk.contracts.answers import FinishReason, Source, Usage
from refdesk.outside import tokens
from refdesk.outside.llm.parameters import Message


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be answered, from what, within how many output tokens."""

    question: str
    follow_up: FollowUp | None = None
    """Where the question leans on earlier ones: what was asked now, and what was answered before."""
    sources: tuple[Source, ...]
    history: tuple[Message, ...] = ()
    style: str = ""
    """How the asker wishes the answer worded, for a model."""
    output_tokens_max: int
    fence: str = msgspec.field(default_factory=prompting.new_fence)
    """What the passages stand between in the prompt; whoever takes the answer over builds the same one."""


class Verdict(msgspec.Struct, frozen=True):
    """How the writing ended and what it used."""

    finish_reason: FinishReason
    usage: Usage


class Draft(Protocol):
    """What is written on."""

    usage: Usage
    """What the work has cost even if it is stopped now."""
    model: str
    """Who writes on it now."""

    @property
    def begun(self) -> bool:
        """Whether there is a word on it."""
        ...

    def say(self, text: str) -> None:
        """Readers have it at once."""
        ...


class Writer(Protocol):
    """Raises ModelFailed when it cannot go on; what it has said until then stands. Cancelling it stops the work at once."""

    model: str
    passages_read: int
    """How many passages it makes use of."""

    async def write(self, assignment: Assignment, draft: Draft) -> Verdict: ...


class Meter:
    """Counts output against its limit. A chunk of the provider is at least one token, and so is each word or mark."""

    def __init__(self, tokens_max: int) -> None:
        self.used = 0
        self.spent = False
        self._tokens_max = tokens_max

    def allow(self, texts: Sequence[str]) -> str:
        """The part of the texts that still fits; sets ``spent`` once something had to be cut."""
        allowed = []
        for text in texts:
            need, left = tokens.output_tokens(text) or 1, self._tokens_max - self.used
            if need > left:
                self.spent = True
                if left > 0:
                    allowed.append(tokens.cut(text, left))
                    self.used = self._tokens_max
                break
            allowed.append(text)
            self.used += need
        return "".join(allowed)
