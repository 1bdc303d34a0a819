"""The pool of connections, on a real server."""

import psycopg

from refdesk.outside.postgres import open_pool, transaction


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
