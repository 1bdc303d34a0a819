"""An answer is shown only while its reader may read what it stands on: finished, resumed, in a conversation, or running."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from tests.integration.documents_desk import running
from tests.support.desk import PATIENT, AnswerDesk, Client, Event, Here, events, own_desk, text_of, until
from tests.support.patience import within
from tests.support.scripted_llm import ANSWER, say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.documents.relay import Relay
from refdesk.outside.nats.broker import Broker

READER = Principal(id="harriet", groups=("hr",))
COLLEAGUE = Principal(id="henry", groups=("hr", "board"))
ADMINISTRATOR = Principal(id="ada", groups=("administrators",))
ENDS_S_MAX = 5.0
SECRET = "The umbrella fund holds thirty days of leave in reserve each year."
QUESTION = "How many days of leave does the umbrella fund hold?"


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    """With a relay: what becomes of documents is heard of."""
    async with (
        own_desk(servers, tmp_path_factory, valkey_number=8, **PATIENT) as desk,
        Broker.connect(servers.nats_url, name="test relay") as broker,
        running(Relay(desk.documents.outbox, broker=broker, database_url=desk.documents.database_url).run),
    ):
        yield desk


@pytest.fixture
async def document(desk: AnswerDesk) -> AsyncIterator[str]:
    """For the groups ``hr`` and ``board``; gone after the test."""
    desk.llm.reset()
    document_id = await desk.add("Umbrellas", SECRET, readers=("hr", "board"))
    yield document_id
    await desk.documents.call("DELETE", f"/{document_id}", by=ADMINISTRATOR)


async def delete(desk: AnswerDesk, document_id: str) -> None:
    assert (await desk.documents.call("DELETE", f"/{document_id}", by=ADMINISTRATOR)).status == 204


async def close_to_hr(desk: AnswerDesk, document_id: str) -> None:
    reply = await desk.documents.call("PUT", f"/{document_id}", by=ADMINISTRATOR, json={"readers": ["board"]})
    assert reply.status == 200


TAKE_AWAY = pytest.mark.parametrize("take_away", [delete, close_to_hr], ids=["deleted", "closed"])


async def refusal(client: Client, path: str) -> tuple[int, Any]:
    status, _, body = await client.json("GET", path)
    return status, body["type"]


@TAKE_AWAY
async def test_a_finished_answer_is_withdrawn_with_its_document(
    here: Here, desk: AnswerDesk, document: str, take_away: Any
) -> None:
    """As an object, as a stream, over a WebSocket; who may still read the document still reads the answer."""
    reader, colleague = here.client(READER), here.client(COLLEAGUE)
    answer_id = (await reader.ask(QUESTION))[0].data["answer_id"]
    theirs = (await colleague.ask(QUESTION))[0].data["answer_id"]
    assert (await reader.json("GET", f"/api/answers/{answer_id}"))[2]["sources"][0]["document_id"] == document
    await take_away(desk, document)
    assert await refusal(reader, f"/api/answers/{answer_id}") == (410, "answer-withdrawn")
    assert await refusal(reader, f"/api/answers/{answer_id}/events") == (410, "answer-withdrawn")
    async with here.session.ws_connect(f"{here.url}/api/answers/ws", headers=reader.headers) as websocket:
        await websocket.send_json({"type": "resume", "answer_id": answer_id})
        message = await websocket.receive_json(timeout=20)
    assert (message["event"], message["data"]["type"]) == ("error", "answer-withdrawn")
    status, _, _ = await colleague.json("GET", f"/api/answers/{theirs}")
    assert status == (410 if take_away is delete else 200)


@TAKE_AWAY
async def test_nothing_of_a_withdrawn_answer_reaches_the_model_in_a_follow_up(
    here: Here, desk: AnswerDesk, document: str, take_away: Any
) -> None:
    """The question before it does: it is the asker's own."""
    reader = here.client(READER)
    desk.llm.default = say("The umbrella fund holds thirty secret days. [1]")
    await reader.ask(QUESTION, conversation_id=take_away.__name__)
    await take_away(desk, document)
    desk.llm.reset()
    await desk.add("Lunch", "Lunch is served at noon.")
    await reader.ask("And what about lunch?", conversation_id=take_away.__name__)
    sent = str(desk.llm.calls[0].body["messages"])
    assert QUESTION in sent
    assert "secret" not in sent
    assert SECRET not in sent


async def ask_and_hold(stack: AsyncExitStack, client: Client) -> tuple[list[Event], asyncio.Task[None]]:
    """A stream that has begun to say something; what it has brought so far, and the task that reads it."""
    seen: list[Event] = []
    response = await stack.enter_async_context(client.stream(QUESTION))

    async def read() -> None:
        async for event in events(response):
            seen.append(event)  # noqa: PERF401 (looked at meanwhile)

    reading = asyncio.create_task(read())
    await until(lambda: text_of(seen))
    return seen, reading


@TAKE_AWAY
async def test_a_running_answer_ends_when_its_document_is_taken_away(
    here: Here, desk: AnswerDesk, document: str, take_away: Any
) -> None:
    """Within seconds, and the model with it."""
    gate = asyncio.Event()
    desk.llm.default = say(ANSWER, gate=gate, gate_at=3)
    async with AsyncExitStack() as stack:
        seen, reading = await ask_and_hold(stack, here.client(READER))
        await take_away(desk, document)
        async with within(ENDS_S_MAX):
            await reading
            await desk.llm.calls[0].closed.wait()
        gate.set()
    assert (seen[-1].name, seen[-1].data["type"], seen[-1].id) == ("error", "answer-withdrawn", 0)
    assert seen[-1].data["partial"]


@TAKE_AWAY
async def test_at_the_doors_of_other_clients_it_ends_too(
    here: Here, desk: AnswerDesk, document: str, take_away: Any
) -> None:
    """In OpenAI's words, and in those of a tool."""
    desk.llm.default = say(ANSWER, gate=asyncio.Event(), gate_at=3)
    client = here.client(READER)
    chat = {"model": "refdesk", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    call = {"name": "ask", "arguments": {"question": f"{QUESTION} Please tell."}}
    asks = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    accept = {"Accept": "application/json, text/event-stream"}
    async with (
        client.call("POST", "/v1/chat/completions", json=chat) as completion,
        within(20),
        asyncio.TaskGroup() as tasks,
    ):
        agent = tasks.create_task(said_at(client, "/mcp", json=asks, headers=accept))
        await desk.llm.called(2)
        async for line in completion.content:
            if b'"content":"Thirty' in line:
                break
        await take_away(desk, document)
        rest = await completion.read()
    assert msgspec.json.decode(rest.rpartition(b"data: ")[2])["error"]["code"] == "answer-withdrawn"
    assert '"isError":true' in agent.result() and "answer-withdrawn" in agent.result()


async def said_at(client: Client, path: str, **request: Any) -> str:
    async with client.call("POST", path, **request) as response:
        return str(await response.text())


async def test_over_a_websocket_the_end_says_that_something_was_shown(
    here: Here, desk: AnswerDesk, document: str
) -> None:
    """As in a stream."""
    gate = asyncio.Event()
    desk.llm.default = say(ANSWER, gate=gate, gate_at=3)
    headers = here.client(READER).headers
    async with here.session.ws_connect(f"{here.url}/api/answers/ws", headers=headers) as websocket:
        await websocket.send_json({"type": "ask", "question": QUESTION})
        while (message := await websocket.receive_json(timeout=20))["event"] != "delta":
            pass
        await delete(desk, document)
        while (message := await websocket.receive_json(timeout=20))["event"] != "error":
            pass
    gate.set()
    assert (message["data"]["type"], message["data"]["partial"]) == ("answer-withdrawn", True)


async def test_it_ends_for_those_alone_who_may_not_read_it_any_more(
    here: Here, desk: AnswerDesk, document: str
) -> None:
    """Two read one log; the document is closed to one of them."""
    gate = asyncio.Event()
    desk.llm.default = say(ANSWER, gate=gate, gate_at=3)
    async with AsyncExitStack() as stack:
        seen, reading = await ask_and_hold(stack, here.client(READER))
        theirs, going_on = await ask_and_hold(stack, here.client(COLLEAGUE))
        assert theirs[0].data["cache"] == "coalesced"
        await close_to_hr(desk, document)
        async with within(ENDS_S_MAX):
            await reading
        gate.set()
        await going_on
    assert seen[-1].data["type"] == "answer-withdrawn"
    assert (theirs[-1].name, text_of(theirs)) == ("done", ANSWER)
    assert len(desk.llm.calls) == 1


async def test_a_running_answer_ends_although_no_news_come(
    servers: StackUrls, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without a relay nothing is heard of a deletion; the readings look by themselves, those of one asker together."""
    async with (
        own_desk(servers, tmp_path_factory, valkey_number=8, **PATIENT) as desk,
        desk.assistant_here() as here,
        AsyncExitStack() as stack,
    ):
        gate = asyncio.Event()
        desk.llm.default = say(ANSWER, gate=gate, gate_at=3)
        document_id = await desk.add("Umbrellas", SECRET, readers=("hr", "board"))
        readings = [await ask_and_hold(stack, here.client(READER)) for _ in range(3)]
        theirs, going_on = await ask_and_hold(stack, here.client(COLLEAGUE))
        await close_to_hr(desk, document_id)
        async with within(ENDS_S_MAX):
            await asyncio.gather(*(reading for _, reading in readings))
        gate.set()
        await going_on
    assert {seen[-1].data["type"] for seen, _ in readings} == {"answer-withdrawn"}
    assert (theirs[-1].name, text_of(theirs)) == ("done", ANSWER)


async def test_nobody_goes_on_with_an_answer_whose_document_is_gone(desk: AnswerDesk, document: str) -> None:
    """Its process dies, and the document is deleted before another one takes over: the model is not asked again."""
    desk.llm.default = say(ANSWER, after=5, ending="stall")
    async with desk.assistant_here() as elsewhere, AsyncExitStack() as stack:
        (process,) = await stack.enter_async_context(desk.assistants(1))
        client, seen = await process.client(READER), list[Event]()
        async for event in events(await stack.enter_async_context(client.stream(QUESTION, cache="bypass"))):
            seen.append(event)
            if text_of(seen).count(" ") >= 3:
                break
        answer_id, there = seen[0].data["answer_id"], elsewhere.client(READER)
        follower = asyncio.create_task(there.rest(answer_id))
        await until(lambda: _is_followed(there, answer_id))
        await process.kill()
        await delete(desk, document)
        ended = await follower
        assert ended[-1].data["type"] == "answer-withdrawn"
        await until(lambda: _has_ended(there, answer_id))
    assert len(desk.llm.calls) == 1


async def _is_followed(client: Client, answer_id: str) -> bool:
    return bool((await client.json("GET", f"/api/answers/{answer_id}"))[2]["text"])


async def _has_ended(client: Client, answer_id: str) -> bool:
    return bool((await client.json("GET", f"/api/answers/{answer_id}"))[0] == 410)
