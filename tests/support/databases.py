"""Databases of a test's own on the servers that a session shares."""

import contextlib
import secrets
from collections.abc import AsyncIterator

import psycopg
from psycopg import sql

from refdesk.app.embedded.stack import StackUrls, with_database

PRISTINE = "pristine"
"""Has the vector extension and nothing else; every test's database is a copy of its files."""


async def prepare(servers: StackUrls) -> None:
    """Once after their start. What is on them is thrown away with them: nothing waits for the disk."""
    async with await _connected(servers) as server:
        await server.execute("ALTER SYSTEM SET fsync = off")
        await server.execute("SELECT pg_reload_conf()")
        await server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(PRISTINE)))
    url = with_database(servers.documents_database_url, name=PRISTINE)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("CREATE EXTENSION vector")


@contextlib.asynccontextmanager
async def own_database(servers: StackUrls) -> AsyncIterator[str]:
    """The URL of a new, empty database with pgvector in it, dropped after the block."""
    name = f"test_{secrets.token_hex(8)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    async with await _connected(servers) as server:
        await server.execute(create.format(sql.Identifier(name), sql.Identifier(PRISTINE)))
    yield with_database(servers.documents_database_url, name=name)
    async with await _connected(servers) as server:
        await server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def _connected(servers: StackUrls) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(servers.documents_database_url, autocommit=True)
