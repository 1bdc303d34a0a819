"""The pool of connections, on a real server."""

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from refdesk.outside.postgres.database import one_statement, open_pool, pipelined, transaction


async def test_a_connection_that_the_server_has_closed_is_not_lent(fresh_database: str) -> None:
    """Nobody sees an error: each transaction after the closing has a connection that works."""
    async with (
        open_pool(fresh_database, name="test", size_min=3, size_max=3) as pool,
        await psycopg.AsyncConnection.connect(fresh_database, autocommit=True) as operator,
    ):
        await pool.wait()
        for _ in range(3):
            async with transaction(pool) as connection:
                served_by = connection.info.backend_pid
            ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'test'"
            await operator.execute(ended)
            async with transaction(pool) as connection:
                await connection.execute("SELECT 1")
                assert connection.info.backend_pid != served_by


async def test_a_pipeline_is_one_transaction(fresh_database: str) -> None:
    """What is written in it is seen by nobody before it is left, and by everybody then; its last rows are still there."""
    async with open_pool(fresh_database, name="test", size_min=2, size_max=2) as pool:
        async with one_statement(pool) as connection:
            await connection.execute("CREATE TABLE seen (what text)")
        async with pipelined(pool, b"BEGIN") as connection:
            await connection.execute("INSERT INTO seen VALUES ('first')")
            last = await connection.execute("INSERT INTO seen VALUES ('second') RETURNING what")
            assert await _seen(pool) == []
        assert await last.fetchall() == [("second",)]
        assert await _seen(pool) == ["first", "second"]


async def test_a_pipeline_that_fails_leaves_nothing_behind(fresh_database: str) -> None:
    """Neither rows nor a broken transaction: the next one on the same connection is one like any other."""
    async with open_pool(fresh_database, name="test", size_min=1, size_max=1) as pool:
        async with one_statement(pool) as connection:
            await connection.execute("CREATE TABLE seen (what text)")
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with pipelined(pool, b"BEGIN") as connection:
                await connection.execute("INSERT INTO seen VALUES ('lost')")
                await connection.execute("SELECT * FROM unseen")
        with pytest.raises(LookupError):
            async with transaction(pool) as connection:
                await connection.execute("INSERT INTO seen VALUES ('rolled back')")
                raise LookupError
        assert await _seen(pool) == []


async def _seen(pool: AsyncConnectionPool) -> list[str]:
    async with transaction(pool) as connection:
        cursor = await connection.execute("SELECT what FROM seen ORDER BY what LIMIT 10")
        return [what for (what,) in await cursor.fetchall()]
