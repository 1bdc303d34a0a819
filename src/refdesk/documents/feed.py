"""The feed: what becomes of documents, told to everybody who watches and may read them.

    commit ──NOTIFY id──▶ listener ──ids, collected──▶ one query per burst ──▶ each watcher, by its own scope

One listener and one query per burst serve all watchers of a process, whichever replica made the change. A watcher that
falls too far behind, or whose listener lost its connection and may have missed something, is cut off: it connects again
and lists anew. The feed repeats nothing and promises no history.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from refdesk.contracts.access import Principal, Scope
from refdesk.contracts.documents import Document
from refdesk.contracts.errors import Overloaded, TooManyRequests, Unavailable
from refdesk.documents.store import Changed, DocumentStore
from refdesk.outside.postgres.database import listen
from refdesk.settings.documents import FeedLimits

logger = logging.getLogger(__name__)

CHANNEL = "refdesk_documents"
BURST = 200
"""Documents looked up at once."""
BEHIND_MAX = 1000
"""Undelivered changes a watcher may pile up."""
READY_S = 5.0
RETRY_S = 1.0


class Gone(msgspec.Struct, frozen=True):
    """The document was deleted, or may no longer be read by this watcher."""

    id: str


class Watcher:
    """One reader of the feed; iterating ends when it is cut off."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._waiting: asyncio.Queue[Document | Gone | None] = asyncio.Queue()
        self._open = True

    def offer(self, change: Changed) -> None:
        if self._open and (told := _told(change, self._scope)) is not None:
            self._waiting.put_nowait(told)
            if self._waiting.qsize() > BEHIND_MAX:
                self.cut_off()

    def cut_off(self) -> None:
        self._open = False
        self._waiting.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Document | Gone]:
        while (told := await self._waiting.get()) is not None:
            yield told


class DocumentFeed:
    """One per process. ``run`` must run for watchers to be told anything."""

    def __init__(
        self,
        store: DocumentStore,
        *,
        database_url: str,
        limits: FeedLimits = FeedLimits(),  # noqa: B008 (frozen)
    ) -> None:
        self._store = store
        self._limits = limits
        self._of_principal: Counter[str] = Counter()
        self._database_url = database_url
        self._watchers: set[Watcher] = set()
        self._changed: dict[str, None] = {}
        self._work = asyncio.Event()
        self._listening = asyncio.Event()
        self._leaving = False

    async def run(self) -> None:
        """Listen and tell until cancelled; the database's absence does not end it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._tell_forever())

    @asynccontextmanager
    async def watch(self, principal: Principal) -> AsyncIterator[Watcher]:
        """Everything that happens from now on inside the principal's scope. Raises Unavailable, Overloaded, TooManyRequests."""
        if self._leaving:
            raise Unavailable("This process is shutting down. Connect again.")
        await self._wait_listening()
        self._check_room(principal)
        watcher = Watcher(principal.scope)
        self._watchers.add(watcher)
        self._of_principal[principal.id] += 1
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self._of_principal -= Counter({principal.id: 1})

    def _check_room(self, principal: Principal) -> None:
        """One principal does not take all places."""
        most, share = self._limits.watchers_max, self._limits.per_principal_max
        if self._of_principal[principal.id] >= share:
            raise TooManyRequests(
                f"You watch documents {share} times already (REFDESK_FEED_WATCHERS_PER_PRINCIPAL_MAX). Close one.",
                limit=share,
                retry_after_s=30,
            )
        if len(self._watchers) >= most:
            raise Overloaded(
                f"{most} clients watch already (REFDESK_FEED_WATCHERS_MAX). Try later.", limit=most, retry_after_s=30
            )

    def leave(self) -> None:
        """End what every watcher reads, and take no other one: the process shuts down, and a feed has no end of its own."""
        self._leaving = True
        self._cut_off_all()

    async def _wait_listening(self) -> None:
        try:
            async with asyncio.timeout(READY_S):
                await self._listening.wait()
        except TimeoutError:
            raise Unavailable("The Document Service is not connected to its database yet. Try again.") from None

    async def _listen(self) -> None:
        async for document_id in listen(self._database_url, CHANNEL):
            if document_id:
                self._changed[document_id] = None
                self._work.set()
            else:
                self._cut_off_all()
                self._listening.set()

    def _cut_off_all(self) -> None:
        for watcher in self._watchers:
            watcher.cut_off()

    async def _tell_forever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._changed:
                await self._tell(self._take())

    def _take(self) -> list[str]:
        ids = list(self._changed)[:BURST]
        for document_id in ids:
            del self._changed[document_id]
        return ids

    async def _tell(self, ids: list[str]) -> None:
        if not self._watchers:
            return
        try:
            changes = await self._store.changed(ids)
        except Unavailable as error:
            logger.warning("cannot look up changed documents yet: %s", error)
            self._changed.update(dict.fromkeys(ids))
            await asyncio.sleep(RETRY_S)
            return
        for change in changes:
            for watcher in self._watchers:
                watcher.offer(change)


def _told(change: Changed, scope: Scope) -> Document | Gone | None:
    """What a scope learns of a change: only about documents that it can read, or could before."""
    if change.document is not None and scope.allows(change.audience):
        return change.document
    if scope.allows([*change.audience, *change.readers_before]):
        return Gone(id=change.document_id)
    return None
