"""Search in both engines of the index, in one run: latency of a whole search, and recall of the nearest against exact.

    python benchmarks/engines.py --data ../shared/data --qdrant-url http://127.0.0.1:6333 --qdrant-grpc-port 6334 [--chunks N]

Chunks are made of two halves of SciFact's abstracts each, and their vectors of the packaged model's vectors of both abstracts,
with some noise: as many as asked for, each different, near what questions are about. Questions are SciFact's. The engines take
turns, question by question. Recall is that of a search without words, which ranks by similarity alone. Without a Qdrant,
PostgreSQL is measured alone. Exits with 1 when an engine's recall is below ``RECALL_MIN``.
"""

import argparse
import asyncio
import sys
import time
from typing import NamedTuple, get_args

import numpy as np
from psycopg_pool import AsyncConnectionPool

from corpora import SCOPE, TOP, add_arguments, all_of, cache_of, collections, database, embed, own_qdrant, read
from measuring import machine
from refdesk.contracts.access import EVERYONE
from refdesk.index.chunks import Chunk, IndexedDocument
from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import MIGRATIONS, Engine, open_generation
from refdesk.index.port import ChunkIndex, Vectors
from refdesk.index.qdrant.server import Qdrant
from refdesk.outside.embedding.packaged import open_packaged_embedder
from refdesk.outside.postgres.database import migrate, open_pool

RECALL_MIN = 0.99
DIMENSIONS = 384
DOCUMENT_CHUNKS = 500
QUESTIONS = 200
PASSAGES = 3_000
NOISE = 0.25
FILL_TIMEOUT_S = 300.0
GREEN_S_MAX = 1_800

Place = tuple[str, int]
"""A document's id and the ordinal of a chunk."""


class Given(NamedTuple):
    texts: list[str]
    vectors: Vectors


class Contender(NamedTuple):
    """An engine's index, and what was measured of it: seconds and recall of each question."""

    name: Engine
    index: ChunkIndex
    seconds: list[float]
    recalls: list[float]


async def main() -> int:
    arguments = _arguments()
    print(f"machine: {machine()}")
    cache = cache_of(arguments)
    async with (
        database(arguments.database_url) as url,
        open_pool(url, name="engines", statement_timeout_s=FILL_TIMEOUT_S) as pool,
        open_packaged_embedder(cache) as embedder,
        own_qdrant(arguments) as qdrant,
    ):
        await migrate(pool, MIGRATIONS)
        directory = arguments.data / "retrieval" / "scifact"
        passages = [row["text"] for row in read(directory / "corpus.jsonl")[:PASSAGES]]
        given = _mixed(passages, await embed(embedder, passages, cache), count=arguments.chunks)
        texts = [row["text"] for row in read(directory / "queries.jsonl")[:QUESTIONS]]
        questions = Given(texts, await embed(embedder, texts, cache))
        contenders = await _contenders(pool, Engines(pool, qdrant=qdrant))
        for contender in contenders:
            await _fill(contender, given)
        await _settled(pool, qdrant)
        await _measure(contenders, given, questions)
    enough = [_report(contender) for contender in contenders]
    return 0 if all(enough) else 1


async def _contenders(pool: AsyncConnectionPool, engines: Engines) -> list[Contender]:
    """One in each engine that there is."""
    made = []
    for engine in get_args(Engine):
        generation = await open_generation(
            pool, engine=engine, model="engines", dimensions=DIMENSIONS, chunking=str(time.time_ns())
        )
        if engines.has(generation):
            await engines.prepare(generation)
            made.append(Contender(engine, engines.index(generation), [], []))
    return made


async def _fill(contender: Contender, given: Given) -> None:
    async def write(first: int) -> None:
        texts = given.texts[first : first + DOCUMENT_CHUNKS]
        chunks = [Chunk(ordinal=n, text=text, start=n, end=n + 1) for n, text in enumerate(texts)]
        vectors = given.vectors[first : first + DOCUMENT_CHUNKS]
        await contender.index.replace(_document(first // DOCUMENT_CHUNKS), chunks, vectors)

    started = time.perf_counter()
    await all_of(write(first) for first in range(0, len(given.texts), DOCUMENT_CHUNKS))
    seconds = time.perf_counter() - started
    print(f"{contender.name}: {len(given.texts)} chunks written in {seconds:.0f} s", flush=True)


async def _settled(pool: AsyncConnectionPool, qdrant: Qdrant | None) -> None:
    """Statistics are there, and Qdrant has built its graphs."""
    started = time.perf_counter()
    async with pool.connection() as connection:
        await connection.execute("ANALYZE")
    if qdrant is None:
        return
    async with asyncio.timeout(GREEN_S_MAX):
        for name in await collections(qdrant):
            while (await qdrant.client.get_collection(name)).status != "green":
                await asyncio.sleep(1)
    print(f"settled after another {time.perf_counter() - started:.0f} s", flush=True)


async def _measure(contenders: list[Contender], given: Given, questions: Given) -> None:
    for text, vector in zip(questions.texts, questions.vectors, strict=True):
        best = np.argsort(-(given.vectors @ vector))[:TOP]
        exact = {(f"doc{place // DOCUMENT_CHUNKS}", int(place % DOCUMENT_CHUNKS)) for place in best}
        for contender in contenders:
            nearest = await contender.index.search("", vector, scope=SCOPE, limit=TOP)
            found = {(passage.document_id, passage.ordinal) for passage in nearest}
            contender.recalls.append(len(exact & found) / TOP)
            await contender.index.search(text, vector, scope=SCOPE, limit=TOP)  # both are warm
            started = time.perf_counter()
            await contender.index.search(text, vector, scope=SCOPE, limit=TOP)
            contender.seconds.append(time.perf_counter() - started)


def _report(contender: Contender) -> bool:
    """Print its figures; whether it finds enough."""
    p50, p99 = np.percentile([1000 * each for each in contender.seconds], [50, 99])
    recall = float(np.mean(contender.recalls))
    print(f"{contender.name}: search p50 {p50:.1f} ms, p99 {p99:.1f} ms, recall@{TOP} against exact {recall:.4f}")
    return recall >= RECALL_MIN


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--chunks", type=int, default=100_000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
