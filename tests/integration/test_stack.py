"""The embedded servers, for real."""

import psycopg

from refdesk.app import embedded_nats, embedded_valkey
from refdesk.app.stack import StackUrls


async def test_the_three_databases_exist_and_the_index_has_vectors(servers: StackUrls) -> None:
    """`SELECT` works on each, and the vector type in `index`."""
    for url in (servers.documents_database_url, servers.index_database_url, servers.access_database_url):
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("SELECT 1")
    async with await psycopg.AsyncConnection.connect(servers.index_database_url) as connection:
        row = await (await connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'::vector")).fetchone()
    assert row == (1.0,)


async def test_a_fresh_database_is_empty_and_has_vectors(fresh_database: str) -> None:
    """No tables of ours, but the extension."""
    async with await psycopg.AsyncConnection.connect(fresh_database) as connection:
        tables = await (await connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'")).fetchall()
        await connection.execute("SELECT '[1]'::vector")
    assert tables == []


async def test_nats_and_valkey_answer(servers: StackUrls, nats_url: str, valkey_url: str) -> None:
    """Both at the addresses that were given."""
    assert await embedded_nats.answers(nats_url)
    assert valkey_url.startswith("unix:///")
