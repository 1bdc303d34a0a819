"""Running a named query and taking its rows."""

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection


async def rows(connection: AsyncConnection, query: bytes, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(query, values)
    return await cursor.fetchall()


async def row(connection: AsyncConnection, query: bytes, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    cursor = await connection.execute(query, values)
    return await cursor.fetchone()


async def one(connection: AsyncConnection, query: bytes, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """The one row of a query that always has one."""
    found = await row(connection, query, values)
    if found is None:
        raise LookupError("the query gave no row")
    return found
