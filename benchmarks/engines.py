"""Search in both engines of the index, in one run: latency of a whole search, and recall of the nearest against exact.

    python benchmarks/engines.py --data ../shared/data --qdrant-url http://127.0.0.1:6333 --qdrant-grpc-port 6334 [--chunks N]

Chunks are made of two halves of SciFact's abstracts each, and their vectors of the vectors of both, with some noise: as many as
asked for, each different, near what questions are about. Questions are SciFact's. The engines take turns, question by question.
Exits with 1 when an engine's recall is below ``RECALL_MIN``.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from psycopg_pool import AsyncConnectionPool

from refdesk.app.embedded.stack import StackOptions, running_stack
from refdesk.contracts.access import EVERYONE
from refdesk.contracts.answers import Filters
from refdesk.index.chunks import Chunk, IndexedDocument
from refdesk.index.ledger.generations import MIGRATIONS, Engine, Generation, open_generation
from refdesk.index.ledger.holdings import access
from refdesk.index.pgvector import halfvec, searching
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.index.port import ChunkIndex, Vectors
from refdesk.index.qdrant.collection import Collection, Sought
from refdesk.index.qdrant.index import QdrantIndex
from refdesk.index.qdrant.points import Sparse, revision_and_place
from refdesk.index.qdrant.server import Qdrant, QdrantSettings, open_qdrant
from refdesk.outside.embedding.packaged import open_packaged_embedder
from refdesk.outside.postgres.database import migrate, open_pool
from retrieval_quality import SCOPE, _embed, _read

TOP = 10
RECALL_MIN = 0.99
DOCUMENT_CHUNKS = 500
QUESTIONS = 200
PASSAGES = 3_000
NOISE = 0.25
GREEN_S_MAX = 1_800

Place = tuple[str, int]
"""A document's id and the ordinal of a chunk."""


class Given(NamedTuple):
    texts: list[str]
    vectors: Vectors


class Contender(NamedTuple):
    """An engine with its index. ``nearest``: the places of the ten that its vector arm finds."""

    name: Engine
    index: ChunkIndex
    nearest: Callable[[Vectors], Awaitable[set[Place]]]


async def main() -> int:
    arguments = _arguments()
    cache = arguments.cache or Path(tempfile.mkdtemp())
    settings = QdrantSettings(
        url=arguments.qdrant_url, grpc_port=arguments.qdrant_grpc_port, prefix=f"benchmark_{time.time_ns()}"
    )
    async with (
        _stack() as url,
        open_pool(url, name="engines") as pool,
        open_packaged_embedder(cache) as embedder,
        open_qdrant(settings) as qdrant,
    ):
        await migrate(pool, MIGRATIONS)
        directory = arguments.data / "retrieval" / "scifact"
        passages = [row["text"] for row in _read(directory / "corpus.jsonl")[:PASSAGES]]
        given = _mixed(passages, await _embed(embedder, passages, cache), count=arguments.chunks)
        texts = [row["text"] for row in _read(directory / "queries.jsonl")[:QUESTIONS]]
        questions = Given(texts, await _embed(embedder, texts, cache))
        contenders = [await _pgvector(pool), await _qdrant(pool, qdrant)]
        for contender in contenders:
            await _fill(contender, given)
        await _settled(pool, qdrant)
        return _report(contenders, *await _measure(contenders, given, questions))


async def _pgvector(pool: AsyncConnectionPool) -> Contender:
    generation = await _generation(pool, "pgvector")
    index = PgvectorIndex(pool, generation)

    async def nearest(vector: Vectors) -> set[Place]:
        values = access(SCOPE, Filters()) | {"vector": halfvec.to_text(vector), "depth": searching.FIELD}
        async with index._holdings.snapshot(searching._queries.begin_search) as connection:
            found = (await searching._near(connection, values, exact=False))[:TOP]
            documents = await searching._rows(connection, b"SELECT key, document_id FROM documents LIMIT 10000", {})
        names = dict(documents)
        return {(names[key], ordinal) for key, ordinal, _ in found}

    return Contender("pgvector", index, nearest)


async def _qdrant(pool: AsyncConnectionPool, qdrant: Qdrant) -> Contender:
    generation = await _generation(pool, "qdrant")
    collection = Collection(qdrant, generation)
    await collection.ensure()
    index = QdrantIndex(pool, collection, generation)

    async def nearest(vector: Vectors) -> set[Place]:
        sought = Sought(vector, Sparse([], []), SCOPE, Filters(), exact=False)
        found, _ = await collection.nearest(sought, count=TOP)
        carried = await collection.payloads([identifier for identifier, _ in found])
        return {(point["document_id"], revision_and_place(identifier)[1]) for identifier, point in carried.items()}

    return Contender("qdrant", index, nearest)


async def _generation(pool: AsyncConnectionPool, engine: Engine) -> Generation:
    return await open_generation(pool, engine=engine, model="engines", dimensions=384, chunking=str(time.time_ns()))


async def _fill(contender: Contender, given: Given) -> None:
    started = time.perf_counter()
    for first in range(0, len(given.texts), DOCUMENT_CHUNKS):
        texts = given.texts[first : first + DOCUMENT_CHUNKS]
        chunks = [Chunk(ordinal=n, text=text, start=n, end=n + 1) for n, text in enumerate(texts)]
        vectors = given.vectors[first : first + DOCUMENT_CHUNKS]
        await contender.index.replace(_document(first // DOCUMENT_CHUNKS), chunks, vectors)
    seconds = time.perf_counter() - started
    print(f"{contender.name}: {len(given.texts)} chunks written in {seconds:.0f} s")


async def _settled(pool: AsyncConnectionPool, qdrant: Qdrant) -> None:
    """Statistics are there, and Qdrant has built its graphs."""
    async with pool.connection() as connection:
        await connection.execute("ANALYZE")
    async with asyncio.timeout(GREEN_S_MAX):
        for collection in (await qdrant.client.get_collections()).collections:
            while (await qdrant.client.get_collection(collection.name)).status != "green":
                await asyncio.sleep(1)


async def _measure(
    contenders: list[Contender], given: Given, questions: Given
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and recall of each question, by engine."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    recalls: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for text, vector in zip(questions.texts, questions.vectors, strict=True):
        best = np.argsort(-(given.vectors @ vector))[:TOP]
        exact = {(f"doc{place // DOCUMENT_CHUNKS}", int(place % DOCUMENT_CHUNKS)) for place in best}
        for contender in contenders:
            await contender.index.search(text, vector, scope=SCOPE, limit=TOP)  # both are warm
            started = time.perf_counter()
            await contender.index.search(text, vector, scope=SCOPE, limit=TOP)
            seconds[contender.name].append(time.perf_counter() - started)
            recalls[contender.name].append(len(exact & await contender.nearest(vector)) / TOP)
    return seconds, recalls


def _report(contenders: list[Contender], seconds: dict[str, list[float]], recalls: dict[str, list[float]]) -> int:
    enough = True
    for contender in contenders:
        p50, p99 = np.percentile([1000 * each for each in seconds[contender.name]], [50, 99])
        recall = float(np.mean(recalls[contender.name]))
        print(f"{contender.name}: search p50 {p50:.1f} ms, p99 {p99:.1f} ms, recall@{TOP} against exact {recall:.4f}")
        enough = enough and recall >= RECALL_MIN
    return 0 if enough else 1


def _mixed(passages: list[str], vectors: Vectors, *, count: int) -> Given:
    random = np.random.default_rng(7)
    pairs = random.integers(len(passages), size=(count, 2))
    noise = random.standard_normal((count, vectors.shape[1])).astype(np.float32)
    noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
    mixed = vectors[pairs[:, 0]] + vectors[pairs[:, 1]] + noise
    texts = [passages[a][: len(passages[a]) // 2] + " " + passages[b][len(passages[b]) // 2 :] for a, b in pairs]
    return Given(texts, mixed / np.linalg.norm(mixed, axis=1, keepdims=True))


def _document(number: int) -> IndexedDocument:
    return IndexedDocument(
        document_id=f"doc{number}",
        version=1,
        title=f"Document {number}",
        readers=(EVERYONE,),
        media_type="text/plain",
        content_sha256="",
    )


@asynccontextmanager
async def _stack() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        async with running_stack(StackOptions(data_dir=Path(directory))) as stack:
            yield stack.urls.index_database_url


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--qdrant-url", required=True)
    parser.add_argument("--qdrant-grpc-port", type=int)
    arguments = parser.parse_args()
    if arguments.cache:
        arguments.cache.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
