"""What Qdrant has of an index, point by point, for the oracle."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import psycopg
from tests.chaos.indexed import Indexed

from refdesk.index.qdrant.collection import DENSE, WORDS
from refdesk.index.qdrant.points import Terms, of_chunk, revision_and_place
from refdesk.index.qdrant.server import Qdrant, collection_name

PAGE = 1000


async def read_points(
    connection: psycopg.AsyncConnection, qdrant: Qdrant, only: Collection[str] | None
) -> dict[str, Indexed]:
    """By document: the ledger's row, and the points of the revision that it names. Raises AssertionError for stray points."""
    rows = await _rows(
        connection,
        "SELECT document_id, key, version, removed, title, readers, content_sha256, chunks, terms, revision FROM documents",
    )
    documents = {row[0]: Indexed(*row[1:7], (row[7], row[8])) for row in rows}
    searchable = {row[9]: documents[row[0]] for row in rows if row[9] is not None}
    known = {revision for (revision,) in await _rows(connection, "SELECT revision FROM revisions")}
    async for point in _points(qdrant, await _rows(connection, "SELECT id FROM generations")):
        revision, _ = revision_and_place(str(point.id))
        if revision in searchable:
            _add(searchable[revision], point)
        else:
            assert revision in known, f"a point of {point.payload['document_id']} belongs to nobody"
    return {name: document for name, document in documents.items() if only is None or name in only}


def as_numbers(postings: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Postings (ordinal, term, frequency, length) as sparse vectors have them: (ordinal, number of the term, its part)."""
    by_chunk: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    for ordinal, term, frequency, length in postings:
        by_chunk[ordinal, length].append((term, frequency))
    return {
        (ordinal, index, _kept(value))
        for (ordinal, length), terms in by_chunk.items()
        for index, value in zip(*of_chunk(Terms(*zip(*terms, strict=True), length)), strict=True)
    }


async def wrong_sums(connection: psycopg.AsyncConnection) -> list[str]:
    [kept] = await _rows(connection, "SELECT sum(documents), sum(chunks), sum(terms) FROM tallies")
    [counted] = await _rows(
        connection,
        "SELECT count(*) FILTER (WHERE NOT removed), coalesce(sum(chunks), 0), coalesce(sum(terms), 0) FROM documents",
    )
    return [] if kept == counted else [f"the tallies say {kept}, the ledger's rows are {counted}"]


def _add(document: Indexed, point: Any) -> None:
    carried = point.payload
    digest = bytes.fromhex(carried["hash"])
    outline = (carried[name] for name in ("text", "heading", "page", "start", "end"))
    document.chunks.append((carried["ordinal"], digest, *outline))
    document.chunks.sort()
    document.vectors[digest] = point.vector[DENSE]
    words = point.vector.get(WORDS)
    parts = zip(words.indices, words.values, strict=True) if words else ()
    document.postings |= {(carried["ordinal"], index, _kept(value)) for index, value in parts}


def _kept(value: float) -> float:
    """As Qdrant keeps it."""
    return float(np.float32(value))


async def _points(qdrant: Qdrant, generations: list[tuple[Any, ...]]) -> Any:
    [(generation_id,)] = generations
    name, offset = collection_name(qdrant.settings, generation_id), None
    while True:
        points, offset = await qdrant.client.scroll(
            name, limit=PAGE, offset=offset, with_payload=True, with_vectors=True
        )
        for point in points:
            yield point
        if offset is None:
            return


async def _rows(connection: psycopg.AsyncConnection, statement: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement.encode())).fetchall()
