"""The answers' events over a WebSocket: ask, resume, stop, leave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from tests.support.desk import ASKER, LEAVE, AnswerDesk, Here, own_desk
from tests.support.patience import within
from tests.support.scripted_llm import ANSWER, say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal

QUESTION = "How many days of paid leave do employees have?"
STOP_S = 1.0


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=11) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


class Socket:
    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket

    async def say(self, **message: Any) -> None:
        await self._websocket.send_json(message)

    async def hear(self) -> dict[str, Any]:
        """The next message that is no heartbeat."""
        while (message := await self._websocket.receive_json(timeout=20))["event"] == "heartbeat":
            pass
        return dict(message)

    async def end(self) -> tuple[int | None, str]:
        """Code and reason with which the server closes."""
        while (message := await self._websocket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
            pass
        return message.data, str(message.extra)

    async def until(self, event: str) -> list[dict[str, Any]]:
        messages = [await self.hear()]
        while messages[-1]["event"] != event:
            messages.append(await self.hear())
        return messages


@asynccontextmanager
async def connected(here: Here, principal: Principal = ASKER) -> AsyncIterator[Socket]:
    headers = here.client(principal).headers
    async with here.session.ws_connect(f"{here.url}/api/answers/ws", headers=headers) as websocket:
        yield Socket(websocket)


async def test_an_answer_is_the_same_events_as_a_stream(here: Here) -> None:
    """Their ids, names and data."""
    async with connected(here) as socket:
        await socket.say(type="ask", question=QUESTION, cache="bypass", request_id="first")
        messages = await socket.until("done")
    assert messages[0]["request_id"] == "first"
    assert [message["id"] for message in messages] == [*range(1, len(messages) + 1)]
    assert [m["event"] for m in messages] == ["accepted", "sources", *["delta"] * 9, "sentence", "done"]
    assert "".join(message["data"]["text"] for message in messages if message["event"] == "delta") == ANSWER
    stream = await here.client().json("GET", f"/api/answers/{messages[0]['answer_id']}")
    assert stream[1].get("content-type") == "application/json"
    assert stream[2]["text"] == ANSWER


async def test_a_reader_goes_on_where_they_left(here: Here) -> None:
    """On another connection."""
    async with connected(here) as socket:
        await socket.say(type="ask", question=QUESTION, cache="bypass")
        whole = await socket.until("done")
    async with connected(here) as socket:
        await socket.say(type="resume", answer_id=whole[0]["answer_id"], after=5)
        rest = await socket.until("done")
        await socket.say(type="resume", answer_id=whole[0]["answer_id"], after=len(whole) + 1)
        refusal = await socket.hear()
    assert [(m["id"], m["data"]) for m in rest] == [(m["id"], m["data"]) for m in whole if m["id"] > 5]
    assert (refusal["event"], refusal["data"]["type"]) == ("error", "answer-rewritten")


async def test_several_answers_run_on_one_connection(here: Here) -> None:
    """Each message says which it is of."""
    async with connected(here) as socket:
        await socket.say(type="ask", question=QUESTION, cache="bypass")
        await socket.say(type="ask", question="Until when can leave be taken?", cache="bypass")
        messages = [*await socket.until("done"), *await socket.until("done")]
    assert len({message["answer_id"] for message in messages}) == 2


async def test_a_stop_stops_the_model(here: Here, desk: AnswerDesk) -> None:
    """Within a second; the answer ends as cancelled."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=3)
    async with connected(here) as socket:
        await socket.say(type="ask", question=QUESTION, cache="bypass")
        first = await socket.until("delta")
        await socket.say(type="stop", answer_id=first[0]["answer_id"])
        call = await desk.llm.called()
        async with within(STOP_S):
            await call.closed.wait()
            messages = await socket.until("done")
    assert messages[-1]["data"]["finish_reason"] == "cancelled"


@pytest.mark.parametrize(
    ("message", "type_"),
    [
        ({"type": "dance"}, "invalid-request"),
        ({"type": "ask"}, "invalid-request"),
        ({"type": "ask", "question": "  "}, "invalid-request"),
        ({"type": "ask", "question": "x", "colour": "red"}, "invalid-request"),
        ({"type": "ask", "question": "word " * 5000}, "question-too-long"),
        ({"type": "resume", "answer_id": "nobody-knows"}, "not-found"),
    ],
)
async def test_a_bad_message_is_refused_and_the_connection_stays(
    here: Here, message: dict[str, Any], type_: str
) -> None:
    """With problem details."""
    async with connected(here) as socket:
        await socket.say(**message)
        refusal = await socket.hear()
        await socket.say(type="ask", question=QUESTION)
        await socket.until("done")
    assert (refusal["event"], refusal["data"]["type"]) == ("error", type_)


async def test_somebody_elses_answer_is_not_there(here: Here) -> None:
    """To resume or to stop."""
    async with connected(here) as socket:
        await socket.say(type="ask", question=QUESTION, cache="bypass")
        answer_id = (await socket.until("done"))[0]["answer_id"]
    async with connected(here, Principal(id="other")) as socket:
        await socket.say(type="resume", answer_id=answer_id)
        assert (await socket.hear())["data"]["type"] == "not-found"


async def test_a_wrong_address_is_refused_before_it_opens(here: Here) -> None:
    """404, not an open socket that says nothing."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await here.session.ws_connect(f"{here.url}/api/nowhere")
    assert refused.value.status == 404


async def test_a_connection_that_asks_nothing_is_ended(desk: AnswerDesk) -> None:
    """Not one that follows an answer, however long that takes."""
    desk.llm.reset()
    async with desk.assistant_here(socket_idle_seconds_max=0.2) as here, connected(here) as socket:
        await socket.say(type="ask", question=QUESTION, cache="bypass")
        assert (await socket.until("done"))[-1]["event"] == "done"
        assert await socket.end() == (1001, "Nothing was asked for 0.2 s. Connect again.")
