"""Server-sent events over plain ASGI: at once, with heartbeats; slow and vanished readers end the stream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from refdesk.contracts.errors import Unauthenticated, problem
from refdesk.web.sse import EventStream, Offer, body_of, message, settled


class Line:
    """The server's side of one response: what was sent. ``leave`` disconnects the reader, ``slow`` stops them reading."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.leave = asyncio.Event()
        self.slow = False
        self.full: asyncio.Event | None = None
        """They take nothing until it is set."""

    async def receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        if self.slow:
            await asyncio.Event().wait()
        if self.full is not None:
            await self.full.wait()
        self.sent.append(event)

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent)


class Body:
    """An endless body after its pieces, which knows whether it was left."""

    def __init__(self, *pieces: bytes, ends: bool = False) -> None:
        self.pieces, self.ends, self.closed = pieces, ends, False
        self.offer: Offer | None = None

    async def __call__(self, offer: Offer) -> None:
        self.offer = offer
        try:
            for piece in self.pieces:
                await settled(offer(piece))
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.001)


def test_a_message_is_one_frame() -> None:
    """With a number or without."""
    assert message("delta", b"{}", event_id=3) == b"id: 3\nevent: delta\ndata: {}\n\n"
    assert message("changed", b"{}") == b"event: changed\ndata: {}\n\n"


async def test_a_body_that_ends_ends_the_response() -> None:
    """Headers that no proxy buffers, the pieces as they were, the end."""
    line, body = Line(), Body(b"a", b"b", ends=True)
    await EventStream(body)({}, line.receive, line.send)
    headers = dict(line.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache, no-transform"
    assert headers[b"x-accel-buffering"] == b"no"
    assert [event["body"] for event in line.sent[1:]] == [b"a", b"b", b""]
    assert not line.sent[-1]["more_body"]
    assert body.closed


async def test_a_reader_who_leaves_closes_the_body() -> None:
    """At once."""
    line, body = Line(), Body(b"a")
    serving = asyncio.create_task(EventStream(body)({}, line.receive, line.send))
    await until(lambda: line.body == b"a")
    line.leave.set()
    await asyncio.wait_for(serving, 5)
    assert body.closed


async def test_a_reader_who_does_not_read_is_cut() -> None:
    """After the time for one write, not buffered for."""
    line, body = Line(), Body(b"a", b"b")
    stream = EventStream(body, heartbeat_s=0.01, send_timeout_s=0.01)
    serving = asyncio.create_task(stream({}, line.receive, line.send))
    await until(lambda: line.body.startswith(b"ab"))
    line.slow = True
    await asyncio.wait_for(serving, 5)
    assert body.closed


async def test_silence_is_filled_with_heartbeats() -> None:
    """Comments, which no client takes for an event; they stop with the body."""
    line, body = Line(), Body(b"a")
    serving = asyncio.create_task(EventStream(body, heartbeat_s=0.01)({}, line.receive, line.send))
    await until(lambda: line.body.count(b": still here\n\n") >= 2)
    line.leave.set()
    await asyncio.wait_for(serving, 5)


async def test_a_broken_body_is_not_a_finished_one() -> None:
    """The failure reaches the server, which closes the connection without the end of the body."""

    async def broken(offer: Offer) -> None:
        offer(b"a")
        raise ValueError("broken")

    line = Line()
    with pytest.raises(ExceptionGroup):
        await EventStream(broken)({}, line.receive, line.send)
    assert line.body == b"a"
    assert line.sent[-1]["more_body"]


async def test_a_stream_that_is_broken_off_says_why_in_its_own_words() -> None:
    """An answer's stream adds whether something was shown already."""
    line = Line()
    stream = EventStream(Body(b"a"), last_words=lambda error: problem(error) | {"partial": True})
    serving = asyncio.create_task(stream({}, line.receive, line.send))
    await until(lambda: line.body == b"a")
    serving.cancel()
    await asyncio.wait([serving])
    await stream.end(line.send, Unauthenticated("Your key was revoked while this was open."))
    said = msgspec.json.decode(line.body.partition(b"event: error\ndata: ")[2])
    assert (said["type"], said["partial"]) == ("unauthenticated", True)


async def test_nothing_is_left_running() -> None:
    """Whichever way a stream ends."""
    before = asyncio.all_tasks()
    line = Line()
    await EventStream(Body(b"a", ends=True))({}, line.receive, line.send)
    line.leave.set()
    await EventStream(Body(b"a"))({}, line.receive, line.send)
    assert asyncio.all_tasks() == before


async def test_what_is_offered_is_sent_within_the_call() -> None:
    """No task has to wake for it; a reader who does not keep up is waited for, and gets the rest then."""
    line, body, taken = Line(), Body(b"a"), asyncio.Event()
    serving = asyncio.create_task(EventStream(body)({}, line.receive, line.send))
    await until(lambda: line.body == b"a")
    assert body.offer is not None
    assert body.offer(b"b") is None
    assert line.body == b"ab"
    line.full = taken
    waiting = asyncio.create_task(settled(body.offer(b"c")))
    await asyncio.wait([waiting], timeout=0.001)
    assert (line.body, waiting.done()) == (b"ab", False)
    taken.set()
    await asyncio.wait_for(waiting, 5)
    assert line.body == b"abc"
    line.leave.set()
    await asyncio.wait_for(serving, 5)


async def test_the_pieces_of_a_generator_are_a_body() -> None:
    """Which is closed when the reader leaves."""
    closed = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    line = Line()
    serving = asyncio.create_task(EventStream(body_of(pieces()))({}, line.receive, line.send))
    await until(lambda: line.body == b"a")
    line.leave.set()
    await asyncio.wait_for(serving, 5)
    assert closed.is_set()
