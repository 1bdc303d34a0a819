"""What a request to a language model holds, and how it changes when the server refuses a part of it by name.

Servers of one wire format differ in what they take: some want ``max_completion_tokens``, some know no ``stream_options``, some
models have only their own temperature or no system role. A refusal that names such a part is answered with a request without it,
or with its other name. What then works is kept for the process.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant"]
LimitName = Literal["max_tokens", "max_completion_tokens"]

REFUSALS = frozenset({400, 405, 415, 422, 500, 501})
"""Statuses of servers, and of chat templates inside them, that refuse a part of a request."""

_UNKNOWN = re.compile(
    r"unsupported|not (?:be )?support|doesn't support|unrecogni[sz]ed|unknown|unexpected|extra|not permitted|not allowed|"
    r"forbidden|invalid (?:parameter|argument|field|key|name)|not (?:a )?valid (?:parameter|argument|field)|additional propert|"
    r"not implemented|use '?\"?max_completion_tokens",
    re.IGNORECASE,
)
_LIMITS = re.compile(r"max_(?:completion_|new_|output_)?tokens")
_SYSTEM = re.compile(
    r"(?:system|developer)\W*(?:role|message|prompt|instruction)|role\W+'?\"?system|roles? must alternate",
    re.IGNORECASE,
)
_STREAM = re.compile(r"\bstream(?:ing)?\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])\d{1,7}(?![\w.]*\d)")
OUTPUT_TOKENS_MIN = 16
"""No limit of a server is believed to be lower."""


class Message(msgspec.Struct, frozen=True):
    role: Role
    content: str


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request a server takes."""

    limit_name: LimitName | None = "max_tokens"
    limit_max: int | None = None
    temperature: bool = True
    stream: bool = True
    stream_options: bool = True
    system: bool = True

    def body(
        self, model: str, messages: Sequence[Message], *, output_tokens_max: int, temperature: float
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": model,
            "messages": messages if self.system else _without_system(messages),
            "stream": self.stream,
        }
        if self.limit_name is not None:
            body[self.limit_name] = min(output_tokens_max, self.limit_max or output_tokens_max)
        if self.temperature:
            body["temperature"] = temperature
        if self.stream and self.stream_options:
            body["stream_options"] = {"include_usage": True}
        return body

    def without(self, words: str, *, status: int, sent: int) -> "Parameters | None":
        """What is left when a server has refused with these words; None when they name nothing that can be left out.

        ``sent`` is the output limit that the refused request had.
        """
        if status not in REFUSALS:
            return None
        is_unknown = _UNKNOWN.search(words) is not None
        changes: dict[str, Any] = {}
        if self.stream_options and ("stream_options" in words or "include_usage" in words):
            changes["stream_options"] = False
        if self.temperature and "temperature" in words:
            changes["temperature"] = False
        if self.limit_name is not None and _LIMITS.search(words):
            changes |= self._other_limit(words, sent) if is_unknown else self._lower_limit(words, sent)
        if self.system and _SYSTEM.search(words):
            changes["system"] = False
        if self.stream and not changes and is_unknown and _STREAM.search(words):
            changes["stream"] = False
        return msgspec.structs.replace(self, **changes) if changes else None

    def _other_limit(self, words: str, sent: int) -> dict[str, Any]:
        """By its other name, or by none."""
        if lower := self._lower_limit(words, sent):
            return lower
        is_first = self.limit_name == "max_tokens"
        return {"limit_name": "max_completion_tokens" if is_first else None}

    def _lower_limit(self, words: str, sent: int) -> dict[str, Any]:
        """The highest that the words say is taken, if they say one."""
        if "context" in words.lower() or str(sent) not in words:
            return {}
        allowed = [number for number in map(int, _NUMBER.findall(words)) if OUTPUT_TOKENS_MIN <= number < sent]
        return {"limit_max": max(allowed)} if allowed else {}


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The instruction at the head of the first thing that is asked."""
    said = "\n\n".join(message.content for message in messages if message.role == "system")
    others = [message for message in messages if message.role != "system"]
    if said and others:
        others[0] = Message(others[0].role, f"{said}\n\n{others[0].content}")
    return others
