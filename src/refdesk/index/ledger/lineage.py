"""What the index side remembers of the past that it shares with the documents and the broker (docs/adr/0026)."""

from datetime import datetime
from importlib.resources import files
from typing import Literal

import msgspec
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.errors import Conflict
from refdesk.index.ledger.generations import Generation, enter
from refdesk.index.ledger.statements import rows
from refdesk.outside.postgres.database import load_queries, one_statement, transaction

Doubt = Literal["restored", "rewound", "foreign"]
"""``restored``: the documents lack changes that the index has heard of. ``rewound``: the index lacks changes that its recorder
has acknowledged. ``foreign``: the documents know none of those in the index."""


class Change(msgspec.Struct, frozen=True):
    """A change that was heard of; ``content_sha256`` None: a deletion."""

    document_id: str
    version: int
    content_sha256: str | None


class Memory(msgspec.Struct, frozen=True):
    """``recorded`` is the highest sequence that was recorded of the stream made at ``stream_created_at``; ``notes`` only grows.

    The newest change is the one with the latest time among those heard of.
    """

    stream_created_at: datetime | None
    recorded: int
    notes: int
    newest_id: str | None
    newest_version: int | None
    newest_content: str | None
    doubt: Doubt | None

    @property
    def newest(self) -> Change | None:
        if self.newest_id is None or self.newest_version is None:
            return None
        return Change(self.newest_id, self.newest_version, self.newest_content)


class ForeignDocuments(Conflict):
    """The documents know none of those in the index: it was built from others."""


class LineageMemory:
    """In the index database. Every method raises Unavailable when PostgreSQL does not answer."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._queries = load_queries(files("refdesk.index.ledger") / "lineage.sql")

    async def recall(self) -> Memory:
        async with one_statement(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(self._queries.recall)
            return msgspec.convert(await cursor.fetchone(), Memory)

    async def begin_stream(self, created_at: datetime, *, recorded: int) -> None:
        """Another stream: it is followed from this sequence on."""
        await self._do(self._queries.begin_stream, created_at=created_at, recorded=recorded)

    async def doubt(self, doubt: Doubt | None) -> None:
        await self._do(self._queries.doubt, doubt=doubt)

    async def forget_standings(self) -> None:
        await self._do(self._queries.forget_standings)

    async def settle(self, *, recorded: int) -> None:
        """Nothing is in doubt any more, and what was heard of before is no evidence."""
        await self._do(self._queries.settle, recorded=recorded)

    async def eldest(self, *, generation: Generation, count: int) -> list[str]:
        """Ids of the documents that have been here longest."""
        async with transaction(self._pool) as connection:
            await enter(connection, generation)
            return [row[0] for row in await rows(connection, self._queries.eldest, {"count": count})]

    async def require_kin(self) -> None:
        """Raises ForeignDocuments while the index and the documents are not of one past at all."""
        if (await self.recall()).doubt == "foreign":
            raise ForeignDocuments(
                "The documents know none of those in the index: an empty database, or another one. Set "
                "REFDESK_DOCUMENTS_DATABASE_URL right, or run `refdesk reconcile`: the index forgets all but these."
            )

    async def _do(self, query: bytes, **values: object) -> None:
        async with one_statement(self._pool) as connection:
            await connection.execute(query, values)
