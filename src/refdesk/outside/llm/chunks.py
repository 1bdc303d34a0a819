"""What a language model's server sends, in the forms that servers spell it, as one plain type.

The common form is decoded at once into the few fields that are needed. What is spelled otherwise (numbers as text, a character
cut into halves, bytes that are not UTF-8) is read again with patience.
"""

import json
from typing import Any

import msgspec

from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import ModelFailed
from refdesk.contracts.texts import NUMBER_MAX
from refdesk.outside.llm.errors import words_of

_FINISHES = {
    "stop": (
        "stop",
        "end_turn",
        "stop_sequence",
        "eos",
        "eos_token",
        "end",
        "complete",
        "completed",
        "finished",
        "done",
    ),
    "length": (
        *("length", "max_tokens", "model_length", "max_output_tokens", "max_new_tokens", "token_limit"),
        *("model_context_window_exceeded", "max_completion_tokens"),
    ),
    "content_filter": (
        *("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
        *("sensitive", "refusal", "guardrail_intervened"),
    ),
}
_FINISH_OF = {spelling: name for name, spellings in _FINISHES.items() for spelling in spellings}
_NO_FINISH = frozenset({"", "null", "none", "finish_reason_unspecified"})
_TOOLS = frozenset({"tool_calls", "tool_call", "function_call", "tool_use"})
"""We offer no tools: a server that ends its text so has nothing else to say."""
_THOUGHTS = frozenset({"thinking", "reasoning", "reasoning_text", "redacted_thinking"})


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    thinking: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: Any = None
    finish_reason: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = None
    model: Any = None
    id: Any = None
    error: Any = None
    object: Any = None


class Piece(msgspec.Struct):
    """What one chunk, or a whole reply that is no stream, adds to an answer."""

    model: Any = None
    response_id: Any = None
    """Text, where the server keeps to the format; the same for the model's name."""
    text: str = ""
    thought: str = ""
    finish_reason: str | None = None
    """`stop`, `length`, `content_filter`, or the server's own word."""
    usage: Usage | None = None


_decoder = msgspec.json.Decoder(_Chunk)


class ChunkReader:
    """Reads the chunks of one reply: a character may be cut in two."""

    def __init__(self) -> None:
        self._half = ""
        """The first half of a character (a high surrogate)."""

    def read(self, data: bytes) -> Piece:
        """Raises ModelFailed for what is no chunk, and for an error that the server reports."""
        try:
            chunk = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            chunk = _patiently(data)
        if chunk.error or chunk.object == "error":
            raise ModelFailed(f"The model's server reported: {words_of(data)}")
        return self._piece(chunk)

    def _piece(self, chunk: _Chunk) -> Piece:
        piece = Piece(chunk.model, chunk.id)
        if chunk.usage is not None:
            piece.usage = _usage(chunk.usage)
        for choice in chunk.choices or ():
            said = choice.delta or choice.message
            if said is None:
                piece.text += _said(choice.text)
            else:
                content = said.content
                piece.text += content if type(content) is str else _said(content)
                if said.reasoning_content or said.reasoning or said.thinking or type(content) is list:
                    piece.thought += _thought(said)
            if choice.finish_reason is not None:
                piece.finish_reason = _finish(choice.finish_reason) or piece.finish_reason
        if self._half or not piece.text.isascii():
            piece.text = self._whole(piece.text)
        return piece

    def _whole(self, text: str) -> str:
        """Halves of characters put together; one that stays alone is shown as unreadable."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _patiently(data: bytes) -> _Chunk:
    try:
        return msgspec.convert(json.loads(data.decode("utf-8", "replace")), _Chunk, strict=False)
    except (ValueError, RecursionError) as error:  # msgspec's errors of validation among them
        raise ModelFailed(f"The model sent something that is not an OpenAI chunk: {words_of(data)}") from error


def _said(content: Any) -> str:
    """Text as such, or the texts among parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(
        _said(part.get("text") or "") for part in parts if isinstance(part, dict) and part.get("type") not in _THOUGHTS
    )


def _thought(said: _Delta) -> str:
    """The thought in whichever field it is; some servers send it twice."""
    inside = [
        _said(part.get("thinking") or part.get("text") or "")
        for part in (said.content if isinstance(said.content, list) else ())
        if isinstance(part, dict) and part.get("type") in _THOUGHTS
    ]
    return "".join(inside) or _said(said.reasoning_content) or _said(said.reasoning) or _said(said.thinking)


def _finish(reason: Any) -> str | None:
    if isinstance(reason, dict):
        reason = reason.get("type")
    if not isinstance(reason, str) or (lowered := reason.strip().lower()) in _NO_FINISH:
        return None
    return "stop" if lowered in _TOOLS else _FINISH_OF.get(lowered, lowered)


def _usage(usage: Any) -> Usage | None:
    """None unless there are two numbers."""
    if not isinstance(usage, dict):
        return None
    read = _number(usage.get("prompt_tokens", usage.get("input_tokens")))
    written = _number(usage.get("completion_tokens", usage.get("output_tokens")))
    return None if read is None or written is None else Usage(read, written)


def _number(value: Any) -> int | None:
    try:
        return min(max(int(float(value)), 0), NUMBER_MAX)
    except (TypeError, ValueError, OverflowError):
        return None
