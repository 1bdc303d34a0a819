"""Who waits for a document in the index is woken by the commit that brings it, or that records its new standing.

    replace, remove, note ── commit ──▶ NOTIFY refdesk_index ──▶ one connection per process ──▶ those who wait for that document

News only say when to look: they may be late, doubled or missed, so whoever waits also looks by itself now and then.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import takewhile

from refdesk.outside.postgres.database import listen

CHANNEL = "refdesk_index"
"""Where a commit is announced, as ``<document_id>@<version>``."""

RECENT_S = 10.0
"""Longer than from the look at a question's sources to the reading of its answer."""


class IndexNews:
    """What has just changed in the index or the record of standings, by document id. Have ``run`` running."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.listeners: list[Callable[[str], None]] = []
        """Each is told of every document that there is news of."""
        self._recent: dict[str, float] = {}
        """When there was news of a document (``time.monotonic``), the oldest first; "" for a connection that began."""

    async def run(self) -> None:
        """Until cancelled. Wakes everybody after each connection: something may have been missed."""
        async for payload in listen(self._database_url, CHANNEL):
            document_id = payload.rpartition("@")[0]
            self._remember(document_id)
            for listener in self.listeners:
                listener(document_id)
            for woken in list(self._waiting.get(document_id, ())) if document_id else self._everybody():
                woken.set()

    @contextmanager
    def of(self, document_ids: Collection[str]) -> Iterator[asyncio.Event]:
        """An event that is set by every change to one of these documents from now on; clear it, then look."""
        woken = asyncio.Event()
        for document_id in document_ids:
            self._waiting[document_id].add(woken)
        try:
            yield woken
        finally:
            for document_id in document_ids:
                self._waiting[document_id].discard(woken)
                if not self._waiting[document_id]:
                    del self._waiting[document_id]

    def recently(self, document_ids: Collection[str]) -> bool:
        """Whether there may have been news of one of these in the last ``RECENT_S``: for who looked before they listened."""
        self._forget_old()
        return not self._recent.keys().isdisjoint(("", *document_ids))

    def recent(self) -> list[str]:
        """The documents that there was news of in the last ``RECENT_S``."""
        self._forget_old()
        return [document_id for document_id in self._recent if document_id]

    @property
    def waiting(self) -> int:
        """How many documents are waited for."""
        return len(self._waiting)

    def _remember(self, document_id: str) -> None:
        self._recent.pop(document_id, None)
        self._recent[document_id] = time.monotonic()
        self._forget_old()

    def _forget_old(self) -> None:
        long_ago = time.monotonic() - RECENT_S
        for document_id in list(takewhile(lambda known: self._recent[known] < long_ago, self._recent)):
            del self._recent[document_id]

    def _everybody(self) -> set[asyncio.Event]:
        return set().union(*self._waiting.values())
