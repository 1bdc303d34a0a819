"""Server-sent events over plain ASGI: no buffering, heartbeats, slow readers cut, disconnects noticed.

The body offers ready bytes (``message`` makes them), which are sent within the call: whatever arrives together leaves in one
write, and no task wakes for it. Only a reader who does not keep up is waited for (docs/adr/0018).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import aclosing
from functools import partial
from types import coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from refdesk.contracts.errors import RefdeskError, problem
from refdesk.outside import telemetry

logger = logging.getLogger(__name__)

T = TypeVar("T")

EVENT_STREAM = "text/event-stream"
HEARTBEAT = b": still here\n\n"
HEARTBEAT_S = 10.0
SEND_TIMEOUT_S = 10.0
LOOKS_PER_TIMEOUT = 8

REQUEST_ID = b"x-request-id"
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
)

Wait = Callable[[], Awaitable[None]]
"""To be called and awaited before there can be more."""

Offer = Callable[[bytes], Wait | None]
"""Sends these bytes, or what the reader takes of them now; None when they took it all."""

Body = Callable[[Offer], Coroutine[Any, Any, None]]
"""Offers one piece after another, and returns at the end."""


async def settled(wait: Wait | None) -> None:
    """Returns when the reader has taken what was offered."""
    if wait is not None:
        await wait()


def body_of(pieces: AsyncGenerator[bytes, None]) -> Body:
    """A body of the pieces as they come; closes the generator."""

    async def body(offer: Offer) -> None:
        async with aclosing(pieces):
            async for piece in pieces:
                await settled(offer(piece))

    return body


def message(event: str, data: bytes | msgspec.Raw, *, event_id: int | None = None) -> bytes:
    """One event. ``data`` is JSON without line breaks."""
    if event_id is None:
        return b"event: %s\ndata: %s\n\n" % (event.encode(), data)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event_id, event.encode(), data)


class EventStream:
    """A streaming response. The body is cancelled when the client leaves or reads too slowly.

    ``last_words`` gives the data of the ``error`` event with which a stream is broken off from outside.
    """

    def __init__(
        self,
        body: Body,
        *,
        headers: Mapping[str, str] | None = None,
        last_words: Callable[[RefdeskError], dict[str, Any]] = problem,
        heartbeat_s: float = HEARTBEAT_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._body = body
        self._headers = [*_HEADERS, *((k.lower().encode(), v.encode()) for k, v in (headers or {}).items())]
        self._last_words = last_words
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._clock = asyncio.get_running_loop().time
        self._sent_at = 0.0
        self._is_sending = False
        self._has_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                pump = tasks.create_task(self._pump(send))
                watch = tasks.create_task(_cancel_on_disconnect(receive, pump))
                keeper = tasks.create_task(self._keep(send))
                await asyncio.wait([pump, keeper], return_when=asyncio.FIRST_COMPLETED)
                for task in (pump, watch, keeper):
                    task.cancel()
        except* TimeoutError:
            telemetry.stream_aborts.labels(telemetry.SLOW_READER).inc()
            logger.info("cut a stream whose reader took more than %s s for one write", self._send_timeout_s)

    async def _pump(self, send: Send) -> None:
        def offer(piece: bytes) -> Wait | None:
            return self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})

        await self._begin(send)
        await self._body(offer)
        await settled(self._send(send, {"type": "http.response.body", "body": b"", "more_body": False}))

    def identify(self, request_id: str) -> str:
        """The stream says which request it answers, unless it does already; which one that is."""
        said = dict(self._headers).get(REQUEST_ID, b"").decode()
        if not said:
            self._headers.append((REQUEST_ID, request_id.encode()))
        return said or request_id

    async def _begin(self, send: Send) -> None:
        self._has_begun = True
        await settled(self._send(send, {"type": "http.response.start", "status": 200, "headers": self._headers}))

    async def end(self, send: Send, error: RefdeskError) -> None:
        """The last words of a stream that was broken off: an ``error`` event, without a number since the body did not say it."""
        if not self._has_begun:
            await self._begin(send)
        said = message("error", msgspec.json.encode(self._last_words(error)))
        await send({"type": "http.response.body", "body": said, "more_body": False})

    def _send(self, send: Send, message: Message) -> Wait | None:
        """Begins to send, in whatever task this is or none; returns what is left to be waited for, if anything."""
        self._sent_at = self._clock()
        sending: Coroutine[Any, Any, None] = send(message)  # type: ignore[assignment]
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return None
        self._is_sending = True
        return partial(self._finish, sending, waits_for)

    async def _finish(self, sending: Coroutine[Any, Any, None], waits_for: Any) -> None:
        await _go_on(sending, waits_for)
        self._is_sending = False

    async def _keep(self, send: Send) -> None:
        """Heartbeats while there is nothing to say; TimeoutError when a write takes too long.

        One look now and then costs less than a timer for every write.
        """
        self._sent_at = self._clock()
        while True:
            allowed_s = self._send_timeout_s if self._is_sending else self._heartbeat_s
            left_s = self._sent_at + allowed_s - self._clock()
            if left_s > 0:
                await asyncio.sleep(min(left_s, self._send_timeout_s / LOOKS_PER_TIMEOUT))
            elif self._is_sending:
                raise TimeoutError
            else:
                async with asyncio.timeout(self._send_timeout_s):
                    message = {"type": "http.response.body", "body": HEARTBEAT, "more_body": True}
                    await settled(self._send(send, message))


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of work for a client who waits; cancels it and raises ClientDisconnect when the client leaves first."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_cancel_on_disconnect(receive, task))
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.wait([task, watch])
    if task.cancelled():
        raise ClientDisconnect
    return task.result()


async def _cancel_on_disconnect(receive: Receive, pump: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    pump.cancel()


@coroutine
def _go_on(begun: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """A coroutine that has come to where it waits, from there on."""
    try:
        while True:
            try:
                come = yield waits_for
            except BaseException as error:  # noqa: BLE001 (a cancellation above all: the coroutine's to handle)
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(come)
    except StopIteration:
        return
