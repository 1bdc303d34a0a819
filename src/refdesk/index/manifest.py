"""What the index holds of every document, and letting a document be applied anew.

The index applies only what is newer than what it has. A row that is wrong at the right version would therefore stay wrong
for ever; `reopen` lowers the version it claims, so that the current one counts as newer and is applied as any other.
"""

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import msgspec
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from refdesk.index.generations import Generation, Role, enter, enter_to_change
from refdesk.outside.postgres.database import load_queries, transaction


class Holding(msgspec.Struct, frozen=True):
    """What the index has of one document. ``removed`` is a tombstone; ``whole`` says that no chunk lacks a part."""

    key: int
    document_id: str
    version: int
    removed: bool
    readers: list[str]
    tags: list[str]
    content_sha256: str
    whole: bool


class IndexManifest:
    """The holdings of one generation. Every method raises Unavailable when PostgreSQL does not answer.

    With ``role``, also when the generation has not that role any more (GenerationMoved).
    """

    def __init__(self, pool: AsyncConnectionPool, generation: Generation, *, role: Role | None = None) -> None:
        self._pool = pool
        self._generation = generation
        self._role = role
        self._queries = load_queries(files("refdesk.index") / "manifest.sql")

    async def page(self, *, after: int = 0, count: int) -> list[Holding]:
        """Holdings with a key above ``after``, in the order of keys; fewer than ``count`` are the last."""
        return await self._fetch(self._queries.page, {"after": after, "count": count})

    async def of(self, document_ids: Iterable[str]) -> dict[str, Holding]:
        """The holdings of these documents by id; of what the index never heard of there is none."""
        holdings = await self._fetch(self._queries.of, {"document_ids": list(document_ids)})
        return {holding.document_id: holding for holding in holdings}

    async def reopen(self, seen: Holding, *, version: int, readers: Iterable[str]) -> bool:
        """Claim only ``version`` of a document, with these readers from now on; False when it has changed since it was seen.

        What is not whole leaves the search until it is applied anew; what is stays searchable.
        """
        values = {"key": seen.key, "seen_version": seen.version, "version": version, "readers": list(readers)}
        async with transaction(self._pool) as connection:
            await enter_to_change(connection, self._generation, role=self._role)
            cursor = await connection.execute(self._queries.reopen, values)
            if await cursor.fetchone() is None:
                return False
            if not seen.whole:
                await connection.execute(self._queries.delete_chunks, {"key": seen.key})
                await connection.execute(self._queries.delete_postings, {"key": seen.key})
        return True

    async def _fetch(self, query: bytes, values: dict[str, Any]) -> list[Holding]:
        async with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await enter(connection, self._generation, role=self._role)
            await cursor.execute(query, values)
            return [msgspec.convert(row, Holding) for row in await cursor.fetchall()]
