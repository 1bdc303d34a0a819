"""A language model that costs next to nothing: an OpenAI-compatible server that streams numbered deltas at a fixed pace.

    python benchmarks/stub_llm.py PORT PACE_S

How many deltas comes from the prompt (``… in 64 pieces``), so one running stub serves every pattern. The first delta leaves
with the headers, the finish, the usage and ``[DONE]`` with the last one. ``GET /counts`` tells calls and deltas so far.
"""

import asyncio
import json
import re
import sys
from functools import cache

import uvloop

PIECES = re.compile(rb"in (\d+) pieces")
LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
SENTENCE_PIECES = 16
FIRST = b"T0000"
"""The text of every answer's first delta."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@cache
def deltas(pieces: int) -> tuple[bytes, ...]:
    """Words with their number, in sentences of sixteen that cite the first passage."""
    return tuple(_word(number).encode() for number in range(pieces))


def _word(number: int) -> str:
    place = number % SENTENCE_PIECES
    if place == SENTENCE_PIECES - 1:
        return f" t{number:04} [1]."
    return f"{' ' if number else ''}{'t' if place else 'T'}{number:04}"


@cache
def _frames(pieces: int) -> tuple[bytes, ...]:
    """What is written for each delta; headers and ending included."""
    chunks = [_framed(_chunk({"content": text.decode()})) for text in deltas(pieces)]
    ending = _chunk({}) | {"usage": {"prompt_tokens": 1000, "completion_tokens": pieces, "total_tokens": 1000 + pieces}}
    ending["choices"] = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    role = _framed(_chunk({"role": "assistant", "content": ""}))
    chunks[0] = HEAD + role + chunks[0]
    chunks[-1] += _framed(ending) + _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return tuple(chunks)


def _chunk(delta: dict[str, str]) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "stub", "object": "chat.completion.chunk", "created": 0, "model": "stub", "choices": [choice]}


def _framed(chunk: dict[str, object]) -> bytes:
    return _http_chunk(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n")


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stub:
    def __init__(self, pace_s: float) -> None:
        self.pace_s = pace_s
        self.calls = 0
        self.deltas = 0


class _Connection(asyncio.Protocol):
    """One request after another, bodies by Content-Length."""

    transport: asyncio.Transport

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not found or (length and len(body) < int(length[1])):
            return
        self._buffer = b""
        if head.startswith(b"GET"):
            self._tell_counts()
        else:
            self._begin(int(PIECES.findall(body)[-1]))

    def _tell_counts(self) -> None:
        body = b'{"calls": %d, "deltas": %d}' % (self._stub.calls, self._stub.deltas)
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    def _begin(self, pieces: int) -> None:
        self._stub.calls += 1
        self._frames = list(reversed(_frames(pieces)))
        self._at = self._loop.time()
        self._write_next()

    def _write_next(self) -> None:
        self.transport.write(self._frames.pop())
        self._stub.deltas += 1
        self._at += self._stub.pace_s
        if self._frames:  # a timer left behind would hurry the next answer on this connection
            self._timer = self._loop.call_at(self._at, self._write_next)


async def serve(port: int, pace_s: float) -> None:
    stub = Stub(pace_s)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(stub), "127.0.0.1", port, backlog=2000)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
