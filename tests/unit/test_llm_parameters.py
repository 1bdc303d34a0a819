"""What a request holds, and what is left of it when a server refuses a part by name."""

import pytest

from refdesk.outside.llm.parameters import Message, Parameters

MESSAGES = [Message("system", "Be short."), Message("user", "A?"), Message("assistant", "B."), Message("user", "C?")]


def keys(parameters: Parameters) -> set[str]:
    return parameters.body("m", MESSAGES, output_tokens_max=512, temperature=0.0).keys() - {
        "model",
        "messages",
        "stream",
    }


ALL = {"max_tokens", "temperature", "stream_options"}
OTHER_LIMIT = {"max_completion_tokens", "temperature", "stream_options"}


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", OTHER_LIMIT),
        ("max_tokens: Extra inputs are not permitted", OTHER_LIMIT),
        (
            "Unsupported value: 'temperature' does not support 0. Only the default (1) is supported.",
            ALL - {"temperature"},
        ),
        ("`temperature` must be strictly positive", ALL - {"temperature"}),
        ("body: stream_options: Extra inputs are not permitted", ALL - {"stream_options"}),
        ("unknown field include_usage", ALL - {"stream_options"}),
        ("Unrecognized request arguments: temperature, stream_options", {"max_tokens"}),
    ],
)
def test_what_is_named_is_left_out(words: str, left: set[str]) -> None:
    """Or sent by its other name."""
    changed = Parameters().without(words, status=400, sent=512)
    assert changed is not None
    assert keys(changed) == left


def test_a_limit_that_is_refused_by_both_names_is_not_sent() -> None:
    """Then only we hold it."""
    changed = Parameters()
    for name in ("max_tokens", "max_completion_tokens"):
        after = changed.without(f"unknown parameter {name}", status=422, sent=512)
        assert after is not None
        changed = after
    assert keys(changed) == {"temperature", "stream_options"}


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens is too large: 512. This model supports at most 256 completion tokens, whereas you provided 512.",
        "max_tokens: 512 > 256, which is the maximum allowed number of output tokens for model-4.5-20250101",
        "Invalid argument max_tokens: must not exceed 256, got 512",
    ],
)
def test_a_limit_that_is_too_high_is_lowered(words: str) -> None:
    """To what the words say."""
    changed = Parameters().without(words, status=400, sent=512)
    assert changed is not None
    body = changed.body("m", MESSAGES, output_tokens_max=512, temperature=0.0)
    assert body["max_tokens"] == 256
    assert changed.body("m", MESSAGES, output_tokens_max=100, temperature=0.0)["max_tokens"] == 100


@pytest.mark.parametrize(
    "words",
    [
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "System role not supported",
        "role 'system' is not allowed",
        "Developer instruction is not enabled for this model",
    ],
)
def test_an_instruction_without_a_role_heads_the_first_question(words: str) -> None:
    """Then roles alternate."""
    changed = Parameters().without(words, status=500, sent=512)
    assert changed is not None
    messages = changed.body("m", MESSAGES, output_tokens_max=512, temperature=0.0)["messages"]
    assert [message.role for message in messages] == ["user", "assistant", "user"]
    assert messages[0].content == "Be short.\n\nA?"


def test_a_server_that_cannot_stream_is_asked_for_the_whole() -> None:
    """Without what belongs to streams."""
    changed = Parameters().without("Streaming is not supported", status=400, sent=512)
    assert changed is not None
    body = changed.body("m", MESSAGES, output_tokens_max=512, temperature=0.0)
    assert (body["stream"], "stream_options" in body) == (False, False)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("This model's maximum context length is 400 tokens. However, you requested 912 (max_tokens 512).", 400),
        ("Bad request", 400),
        ("temperature is not supported", 401),
        ("the stream ended", 500),
        ("", 400),
    ],
)
def test_other_refusals_change_nothing(words: str, status: int) -> None:
    """The request is refused as it is."""
    assert Parameters().without(words, status=status, sent=512) is None
