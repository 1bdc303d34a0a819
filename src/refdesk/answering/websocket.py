"""The answers' events over a WebSocket at ``/api/answers/ws``: ask, resume, stop, several answers at a time.

The client sends JSON objects: ``{"type": "ask", …the fields of a question…, "request_id"?}``, ``{"type": "resume", "answer_id",
"after", "granularity"?}``, ``{"type": "stop", "answer_id"}``. The server sends ``{"answer_id", "id", "event", "data"}`` for
each event; what refuses a request comes as event ``error`` without an id, with the ``request_id`` of the request.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from refdesk.access.policy import Action, require
from refdesk.answering.assistant import Assistant
from refdesk.answering.logs.log import AnswerRecord, Entry
from refdesk.answering.reading import AnswerReader
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Granularity, Question
from refdesk.contracts.errors import InvalidRequest, RefdeskError, TooManyRequests, problem
from refdesk.contracts.texts import Number, Text
from refdesk.outside import telemetry
from refdesk.web.auditing import also
from refdesk.web.bodies import decode_json, said
from refdesk.web.sse import Wait

logger = logging.getLogger(__name__)

MESSAGE_CHARACTERS_MAX = 100_000
STREAMS_MAX = 16
"""Answers one connection may follow at a time."""
HEARTBEAT_S = 10.0
IDLE_S_MAX = 600.0
REQUEST_ID_CHARACTERS_MAX = 200

Kind = Literal["ask", "resume", "stop"]
ACTIONS: Mapping[Kind, Action] = {"ask": "answers.ask", "resume": "answers.read", "stop": "answers.stop"}
"""What each kind of message does."""

GOING_AWAY, NO_TEXT, TOO_BIG = 1001, 1003, 1009
"""RFC 6455, 7.4.1."""


class _Head(msgspec.Struct, frozen=True):
    type: Kind
    request_id: Annotated[str, Meta(max_length=REQUEST_ID_CHARACTERS_MAX)] | None = None


class _Resume(msgspec.Struct, frozen=True):
    answer_id: Text
    after: Number = 0
    granularity: Granularity = "token"


class _Stop(msgspec.Struct, frozen=True):
    answer_id: Text


class AnswerSocket:
    """One connection. Every stream on it belongs to the principal that opened it."""

    def __init__(
        self,
        websocket: WebSocket,
        principal: Principal,
        *,
        assistant: Assistant,
        send_timeout_s: float,
        idle_s_max: float = IDLE_S_MAX,
    ) -> None:
        self._websocket = websocket
        self._principal = principal
        self._assistant = assistant
        self._send_timeout_s = send_timeout_s
        self._idle_s_max = idle_s_max
        self._busy_at = asyncio.get_running_loop().time()
        """When it last asked something or followed an answer."""
        self._tasks = asyncio.TaskGroup()
        self._streams: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Until the client leaves, reads too slowly, or sends something that is no message."""
        await self._websocket.accept()
        try:
            async with self._tasks:
                self._tasks.create_task(self._heartbeat())
                await self._listen()
        except* WebSocketDisconnect:
            pass
        except* TimeoutError:
            telemetry.stream_aborts.labels(telemetry.SLOW_READER).inc()
            logger.info("cut a connection whose reader took more than %s s for one message", self._send_timeout_s)

    async def _listen(self) -> None:
        """Takes messages until there can be no more; then raises WebSocketDisconnect."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", GOING_AWAY))
            text = message.get("text")
            if text is None:
                await self._hang_up(NO_TEXT, "A message is JSON, sent as text.")
            if len(text) > MESSAGE_CHARACTERS_MAX:
                await self._hang_up(TOO_BIG, f"A message may have {MESSAGE_CHARACTERS_MAX} characters.")
            self._busy_at = asyncio.get_running_loop().time()
            await self._take(text)

    async def _hang_up(self, code: int, why: str) -> NoReturn:
        await self._websocket.close(code, why)
        raise WebSocketDisconnect(code)

    async def _take(self, text: str) -> None:
        request_id = None
        try:
            head = decode_json(text, _Head)
            request_id = head.request_id
            if len(self._streams) >= STREAMS_MAX and head.type != "stop":
                raise TooManyRequests(
                    f"This connection follows {STREAMS_MAX} answers already. Wait for one to end, or open another.",
                    limit=STREAMS_MAX,
                    actual=len(self._streams),
                )
            await self._do(head, text)
        except RefdeskError as error:
            await self._send({"event": "error", "request_id": request_id, "data": problem(error)})

    async def _do(self, head: _Head, text: str) -> None:
        require(self._principal, ACTIONS[head.type])
        match head.type:
            case "ask":
                question = _question(text)
                self._start(self._ask(question, head.request_id))
            case "resume":
                resume = decode_json(text, _Resume)
                record = await self._assistant.reading.recall(resume.answer_id, self._principal, after=resume.after)
                self._start(self._follow(self._reader(record, after=resume.after, granularity=resume.granularity)))
            case "stop":
                stop = decode_json(text, _Stop)
                await self._assistant.stop(await self._assistant.reading.find(stop.answer_id, self._principal))

    def _start(self, stream: Any) -> None:
        task = self._tasks.create_task(stream)
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)

    async def _ask(self, question: Question, request_id: str | None) -> None:
        try:
            record = await self._assistant.ask(question, self._principal)
            also(self._websocket, ACTIONS["ask"], record.answer_id)
        except RefdeskError as error:
            await self._send({"event": "error", "request_id": request_id, "data": problem(error)})
            return
        await self._follow(self._reader(record, granularity=question.granularity), request_id=request_id)

    def _reader(self, record: AnswerRecord, *, after: int = 0, granularity: Granularity) -> AnswerReader:
        return self._assistant.reading.of(record, self._principal, after=after, granularity=granularity)

    async def _follow(self, reader: AnswerReader, *, request_id: str | None = None) -> None:
        answer_id = reader.record.answer_id
        first: dict[str, Any] = {} if request_id is None else {"request_id": request_id}

        async def deliver(batch: list[Entry]) -> None:
            for entry in batch:
                await self._send(
                    {"answer_id": answer_id, "id": entry.id, "event": entry.name, "data": entry.data, **first}
                )
                first.clear()

        def on_entries(batch: list[Entry]) -> Wait:
            return partial(deliver, batch)

        try:
            await reader.events(on_entries)
        except RefdeskError as error:
            await self._send({"answer_id": answer_id, "event": "error", "data": reader.cut_off(error)})

    async def _send(self, message: dict[str, Any]) -> None:
        """One message at a time; TimeoutError for a reader that does not take it in time. No farewell would reach them."""
        text = msgspec.json.encode(message).decode()
        try:
            async with self._sending, asyncio.timeout(self._send_timeout_s):
                await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError):
            raise WebSocketDisconnect(GOING_AWAY) from None

    async def _heartbeat(self) -> None:
        loop, every_s = asyncio.get_running_loop(), min(HEARTBEAT_S, self._idle_s_max)
        while self._websocket.client_state is WebSocketState.CONNECTED:
            await asyncio.sleep(every_s)
            if self._streams:
                self._busy_at = loop.time()
            elif loop.time() - self._busy_at >= self._idle_s_max:
                await self._websocket.close(GOING_AWAY, f"Nothing was asked for {self._idle_s_max:g} s. Connect again.")
                return
            await self._send({"event": "heartbeat"})


def _question(text: str) -> Question:
    """The question among a message's fields; raises InvalidRequest for fields that are none of ours."""
    fields = decode_json(text, dict[str, Any])
    try:
        return msgspec.convert({k: v for k, v in fields.items() if k not in ("type", "request_id")}, Question)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request is not valid: {said(error)}.") from error
