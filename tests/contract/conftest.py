"""An index of each engine: PostgreSQL's always, Qdrant's where ``REFDESK_TEST_QDRANT_URL`` names a server."""

from collections.abc import AsyncIterator

import pytest
from psycopg_pool import AsyncConnectionPool
from tests.contract.given import DIMENSIONS
from tests.support.qdrant import own_qdrant

from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import MIGRATIONS, Engine, Generation, open_generation
from refdesk.index.pgvector import searching as pgvector_searching
from refdesk.index.port import ChunkIndex
from refdesk.index.qdrant import searching as qdrant_searching
from refdesk.outside.postgres.database import migrate, open_pool


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
