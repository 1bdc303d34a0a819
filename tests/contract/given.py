"""Documents, chunks and vectors to give to an index, and what it shows of them."""

from collections.abc import Sequence
from datetime import date

import numpy as np

from refdesk.contracts.access import Scope
from refdesk.index.chunks import Chunk, IndexedDocument, sources_of
from refdesk.index.port import ChunkIndex, Vectors

DIMENSIONS = 16
EVERYTHING = Scope(readers=(), everything=True)
ANYONE = Scope(readers=("everyone",))


def document(
    document_id: str = "leave",
    version: int = 1,
    *,
    readers: Sequence[str] = ("everyone",),
    tags: Sequence[str] = (),
    external_id: str | None = None,
    changed_on: date | None = None,
    content_sha256: str = "0" * 64,
) -> IndexedDocument:
    return IndexedDocument(
        document_id=document_id,
        version=version,
        title=f"Title of {document_id}",
        readers=tuple(readers),
        tags=tuple(tags),
        sources=sources_of(external_id),
        changed_on=changed_on,
        media_type="text/plain",
        content_sha256=content_sha256,
    )


def chunks(*texts: str) -> list[Chunk]:
    return [Chunk(ordinal=n, text=text, start=100 * n, end=100 * n + len(text)) for n, text in enumerate(texts)]


def vectors(count: int, *, seed: int = 0, near: Vectors | None = None) -> Vectors:
    """Random unit vectors; close to ``near`` if given."""
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    rows = rows if near is None else near + 0.1 * rows
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def question() -> Vectors:
    vector: Vectors = vectors(1, seed=999)[0]
    return vector


async def put(index: ChunkIndex, given: IndexedDocument, *texts: str, seed: int = 0) -> bool:
    return await index.replace(given, chunks(*texts), vectors(len(texts), seed=seed))


async def texts_of(index: ChunkIndex, query: str = "leave", *, scope: Scope = ANYONE, limit: int = 10) -> list[str]:
    return [passage.text for passage in await index.search(query, question(), scope=scope, limit=limit)]
