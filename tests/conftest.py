"""What every test may ask for: the real servers, started once per session, and databases of one's own on them."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from refdesk.app.embedded.stack import StackOptions, StackUrls, running_stack, with_database

# How fast examples are made and run is the machine's business, and a busy one's tests are no less right.
settings.register_profile("refdesk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("refdesk")


if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a background job of a script, nohup: children would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StackUrls]:
    """A running stack in a directory of its own, shared by the whole session."""
    started: asyncio.Future[StackUrls] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()
    holder = asyncio.create_task(_hold_stack(tmp_path_factory.mktemp("servers"), started=started, done=done))
    await asyncio.wait((started, holder), return_when=asyncio.FIRST_COMPLETED)
    if holder.done():
        holder.result()
    yield started.result()
    done.set()
    await holder


async def _hold_stack(data_dir: Path, *, started: asyncio.Future[StackUrls], done: asyncio.Event) -> None:
    """A stack must be left in the task that entered it; a fixture's two halves may run in two."""
    async with running_stack(StackOptions(data_dir=data_dir)) as stack:
        started.set_result(stack.urls)
        await done.wait()


@pytest.fixture
async def fresh_database(servers: StackUrls) -> AsyncIterator[str]:
    """The URL of a new, empty database with pgvector in it, dropped after the test."""
    name = f"test_{secrets.token_hex(8)}"
    url = with_database(servers.documents_database_url, name=name)
    async with await psycopg.AsyncConnection.connect(servers.documents_database_url, autocommit=True) as server:
        await server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("CREATE EXTENSION vector")
    yield url
    async with await psycopg.AsyncConnection.connect(servers.documents_database_url, autocommit=True) as server:
        await server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def nats_url(servers: StackUrls) -> str:
    """Shared by the session: use stream names of your own."""
    return servers.nats_url


@pytest.fixture(scope="session")
def valkey_url(servers: StackUrls) -> str:
    """Shared by the session: use a key prefix of your own."""
    return servers.valkey_url
