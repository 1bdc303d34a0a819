"""A chat completion's request as a question: the last message asks, those before are its history, system messages wish."""

from itertools import groupby, pairwise
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from refdesk.answering.brought import Brought
from refdesk.answering.conversations.turns import Turn
from refdesk.contracts.answers import Filters, Question
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.hidden_characters import clean
from refdesk.contracts.texts import NUMBER_MAX, Text
from refdesk.doors.citations import without_list
from refdesk.doors.openai.requests import check_model, refuse_given, refused, without_nul

STYLE_ROLES = ("system", "developer")
TEXT_PARTS = ("text", "refusal")
NO_TOOLS = (
    "This desk calls no tools: it answers from the documents. Leave {} away; agents find the desk's own tools at /mcp."
)
REFUSED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("n", (1,), "This desk gives one answer to a question: n is 1."),
    ("tools", ([],), NO_TOOLS.format("tools")),
    ("functions", ([],), NO_TOOLS.format("functions")),
    ("tool_choice", ("none", "auto"), NO_TOOLS.format("tool_choice")),
    ("function_call", ("none", "auto"), NO_TOOLS.format("function_call")),
    ("response_format", ({"type": "text"},), "Answers are text with citations: response_format is {'type': 'text'}."),
    ("stop", ([], ""), "Answers end where they end: stop sequences are not taken."),
    ("logprobs", (False,), "This desk has no log probabilities. Leave logprobs away."),
    ("top_logprobs", (0,), "This desk has no log probabilities. Leave top_logprobs away."),
    ("modalities", (["text"],), "Answers are text: modalities is ['text']."),
    ("audio", (), "Answers are text. Leave audio away."),
    ("web_search_options", (), "Answers stand on the organisation's documents alone. Leave web_search_options away."),
)
"""What is not done, the values that ask for nothing, and what to do."""

Tokens = Annotated[int, Meta(ge=1, le=NUMBER_MAX)]


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Part(msgspec.Struct, frozen=True):
    type: Text
    text: Text | None = None
    refusal: Text | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """Fields beside these, such as ``name`` or the ``annotations`` of an answer that is sent back, say nothing to us."""

    role: Role
    content: str | list[Part] | None = None
    tool_calls: Any = None
    function_call: Any = None


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class DeskFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a question of ours can say and OpenAI's cannot; Python clients send it as ``extra_body={"refdesk": …}``."""

    filters: Filters = Filters()
    after: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()
    wait_seconds: Annotated[float, Meta(ge=0)] | None = None
    cache: Literal["use", "bypass"] = "use"


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last lines are taken and change nothing: who writes, and how, is this desk's own."""

    model: Text
    messages: list[ChatMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    refdesk: DeskFields = DeskFields()

    n: int | None = None
    tools: Any = None
    functions: Any = None
    tool_choice: Any = None
    function_call: Any = None
    response_format: Any = None
    stop: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Any = None
    seed: int | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Any = None
    verbosity: Any = None
    prediction: Any = None
    user: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    metadata: Any = None
    service_tier: Any = None
    store: Any = None
    moderation: Any = None
    prompt_cache_options: Any = None
    top_k: Any = None
    min_p: Any = None
    repetition_penalty: Any = None


class ChatLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What of a chat is read: so many of its newest turns, so many characters of each message; a style has its own bound."""

    turns_max: int
    characters_max: int
    style_characters_max: int
    output_tokens_max: int


class Asked(msgspec.Struct, frozen=True):
    question: Question
    brought: Brought


def question_of(chat: ChatRequest, limits: ChatLimits) -> Asked:
    """Raises NotFound for another model, and InvalidRequest naming the parameter that is not taken."""
    check_model(chat.model)
    refuse_given(chat, REFUSED)
    said = [(message.role, _text(message, f"messages[{n}]")) for n, message in enumerate(chat.messages)]
    style = "\n\n".join(text for role, text in said if role in STYLE_ROLES and text)
    return asked_in(
        [(role, text) for role, text in said if role not in STYLE_ROLES],
        style=style,
        wanted_tokens=chat.max_completion_tokens or chat.max_tokens,
        fields=chat.refdesk,
        limits=limits,
        field="messages",
    )


def asked_in(
    said: list[tuple[str, str]],
    *,
    style: str,
    wanted_tokens: int | None,
    fields: DeskFields,
    limits: ChatLimits,
    field: str,
) -> Asked:
    """The question at the end of a chat, with what it brings. ``field`` is the parameter that the chat came in."""
    spoken = [(role, "\n\n".join(text for _, text in group)) for role, group in groupby(said, key=lambda one: one[0])]
    if not spoken or spoken[-1][0] != "user" or not spoken[-1][1].strip():
        raise InvalidRequest(f"The last of the {field} asks: give it the role 'user' and a text.", field=field)
    if len(style) > limits.style_characters_max:
        raise InvalidRequest(
            f"System and developer messages have {len(style)} characters; the limit is {limits.style_characters_max} "
            "(REFDESK_STYLE_CHARACTERS_MAX). They are read as wishes of style alone: shorten them.",
            field=field,
        )
    question = Question(
        question=spoken[-1][1],
        max_output_tokens=None if wanted_tokens is None else min(wanted_tokens, limits.output_tokens_max),
        filters=fields.filters,
        after=fields.after,
        wait_seconds=fields.wait_seconds,
        cache=fields.cache,
    )
    return Asked(question, Brought(turns=_turns(spoken[:-1], limits), style=clean(style).strip()))


def _turns(spoken: list[tuple[str, str]], limits: ChatLimits) -> tuple[Turn, ...]:
    """The newest questions with their answers; an answer that nobody asked for, such as a greeting, is none."""
    turns = [
        Turn(clean(asked[: limits.characters_max]), clean(without_list(answer)[: limits.characters_max]))
        for (first, asked), (second, answer) in pairwise(spoken)
        if first == "user" and second == "assistant"
    ]
    return tuple(turns[-limits.turns_max :]) if limits.turns_max else ()


def _text(message: ChatMessage, field: str) -> str:
    if message.role in ("tool", "function") or message.tool_calls or message.function_call:
        raise refused(field, "This desk calls no tools, so no message can hold a call or its result.")
    return text_in(message.content, field, kinds=TEXT_PARTS)


def text_in(content: str | list[Part] | None, field: str, *, kinds: tuple[str, ...]) -> str:
    """The text of a content; raises InvalidRequest for a part of another kind."""
    if isinstance(content, str) or content is None:
        return without_nul(content or "", f"{field}.content")
    return "\n".join(_part(part, f"{field}.content[{n}]", kinds=kinds) for n, part in enumerate(content))


def _part(part: Part, field: str, *, kinds: tuple[str, ...]) -> str:
    if part.type not in kinds:
        raise refused(f"{field}.type", f"Questions are text: a part of type {part.type[:40]!r} is not read.")
    return part.text or part.refusal or ""
