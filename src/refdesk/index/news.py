"""Who waits for a document in the index is woken by the commit that brings it.

    replace, remove ── commit ──▶ NOTIFY refdesk_index ──▶ one connection per process ──▶ those who wait for that document

News only say when to look: they may be late, doubled or missed, so whoever waits also looks by itself now and then.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from refdesk.index.pgvector import CHANNEL
from refdesk.outside.postgres import listen


class IndexNews:
    """What the index has just shown or removed, by document id. Have ``run`` running."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Until cancelled. Wakes everybody after each connection: something may have been missed."""
        async for payload in listen(self._database_url, CHANNEL):
            document_id = payload.rpartition("@")[0]
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

    @property
    def waiting(self) -> int:
        """How many documents are waited for."""
        return len(self._waiting)

    def _everybody(self) -> set[asyncio.Event]:
        return set().union(*self._waiting.values())
