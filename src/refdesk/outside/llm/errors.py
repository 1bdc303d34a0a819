"""Why a language model did not answer, as errors whose message holds the server's own words and says what to do.

A message is for administrators: it may hold whatever a server says, but never a key. ``title`` is for everybody.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from refdesk.contracts.errors import ModelFailed
from refdesk.contracts.hidden_characters import clean

WORDS_CHARACTERS_MAX = 300
_SAYING = ("message", "error", "errors", "detail", "details", "msg", "reason", "title", "code", "param", "loc", "type")
"""Where servers say what is wrong; what else is there may be our own request."""
DEPTH_MAX = 6


class LlmTimeout(ModelFailed):
    """The language model took too long."""

    code = "model-timeout"
    title = "The language model took too long"
    status = 504


class LlmRefused(ModelFailed):
    """The language model refused the request."""

    code = "model-refused"
    title = "The language model refused the request"
    retryable = False


class LlmFiltered(LlmRefused):
    """The language model's content filter stopped the answer."""

    code = "model-filtered"
    title = "Stopped by the model's content filter"


class LlmMisplaced(LlmRefused):
    """There is no language model at REFDESK_LLM_URL."""

    code = "model-not-there"
    title = "There is no language model at the address that is set"


class LlmKeyRefused(LlmRefused):
    """The language model's server refuses the key. Mend REFDESK_LLM_API_KEY."""

    code = "model-key-refused"
    title = "The language model's server refuses the key"


class LlmUnknown(LlmRefused):
    """The language model's server does not have the model in REFDESK_LLM_MODEL."""

    code = "model-unknown"
    title = "The language model's server does not have that model"


class LlmOnlyThought(ModelFailed):
    """The language model thought, and then gave no answer."""

    code = "model-only-thought"
    title = "The language model thought and gave no answer"


def words_of(body: bytes | str) -> str:
    """What a server says is wrong, in its own words, on one line, without characters that a terminal obeys."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body if isinstance(body, str) else body.decode(errors="replace")
    else:
        text = ": ".join(dict.fromkeys(_texts(said)))
    return " ".join(clean(text[: 4 * WORDS_CHARACTERS_MAX]).split())[:WORDS_CHARACTERS_MAX]


def _texts(said: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif depth < DEPTH_MAX:
        inner = [said[key] for key in _SAYING if key in said] if isinstance(said, dict) else said
        for one in inner if isinstance(inner, list) else ():
            yield from _texts(one, depth + 1)
