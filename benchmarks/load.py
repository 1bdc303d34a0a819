"""A load client that costs little: so many connections, each asking one question after another, every byte checked.

While a stream runs it only notes what came when. When it has ended, its deltas are put together and compared with what the
stub has said: one that is lost, doubled or in the wrong place makes the stream a broken one.
"""

import asyncio
import itertools
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter

import stub_llm

END = b"\r\n0\r\n\r\n"
ANSWER_S_MAX = 60.0


Request = Callable[[int, int], bytes]
"""(number of the question, pieces) → an HTTP request."""


@dataclass(frozen=True)
class Target:
    """Where streams come from: how to ask for one, and what a delta looks like in its events."""

    name: str
    port: int
    request: Request
    delta: re.Pattern[bytes]
    pid: int | None = None
    """The root of the processes under test; None for the stub itself."""


@dataclass
class Stream:
    """One answer: when it was asked for, what came when (seconds of ``perf_counter``), and what was wrong with it."""

    asked_at: float
    reads: list[tuple[float, bytes]] = field(default_factory=list)
    first_at: float | None = None
    wrong: str = ""

    @property
    def gaps(self) -> list[float]:
        """Seconds between reads from the first delta on."""
        times = [at for at, _ in self.reads if self.first_at is not None and at >= self.first_at]
        return [after - before for before, after in itertools.pairwise(times)]

    def check(self, delta: re.Pattern[bytes], *, pieces: int, pace_s: float) -> None:
        head, _, body = b"".join(data for _, data in self.reads).partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            self.wrong = f"refused: {head[:40]!r}"
        elif b"".join(delta.findall(_dechunked(body))) != b"".join(stub_llm.deltas(pieces)):
            self.wrong = "a delta was lost, doubled or reordered"
        elif self.first_at is None or sum(self.gaps) < 0.9 * (pieces - 1) * pace_s:
            self.wrong = "the stream was buffered"


def _dechunked(body: bytes) -> bytes:
    parts, position = [], 0
    while (line_end := body.find(b"\r\n", position)) > 0:
        start = line_end + 2
        size = int(body[position:line_end], 16)
        parts.append(body[start : start + size])
        position = start + size + 2
    return b"".join(parts)


class Asker(asyncio.Protocol):
    """One connection. A stream is over when its last chunk has come, or the connection is lost."""

    transport: asyncio.Transport
    stream: Stream
    ended: asyncio.Future[None]
    """Done when the last chunk has come, or all of a body with a Content-Length."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def begin(self, request: bytes) -> Stream:
        self.stream, self.ended = Stream(perf_counter()), asyncio.get_running_loop().create_future()
        self._tail = b""
        self.transport.write(request)
        return self.stream

    def data_received(self, data: bytes) -> None:
        now, stream = perf_counter(), self.stream
        if not stream.reads:
            self._expect(data)
        stream.reads.append((now, data))
        if stream.first_at is None and stub_llm.FIRST in data:
            stream.first_at = now
        self._tail = (self._tail + data)[-len(END) :]
        self._left -= len(data)
        if (self._tail == END or self._left <= 0) and not self.ended.done():
            self.ended.set_result(None)

    def _expect(self, data: bytes) -> None:
        """How many bytes a reply with a Content-Length has; one that is refused is not waited for."""
        if not data.startswith(b"HTTP/1.1 200"):
            self.transport.abort()
        head, _, _ = data.partition(b"\r\n\r\n")
        length = stub_llm.LENGTH.search(head)
        self._left = len(head) + 4 + int(length[1]) if length else sys.maxsize

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass
class Load:
    """A running load; ``streams`` are those that have ended."""

    streams: list[Stream] = field(default_factory=list)
    stopping: bool = False


_numbers = itertools.count()


@asynccontextmanager
async def load(target: Target, *, streams: int, pieces: int, pace_s: float) -> AsyncIterator[Load]:
    """So many streams at a time, their beginnings spread evenly. Leaving the block lets the running ones end."""
    running, duration_s = Load(), pieces * pace_s
    async with asyncio.TaskGroup() as tasks:
        for number in range(streams):
            tasks.create_task(_ask_on(target, running, pieces, pace_s, delay_s=number * duration_s / streams))
        await asyncio.sleep(duration_s)
        try:
            yield running
        finally:
            running.stopping = True


async def _ask_on(target: Target, running: Load, pieces: int, pace_s: float, *, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    loop, asker = asyncio.get_running_loop(), None
    while not running.stopping:
        if asker is None or asker.transport.is_closing():
            _, asker = await loop.create_connection(Asker, "127.0.0.1", target.port)
        stream = asker.begin(target.request(next(_numbers), pieces))
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await asker.ended
        except TimeoutError:
            asker.transport.abort()
        stream.check(target.delta, pieces=pieces, pace_s=pace_s)
        running.streams.append(stream)
    if asker is not None:
        asker.transport.close()


def post(port: int, path: str, body: bytes, *, key: str = "", accept: str = "text/event-stream") -> bytes:
    """An HTTP request as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        *([f"Authorization: Bearer {key}"] if key else []),
        f"Accept: {accept}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
