"""A model server that takes whatever form a test gives it: it answers raw bytes, piece by piece.

`scripted_llm` plays a well-behaved server whose calls go wrong; this one plays servers that spell the format in their own way.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

ANSWER = "Thirty days of leave are due each year. [1]"
WORDS = tuple(re.findall(r"\s*\S+", ANSWER))


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Reply:
    """What it answers: one write a piece, in chunks unless the length is known."""

    pieces: Iterable[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})


Form = Callable[[Request], Reply]


def event(data: Any) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chunk(text: Any = None, *, finish: Any = None, **delta: Any) -> dict[str, Any]:
    said = {} if text is None else {"content": text}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [_choice({**said, **delta}, finish)]}


def _choice(delta: dict[str, Any], finish: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def spoken(words: Iterable[str] = WORDS, *, finish: Any = "stop") -> list[bytes]:
    """The words and a finish, as most servers send them."""
    return [*(event(chunk(word)) for word in words), event(chunk(finish=finish)), DONE]


def as_json(data: Any, status: int = 200) -> Reply:
    return Reply([msgspec.json.encode(data)], status, {"content-type": "application/json"})


def refusal(message: str, status: int = 400, **fields: Any) -> Reply:
    return as_json({"error": {"message": message, "type": "invalid_request_error", **fields}}, status)


class ModelServer:
    """``calls`` are those of a chat; ``requests`` are all."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.requests: list[Request] = []
        self.port = 0

    @property
    def calls(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["ModelServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                request = await _request(reader)
                self.requests.append(request)
                reply = self.form(request) if request.method == "POST" else refusal("Not Found", 404)
                await _send(writer, reply)


async def _request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, msgspec.json.decode(body) if body else {})


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    fields = [f"{name}: {value}" for name, value in reply.headers.items()]
    lines = [f"HTTP/1.1 {reply.status} Form", *fields, "transfer-encoding: chunked", "", ""]
    writer.write("\r\n".join(lines).encode())
    for piece in reply.pieces:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        turned = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.001, turned.set_result, None)
        await turned
    writer.write(b"0\r\n\r\n")
    await writer.drain()
