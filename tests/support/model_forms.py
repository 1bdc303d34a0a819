"""Forms of model servers as people have met them, each in a spelling of its own (`model_forms_kept` has others).

``expects`` is ``""`` for a whole answer, or words of the sentence that says at the start why there is none.
"""

from tests.support.model_forms_kept import Case, on_prefix, only_one
from tests.support.model_server import ANSWER, DONE, WORDS, Form, Reply, Request, as_json, chunk, event, refusal, spoken

REJECTED = {"type": "invalid_request_error", "code": "unsupported_parameter"}
USAGE = {"choices": [], "usage": {"prompt_tokens": 11.0, "completion_tokens": 7.0}}
NO_USAGE = {"choices": [], "usage": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}}


def refusing(name: str, message: str) -> Form:
    """Takes everything but this parameter."""
    return lambda request: refusal(message, param=name) if name in request.body else Reply(spoken())


def only_default_temperature(request: Request) -> Reply:
    if request.body.get("temperature", 1) != 1:
        return refusal("Unsupported value: 'temperature' does not support 0.0 with this model.")
    return Reply(spoken())


def alternating(request: Request) -> Reply:
    roles = [message["role"] for message in request.body["messages"]]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        return refusal("Conversation roles must alternate user/assistant/user/assistant/...")
    return Reply(spoken())


def with_key(request: Request) -> Reply:
    wrong = request.headers.get("authorization") != "Bearer right"
    return refusal("Incorrect API key provided: wrong-key.", 401) if wrong else Reply(spoken())


def whole(request: Request) -> Reply:
    message = {"role": "assistant", "content": f"<think>Leave?</think>{ANSWER}"}
    return as_json({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def versioned(request: Request) -> Reply:
    if request.target != "/v1/chat/completions?api-version=7":
        return refusal("Missing api-version", 404)
    return Reply(spoken())


REASONED = [event(chunk(None, role="assistant", reasoning_content=f"step {n} ")) for n in range(4)]
ODD = {"id": 17, "created": 1.5, "model": None, "error": None, "usage": None}
BROKEN = b'data: {"choices":[{"delta":{"content":"Thirty days of leave are due each year \xf0\x9f. [1]"}}]}\n\n'
HTML = "<!doctype html><title>Welcome</title>"

SEEN = [
    Case("plain", only_one(*spoken())),
    Case("think", only_one(*spoken(["<think>\n", "Passage [2] says eight.\n", "</think>\n\n", *WORDS]))),
    Case("think-in-pieces", only_one(*spoken(["<th", "ink>Hm, pas", "sage [2]?</thi", "nk>", *WORDS]))),
    Case("think-opened-by-the-template", only_one(*spoken(["They ask about leave.", "\n</think>\n\n", *WORDS]))),
    Case("reasoning-content", only_one(*REASONED, *spoken())),
    Case("max-completion-tokens", refusing("max_tokens", "Use 'max_completion_tokens' instead of 'max_tokens'.")),
    Case("only-default-temperature", only_default_temperature),
    Case("no-stream-options", refusing("stream_options", "Extra inputs are not permitted")),
    Case("alternating-roles", alternating),
    Case("finish-in-capitals", only_one(*spoken(finish="STOP"))),
    Case("no-finish", only_one(*spoken()[:-2], DONE)),
    Case("no-done", only_one(*spoken()[:-1])),
    Case("usage-in-floats", only_one(*spoken()[:-1], event(USAGE), DONE)),
    Case("usage-of-nulls", only_one(*spoken()[:-1], event(NO_USAGE), DONE)),
    Case("nulls", only_one(event({"choices": None}), event({"choices": [{"delta": None}]}), *spoken())),
    Case("odd-fields", only_one(*(event({**chunk(word), **ODD}) for word in WORDS), *spoken([])[:])),
    Case("parts", only_one(*spoken([[{"type": "text", "text": word}] for word in WORDS]))),  # type: ignore[misc]
    Case("whole", whole),
    Case("not-utf8", only_one(BROKEN, *spoken([]))),
    Case("carriage-returns", only_one(*(piece.replace(b"\n", b"\r\n") for piece in spoken()))),
    Case("comments", only_one(b": PROCESSING\n\n", *(piece.replace(b"data: ", b"data:") for piece in spoken()))),
    Case("without-version", on_prefix("/v1"), url="http://127.0.0.1:{port}"),
    Case("at-the-root", on_prefix(""), url="http://127.0.0.1:{port}/"),
    Case("whole-path", on_prefix("/v1"), url="http://127.0.0.1:{port}/v1/chat/completions"),
    Case("query", versioned, url="http://127.0.0.1:{port}/v1/?api-version=7"),
    Case("wrong-key", with_key, "REFDESK_LLM_API_KEY", settings={"llm_api_key": "wrong-key"}),
    Case("no-such-path", lambda _: as_json({"detail": "Not Found"}, 404), "REFDESK_LLM_URL"),
    Case("a-welcome", lambda _: Reply([HTML.encode()], 200, {"content-type": "text/html"}), "REFDESK_LLM_URL"),
    Case("out-of-memory", only_one(event({"error": {"message": "CUDA out of memory"}})), "CUDA out of memory"),
    Case("only-reasoning", only_one(*REASONED, event(chunk("", finish="stop")), DONE), "without an answer"),
]
