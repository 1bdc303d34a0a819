"""How good retrieval is: nDCG@10 and recall@10 of each arm and of their fusion, with the latency of a search.

    python benchmarks/retrieval_quality.py --data ../shared/data [--cache DIR] [--database-url URL] [--qdrant-url URL]

Every row of a corpus becomes a document of one chunk, through the packaged embedder and the real index. Without a
database URL the embedded servers are started in a temporary directory. ``--cache`` keeps models and vectors between
runs. With a Qdrant, the fusion there is measured beside it. Exits with 1 when the fusion falls below the better arm on any set,
SciFact below its floor, or Qdrant's fusion by more than 0.01 below PostgreSQL's.
"""

import argparse
import asyncio
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from psycopg_pool import AsyncConnectionPool

from corpora import SCOPE, TOP, add_arguments, all_of, cache_of, database, embed, own_qdrant, read
from refdesk.contracts.access import EVERYONE
from refdesk.index.chunks import Chunk, IndexedDocument, Passage, embedded_text
from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import MIGRATIONS, Engine, open_generation
from refdesk.index.ledger.holdings import access
from refdesk.index.pgvector import searching
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.index.port import ChunkIndex
from refdesk.index.ranking import FIELD, Candidate
from refdesk.outside.embedding.packaged import Embedder, open_packaged_embedder
from refdesk.outside.embedding.vectors import Vectors
from refdesk.outside.postgres.database import migrate, open_pool

SETS = {"scifact": "retrieval/scifact", "hotpotqa100": "retrieval/hotpotqa100", "clapnq_dev": "qa/clapnq_dev"}
SCIFACT_FLOOR = 0.70
QDRANT_LOSS_MAX = 0.01

Relevant = dict[str, float]


@dataclass(frozen=True)
class Question:
    text: str
    vector: Vectors
    relevant: Relevant


@dataclass(frozen=True)
class Found:
    """Document ids by each way of ranking, for one question, and how long the search took."""

    near: list[str]
    worded: list[str]
    fused: list[str]
    qdrant: list[str] | None
    relevant: Relevant
    seconds: float


async def main() -> int:
    arguments = _arguments()
    cache = cache_of(arguments)
    results = []
    async with (
        database(arguments.database_url) as url,
        open_pool(url, name="retrieval quality") as pool,
        open_packaged_embedder(cache) as embedder,
        own_qdrant(arguments) as qdrant,
    ):
        await migrate(pool, MIGRATIONS)
        engines = Engines(pool, qdrant=qdrant)
        for name, place in SETS.items():
            if not (arguments.data / place).is_dir():
                print(f"SKIPPED {name}: there is no {arguments.data / place}")
                continue
            found = await _measure(pool, engines, embedder, arguments.data / place, cache)
            results.append(_report(name, found))
    return 0 if results and all(results) else 1


async def _open_indexes(
    pool: AsyncConnectionPool, engines: Engines, embedder: Embedder
) -> tuple[PgvectorIndex, ChunkIndex | None]:
    made = []
    for engine in get_args(Engine):
        chunking = f"benchmark {time.time_ns()}"
        generation = await open_generation(
            pool, engine=engine, model=embedder.name, dimensions=embedder.dimensions, chunking=chunking
        )
        if engines.has(generation):
            await engines.prepare(generation)
            made.append(engines.index(generation))
    first, *others = made
    assert isinstance(first, PgvectorIndex)
    return first, others[0] if others else None


async def _measure(
    pool: AsyncConnectionPool, engines: Engines, embedder: Embedder, directory: Path, cache: Path
) -> list[Found]:
    index, other = await _open_indexes(pool, engines, embedder)
    rows = read(directory / "corpus.jsonl")
    chunks = [Chunk(ordinal=0, text=row["text"], start=0, end=len(row["text"])) for row in rows]
    texts = [embedded_text(row.get("title", ""), chunk) for row, chunk in zip(rows, chunks, strict=True)]
    vectors = await embed(embedder, texts, cache)
    for each in filter(None, (index, other)):
        await all_of(
            each.replace(_document(row), [chunk], vector[np.newaxis])
            for row, chunk, vector in zip(rows, chunks, vectors, strict=True)
        )
    return [await _ask(index, other, question) for question in await _questions(embedder, directory, cache)]


async def _ask(index: PgvectorIndex, other: ChunkIndex | None, question: Question) -> Found:
    started = time.perf_counter()
    passages = await index.search(question.text, question.vector, scope=SCOPE, limit=TOP)
    seconds = time.perf_counter() - started
    near, worded = await _arms(index, question)
    there = other and await other.search(question.text, question.vector, scope=SCOPE, limit=TOP)
    return Found(near, worded, _ids(passages), there and _ids(there), question.relevant, seconds)


def _ids(passages: Sequence[Passage]) -> list[str]:
    return [passage.document_id for passage in passages]


async def _arms(index: PgvectorIndex, question: Question) -> tuple[list[str], list[str]]:
    """Each arm alone, below the public interface."""
    async with index._holdings.snapshot(searching._queries.begin_search) as connection:
        values = access(SCOPE, None)
        near, worded = await index._searching.arms(connection, question.text, question.vector, values, depth=FIELD)

        async def names(arm: Sequence[Candidate]) -> list[str]:
            found = await searching._fetch(connection, [(candidate, 0.0) for candidate in arm[:TOP]], values)
            return [document_id for _, document_id, *_ in sorted(await found.fetchall())]

        return await names(near), await names(worded)


def _report(name: str, found: Sequence[Found]) -> bool:
    """Print a set's figures; say whether the fusion holds."""
    latency = np.percentile([1000 * one.seconds for one in found], [50, 95])
    print(f"{name}: {len(found)} questions, search p50 {latency[0]:.1f} ms, p95 {latency[1]:.1f} ms")
    scores = {}
    for arm, ranked in _RANKINGS.items():
        if arm == "qdrant" and found[0].qdrant is None:
            continue
        scores[arm] = float(np.mean([_ndcg(ranked(one), one.relevant) for one in found]))
        recall = float(np.mean([_recall(ranked(one), one.relevant) for one in found]))
        print(f"  {arm:7} nDCG@10 {scores[arm]:.4f}  recall@10 {recall:.4f}")
    floor = SCIFACT_FLOOR if name == "scifact" else 0.0
    best = max(scores["vector"], scores["keyword"], floor)
    return scores["fused"] >= best and scores.get("qdrant", scores["fused"]) >= scores["fused"] - QDRANT_LOSS_MAX


_RANKINGS: dict[str, Callable[[Found], list[str]]] = {
    "vector": lambda found: found.near,
    "keyword": lambda found: found.worded,
    "fused": lambda found: found.fused,
    "qdrant": lambda found: found.qdrant or [],
}


def _ndcg(ranked: Sequence[str], relevant: Relevant) -> float:
    ideal = sum(gain / math.log2(2 + rank) for rank, gain in enumerate(sorted(relevant.values(), reverse=True)[:TOP]))
    return sum(relevant.get(name, 0) / math.log2(2 + rank) for rank, name in enumerate(ranked[:TOP])) / ideal


def _recall(ranked: Sequence[str], relevant: Relevant) -> float:
    return len(relevant.keys() & set(ranked[:TOP])) / len(relevant)


async def _questions(embedder: Embedder, directory: Path, cache: Path) -> list[Question]:
    relevant: dict[str, Relevant] = defaultdict(dict)
    (judgements,) = (file for file in (directory / "qrels").iterdir() if file.stem in ("test", "dev"))
    for line in judgements.read_text(encoding="utf-8").splitlines()[1:]:
        question, document, gain = line.split("\t")
        if float(gain) > 0:
            relevant[question][document] = float(gain)
    rows = [row for row in read(directory / "queries.jsonl") if row["_id"] in relevant]
    vectors = await embed(embedder, [row["text"] for row in rows], cache)
    return [Question(row["text"], vector, relevant[row["_id"]]) for row, vector in zip(rows, vectors, strict=True)]


def _document(row: dict[str, Any]) -> IndexedDocument:
    return IndexedDocument(
        document_id=row["_id"],
        version=1,
        title=row.get("title", ""),
        readers=(EVERYONE,),
        media_type="text/plain",
        content_sha256="",
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
