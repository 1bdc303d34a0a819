"""Forms of model servers that were written before the code that meets them, and run only when it was done.

Each is a server that people really have, or have had, in some spelling of its own. ``expects`` is ``""`` for a whole answer, or
words that the sentence must hold which says why there is none.
"""

import base64
import gzip
import itertools
from dataclasses import dataclass, field
from typing import Any

from tests.support.model_server import (
    ANSWER,
    DONE,
    WORDS,
    Form,
    Reply,
    Request,
    as_json,
    chunk,
    event,
    refusal,
    spoken,
)


@dataclass(frozen=True)
class Case:
    name: str
    form: Form
    expects: str = ""
    url: str = "http://127.0.0.1:{port}/v1"
    settings: dict[str, Any] = field(default_factory=dict)


def characters(text: str) -> list[bytes]:
    return spoken(list(text))


def thinks_first(request: Request) -> Reply:
    """Its limit counts what it thinks: with a small one, no word is left for the answer."""
    limit = request.body.get("max_tokens", 10_000)
    thought = [chunk("", reasoning=f"step {n} ") for n in range(600)]
    said = [chunk(word) for word in WORDS]
    pieces = [*thought, *said][:limit]
    finish = "stop" if limit >= len(thought) + len(said) else "length"
    return Reply([*map(event, pieces), event(chunk(finish=finish)), DONE])


def never_stops_thinking(request: Request) -> Reply:
    words = (event(chunk("<think>" if n == 0 else " hm")) for n in itertools.count())
    return Reply(words)


def forbids_extras(request: Request) -> Reply:
    for name in ("max_tokens", "temperature", "stream_options"):
        if name in request.body:
            wrong = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
            return as_json({"detail": [{**wrong, "input": request.body}]}, 422)
    return Reply(spoken())


def template_without_system(request: Request) -> Reply:
    if request.body["messages"][0]["role"] == "system":
        return as_json({"error": "Jinja Exception: System role not supported at line 1"}, 500)
    return Reply(spoken())


def without_any_limit(request: Request) -> Reply:
    for name in ("max_tokens", "max_completion_tokens"):
        if name in request.body:
            return refusal(f"Unrecognized request argument supplied: {name}")
    return Reply(spoken())


def only_whole(request: Request) -> Reply:
    if request.body.get("stream"):
        return refusal("Streaming is not supported by this deployment.")
    message = {"role": "assistant", "content": ANSWER}
    return as_json({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": None})


def with_basic(request: Request) -> Reply:
    wanted = "Basic " + base64.b64encode(b"reader:p@ss/word").decode()
    return Reply(spoken()) if request.headers.get("authorization") == wanted else refusal("Who are you?", 401)


def deployment(request: Request) -> Reply:
    if request.target != "/openai/deployments/leave/chat/completions?api-version=2024-10-21":
        return refusal("Resource not found", 404)
    return Reply(spoken()) if request.headers.get("api-key") == "key" else refusal("Access denied", 401)


def capped(request: Request) -> Reply:
    sent = request.body.get("max_tokens", 0)
    if sent > 256:
        return refusal(f"max_tokens is too large: {sent}. This model supports at most 256 completion tokens.")
    return Reply(spoken())


def on_prefix(prefix: str) -> Form:
    def answer(request: Request) -> Reply:
        return (
            Reply(spoken()) if request.path == f"{prefix}/chat/completions" else as_json({"detail": "Not Found"}, 404)
        )

    return answer


def only_one(*pieces: bytes, **fields: Any) -> Form:
    return lambda _: Reply(list(pieces), **fields)


HTML = {"content-type": "text/html"}
USAGE = {"choices": [], "usage": {"input_tokens": "12", "output_tokens": "9"}}
TEXTS = [event({"choices": [{"index": 0, "text": word, "finish_reason": None}]}) for word in WORDS]
HALVES = (
    b'data: {"choices":[{"delta":{"content":"Thirty days of leave are due each year \\ud83d"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"\\ude00. [1]"}}]}\n\n',
)
NOT_THERE = "model 'scripted' not found, try pulling it first"

KEPT = [
    Case("thinking-by-characters", only_one(*characters("<thinking>Passage [2]?</thinking>\n\n" + ANSWER))),
    Case("bracketed-think", only_one(*spoken(["[THINK]Is it [2]?", "[/THINK]", *WORDS]))),
    Case("thinks-within-its-limit", thinks_first, settings={"output_tokens_default": 60}),
    Case("never-stops-thinking", never_stops_thinking, "REFDESK_LLM_THINKING_TOKENS_MAX"),
    Case("forbids-extras", forbids_extras),
    Case("template-without-system", template_without_system),
    Case("without-any-limit", without_any_limit),
    Case("only-whole", only_whole),
    Case("capped", capped),
    Case("finish-eos-token", only_one(*spoken(finish="EOS_TOKEN"))),
    Case("finish-object", only_one(*spoken(finish={"type": "stop"}))),
    Case("no-last-line-end", only_one(*spoken()[:-2], event(chunk(finish="stop")), b"data: [DONE]")),
    Case("bare-carriage-returns", only_one(*(piece.replace(b"\n", b"\r") for piece in spoken()))),
    Case("byte-order-mark", only_one(b"\xef\xbb\xbf" + b"retry: 1000\nevent: message\nid: 1\n" + b"".join(spoken()))),
    Case("halves-of-a-character", only_one(*HALVES, event(chunk(finish="stop")), DONE)),
    Case("texts-without-deltas", only_one(*TEXTS, event(chunk(finish="stop")), DONE)),
    Case("usage-in-words", only_one(*spoken()[:-1], event(USAGE), DONE)),
    Case("slashes", on_prefix("/v1"), url="http://127.0.0.1:{port}/v1//"),
    Case("prefix-without-version", on_prefix("/gateway/v1"), url="http://127.0.0.1:{port}/gateway/"),
    Case("basic", with_basic, url="http://reader:p%40ss%2Fword@127.0.0.1:{port}/v1"),
    Case(
        "deployment",
        deployment,
        url="http://127.0.0.1:{port}/openai/deployments/leave/?api-version=2024-10-21",
        settings={"llm_api_key": "key"},
    ),
    Case("not-pulled", lambda _: refusal(NOT_THERE, 404), "try pulling it first"),
    Case("an-error-that-is-well", lambda _: as_json({"error": "model is not loaded"}), "model is not loaded"),
    Case("a-way-elsewhere", only_one(status=302, headers={"location": "https://login.example/"}), "login.example"),
    Case("nothing", only_one(), "ended"),
    Case("compressed", only_one(gzip.compress(b"".join(spoken())), headers={"content-encoding": "gzip"}), "gzip"),
    Case("a-page", only_one(b"<!doctype html><title>Sign in</title>", headers=HTML), "page"),
]
