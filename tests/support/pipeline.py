"""From a write to the index and back: a real Document Service with its relay, a real indexer, the AI side's operations."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Principal
from refdesk.documents.relay import Relay
from refdesk.documents.states import StateConsumer
from refdesk.index.ledger import generations
from refdesk.index.ledger.generations import Generation, open_generation
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.indexing.batching import EmbeddingBatcher
from refdesk.indexing.chunking import chunk
from refdesk.indexing.dead_letters import MIGRATIONS, DeadLetters
from refdesk.indexing.parsing import ParserPool
from refdesk.indexing.pipeline import Indexing
from refdesk.indexing.worker import Worker, WorkerSettings
from refdesk.operations.reconcile import Patience, Reconciler
from refdesk.operations.replays import Replays
from refdesk.operations.routes import OperationRoutes
from refdesk.outside.document_service import open_document_service
from refdesk.outside.embedding.packaged import Embedder
from refdesk.outside.nats.broker import Broker
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.settings.servers import StreamSettings
from refdesk.web.http import create_app
from tests.integration.documents_desk import ADMINISTRATOR, Desk, authenticate, eventually, open_desk, running, serving
from tests.integration.nats_server import NatsServer
from tests.support.running import Said, command

OPERATOR_KEY = "operator administrators"
"""Read by `documents_desk.authenticate`: an administrator."""
QUICK = WorkerSettings(attempts_max=2, backoff_s=(0.05,), outage_pause_s_max=0.1, ack_wait_s=30.0, grace_s=0.5)


@dataclass(frozen=True)
class Pipeline:
    """``url`` serves the operations; the Document Service has an address of its own."""

    documents: Desk
    url: str
    index: PgvectorIndex
    generation: Generation
    pool: AsyncConnectionPool
    letters: DeadLetters
    worker: Worker
    reconciler: Reconciler

    async def reconcilers(self) -> list[Reconciler]:
        return [self.reconciler]

    async def call(
        self, method: str, path: str, *, by: Principal = ADMINISTRATOR, expect: int = 200, **options: Any
    ) -> Any:
        """One call to the operations; the decoded reply."""
        headers = {"Authorization": f"Bearer {' '.join([by.id, *by.groups])}"}
        request = self.documents.session.request(method, self.url + path, headers=headers, **options)
        async with request as response:
            assert response.status == expect, await response.text()
            return await response.json(content_type=None) if response.content_length else None

    async def command(self, *arguments: str, home: Path, url: str | None = None) -> Said:
        return await command(*arguments, home=home, REFDESK_URL=url or self.url, REFDESK_API_KEY=OPERATOR_KEY)

    async def document(self, document_id: str) -> Any:
        return (await self.documents.call("GET", f"/{document_id}", by=ADMINISTRATOR)).json

    async def settled(self, *, within_s: float = 60.0) -> None:
        """Nothing is pending, and the indexer has nothing in hand."""

        async def quiet() -> bool:
            pending = (await self.documents.service.backlog()).documents_pending
            return pending == 0 and await self.worker.consumer.pending_count() == 0

        await eventually(quiet, within_s=within_s)

    async def corrupt(self, statement: str, *parameters: Any) -> int:
        """Change the index behind everybody's back; returns how many rows."""
        async with self.pool.connection() as connection:
            await connection.execute(f"SET LOCAL search_path TO {self.generation.schema}, public".encode())
            return (await connection.execute(statement.encode(), parameters)).rowcount


@contextlib.asynccontextmanager
async def open_pipeline(
    *, nats: NatsServer, documents_url: str, index_url: str, folder: Path, embedder: Embedder
) -> AsyncIterator[Pipeline]:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        documents = await enter(open_desk(documents_url, folder / "blobs"))
        broker = await enter(Broker.connect(nats.url, name="test", streams=StreamSettings(bytes_max=64 << 20)))
        await broker.ensure_streams()
        pool = await enter(open_pool(index_url, name="test index"))
        await migrate(pool, generations.MIGRATIONS)
        await migrate(pool, MIGRATIONS)
        generation = await open_generation(
            pool, model=embedder.name, dimensions=embedder.dimensions, chunking="structure-200"
        )
        index = PgvectorIndex(pool, generation)
        client = await enter(open_document_service(documents.url, operator_key=OPERATOR_KEY, content_bytes_max=1 << 24))
        batcher = EmbeddingBatcher(embedder.embed)
        letters = DeadLetters(pool)
        indexing = Indexing(
            index=index,
            generation=generation.schema,
            documents=client,
            parsers=await enter(ParserPool()),
            chunker=partial(chunk, token_spans=embedder.token_spans),
            embeddings=batcher,
        )
        worker = Worker(broker=broker, indexing=indexing, embeddings=batcher, dead_letters=letters, settings=QUICK)
        await worker.consumer.ensure()
        reconciler = Reconciler(index=index, documents=client, patience=Patience(settle_s=0.0))

        async def reconcilers() -> list[Reconciler]:
            return [reconciler]

        routes = OperationRoutes(letters=letters, replays=Replays(letters, documents=client), reconcilers=reconcilers)
        url = await enter(serving(create_app(routes.endpoints(), authenticate=authenticate)))
        relay = Relay(documents.outbox, broker=broker, database_url=documents.database_url)
        await enter(running(relay.run, StateConsumer(documents.store, broker=broker).run, worker.run))
        await eventually(lambda: _all_listen(documents))
        yield Pipeline(documents, url, index, generation, pool, letters, worker, reconciler)


async def _all_listen(documents: Desk) -> bool:
    """The feed and the relay: whoever is cancelled while it connects leaves a socket behind."""
    [(count,)] = await documents.query(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen%%'"
    )
    return bool(count >= 2)
