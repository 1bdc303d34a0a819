"""The engines behind the port: which one a generation is in, and its index there. The only module of `index` that names both."""

from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.errors import ConfigurationError
from refdesk.index.ledger.generations import Generation, Role
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.index.port import ChunkIndex
from refdesk.index.qdrant.collection import Collection
from refdesk.index.qdrant.index import QdrantIndex
from refdesk.index.qdrant.server import Qdrant


class Engines:
    """PostgreSQL, which has the ledger of every generation; and Qdrant, where there is one."""

    def __init__(self, pool: AsyncConnectionPool, *, qdrant: Qdrant | None = None) -> None:
        self._pool = pool
        self._qdrant = qdrant

    def has(self, generation: Generation) -> bool:
        """Whether a setting names where it is."""
        return generation.engine == "pgvector" or self._qdrant is not None

    async def look(self) -> None:
        """Raises Unavailable when an engine beside PostgreSQL does not answer."""
        if self._qdrant is not None:
            await self._qdrant.look()

    def index(self, generation: Generation, *, role: Role | None = None) -> ChunkIndex:
        """Raises ConfigurationError when it is in an engine that no setting names."""
        if generation.engine == "pgvector":
            return PgvectorIndex(self._pool, generation, role=role)
        return QdrantIndex(self._pool, self._collection(generation), generation, role=role)

    async def prepare(self, generation: Generation) -> None:
        """Make what the engine needs before an index is used. Raises Unavailable, ConfigurationError."""
        if generation.engine == "qdrant":
            await self._collection(generation).ensure()

    async def discard(self, generation: Generation) -> None:
        """Delete what the engine has of a generation that the ledger has dropped. Raises Unavailable, ConfigurationError."""
        if generation.engine == "qdrant":
            await self._collection(generation).drop()

    def _collection(self, generation: Generation) -> Collection:
        if self._qdrant is None:
            raise ConfigurationError(
                f"Generation {generation.id} of the index is in Qdrant, and no setting says where that is. Set "
                "REFDESK_QDRANT_URL."
            )
        return Collection(self._qdrant, generation)
