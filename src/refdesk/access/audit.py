"""The audit log: who did what to which object, with which result. No content: no title, no text, no question.

    asked, changed, refused ── note ──▶ queue ── every 0.2 s ──▶ one INSERT ──▶ audit_log
    keys, index, dead letters ─ record ─────────────────────────────▶ (waited for, before it is done)

What people ask and write does not wait for the log: it is noted in memory, at most ``queue_max`` entries, and written beside.
While the database is away entries wait; when the queue is full, further ones are lost, counted and logged. A process that is
killed loses what it had not written: 0.2 s of it.

What administrators and operators do *is* written before it is done. While it cannot be written it is refused, so none of that is
lost; an entry says ``allowed`` before the act, and a second one ``failed`` if it did not come about.

The table refuses to be changed (``migrations/0006_audit.sql``). Entries go when they are older than ``retention_days``.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from importlib import resources
from itertools import islice
from typing import Any, Literal

import msgspec

from refdesk.access.clients import LOOPBACK, Network
from refdesk.access.policy import Action
from refdesk.contracts.errors import Unavailable
from refdesk.outside import telemetry
from refdesk.outside.postgres.database import load_queries, one_statement, transaction
from refdesk.outside.postgres.pool import Pool

logger = logging.getLogger(__name__)

Result = Literal["allowed", "denied", "failed"]
"""``denied``: by the policy, or for want of a key. ``failed``: let in, and not done."""
Writing = Literal["noted", "recorded"]

WRITINGS: Mapping[Action, Writing] = {
    "keys.manage": "recorded",
    "index.manage": "recorded",
    "dead_letters.manage": "recorded",
    "documents.operate": "noted",
    "documents.create": "noted",
    "documents.change": "noted",
    "documents.name": "noted",
    "documents.let_read": "noted",
    "answers.ask": "noted",
    "session.leave": "noted",
    "sessions.end": "noted",
    "feedback.read": "noted",
    "audit.read": "noted",
}
"""What is in the log when it is allowed; what is denied is, whatever it was."""
READING: frozenset[Action] = frozenset({"feedback.read", "audit.read"})
"""Those that are in the log although they only read: they show what others did."""

BATCH_MAX = 500
GATHER_S = 0.2
RETRY_S = 1.0
RECORD_S_MAX = 5.0
LAST_S_MAX = 2.0
FORGET_EVERY_S = 3600.0
FORGET_AT_ONCE = 5000
PAGE = 1000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log. ``did``: the route, without what stood in it; ``how``: what the caller was let in by."""

    at: datetime
    principal_id: str | None = None
    principal_name: str | None = None
    how: str | None = None
    action: str
    did: str
    object_id: str | None = None
    result: Result
    request_id: str | None = None
    address: str | None = None


class KeptEntry(Entry, frozen=True, kw_only=True):
    """As it stands in the log; later ones have larger ids."""

    id: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries; None: any. ``since`` belongs to them, ``until`` does not."""

    principal: str | None = None
    action: str | None = None
    object: str | None = None
    result: Result | None = None
    since: datetime | None = None
    until: datetime | None = None


class Audit:
    """One per process. ``run`` must run for what is noted to be written. ``trusted``: proxies that say whose address it is."""

    def __init__(
        self,
        pool: Pool,
        *,
        queue_max: int = 10_000,
        retention_days: int = 365,
        trusted: tuple[Network, ...] = LOOPBACK,
    ) -> None:
        self.trusted = trusted
        self._pool = pool
        self._queue_max = queue_max
        self._retention_days = retention_days
        self._queries = load_queries(resources.files("refdesk.access") / "audit.sql")
        self._noted: deque[Entry] = deque()
        self._work = asyncio.Event()
        self._writing = asyncio.Lock()
        self._is_losing = False

    def note(self, entry: Entry) -> None:
        """To be written soon. Never waits; lost, and counted, where too many wait already."""
        if len(self._noted) >= self._queue_max:
            telemetry.audit_lost.inc()
            if not self._is_losing:
                logger.error("the audit log's queue is full (%d): entries are lost", self._queue_max)
            self._is_losing = True
            return
        self._noted.append(entry)
        telemetry.audit_waiting.set(len(self._noted))
        self._work.set()

    async def record(self, entry: Entry) -> None:
        """Returns when it is written. Raises Unavailable: then what it tells of must not be done."""
        try:
            async with asyncio.timeout(RECORD_S_MAX):
                await self._add([entry])
        except (Unavailable, TimeoutError) as error:
            raise Unavailable(
                "This is written to the audit log before it is done, and that takes no entry now. Nothing was changed; try again."
            ) from error

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_forever())
            tasks.create_task(self._forget_forever())

    async def _write_forever(self) -> None:
        try:
            while True:
                await self._work.wait()
                await asyncio.sleep(GATHER_S)
                try:
                    await self.write()
                except Unavailable as error:
                    logger.warning("the audit log cannot be written now: %s", error)
                    await asyncio.sleep(RETRY_S)
        finally:
            try:
                async with asyncio.timeout(LAST_S_MAX):
                    await self.write()
            except (Unavailable, TimeoutError):
                telemetry.audit_lost.inc(len(self._noted))
                logger.exception("%d entries of the audit log are lost", len(self._noted))

    async def write(self) -> None:
        """Everything that is noted. Raises Unavailable, and keeps what is not written."""
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        while self._noted:
            batch = list(islice(self._noted, BATCH_MAX))
            try:
                await self._add(batch)
            except Unavailable:
                raise
            except Exception:
                telemetry.audit_lost.inc(len(batch))
                logger.exception("%d entries cannot be written to the audit log; they are lost", len(batch))
            for _ in batch:
                self._noted.popleft()
            telemetry.audit_waiting.set(len(self._noted))
        self._is_losing = False
        self._work.clear()

    async def _add(self, entries: Sequence[Entry]) -> None:
        columns = {name: [getattr(entry, name) for entry in entries] for name in Entry.__struct_fields__}
        async with one_statement(self._pool) as connection:
            await connection.execute(self._queries.add_entries, columns)

    async def page(self, wanted: Wanted, *, before: int | None, count: int) -> list[KeptEntry]:
        """Newest first, from below that id. Raises Unavailable."""
        return await self._entries("newest", {**msgspec.structs.asdict(wanted), "before": before, "count": count})

    async def pages(self, wanted: Wanted) -> AsyncIterator[list[KeptEntry]]:
        """All of them, oldest first, as many as are there when their turn comes. Raises Unavailable."""
        after = 0
        while found := await self._entries("oldest", {**msgspec.structs.asdict(wanted), "after": after, "count": PAGE}):
            yield found
            after = found[-1].id

    async def _entries(self, query: str, parameters: Mapping[str, Any]) -> list[KeptEntry]:
        async with one_statement(self._pool) as connection:
            rows = await (await connection.execute(self._queries[query], parameters)).fetchall()
        names = ("id", *Entry.__struct_fields__)
        return [KeptEntry(**dict(zip(names, row, strict=True))) for row in rows]

    async def _forget_forever(self) -> None:
        while True:
            try:
                while await self.forget() >= FORGET_AT_ONCE:
                    await asyncio.sleep(GATHER_S)
            except Unavailable as error:
                logger.warning("old entries of the audit log cannot be removed now: %s", error)
            await asyncio.sleep(FORGET_EVERY_S)

    async def forget(self) -> int:
        """Remove entries that were kept for long enough, a part of them; returns how many. Raises Unavailable."""
        async with transaction(self._pool) as connection:
            await connection.execute(self._queries.allow_forgetting)
            values = {"days": self._retention_days, "count": FORGET_AT_ONCE}
            return (await connection.execute(self._queries.forget, values)).rowcount
