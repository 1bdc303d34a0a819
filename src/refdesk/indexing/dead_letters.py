"""What could not be indexed: attempts while they last, then a dead letter that can be read and replayed.

One row per document version (or per payload that names none), whatever is delivered twice: counting an attempt and
giving up are the same upsert. A success, or a newer version, forgets the row.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from typing import Any

import msgspec
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from refdesk.outside import telemetry
from refdesk.outside.postgres.database import load_queries, transaction

MIGRATIONS = resources.files("refdesk.indexing") / "migrations"

LETTERS_PER_PAGE_MAX = 200
_LAST_ID = (1 << 63) - 1


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What was to be done. ``document_id`` and ``version`` are None when the payload could not be read."""

    event_id: str | None
    subject: str
    payload: bytes
    document_id: str | None
    version: int | None

    @property
    def key(self) -> str:
        """Equal for every delivery of the same work."""
        if self.document_id is not None and self.version is not None:
            return f"{self.document_id}@{self.version}"
        return f"payload:{hashlib.sha256(self.subject.encode() + self.payload).hexdigest()}"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong in one attempt. ``final``: another would not help. ``log`` is what the indexer's log says of it."""

    reason: str
    code: str
    final: bool = False
    log: str = ""


class Failure(msgspec.Struct, frozen=True):
    """How often the work has failed, and whether it is given up."""

    attempts: int
    final: bool


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Work that was given up. Open until it is replayed or discarded."""

    id: int
    event_id: str | None
    subject: str
    payload: bytes
    document_id: str | None
    version: int | None
    reason: str
    code: str
    attempts: int
    log: str
    first_failed_at: datetime
    last_failed_at: datetime
    replayed_at: datetime | None
    discarded_at: datetime | None


class DeadLetters:
    """The table ``dead_letters`` of the index database. Every method raises Unavailable when it does not answer."""

    def __init__(self, pool: AsyncConnectionPool, *, log_characters_max: int = 10_000) -> None:
        self._pool = pool
        self._log_characters_max = log_characters_max
        self._queries = load_queries(resources.files("refdesk.indexing") / "dead_letters.sql")

    async def record(self, work: Work, fault: Fault, *, attempts_max: int) -> Failure:
        """Count a failed attempt; it is the last one when the fault is final, or when ``attempts_max`` is reached.

        Of the logs of all attempts in a row the end is kept, which is what tells: at most ``log_characters_max``.
        """
        parameters = {
            "letter_key": work.key,
            **msgspec.structs.asdict(work),
            "event_id": work.event_id and work.event_id.replace("\x00", ""),
            "reason": fault.reason.replace("\x00", ""),
            "code": fault.code,
            "log": fault.log.replace("\x00", "")[-self._log_characters_max :],
            "log_characters_max": self._log_characters_max,
            "attempts_max": attempts_max,
            "final": fault.final,
        }
        async with transaction(self._pool) as connection, connection.cursor(row_factory=class_row(Failure)) as cursor:
            await cursor.execute(self._queries.record_failure, parameters)
            recorded = await cursor.fetchone()
        assert recorded is not None
        return recorded

    async def forget(self, document_id: str, version: int) -> None:
        """This version is searchable or superseded: failures of it and of older ones do not matter any more."""
        async with transaction(self._pool) as connection:
            await connection.execute(self._queries.forget_failures, {"document_id": document_id, "version": version})

    async def list(
        self, *, limit: int = 50, before: int | None = None, code: str | None = None, reason: str | None = None
    ) -> list[DeadLetter]:
        """Open dead letters, newest first; ``before`` is the id of the last one already seen.

        ``code`` is one whole code, ``reason`` a part of the reason.
        """
        parameters = {
            "limit": min(limit, LETTERS_PER_PAGE_MAX),
            "before": _LAST_ID if before is None else before,
            "code": code,
            "reason": reason,
        }
        async with (
            transaction(self._pool) as connection,
            connection.cursor(row_factory=class_row(DeadLetter)) as cursor,
        ):
            await cursor.execute(self._queries.list_letters, parameters)
            return await cursor.fetchall()

    async def count(self) -> int:
        """How many dead letters are open."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(self._queries.count_letters)
            row = await cursor.fetchone()
        assert row is not None
        return int(row[0])

    async def measure(self) -> None:
        """Set the metric. Raises Unavailable; it is NaN then, never an old value."""
        with telemetry.known_or_nan(telemetry.dlq_size):
            telemetry.dlq_size.set(await self.count())

    async def get(self, letter_id: int) -> DeadLetter | None:
        async with (
            transaction(self._pool) as connection,
            connection.cursor(row_factory=class_row(DeadLetter)) as cursor,
        ):
            await cursor.execute(self._queries.get_letter, {"id": letter_id})
            return await cursor.fetchone()

    async def mark_replayed(self, letter: DeadLetter) -> bool:
        """Whether the letter was still open as it was read: one that has failed again since then stays open."""
        return await self._mark(self._queries.mark_replayed, {"id": letter.id, "last_failed_at": letter.last_failed_at})

    async def mark_discarded(self, letter_id: int) -> bool:
        """Whether the letter was open."""
        return await self._mark(self._queries.mark_discarded, {"id": letter_id})

    async def _mark(self, query: bytes, parameters: Mapping[str, Any]) -> bool:
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(query, parameters)
            return cursor.rowcount == 1
