"""Streams of answers that another process writes, when this one shuts down: they end at once, and their readers go on there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from refdesk.contracts.errors import RefdeskError


class Leaving:
    """``writes`` tells whether this process writes a log: its readers stay until it ends."""

    def __init__(self, writes: Callable[[str], bool]) -> None:
        self._writes = writes
        self._following: set[asyncio.Timeout] = set()
        """One for each stream of an answer that another process writes."""

    def leave(self) -> None:
        for reading in self._following:
            reading.reschedule(0)  # long ago

    @asynccontextmanager
    async def until_we_leave(self, log_id: str, *, saying: type[RefdeskError] | None = None) -> AsyncIterator[None]:
        """Ends the block when this process shuts down and another one writes the answer: quietly, or with this error."""
        reading = asyncio.timeout(None)
        try:
            async with reading:
                if not self._writes(log_id):
                    self._following.add(reading)
                yield
        except TimeoutError:
            if not reading.expired():
                raise
            if saying is not None:
                raise saying from None
        finally:
            self._following.discard(reading)
