"""How long a service takes to say that it lives, asked again and again from a thread of its own, over one connection."""

import asyncio
import contextlib
import http.client
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from refdesk.indexing.priority import waits

PAUSE_S = 0.02
ANSWER_S_MAX = 60.0


@dataclass
class Heartbeat:
    """What was measured, in seconds: with, and without, what service and asker waited for a busy processor meanwhile."""

    raw_s: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: Exception | None = None

    def percentile(self, share: float) -> float:
        return sorted(self.seconds)[min(int(share * len(self.seconds)), len(self.seconds) - 1)]

    def __str__(self) -> str:
        raw = sorted(self.raw_s)
        p50, p99, last = (f"{1000 * self.percentile(share):.0f}" for share in (0.5, 0.99, 1.0))
        return (
            f"{len(raw)} looks: p50 {p50} ms, p99 {p99} ms, max {last} ms; with the wait for a processor "
            f"p99 {1000 * raw[int(0.99 * len(raw))]:.0f} ms, max {1000 * raw[-1]:.0f} ms"
        )


@contextlib.asynccontextmanager
async def listening(url: str, *, process_id: int) -> AsyncIterator[Heartbeat]:
    """Ask every `PAUSE_S` while the block lasts. ``process_id`` has the event loop that answers in its main thread."""
    heartbeat, stop = Heartbeat(), threading.Event()
    thread = threading.Thread(target=_listen, args=(heartbeat, stop, url, process_id))
    thread.start()
    try:
        yield heartbeat
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
    if heartbeat.failed is not None:
        raise heartbeat.failed


def _listen(heartbeat: Heartbeat, stop: threading.Event, url: str, process_id: int) -> None:
    try:
        with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S_MAX)) as connection:
            while not stop.wait(PAUSE_S):
                _look(heartbeat, connection, process_id)
    except (OSError, http.client.HTTPException, AssertionError) as error:
        heartbeat.failed = error


def _look(heartbeat: Heartbeat, connection: http.client.HTTPConnection, process_id: int) -> None:
    def starved_s() -> float:
        return waits(process_id).get(process_id, 0.0) + waits(os.getpid()).get(threading.get_native_id(), 0.0)

    begin, starved_before_s = time.monotonic(), starved_s()
    connection.request("GET", "/health/live")
    response = connection.getresponse()
    response.read()
    took_s = time.monotonic() - begin
    assert response.status == 200, response.status
    heartbeat.raw_s.append(took_s)
    heartbeat.seconds.append(max(took_s - (starved_s() - starved_before_s), 0.0))
