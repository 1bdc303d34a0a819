"""What a model's server has shown of itself is kept: no question pays twice for finding it out."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.model_forms_kept import on_prefix, without_any_limit
from tests.support.model_server import ANSWER, DONE, Form, ModelServer, Reply, Request, chunk, event, refusal, spoken

from refdesk.answering.writing.generating import Generating
from refdesk.answering.writing.writers import Assignment
from refdesk.contracts.answers import Source, Usage
from refdesk.contracts.errors import ConfigurationError, ModelFailed
from refdesk.outside.http_client import open_http_client
from refdesk.outside.llm.addresses import model_address
from refdesk.outside.llm.client import Llm
from refdesk.outside.llm.errors import LlmKeyRefused, LlmMisplaced, LlmOnlyThought, LlmRefused, LlmTimeout, LlmUnknown
from refdesk.outside.llm.parameters import Message
from refdesk.outside.llm.server import ModelServer as Server
from refdesk.outside.llm.stream import Told, require_answer
from refdesk.settings.models import Clocks

SOURCE = Source(n=1, document_id="d", version=1, title="Leave", passage="Thirty days.", ordinal=0, stale=False)


@asynccontextmanager
async def model(
    form: Form, *, path: str = "/v1", key: str | None = None, **fields: Any
) -> AsyncIterator[tuple[Llm, ModelServer]]:
    async with ModelServer(form).serving() as server:
        address = model_address(f"http://127.0.0.1:{server.port}{path}")
        async with open_http_client(address.root) as client, asyncio.timeout(20):
            yield Llm(Server(client, address, api_key=key), model="m", **fields), server


async def ask(llm: Llm, *, output_tokens_max: int = 50, spare_tokens: int = 0) -> str:
    said: list[str] = []
    told = Told()

    def on_texts(texts: Any) -> bool:
        said.extend(texts)
        return True

    messages = [Message("system", "Be short."), Message("user", "How many days?")]
    await llm.stream(
        messages, output_tokens_max=output_tokens_max, spare_tokens=spare_tokens, on_texts=on_texts, told=told
    )
    require_answer(told, "".join(said))
    return "".join(said)


async def test_what_was_refused_is_not_sent_again() -> None:
    """Each part is refused once."""
    async with model(without_any_limit) as (llm, server):
        for _ in range(3):
            assert await ask(llm) == ANSWER
        assert [{"max_tokens", "max_completion_tokens"} & call.body.keys() for call in server.calls] == [
            {"max_tokens"},
            {"max_completion_tokens"},
            *[set()] * 3,
        ]


async def test_what_did_not_help_is_not_kept() -> None:
    """A server that names whatever it is sent loses nothing for the next request."""

    def grumbling(request: Request) -> Reply:
        if "please" in request.headers:
            return Reply(spoken())
        return refusal(f"Unknown parameters: {', '.join(request.body)}")

    async with model(grumbling) as (llm, server):
        for _ in range(2):
            with pytest.raises(LlmRefused):
                await ask(llm)
        firsts = [call.body.keys() for call in server.calls if "max_tokens" in call.body]
        assert len(firsts) == 2
        assert "temperature" in firsts[1]


async def test_the_limit_holds_where_none_can_be_sent() -> None:
    """The text is cut, and the connection closed: the server stops."""
    written = 0

    def words() -> Iterator[bytes]:
        nonlocal written
        while True:
            written += 1
            yield event(chunk(" word"))

    class Page:
        usage = Usage()
        begun = False
        text = ""

        def say(self, text: str) -> None:
            self.text += text

    def endless(request: Request) -> Reply:
        refused = without_any_limit(request)
        return refused if refused.status != 200 else Reply(words())

    async with model(endless) as (llm, _):
        writer, page = Generating(llm, context_tokens_max=2000, passages_read=8), Page()
        task = Assignment(question="How many days?", sources=(SOURCE,), output_tokens_max=20)
        with writer.chat(task) as chat:
            verdict = await writer.attempt(task, page, chat)
    assert (verdict.finish_reason, page.text) == ("length", "word" + " word" * 19)
    assert written < 2000


async def test_where_the_api_begins_is_found_once() -> None:
    """A missing page is one refusal, the first time."""
    async with model(on_prefix(""), path="") as (llm, server):
        for _ in range(2):
            assert await ask(llm) == ANSWER
        assert [call.path for call in server.calls] == [
            "/v1/chat/completions",
            "/chat/completions",
            "/chat/completions",
        ]


async def test_a_model_that_thinks_gets_room_for_it() -> None:
    """Once it has used up its limit with thinking; what it may think stays bounded."""

    def thinking(request: Request) -> Reply:
        room = request.body["max_tokens"]
        thought = [event(chunk(None, reasoning_content=" hm")) for _ in range(min(room, 100))]
        return Reply([*thought, *spoken()]) if room > 100 else Reply([*thought, event(chunk(finish="length")), DONE])

    async with model(thinking) as (llm, server):
        with pytest.raises(ModelFailed, match="more room"):
            await ask(llm, spare_tokens=400)
        assert await ask(llm, spare_tokens=400) == ANSWER
        assert [call.body["max_tokens"] for call in server.calls] == [50, 450]
    async with model(thinking, thinking_tokens_max=60) as (llm, server):
        for _ in range(2):
            with pytest.raises(LlmOnlyThought):
                await ask(llm, output_tokens_max=200, spare_tokens=400)
        assert [call.body["max_tokens"] for call in server.calls] == [200, 260]


async def test_a_thought_without_an_opening_mark_is_hidden_from_the_second_time_on() -> None:
    """And one that is not there after all costs no word."""
    texts = iter([f"They ask.\n</think>\n\n{ANSWER}", f"They ask.\n</think>\n\n{ANSWER}", ANSWER, ANSWER])
    async with model(lambda _: Reply(spoken([next(texts)]))) as (llm, _):
        with pytest.raises(ModelFailed, match="ask again"):
            await ask(llm)
        assert [await ask(llm) for _ in range(3)] == [ANSWER] * 3


async def test_a_cold_model_has_time_to_be_loaded_once() -> None:
    """As soon as it was heard, or that time was used up, the usual clock counts."""
    clocks = Clocks(first_token_s=0.2, cold_first_token_s=5.0)
    gate = asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + b"".join(spoken()))
        writer.close()

    server = await asyncio.start_server(waiting, "127.0.0.1", 0)
    address = model_address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server, open_http_client(address.root) as client, asyncio.timeout(20):
        llm = Llm(Server(client, address), model="m", clocks=clocks)
        asyncio.get_running_loop().call_later(3 * clocks.first_token_s, gate.set)
        assert await ask(llm) == ANSWER
        gate.clear()
        with pytest.raises(LlmTimeout, match=r"within 0\.2 s"):
            await ask(llm)
        other = Llm(Server(client, address), model="m", clocks=Clocks(first_token_s=0.2, cold_first_token_s=0.5))
        for seconds in ("0.5", "0.2"):
            with pytest.raises(LlmTimeout, match=f"within {seconds} s"):
                await ask(other)
        gate.set()


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (refusal("Incorrect key: right-key", 401), LlmKeyRefused, "REFDESK_LLM_API_KEY"),
        (refusal("The model `m` does not exist.", 404), LlmUnknown, "REFDESK_LLM_MODEL"),
        (refusal("Unknown request URL: POST /x. Models are at /v1/models", 404), LlmMisplaced, "REFDESK_LLM_URL"),
        (refusal("Method Not Allowed", 405), LlmMisplaced, "REFDESK_LLM_URL"),
        (Reply([], 308, {"location": "https://me@login.example/v1?token=abc"}), LlmMisplaced, "308"),
        (refusal("Who are you?", 407), LlmRefused, "HTTP_PROXY"),
        (refusal("maximum context length is 400 tokens", 400), LlmRefused, "REFDESK_LLM_CONTEXT_TOKENS_MAX"),
        (refusal("busy", 503), ModelFailed, "busy"),
    ],
)
async def test_a_refusal_says_what_to_mend(reply: Reply, kind: type[ModelFailed], words: str) -> None:
    """By its kind, in the server's words, without the key and whatever else is secret."""
    async with model(lambda _: reply, key="right-key") as (llm, _):
        with pytest.raises(ModelFailed, match=words) as refused:
            await ask(llm)
    assert type(refused.value) is kind
    assert not any(secret in refused.value.message for secret in ("right-key", "abc", "me@"))


async def test_a_call_carries_one_of_two_credentials() -> None:
    """Which one is for people to say."""
    address = model_address("http://reader:secret@127.0.0.1:1/v1")
    async with open_http_client(address.root) as client:
        with pytest.raises(ConfigurationError, match="REFDESK_LLM_API_KEY") as refused:
            Server(client, address, api_key="key")
    assert "secret" not in refused.value.message
