"""A request to ``/v1/responses`` as a question: the end of the input asks, what stands before it is the history."""

from typing import Any

import msgspec

from refdesk.contracts.texts import Text
from refdesk.doors.openai.chat_requests import (
    NO_TOOLS,
    STYLE_ROLES,
    Asked,
    ChatLimits,
    DeskFields,
    Part,
    Role,
    Tokens,
    asked_in,
    text_in,
)
from refdesk.doors.openai.requests import check_model, refuse_given, refused, without_nul

TEXT_PARTS = ("input_text", "output_text", "text", "refusal")
_NOT_KEPT = "Nothing is kept between two calls. Send the whole conversation as input."
REFUSED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("previous_response_id", (), _NOT_KEPT),
    ("conversation", (), _NOT_KEPT),
    ("background", (False,), "Answers are written while you wait. Leave background away."),
    ("prompt", (), "Prompts are this desk's own. Leave prompt away."),
    ("tools", ([],), NO_TOOLS.format("tools")),
    ("tool_choice", ("none", "auto"), NO_TOOLS.format("tool_choice")),
    ("top_logprobs", (0,), "This desk has no log probabilities. Leave top_logprobs away."),
)


class InputItem(msgspec.Struct, frozen=True):
    """A message. Fields beside these, such as ``id`` or ``status``, say nothing to us."""

    role: Role | None = None
    content: str | list[Part] | None = None
    type: Text = "message"


class ResponseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last lines are taken and change nothing: who writes, and how, is this desk's own."""

    model: Text
    input: str | list[InputItem]
    instructions: Text | None = None
    max_output_tokens: Tokens | None = None
    stream: bool | None = None
    refdesk: DeskFields = DeskFields()

    previous_response_id: Any = None
    conversation: Any = None
    background: Any = None
    prompt: Any = None
    tools: Any = None
    tool_choice: Any = None
    top_logprobs: Any = None
    text: Any = None

    access_programs: Any = None
    context_management: Any = None
    include: Any = None
    max_tool_calls: Any = None
    metadata: Any = None
    moderation: Any = None
    parallel_tool_calls: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    stream_options: Any = None
    temperature: Any = None
    top_p: Any = None
    truncation: Any = None
    user: Any = None


def question_in(wanted: ResponseRequest, limits: ChatLimits) -> Asked:
    """Raises NotFound for another model, and InvalidRequest naming the parameter that is not taken."""
    check_model(wanted.model)
    refuse_given(wanted, REFUSED)
    _check_format(wanted.text)
    said = _said(wanted.input)
    wishes = [wanted.instructions or "", *(text for role, text in said if role in STYLE_ROLES)]
    return asked_in(
        [(role, text) for role, text in said if role not in STYLE_ROLES],
        style="\n\n".join(filter(None, wishes)),
        wanted_tokens=wanted.max_output_tokens,
        fields=wanted.refdesk,
        limits=limits,
        field="input",
    )


def _check_format(text: Any) -> None:
    """``text`` may wish for brevity; it may not ask for another format."""
    wanted = text.get("format") if isinstance(text, dict) else None
    if wanted is not None and wanted != {"type": "text"}:
        raise refused("text.format", "Answers are text with citations: text.format is {'type': 'text'}.")


def _said(given: str | list[InputItem]) -> list[tuple[str, str]]:
    if isinstance(given, str):
        return [("user", without_nul(given, "input"))]
    return [(item.role or "", _text(item, f"input[{n}]")) for n, item in enumerate(given)]


def _text(item: InputItem, field: str) -> str:
    if item.type != "message" or item.role is None or item.role in ("tool", "function"):
        raise refused(field, "The input is a text, or a list of messages with a role; no other item is read.")
    return text_in(item.content, field, kinds=TEXT_PARTS)
