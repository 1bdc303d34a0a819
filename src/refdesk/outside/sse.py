"""Server-sent events over plain ASGI: no buffering, heartbeats, slow readers cut, disconnects noticed.

The body is an async iterator of ready bytes (``message`` makes them), so whatever arrives together leaves in one write.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from refdesk.outside import telemetry

logger = logging.getLogger(__name__)

T = TypeVar("T")

HEARTBEAT = b": still here\n\n"
HEARTBEAT_S = 10.0
SEND_TIMEOUT_S = 10.0
LOOKS_PER_TIMEOUT = 8

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


def message(event: str, data: bytes | msgspec.Raw, *, event_id: int | None = None) -> bytes:
    """One event. ``data`` is JSON without line breaks."""
    if event_id is None:
        return b"event: %s\ndata: %s\n\n" % (event.encode(), data)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event_id, event.encode(), data)


class EventStream:
    """A streaming response. The body is closed when it ends, when the client leaves, or when it reads too slowly."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._body = body
        self._headers = [*_HEADERS, *((k.lower().encode(), v.encode()) for k, v in (headers or {}).items())]
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._clock = asyncio.get_running_loop().time
        self._sent_at = 0.0
        self._is_sending = False

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
        finally:
            await _close(self._body)

    async def _pump(self, send: Send) -> None:
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": self._headers})
        async for piece in self._body:
            await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, message: Message) -> None:
        self._sent_at, self._is_sending = self._clock(), True
        await send(message)
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
                    await self._send(send, {"type": "http.response.body", "body": HEARTBEAT, "more_body": True})


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


async def _close(body: AsyncIterator[bytes]) -> None:
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()
