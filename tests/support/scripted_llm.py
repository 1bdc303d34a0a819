"""A stand-in for a language model: OpenAI's wire format over HTTP/1.1, playing whatever a test writes into its script.

Each call takes the next ``Behaviour`` of ``llm.plan``, then ``llm.default``. Nothing here sleeps and nothing is random: a
pause ends early when the client leaves, and a ``gate`` holds the text back until the test opens it.

    llm.plan = [Behaviour(status=500), say("Thirty days. [1]")]
    llm.default = say("Thirty days. [1]", gate=gate, gate_at=3)
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Literal

import msgspec

from refdesk.outside.llm.client import PROBE
from tests.support.patience import within

Ending = Literal[
    "finish",  # finish_reason, usage, [DONE]
    "no_done",  # finish_reason, then a clean end of the body
    "hold_open",  # finish_reason, then nothing, the connection stays
    "no_finish",  # a clean end of the body without finish_reason
    "cut",  # the connection closes in the middle of the body
    "reset",  # the same with a TCP reset
    "stall",  # nothing more until the client leaves
    "malformed",  # a chunk that is not JSON
    "error",  # an error object inside the stream
    "endless",  # the words again and again, whatever max_tokens says
]

ANSWER = "Thirty days of leave are due each year. [1]"
CUT_CHARACTERS = 3
JSON_HEADERS = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What one call does. ``words`` are the deltas; ``after`` is how many of them come before the ending (None: all)."""

    words: tuple[str, ...] = ()
    ending: Ending = "finish"
    after: int | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": {"message": "scripted", "type": "server_error"}}'
    silent: bool = False
    """Accept the request and never answer."""
    hang_up: bool = False
    """Reset the connection instead of answering."""
    first_after_s: float = 0.0
    gap_s: float = 0.0
    headers_after_s: float = 0.0
    comment_every_s: float | None = None
    """During pauses, a comment line this often: signs of life that are no tokens."""
    words_per_write: int = 1
    finish_reason: str = "stop"
    usage: tuple[int, int] | None = (100, -1)
    """Reported input and output tokens; -1 is the words sent, None reports nothing."""
    echo: bool = False
    """Say the last message of the prompt instead of the words."""
    reply: Callable[["Call"], str] | None = None
    """Say what this makes of the call instead of the words, a few characters at a time, cut anywhere."""
    gate: asyncio.Event | None = None
    gate_at: int = 0
    """Before which word the gate stands."""


def words(text: str) -> tuple[str, ...]:
    """The text as deltas, one per word, with the space before it."""
    return tuple(re.findall(r"\s*\S+", text))


def say(text: str = ANSWER, **fields: Any) -> Behaviour:
    return Behaviour(words=words(text), **fields)


def refuse(status: int, *, retry_after: str | None = None, **error: Any) -> Behaviour:
    """An HTTP error with OpenAI's error object."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    body = msgspec.json.encode({"error": {"message": "scripted", "type": "error", **error}})
    return Behaviour(status=status, headers=headers, body=body)


CONTEXT_LENGTH = refuse(400, type="invalid_request_error", code="context_length_exceeded", param="messages")


@dataclass
class Call:
    """One call as the model saw it. Times are the event loop's."""

    body: dict[str, Any]
    opened_at: float
    words_sent: int = 0
    reported: dict[str, int] | None = None
    """The usage the model has told."""
    completed: bool = False
    """The whole script was played."""
    closed_at: float | None = None
    """When the client left before that."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client has left or the script was played."""

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])


class ScriptedLlm:
    """The server. ``url`` is what REFDESK_LLM_URL takes."""

    def __init__(self) -> None:
        self.plan: list[Behaviour] = []
        self.default = say()
        self.calls: list[Call] = []
        self.probe = say("ready")
        """What is done to the tiny question that a starting assistant asks."""
        self.probes: list[Call] = []
        self.connections = 0
        """TCP connections ever opened."""
        self.port = 0
        self._open: set[_Connection] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_calls(self) -> int:
        return sum(not call.closed.is_set() for call in self.calls)

    def begin(self, body: dict[str, Any]) -> tuple[Call, Behaviour]:
        call = Call(body, asyncio.get_running_loop().time())
        if body["messages"][-1]["content"] == PROBE[-1].content:
            self.probes.append(call)
            return call, self.probe
        self.calls.append(call)
        return call, self.plan.pop(0) if self.plan else self.default

    def reset(self) -> None:
        """A clean sheet for the next test."""
        self.plan, self.default, self.calls = [], say(), []
        self.probe, self.probes = say("ready"), []

    async def called(self, times: int = 1, *, within_s: float = 60.0) -> Call:
        """The call with this number, once it has come."""
        async with within(within_s):
            while len(self.calls) < times:
                await _pause(0.005)
        return self.calls[times - 1]

    def added(self, connection: "_Connection") -> None:
        self.connections += 1
        self._open.add(connection)

    def lost(self, connection: "_Connection") -> None:
        self._open.discard(connection)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedLlm"]:
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=2000)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*(connection.end() for connection in list(self._open)))
            await server.wait_closed()


class Gone(Exception):
    """The client has left."""


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as far as a model's client needs it: one request after another, bodies by Content-Length."""

    transport: asyncio.Transport

    def __init__(self, llm: ScriptedLlm) -> None:
        self._llm = llm
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._llm.added(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._gone.set()
        self._llm.lost(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None or self._task.done():
            self._next_request()

    async def end(self) -> None:
        self._gone.set()
        if self._task is not None:
            await asyncio.wait([self._task])
        self.transport.abort()

    def _next_request(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        length = int((re.search(rb"(?i)content-length: *(\d+)", head) or [b"", b"0"])[1])
        if found and len(rest) >= length:
            self._buffer = rest[length:]
            self._task = asyncio.create_task(self._answer(head.split(b" ", 2)[1].decode(), rest[:length]))

    async def _answer(self, path: str, body: bytes) -> None:
        if path.endswith("/models"):
            self._write_response(200, JSON_HEADERS, b'{"object":"list","data":[{"id":"scripted","object":"model"}]}')
        else:
            call, behaviour = self._llm.begin(msgspec.json.decode(body))
            try:
                await self._play(call, behaviour)
                call.completed = True
            except Gone:
                call.closed_at = asyncio.get_running_loop().time()
            finally:
                call.closed.set()
        if self._buffer and not self._gone.is_set():
            asyncio.get_running_loop().call_soon(self._next_request)

    async def _play(self, call: Call, behaviour: Behaviour) -> None:
        if behaviour.silent:
            await self._until_gone()
        if behaviour.hang_up:
            self._reset()
            return
        await self._pass(behaviour.headers_after_s, None)
        if behaviour.status != 200:
            self._write_response(behaviour.status, {**JSON_HEADERS, **behaviour.headers}, behaviour.body)
        elif call.body.get("stream"):
            await self._stream(call, behaviour)
        else:
            await self._whole(call, behaviour)

    async def _whole(self, call: Call, behaviour: Behaviour) -> None:
        await self._pass(behaviour.first_after_s, None)
        text = "".join(_texts(call, behaviour))
        call.words_sent = len(words(text))
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": behaviour.finish_reason}
        whole = {"object": "chat.completion", "model": call.body["model"], "choices": [choice]}
        if behaviour.usage:
            whole["usage"] = call.reported = _usage(call, behaviour)
        self._write_response(200, JSON_HEADERS, msgspec.json.encode(whole))

    async def _stream(self, call: Call, behaviour: Behaviour) -> None:
        self._write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        self._event(_chunk(call, delta={"role": "assistant", "content": ""}))
        await self._pass(behaviour.first_after_s, behaviour.comment_every_s)
        texts, waiting = _texts(call, behaviour), 0
        for number, text in enumerate(texts):
            if behaviour.gate is not None and number == behaviour.gate_at:
                self._flush()
                await self._until(behaviour.gate)
            elif number and behaviour.gap_s:
                await self._pass(behaviour.gap_s, behaviour.comment_every_s)
            self._held += _framed(_chunk(call, delta={"content": text}))
            waiting += 1
            call.words_sent += 1
            if waiting >= behaviour.words_per_write:
                waiting = 0
                await self._flushed()
        await self._flushed()
        await self._finish(call, behaviour)

    _held = b""

    def _flush(self) -> None:
        if self._held:
            self._write(b"%x\r\n%b\r\n" % (len(self._held), self._held))
            self._held = b""

    async def _flushed(self) -> None:
        """Written, and the client has had a chance to read or to leave."""
        self._flush()
        await asyncio.wait_for(self._writable.wait(), 60)
        await self._pass(0, None)

    async def _finish(self, call: Call, behaviour: Behaviour) -> None:
        match behaviour.ending:
            case "cut":
                self.transport.close()
                return
            case "reset":
                self._reset()
                return
            case "stall":
                await self._until_gone()
            case "malformed":
                self._write_event(b'{"choices": [{"delta"')
                await self._until_gone()
            case "error":
                self._event({"error": {"message": "scripted", "type": "server_error"}})
                await self._until_gone()
            case "no_finish":
                self._write(b"0\r\n\r\n")
                return
            case "endless":
                raise AssertionError("an endless text has ended")
        self._event(_chunk(call, delta={}, finish_reason=behaviour.finish_reason))
        if behaviour.ending == "hold_open":
            await self._until_gone()
        if behaviour.ending == "no_done":
            self._write(b"0\r\n\r\n")
            return
        if behaviour.usage is not None:
            call.reported = _usage(call, behaviour)
            self._event({"object": "chat.completion.chunk", "choices": [], "usage": call.reported})
        self._write_event(b"[DONE]")
        self._write(b"0\r\n\r\n")

    def _event(self, chunk: dict[str, Any]) -> None:
        self._write_event(msgspec.json.encode(chunk))

    def _write_event(self, data: bytes) -> None:
        self._held += b"data: " + data + b"\n\n"
        self._flush()

    def _write_response(self, status: int, headers: dict[str, str], body: bytes) -> None:
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        self._write("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body)

    def _write(self, data: bytes) -> None:
        if self._gone.is_set():
            raise Gone
        self.transport.write(data)

    def _reset(self) -> None:
        """Close with a TCP reset, as a crashed host or a rude middlebox does."""
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def _pass(self, seconds: float, comment_every_s: float | None) -> None:
        """Let time pass, with signs of life if there are to be any; raises Gone once the client has left."""
        left = seconds
        while left > 0:
            step = min(left, comment_every_s or left)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), step)
            left -= step
            if comment_every_s:
                self._held += b": working\n\n"
                self._flush()
        await _turn()
        if self._gone.is_set():
            raise Gone

    async def _until(self, gate: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (gate, self._gone)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        if self._gone.is_set():
            raise Gone

    async def _until_gone(self) -> None:
        await self._gone.wait()
        raise Gone


def _texts(call: Call, behaviour: Behaviour) -> Iterator[str]:
    if behaviour.reply is not None:
        text = behaviour.reply(call)
        return iter([text[at : at + CUT_CHARACTERS] for at in range(0, len(text), CUT_CHARACTERS)])
    said = words(call.prompt) if behaviour.echo else behaviour.words
    if behaviour.ending == "endless":
        return chain.from_iterable(repeat(said))
    return iter(said if behaviour.after is None else said[: behaviour.after])


def _usage(call: Call, behaviour: Behaviour) -> dict[str, int]:
    read, written = behaviour.usage or (0, 0)
    return {"prompt_tokens": read, "completion_tokens": call.words_sent if written < 0 else written}


def _chunk(call: Call, *, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "scripted", "object": "chat.completion.chunk", "model": call.body["model"], "choices": [choice]}


def _framed(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


async def _turn() -> None:
    """One turn of the event loop."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


async def _pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


@contextlib.asynccontextmanager
async def scripted_llm(*plan: Behaviour) -> AsyncIterator[ScriptedLlm]:
    llm = ScriptedLlm()
    llm.plan = list(plan)
    async with llm.serving():
        yield llm
