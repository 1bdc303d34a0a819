"""What servers send, in their own spellings, comes to the same words, ending and usage, however it is cut."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.support.model_server import ANSWER, DONE, WORDS, chunk, event, spoken

from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import ModelFailed
from refdesk.outside.llm.clocks import Deadline
from refdesk.outside.llm.errors import LlmFiltered, LlmOnlyThought, words_of
from refdesk.outside.llm.stream import Stream, Told, require_answer
from refdesk.settings.models import Clocks

PLAIN = b"".join(spoken())


async def heard(
    sent: bytes, *, step: int = 1 << 20, whole: bool = False, thinking_tokens_max: int = 50
) -> tuple[str, Told]:
    """The words and what was told; the reply is over when its bytes are."""
    said: list[str] = []
    told = Told()

    def on_texts(texts: Any) -> bool:
        said.extend(texts)
        return True

    deadline = Deadline(Clocks())
    stream = Stream(on_texts, told, deadline, is_whole=whole, thinking_tokens_max=thinking_tokens_max)
    for at in range(0, len(sent), step):
        if not stream.on_bytes(sent[at : at + step]):
            break
    stream.end()
    deadline._stop_timer()
    if not stream.over:
        raise ModelFailed("not over")
    require_answer(told, "".join(said))
    return "".join(said), told


def changed(**fields: Any) -> bytes:
    """The usual stream with these fields in every chunk."""
    return b"".join(event({**chunk(word), **fields}) for word in WORDS) + event(chunk(finish="stop")) + DONE


def with_usage(usage: Any) -> bytes:
    return PLAIN.removesuffix(DONE) + event({"choices": [], "usage": usage}) + DONE


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    "sent",
    [
        PLAIN,
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b"\r"),
        PLAIN.replace(b"data: ", b"data:"),
        PLAIN.replace(b"data: ", b": busy\nevent: message\nid: 3\nretry: 10\ndata:  "),
        PLAIN.replace(b"data: {", b"{").replace(b"data: ", b""),
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.removesuffix(b"\n\n"),
        PLAIN.removesuffix(DONE),
        event({**chunk(), "choices": None}) + event({**chunk(), "choices": [{"delta": None}]}) + PLAIN,
        changed(usage=None, error=None, id=17, model=None, created=1.5),
        changed(error={}),
        b"".join(event(chunk(word, finish="")) for word in WORDS) + event(chunk(finish="stop")) + DONE,
        b"".join(event(chunk(word, finish="null")) for word in WORDS) + DONE,
        b"".join(event(chunk([{"type": "text", "text": word}])) for word in WORDS) + event(chunk(finish="stop")),
        b"".join(event({"choices": [{"text": word}]}) for word in WORDS) + event(chunk(finish="stop")),
    ],
    ids=[
        "plain", "crlf", "cr", "no-space", "comments", "bare-json-lines", "byte-order-mark", "no-last-line-end", "no-done",
        "nulls", "odd-fields", "empty-error", "empty-finish", "finish-null", "parts", "texts",
    ],
)  # fmt: skip
async def test_one_answer_in_every_spelling(sent: bytes, step: int) -> None:
    """The same words and the same end."""
    text, told = await heard(sent, step=step)
    assert (text, told.finish_reason, told.thought_tokens) == (ANSWER, "stop", 0)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 11.0, "completion_tokens": 7}, Usage(11, 7)),
        ({"prompt_tokens": "11", "completion_tokens": "7", "total_tokens": None}, Usage(11, 7)),
        ({"input_tokens": 11, "output_tokens": 7}, Usage(11, 7)),
        ({"prompt_tokens": -1, "completion_tokens": 10**40}, Usage(0, (1 << 63) - 1)),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": [], "completion_tokens": True}, None),
        ({}, None),
        (None, None),
        ("none", None),
    ],
)
async def test_usage_is_read_where_there_are_numbers(usage: Any, read: Usage | None) -> None:
    """Anything else is no usage, and harms no answer."""
    text, told = await heard(with_usage(usage))
    assert (text, told.usage) == (ANSWER, read)


@pytest.mark.parametrize(
    ("reason", "ends_as"),
    [
        *(
            (reason, "stop")
            for reason in ("STOP", "end_turn", "COMPLETE", "completed", "eos_token", "tool_calls", "stop ")
        ),
        *((reason, "length") for reason in ("length", "MAX_TOKENS", "max_tokens", "model_length")),
    ],
)
async def test_a_finish_in_every_spelling(reason: str, ends_as: str) -> None:
    """Complete, or cut at the limit."""
    assert (await heard(b"".join(spoken(finish=reason))))[1].finish_reason == ends_as


@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource", "something_else"])
async def test_an_unknown_finish_is_named(reason: str) -> None:
    """It may mean that the answer is not complete."""
    with pytest.raises(ModelFailed, match=reason):
        await heard(b"".join(spoken(finish=reason)))


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "RECITATION", "sensitive"])
async def test_a_filter_in_every_spelling(reason: str) -> None:
    """A refusal."""
    with pytest.raises(LlmFiltered):
        await heard(b"".join(spoken(finish=reason)))


def test_bytes_that_are_not_utf8_are_shown_as_unreadable() -> None:
    """One bad character is no reason to lose an answer."""
    sent = event(chunk("Open at seven XY. [1]")).replace(b"XY", b"\xf0\x9f") + event(chunk(finish="stop"))
    assert asyncio.run(heard(sent))[0] == "Open at seven \N{REPLACEMENT CHARACTER}. [1]"


async def test_halves_of_a_character_are_put_together() -> None:
    """Across chunks; a half alone is shown as unreadable."""
    halves = [b'{"choices":[{"delta":{"content":"a \\ud83d"}}]}', b'{"choices":[{"delta":{"content":"\\ude00 b"}}]}']
    sent = b"".join(b"data: " + half + b"\n\n" for half in halves) + event(chunk(finish="stop"))
    assert (await heard(sent))[0] == "a \N{GRINNING FACE} b"
    alone = halves[0].replace(b'"}}]', b' c"}}]')
    assert (await heard(b"data: " + alone + b"\n\n" + DONE))[0] == "a \N{REPLACEMENT CHARACTER} c"


@pytest.mark.parametrize("finish", ["stop", "length", None, "STOP"])
async def test_one_json_object_is_an_answer_too(finish: str | None) -> None:
    """From a server that does not stream, however its body is laid out and cut."""
    message = {"role": "assistant", "content": f"<think>Seven?</think>\n{ANSWER}", "reasoning_content": None}
    reply: Any = {
        "choices": [{"message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    for body in (msgspec.json.encode(reply), msgspec.json.format(msgspec.json.encode(reply))):
        text, told = await heard(body, step=5, whole=True)
        assert (text, told.usage) == (ANSWER, Usage(3, 4))
        assert told.finish_reason == ("length" if finish == "length" else "stop")
        assert told.thought_tokens == 2
    reply["choices"][0]["message"] = {"content": ANSWER, "reasoning_content": "Seven or eight?"}
    text, told = await heard(msgspec.json.encode(reply), whole=True)
    assert (text, told.thought_tokens) == (ANSWER, 4)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            b'event: error\ndata: {"error":{"message":"CUDA out of memory","type":"server_error"}}\n\n',
            "CUDA out of memory",
        ),
        (b'data: {"error":"model is not loaded"}\n\n', "not loaded"),
        (b'data: {"object":"error","message":"too long","code":400}\n\n', "too long"),
        (b"data: {broken\n\n", "not an OpenAI chunk"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "not an OpenAI chunk"),
        (b"data: [1]\n\n", "not an OpenAI chunk"),
        (event(chunk(finish="stop")), "without a word"),
        (event(chunk("Thirty")), "not over"),
        (b"", "not over"),
        (b"data: " + b"x" * (2 << 20), "without an end"),
    ],
)
async def test_what_is_no_answer_is_one_clear_failure(sent: bytes, words: str) -> None:
    """In the server's own words where it has some."""
    with pytest.raises(ModelFailed, match=words) as failed:
        await heard(sent)
    assert len(failed.value.message) < 500


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"<html>", b'{"choices":[]}', b'{"error":"busy"}'])
async def test_a_json_body_without_an_answer_is_a_failure(body: bytes) -> None:
    """Never "Internal error"."""
    with pytest.raises(ModelFailed):
        await heard(body, whole=True)


THOUGHTS = [
    [chunk("<th"), chunk("ink>Hm, pas"), chunk("sage [2]?</thi"), chunk("nk>")],
    [chunk(None, reasoning_content=f"step {n} ") for n in range(3)],
    [chunk("", reasoning=f"step {n} ", reasoning_content=f"step {n} ") for n in range(3)],
    [chunk(None, thinking=f"step {n} ") for n in range(3)],
    [chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "step "}]}]) for _ in range(3)],
]


@pytest.mark.parametrize("thoughts", THOUGHTS, ids=["tags", "reasoning-content", "both-fields", "thinking", "parts"])
async def test_thoughts_are_hidden_counted_and_bounded(thoughts: list[Any]) -> None:
    """Wherever the server puts them."""
    sent = b"".join(map(event, thoughts))
    text, told = await heard(sent + PLAIN)
    assert text == ANSWER
    assert 3 <= told.thought_tokens <= 6
    with pytest.raises(LlmOnlyThought, match="REFDESK_LLM_THINKING_TOKENS_MAX"):
        await heard(sent + PLAIN, thinking_tokens_max=2)
    with pytest.raises(LlmOnlyThought, match="without an answer"):
        await heard(sent + event(chunk(finish="stop")))


async def test_what_was_thought_aloud_is_no_answer() -> None:
    """It has been shown by the time the mark comes: the answer ends with an error."""
    with pytest.raises(ModelFailed, match="ask again"):
        await heard(event(chunk("The user asks about a valve.\n</think>\n\n")) + PLAIN)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "No such model", "type": "invalid", "code": null}}', "No such model: invalid"),
        (b'{"error": "busy"}', "busy"),
        (b'{"detail": [{"loc": ["body", "x"], "msg": "Extra", "input": {"temperature": 1}}]}', "Extra: body: x"),
        (b"<h1>Not\n  Found</h1>", "<h1>Not Found</h1>"),
        (b"\xff" * 4000, "\N{REPLACEMENT CHARACTER}" * 300),
        (b"", ""),
    ],
)
def test_a_servers_words_are_found(body: bytes, words: str) -> None:
    """Without what it repeats of the request."""
    assert words_of(body) == words
