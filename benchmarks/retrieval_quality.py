"""How good retrieval is: nDCG@10 and recall@10 of each arm and of their fusion, with the latency of a search.

    python benchmarks/retrieval_quality.py --data ../shared/data [--cache DIR] [--database-url URL]

Every row of a corpus becomes a document of one chunk, through the packaged embedder and the real index. Without a
database URL the embedded servers are started in a temporary directory. ``--cache`` keeps models and vectors between
runs. Exits with 1 when the fusion falls below the better arm on any set, or SciFact below its floor.
"""

import argparse
import asyncio
import hashlib
import json
import math
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from psycopg_pool import AsyncConnectionPool

from refdesk.app.embedded.stack import StackOptions, running_stack
from refdesk.contracts.access import EVERYONE, Scope
from refdesk.index import pgvector
from refdesk.index.chunks import Chunk, IndexedDocument, embedded_text
from refdesk.index.ledger.generations import MIGRATIONS, open_generation
from refdesk.index.pgvector import PgvectorIndex
from refdesk.index.ranking import FIELD, Candidate
from refdesk.outside.embedding.packaged import Embedder, Vectors, open_packaged_embedder
from refdesk.outside.postgres.database import migrate, open_pool

SETS = {"scifact": "retrieval/scifact", "hotpotqa100": "retrieval/hotpotqa100", "clapnq_dev": "qa/clapnq_dev"}
SCIFACT_FLOOR = 0.70
SCOPE = Scope(readers=(EVERYONE,))
TOP = 10

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
    relevant: Relevant
    seconds: float


async def main() -> int:
    arguments = _arguments()
    cache = arguments.cache or Path(tempfile.mkdtemp())
    results = []
    async with (
        _database(arguments.database_url) as url,
        open_pool(url, name="retrieval quality") as pool,
        open_packaged_embedder(cache) as embedder,
    ):
        await migrate(pool, MIGRATIONS)
        for name, place in SETS.items():
            if not (arguments.data / place).is_dir():
                print(f"SKIPPED {name}: there is no {arguments.data / place}")
                continue
            found = await _measure(pool, embedder, name, arguments.data / place, cache)
            results.append(_report(name, found))
    return 0 if results and all(results) else 1


async def _measure(
    pool: AsyncConnectionPool, embedder: Embedder, name: str, directory: Path, cache: Path
) -> list[Found]:
    chunking = f"benchmark {name} {time.time_ns()}"
    generation = await open_generation(pool, model=embedder.name, dimensions=embedder.dimensions, chunking=chunking)
    index = PgvectorIndex(pool, generation)
    rows = _read(directory / "corpus.jsonl")
    chunks = [Chunk(ordinal=0, text=row["text"], start=0, end=len(row["text"])) for row in rows]
    texts = [embedded_text(row.get("title", ""), chunk) for row, chunk in zip(rows, chunks, strict=True)]
    vectors = await _embed(embedder, texts, cache)
    for row, chunk, vector in zip(rows, chunks, vectors, strict=True):
        await index.replace(_document(row), [chunk], vector[np.newaxis])
    return [await _ask(index, question) for question in await _questions(embedder, directory, cache)]


async def _ask(index: PgvectorIndex, question: Question) -> Found:
    started = time.perf_counter()
    passages = await index.search(question.text, question.vector, scope=SCOPE, limit=TOP)
    seconds = time.perf_counter() - started
    near, worded = await _arms(index, question)
    return Found(near, worded, [passage.document_id for passage in passages], question.relevant, seconds)


async def _arms(index: PgvectorIndex, question: Question) -> tuple[list[str], list[str]]:
    """Each arm alone, below the public interface."""
    async with index._holdings.snapshot(pgvector._queries.begin_search) as connection:
        access = pgvector._access(SCOPE, None)
        near, worded = await index._arms(connection, question.text, question.vector, access, depth=FIELD)

        async def names(arm: Sequence[Candidate]) -> list[str]:
            found = await pgvector._fetch(connection, [(candidate, 0.0) for candidate in arm[:TOP]], access)
            return [document_id for _, document_id, *_ in sorted(await found.fetchall())]

        return await names(near), await names(worded)


def _report(name: str, found: Sequence[Found]) -> bool:
    """Print a set's figures; say whether the fusion holds."""
    latency = np.percentile([1000 * one.seconds for one in found], [50, 95])
    print(f"{name}: {len(found)} questions, search p50 {latency[0]:.1f} ms, p95 {latency[1]:.1f} ms")
    scores = {}
    for arm, ranked in _RANKINGS.items():
        scores[arm] = float(np.mean([_ndcg(ranked(one), one.relevant) for one in found]))
        recall = float(np.mean([_recall(ranked(one), one.relevant) for one in found]))
        print(f"  {arm:7} nDCG@10 {scores[arm]:.4f}  recall@10 {recall:.4f}")
    floor = SCIFACT_FLOOR if name == "scifact" else 0.0
    return scores["fused"] >= max(scores["vector"], scores["keyword"], floor)


_RANKINGS: dict[str, Callable[[Found], list[str]]] = {
    "vector": lambda found: found.near,
    "keyword": lambda found: found.worded,
    "fused": lambda found: found.fused,
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
    rows = [row for row in _read(directory / "queries.jsonl") if row["_id"] in relevant]
    vectors = await _embed(embedder, [row["text"] for row in rows], cache)
    return [Question(row["text"], vector, relevant[row["_id"]]) for row, vector in zip(rows, vectors, strict=True)]


async def _embed(embedder: Embedder, texts: Sequence[str], cache: Path) -> Vectors:
    digest = hashlib.sha256("\0".join([embedder.name, *texts]).encode()).hexdigest()[:32]
    file = cache / f"{digest}.npy"
    if not file.is_file():
        np.save(file, await embedder.embed(texts))
    vectors: Vectors = np.load(file)
    return vectors


def _document(row: dict[str, Any]) -> IndexedDocument:
    return IndexedDocument(
        document_id=row["_id"],
        version=1,
        title=row.get("title", ""),
        readers=(EVERYONE,),
        media_type="text/plain",
        content_sha256="",
    )


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


@asynccontextmanager
async def _database(url: str | None) -> AsyncIterator[str]:
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as directory:
        async with running_stack(StackOptions(data_dir=Path(directory))) as stack:
            yield stack.urls.index_database_url


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--database-url")
    arguments = parser.parse_args()
    if arguments.cache:
        arguments.cache.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
