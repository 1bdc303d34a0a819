"""Fairness between documents: each waits for documents of its own size or smaller, never for larger ones.

    every document   a hand of the worker takes it up, reads it, and if it is small sees it through
    more bytes       steps aside and is read in the lane for reading
    more chunks      steps aside and is embedded and written in the lane of its size

Stepping aside frees the hand, so that the next document is taken up. A lane has few places, given in the order of arrival; in
the model's calls every document in hand or in a lane has an equal share. So the smallest wait for a hand only, and
even the largest goes on all the time. Who waits for a place keeps little more than its event in memory: what was read is
dropped when others' texts are kept already, and read again when its turn has come.

What this does not do: bound how many wait (the consumer does, with ``aside_max``).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from refdesk.settings.indexing import LaneSettings


class Lane:
    """A few places, first come, first served."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)

    @property
    def is_full(self) -> bool:
        return self._places.locked()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        async with self._places:
            yield


class Lanes:
    """The lanes of one process."""

    def __init__(self, settings: LaneSettings | None = None) -> None:
        self._settings = settings or LaneSettings()
        self.reading = Lane(1)
        self._medium = Lane(self._settings.places)
        self._large = Lane(self._settings.places)
        self._kept = 0

    @property
    def chunks_staged(self) -> int:
        return self._settings.chunks_staged

    def is_long(self, content: bytes) -> bool:
        """Whether it may take long to read."""
        return len(content) > self._settings.bytes_small

    def of(self, chunks: int) -> Lane | None:
        """Where a document of so many chunks is embedded and written; None: right where it is."""
        if chunks <= self._settings.chunks_small:
            return None
        return self._medium if chunks <= self._settings.chunks_medium else self._large

    @asynccontextmanager
    async def keeping(self, chunks: int) -> AsyncIterator[bool]:
        """Whether so many chunks may be kept in memory for the length of the block."""
        fits = self._kept + chunks <= self._settings.chunks_kept
        self._kept += chunks if fits else 0
        try:
            yield fits
        finally:
            self._kept -= chunks if fits else 0
