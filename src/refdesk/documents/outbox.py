"""The outbox as its relay uses it: claim, mark, release, tell again. The statements are in ``outbox.sql``."""

from datetime import datetime
from importlib.resources import files
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from refdesk.documents.store import Row, fetch, outbox_row
from refdesk.outside.postgres.database import load_queries, transaction

RETELL_BATCH = 500
RETOLD_MAX = 3
"""How often a change is told again because nobody spoke of it. After that it is no loss, but something to reconcile."""


class OutboxEvent(msgspec.Struct, frozen=True):
    """A claimed row: an event to publish under its id."""

    id: str
    document_id: str
    version: int
    subject: str
    payload: bytes
    traceparent: str | None


class StreamMemory(msgspec.Struct, frozen=True):
    """What was last seen of a stream of the broker."""

    created_at: datetime
    last_sequence: int


class Outbox:
    """Rows are taken by their own state under a lease; any number of relays may share the table."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._sql = load_queries(files("refdesk.documents") / "outbox.sql")

    async def claim(self, *, count: int, lease_s: float) -> list[OutboxEvent]:
        """Up to ``count`` committed, unpublished rows, each document's in version order; ours for ``lease_s``."""
        async with transaction(self._pool) as connection:
            rows = await fetch(connection, self._sql.claim_events, {"count": count, "lease_s": lease_s})
        events = [msgspec.convert(row, OutboxEvent) for row in rows]
        return sorted(events, key=lambda event: (event.version, event.id))

    async def mark_published(self, ids: list[str], *, stream: str, last_sequence: int) -> None:
        """The broker has acknowledged these; none of them stands above ``last_sequence``."""
        parameters = {"ids": ids, "stream": stream, "last_sequence": last_sequence}
        async with transaction(self._pool) as connection:
            await connection.execute(self._sql.mark_published, parameters)

    async def release(self, ids: list[str]) -> None:
        """Give claimed rows back at once, for this relay or another."""
        async with transaction(self._pool) as connection:
            await connection.execute(self._sql.release_events, {"ids": ids})

    async def recall_streams(self) -> dict[str, StreamMemory]:
        async with transaction(self._pool) as connection:
            rows = await fetch(connection, self._sql.recall_streams, {})
        return {row["stream"]: msgspec.convert(row, StreamMemory) for row in rows}

    async def remember_stream(self, stream: str, memory: StreamMemory, *, lower: bool) -> None:
        """``lower`` lets the sequence go back; otherwise another relay's higher one stays."""
        parameters = {"stream": stream, "lower": lower, **msgspec.structs.asdict(memory)}
        async with transaction(self._pool) as connection:
            await connection.execute(self._sql.remember_stream, parameters)

    async def retell(self, *, pending_only: bool) -> int:
        """Put the current version of every document, or of every pending one, into the outbox again; returns how many.

        The events are made from the documents themselves and carry new ids, so that a broker which still remembers the
        old ones takes them. In batches, each its own transaction; started over, it only tells some of them twice.
        """
        total, after = 0, ""
        while batch := await self._retell_after(after, pending_only=pending_only):
            total, after = total + len(batch), batch[-1]
        return total

    async def retell_lost(self, *, after: int, through: int) -> int:
        """Tell again the pending documents whose newest event is at or before sequence ``through`` of the stream; returns how
        many. Those at or after ``after`` only: what is before was looked at.
        """
        parameters = {"after": after, "through": through, "retold_max": RETOLD_MAX, "count": RETELL_BATCH}
        total = 0
        while True:
            async with transaction(self._pool) as connection:
                await connection.execute(self._sql.one_at_a_time)
                rows = await fetch(connection, self._sql.lost_documents, parameters)
                await self._tell(connection, rows)
            total += len(rows)
            if len(rows) < RETELL_BATCH:
                return total

    async def _retell_after(self, after: str, *, pending_only: bool) -> list[str]:
        parameters = {"after": after, "pending_only": pending_only, "count": RETELL_BATCH}
        async with transaction(self._pool) as connection:
            rows = await fetch(connection, self._sql.documents_to_retell, parameters)
            await self._tell(connection, rows)
        return [row["id"] for row in rows]

    async def _tell(self, connection: AsyncConnection[Any], rows: list[Row]) -> None:
        """``rows`` are documents, each with the ``traceparent`` to go on in."""
        if not rows:
            return
        events = [outbox_row(row, traceparent=row["traceparent"], retold=row.get("retold", 0)) for row in rows]
        async with connection.cursor() as cursor:
            await cursor.executemany(self._sql.post_event, events)
        await connection.execute(self._sql.wake_relays)
