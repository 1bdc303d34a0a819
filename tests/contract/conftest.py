"""An index of each engine: PostgreSQL's always, Qdrant's where ``REFDESK_TEST_QDRANT_URL`` names a server."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from psycopg_pool import AsyncConnectionPool
from tests.contract.given import DIMENSIONS

from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import MIGRATIONS, Engine, Generation, open_generation
from refdesk.index.pgvector import searching as pgvector_searching
from refdesk.index.port import ChunkIndex
from refdesk.index.qdrant import searching as qdrant_searching
from refdesk.index.qdrant.server import Qdrant, QdrantSettings, open_qdrant
from refdesk.outside.postgres.database import migrate, open_pool

QDRANT_URL = os.environ.get("REFDESK_TEST_QDRANT_URL")
QDRANT_GRPC_PORT = os.environ.get("REFDESK_TEST_QDRANT_GRPC_PORT")
QDRANT_API_KEY = os.environ.get("REFDESK_TEST_QDRANT_API_KEY")


def qdrant_settings(*, prefix: str) -> QdrantSettings:
    """Skips the test, loudly, where no Qdrant is named."""
    if QDRANT_URL is None:
        pytest.skip("No Qdrant: set REFDESK_TEST_QDRANT_URL to run the index's tests on it, too.")
    port = int(QDRANT_GRPC_PORT) if QDRANT_GRPC_PORT else None
    return QdrantSettings(url=QDRANT_URL, api_key=QDRANT_API_KEY, grpc_port=port, prefix=prefix)


@asynccontextmanager
async def own_qdrant() -> AsyncIterator[Qdrant]:
    """A connection whose collections are deleted at the end."""
    prefix = f"test_{secrets.token_hex(6)}"
    async with open_qdrant(qdrant_settings(prefix=prefix)) as qdrant:
        yield qdrant
        for collection in (await qdrant.client.get_collections()).collections:
            if collection.name.startswith(prefix):
                await qdrant.client.delete_collection(collection.name)


@pytest.fixture(params=["pgvector", "qdrant"])
def engine(request: pytest.FixtureRequest) -> Engine:
    kind: Engine = request.param
    return kind


@pytest.fixture
async def pool(fresh_database: str) -> AsyncIterator[AsyncConnectionPool]:
    async with open_pool(fresh_database, name="test index", size_max=8) as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


@pytest.fixture
async def engines(pool: AsyncConnectionPool, engine: Engine) -> AsyncIterator[Engines]:
    if engine == "pgvector":
        yield Engines(pool)
        return
    async with own_qdrant() as qdrant:
        yield Engines(pool, qdrant=qdrant)


@pytest.fixture
async def generation(pool: AsyncConnectionPool, engine: Engine, engines: Engines) -> Generation:
    generation = await open_generation(pool, engine=engine, model="test", dimensions=DIMENSIONS, chunking="1")
    await engines.prepare(generation)
    return generation


@pytest.fixture
def index(engines: Engines, generation: Generation) -> ChunkIndex:
    return engines.index(generation)


@pytest.fixture
def pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scope is small: the arms for large scopes are under test."""
    for module in (pgvector_searching, qdrant_searching):
        monkeypatch.setattr(module, "EXACT_DOCUMENTS_MAX", -1)
