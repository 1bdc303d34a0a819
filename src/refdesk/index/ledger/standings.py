"""The record of standings: what is known of documents ahead of the index, while their changes wait to be applied to it.

    DOCUMENTS ──▶ Recorder ──▶ standings ─┐
        └───────▶ indexer ───▶ documents ─┴─▶ known: the newer of the two

The index knows the readers of each document as of the version it shows. A document that was deleted, or closed to somebody,
is in it as before until its event's turn comes. The record holds just those: a row per document whose newest event the index
has not applied, so it is as long as the backlog and no longer (docs/adr/0025).
"""

from collections.abc import Iterable
from importlib.resources import files

import msgspec
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import EVERYONE, Scope
from refdesk.contracts.events import DocumentChanged, DocumentDeleted
from refdesk.index.ledger.generations import Generation, enter
from refdesk.index.ledger.statements import rows
from refdesk.outside.postgres.database import load_queries, one_statement, transaction


class KnownStanding(msgspec.Struct, frozen=True):
    """The newest that the AI side knows of one document."""

    version: int
    deleted: bool
    readers: tuple[str, ...]

    @property
    def is_public(self) -> bool:
        return not self.deleted and EVERYONE in self.readers

    def allows(self, scope: Scope) -> bool:
        return not self.deleted and scope.allows(self.readers)


class Standings:
    """The record in the index database. Every method raises Unavailable when PostgreSQL does not answer."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._queries = load_queries(files("refdesk.index.ledger") / "standings.sql")

    async def note(self, event: DocumentChanged | DocumentDeleted, *, sequence: int) -> None:
        """Keep what the event says, if it is newer than what is known; wakes those who wait for news of the document.

        ``sequence`` is the event's on the stream: with everything below it that is acknowledged, it is recorded then.
        """
        values = {
            "document_id": event.document_id,
            "version": event.version,
            "deleted": isinstance(event, DocumentDeleted),
            "readers": [] if isinstance(event, DocumentDeleted) else list(event.readers),
            "content_sha256": None if isinstance(event, DocumentDeleted) else event.content_sha256,
            "occurred_at": event.occurred_at,
            "sequence": sequence,
        }
        async with one_statement(self._pool) as connection:
            await connection.execute(self._queries.note, values)

    async def pass_over(self, sequence: int) -> None:
        """Record that there is nothing to keep of this event."""
        async with one_statement(self._pool) as connection:
            await connection.execute(self._queries.pass_over, {"sequence": sequence})

    async def known(self, document_ids: Iterable[str], *, generation: Generation) -> dict[str, KnownStanding]:
        """The newest known standing of each document; those that nobody has heard of are absent."""
        async with transaction(self._pool) as connection:
            await enter(connection, generation)
            found = await rows(connection, self._queries.known, {"document_ids": list(document_ids)})
        return {row[0]: KnownStanding(row[1], row[2], tuple(row[3])) for row in found}

    async def is_reliable(self) -> bool:
        """False while a database was restored and the index is not put right yet (`lineage`)."""
        async with one_statement(self._pool) as connection:
            [[doubt]] = await rows(connection, self._queries.doubt, {})
        return doubt is None

    async def prune(self, *, generation: Generation) -> None:
        """Forget what the index shows by now."""
        async with transaction(self._pool) as connection:
            await enter(connection, generation)
            await connection.execute(self._queries.prune)
