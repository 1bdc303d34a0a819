"""Passages and questions with their vectors, and the servers of an index to fill with them."""

import argparse
import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from refdesk.app.embedded.stack import StackOptions, running_stack
from refdesk.contracts.access import EVERYONE, Scope
from refdesk.index.qdrant.server import Qdrant, open_qdrant
from refdesk.outside.embedding.packaged import Embedder
from refdesk.outside.embedding.vectors import Vectors
from refdesk.settings.indexing import QdrantSettings

SCOPE = Scope(readers=(EVERYONE,))
TOP = 10
AT_ONCE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="keeps models and vectors between runs")
    parser.add_argument("--database-url", help="of an empty database with pgvector, in place of an embedded server's")
    parser.add_argument("--qdrant-url")
    parser.add_argument("--qdrant-grpc-port", type=int)


def cache_of(arguments: argparse.Namespace) -> Path:
    cache: Path = arguments.cache or Path(tempfile.mkdtemp())
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


async def embed(embedder: Embedder, texts: Sequence[str], cache: Path) -> Vectors:
    """(len(texts), dimensions) float32, L2-normalised; made once for each cache."""
    digest = hashlib.sha256("\0".join([embedder.name, *texts]).encode()).hexdigest()[:32]
    file = cache / f"{digest}.npy"
    if not file.is_file():
        np.save(file, await embedder.embed(texts))
    vectors: Vectors = np.load(file)
    return vectors


async def all_of(work: Iterable[Awaitable[object]]) -> None:
    """Do it all, ``AT_ONCE`` at a time: servers and what writes to them need not wait for each other."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(piece: Awaitable[object]) -> None:
        async with places:
            await piece

    async with asyncio.TaskGroup() as tasks:
        for piece in work:
            tasks.create_task(one(piece))


@asynccontextmanager
async def database(url: str | None) -> AsyncIterator[str]:
    """This one, or an embedded server's in a temporary directory."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as directory:
        async with running_stack(StackOptions(data_dir=Path(directory))) as stack:
            yield stack.urls.index_database_url


@asynccontextmanager
async def own_qdrant(arguments: argparse.Namespace) -> AsyncIterator[Qdrant | None]:
    """The one that is named, if one is; the collections that were made in it are deleted at the end."""
    if arguments.qdrant_url is None:
        yield None
        return
    settings = QdrantSettings(
        url=arguments.qdrant_url, grpc_port=arguments.qdrant_grpc_port, prefix=f"benchmark_{time.time_ns()}"
    )
    async with open_qdrant(settings) as qdrant:
        yield qdrant
        for name in await collections(qdrant):
            await qdrant.client.delete_collection(name)


async def collections(qdrant: Qdrant) -> list[str]:
    """Those that were made by this connection."""
    found = (await qdrant.client.get_collections()).collections
    return [collection.name for collection in found if collection.name.startswith(qdrant.settings.prefix)]
