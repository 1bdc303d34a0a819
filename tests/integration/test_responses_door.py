"""OpenAI's newer format, `/v1/responses`, with OpenAI's own Python client; and LangChain's clients of either."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import SecretStr
from tests.support.desk import LEAVE, AnswerDesk, Here, own_desk
from tests.support.patience import within
from tests.support.scripted_llm import ANSWER, say

from refdesk.app.embedded.stack import StackUrls

QUESTION = "How many days of paid leave do employees have?"
LIST = "\n\nSources:\n[1] Leave"


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=8) as desk:
        desk.ids = {"leave": await desk.add("Leave", LEAVE, tags=["hr"])}
        yield desk


@pytest.fixture
async def client(here: Here) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{here.url}/v1", api_key="asker", max_retries=0) as client:
        yield client


FRESH: dict[str, Any] = {"model": "refdesk", "extra_body": {"refdesk": {"cache": "bypass"}}}


async def test_an_answer_is_a_response(client: AsyncOpenAI, desk: AnswerDesk) -> None:
    response = await client.responses.create(input=QUESTION, instructions="Be short.", **FRESH)
    assert (response.status, response.model, response.instructions) == ("completed", "refdesk", "Be short.")
    assert response.output_text == ANSWER + LIST
    [message] = response.output
    assert message.type == "message"
    [text] = message.content
    assert text.type == "output_text"
    [cited] = text.annotations
    assert cited.type == "url_citation"
    assert text.text[cited.start_index : cited.end_index] == "[1]"
    assert cited.url.endswith(f"/#document/{desk.ids['leave']}/0")
    assert response.usage is not None and response.usage.total_tokens == 109
    assert (response.model_extra or {})["refdesk"]["finish_reason"] == "stop"
    assert "Be short." in desk.llm.calls[-1].body["messages"][0]["content"]


async def test_its_stream_builds_the_same_response(client: AsyncOpenAI) -> None:
    """The client puts its events together itself, and finds nothing missing."""
    async with client.responses.stream(input=QUESTION, **FRESH) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-5:] == [
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    numbers = [event.sequence_number for event in events]
    assert numbers == [*range(len(events))]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text == ANSWER + LIST
    assert len(deltas) == 10


async def test_what_was_said_before_comes_as_input(client: AsyncOpenAI, desk: AnswerDesk) -> None:
    """An output of before can be sent back as it came."""
    first = await client.responses.create(input=QUESTION, **FRESH)
    history: list[Any] = [
        {"role": "user", "content": QUESTION},
        *(item.model_dump() for item in first.output),
        {"role": "user", "content": [{"type": "input_text", "text": "When do they expire?"}]},
    ]
    await client.responses.create(input=history, **FRESH)
    said = desk.llm.calls[-1].body["messages"]
    assert [message["role"] for message in said] == ["system", "user", "assistant", "user"]
    assert said[2]["content"] == "Thirty days of leave are due each year."


async def test_an_answer_that_was_cut_is_incomplete(client: AsyncOpenAI) -> None:
    response = await client.responses.create(input=QUESTION, max_output_tokens=3, **FRESH)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None and response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"input": []}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": "a\0b"}, "input"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
async def test_what_is_not_done_is_refused_by_name(client: AsyncOpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/responses", body={"model": "refdesk", "input": QUESTION, **fields}, cast_to=object)
    assert caught.value.param == param


async def test_what_the_client_may_send_besides_changes_nothing(client: AsyncOpenAI) -> None:
    response = await client.responses.create(
        input=QUESTION,
        store=True,
        temperature=1,
        truncation="auto",
        text={"verbosity": "low"},
        reasoning={"effort": "low"},
        include=["reasoning.encrypted_content"],
        **FRESH,
    )
    assert response.output_text == ANSWER + LIST


async def test_a_model_that_fails_midway_is_an_error_of_the_stream(client: AsyncOpenAI, desk: AnswerDesk) -> None:
    desk.llm.default = say(ending="cut", after=3)
    stream = await client.responses.create(input=QUESTION, stream=True, **FRESH)
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "model-failed"


async def test_whoever_leaves_stops_the_model(client: AsyncOpenAI, desk: AnswerDesk) -> None:
    desk.llm.default = say(gate=asyncio.Event(), gate_at=3)
    stream = await client.responses.create(input=QUESTION, stream=True, **FRESH)
    async for event in stream:
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    call = await desk.llm.called()
    async with within(20):
        await call.closed.wait()
    assert not call.completed


@pytest.fixture
async def langchain(here: Here) -> AsyncIterator[dict[str, Any]]:
    """What LangChain's clients are made with. Its own connections it would leave open."""
    async with DefaultAsyncHttpxClient() as http:
        yield {
            "base_url": f"{here.url}/v1",
            "api_key": SecretStr("asker"),
            "model": "refdesk",
            "max_retries": 0,
            "http_async_client": http,
        }


@pytest.mark.parametrize("responses", [False, True], ids=["chat completions", "responses"])
async def test_langchain_asks_by_either_format(langchain: dict[str, Any], desk: AnswerDesk, responses: bool) -> None:
    """Whole and streamed, with a history and a system message."""
    model = ChatOpenAI(**langchain, use_responses_api=responses, temperature=0.3, max_completion_tokens=200)
    wish = f"Be short. (responses: {responses})"
    messages = [SystemMessage(wish), HumanMessage("Hello"), AIMessage("Hello!"), HumanMessage(QUESTION)]
    whole = await model.ainvoke(messages)
    assert whole.text == ANSWER + LIST
    assert whole.usage_metadata is not None and whole.usage_metadata["total_tokens"] == 109
    streamed = [chunk async for chunk in model.astream(messages)]
    assert "".join(chunk.text for chunk in streamed) == ANSWER + LIST
    assert len(streamed) > 5
    assert wish in desk.llm.calls[-1].body["messages"][0]["content"]


async def test_langchain_embeds_documents_and_questions(langchain: dict[str, Any], desk: AnswerDesk) -> None:
    embeddings = OpenAIEmbeddings(**langchain, check_embedding_ctx_length=False)
    texts = ["Leave", "Lunch"]
    own = np.asarray(await desk.embedder.embed(texts))
    assert np.allclose(await embeddings.aembed_documents(texts), own, atol=1e-6)
    assert np.allclose(await embeddings.aembed_query("Leave"), own[0], atol=1e-6)
