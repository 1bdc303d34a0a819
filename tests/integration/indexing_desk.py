"""An indexer on a real PostgreSQL, NATS and embedding model; a scripted HTTP server plays the Document Service.

Run as a program, it is one indexer process: ``python indexing_desk.py NATS_URL DATABASE_URL DOCUMENTS_URL CACHE``.
"""

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aiohttp import web

from refdesk.contracts.events import DocumentChanged, DocumentDeleted, encode
from refdesk.index.chunks import Chunk
from refdesk.index.ledger import generations
from refdesk.index.ledger.generations import open_generation
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.indexing.batching import EmbeddingBatcher
from refdesk.indexing.chunking import chunk
from refdesk.indexing.dead_letters import MIGRATIONS, DeadLetters
from refdesk.indexing.lanes import Lanes
from refdesk.indexing.parsing import ParserPool
from refdesk.indexing.pipeline import Indexing
from refdesk.indexing.worker import Worker, WorkerSettings
from refdesk.outside.document_service import open_document_service
from refdesk.outside.embedding.packaged import Embedder, open_packaged_embedder
from refdesk.outside.embedding.vectors import Vectors
from refdesk.outside.nats.broker import Broker
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.settings.indexing import LaneSettings
from refdesk.settings.servers import StreamSettings

OPERATOR_KEY = "operator-secret"
GENERATION = "test-generation"
QUICK = WorkerSettings(
    concurrency=4, attempts_max=3, backoff_s=(0.05, 0.1), outage_pause_s_max=0.1, ack_wait_s=2.0, grace_s=0.5
)
LANES = LaneSettings(bytes_small=20_000, chunks_small=4, chunks_medium=8, chunks_kept=30, chunks_staged=8)
SMALL_STREAMS = StreamSettings(bytes_max=64 << 20)


class ScriptedDocuments:
    """The content call alone: what `versions` holds is answered, the rest is 404; `down` answers 503 to all."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.down = False
        self.calls = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedDocuments"]:
        app = web.Application()
        app.router.add_get("/api/documents/{id}/content", self._content)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _content(self, request: web.Request) -> web.Response:
        self.calls += 1
        if self.down:
            return web.Response(status=503)
        if request.headers.get("Authorization") != f"Bearer {OPERATOR_KEY}":
            return web.Response(status=401)
        content = self.contents.get(request.match_info["id"])
        if content is None:
            return web.Response(status=404)
        if hashlib.sha256(content).hexdigest() != request.query["content_sha256"]:
            return web.Response(status=409)
        return web.Response(body=content, content_type="text/markdown")


class CountingEmbedder:
    """The real model; counts its texts and can be told to fail."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.texts = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.pause_after: int | None = None
        """After so many texts the gate closes."""

    async def embed(self, texts: list[str]) -> Vectors:
        if self.pause_after is not None and self.texts >= self.pause_after:
            self.gate.clear()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.texts += len(texts)
        return await self._embedder.embed(texts)


@dataclass
class IndexingDesk:
    broker: Broker
    index: PgvectorIndex
    dead_letters: DeadLetters
    worker: Worker
    embedder: CountingEmbedder
    lanes: Lanes
    chunker: partial[list[Chunk]]
    parsers: ParserPool
    documents: ScriptedDocuments
    events: int = field(default=0)

    def change(self, document_id: str, version: int, text: str | bytes, **fields: str) -> DocumentChanged:
        """Put the content behind the Document Service; the event that tells of it."""
        content = text.encode() if isinstance(text, str) else text
        self.documents.contents[document_id] = content
        return DocumentChanged(
            document_id=document_id,
            version=version,
            content_sha256=hashlib.sha256(content).hexdigest(),
            media_type=fields.get("media_type", "text/markdown"),
            title=fields.get("title", f"Document {document_id}"),
            readers=("everyone",),
            filename=fields.get("filename", f"{document_id}.md"),
            occurred_at=datetime.now(UTC),
        )

    async def tell(self, event: DocumentChanged | DocumentDeleted) -> None:
        """Publish the event under an id of its own, so that a repetition is not dropped by the broker."""
        self.events += 1
        event_id = f"event-{self.events}"
        await self.broker.publish(event.subject, encode(event, event_id=event_id, source="/test"), message_id=event_id)


@contextlib.asynccontextmanager
async def open_indexing_desk(
    *, nats_url: str, database_url: str, documents: ScriptedDocuments, embedder: Embedder, settings: WorkerSettings
) -> AsyncIterator[IndexingDesk]:
    async with (
        Broker.connect(nats_url, name="test indexer", streams=SMALL_STREAMS) as broker,
        open_pool(database_url, name="test indexer") as pool,
        open_document_service(documents.url, operator_key=OPERATOR_KEY, content_bytes_max=1 << 20) as client,
        ParserPool() as parsers,
    ):
        await broker.ensure_streams()
        await migrate(pool, generations.MIGRATIONS)
        await migrate(pool, MIGRATIONS)
        generation = await open_generation(
            pool, model=embedder.name, dimensions=embedder.dimensions, chunking="structure-200"
        )
        index = PgvectorIndex(pool, generation)
        counting = CountingEmbedder(embedder)
        batcher = EmbeddingBatcher(counting.embed)
        chunker = partial(chunk, token_spans=embedder.token_spans)
        lanes = Lanes(LANES)
        indexing = Indexing(
            index=index,
            generation=GENERATION,
            documents=client,
            parsers=parsers,
            chunker=chunker,
            embeddings=batcher,
            lanes=lanes,
        )
        letters = DeadLetters(pool)
        worker = Worker(broker=broker, indexing=indexing, embeddings=batcher, dead_letters=letters, settings=settings)
        yield IndexingDesk(broker, index, letters, worker, counting, lanes, chunker, parsers, documents)


async def _main(nats_url: str, database_url: str, documents_url: str, cache: str) -> None:
    documents = ScriptedDocuments()
    documents.url = documents_url
    async with (
        open_packaged_embedder(Path(cache)) as embedder,
        open_indexing_desk(
            nats_url=nats_url, database_url=database_url, documents=documents, embedder=embedder, settings=QUICK
        ) as desk,
    ):
        await desk.worker.run()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
