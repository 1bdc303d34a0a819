"""The oracle: what the index must hold, worked out from the Document Service's contents and compared row by row.

It trusts nothing that a relay, a worker or an event says. For every document it fetches the content, parses and chunks it
again, and expects exactly those chunks, each with the vector of its text and the postings of its words, and the readers
that the document has; of deleted documents, nothing; and in the tallies, the sums of what is there.
"""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from tests.chaos.cluster import OPERATOR_KEY, Cluster
from tests.chaos.indexed import Indexed
from tests.chaos.points import as_numbers, read_points, wrong_sums
from tests.chaos.writers import Kept, Record
from tests.support.embedding_server import by_hash

from refdesk.contracts.errors import DocumentRejected
from refdesk.index.chunks import Chunk, content_hash, embedded_text
from refdesk.index.qdrant.server import Qdrant
from refdesk.index.spellings import spellings
from refdesk.indexing.chunking import chunk
from refdesk.indexing.parsing import ParserPool
from refdesk.outside.embedding.server import open_http_embedder

PAGE = 1000
SHOWN_MAX = 20
OWNER = "principal:operator"

POSTINGS = """
SELECT document_key, block * 64 + (e >> 24) AS ordinal, term, (e >> 16) & 255, e & 65535
FROM postings CROSS JOIN LATERAL unnest(entries) AS e"""
EXPECTED_POSTINGS = """
SELECT c.key, c.ordinal, t.lexeme, least(cardinality(t.positions), 255),
       least(sum(cardinality(t.positions)) OVER (PARTITION BY c.key, c.ordinal), 65535)::integer
FROM unnest(%s::bigint[], %s::integer[], %s::text[]) AS c (key, ordinal, text)
CROSS JOIN LATERAL unnest(to_tsvector('english', c.text)) AS t"""


@dataclass(frozen=True)
class Verdict:
    """What was compared and what is wrong."""

    documents: int
    chunks: int
    wrong: list[str]

    def __str__(self) -> str:
        more = f" and {len(self.wrong) - SHOWN_MAX} more" if len(self.wrong) > SHOWN_MAX else ""
        return "; ".join(self.wrong[:SHOWN_MAX]) + more


async def judge(
    cluster: Cluster,
    *,
    record: Record | None = None,
    only: Collection[str] | None = None,
    qdrant: Qdrant | None = None,
) -> Verdict:
    """Compare the index with the Document Service, and this with what was acknowledged, if there is a record of it.

    ``only``: these document ids and no others. ``qdrant``: where the index is, if not in PostgreSQL.
    """
    manifest = [entry async for entry in _manifest(cluster) if only is None or entry["document_id"] in only]
    wrong = [] if record is None else _unlike_record(manifest, record)
    async with index_tables(cluster) as connection:
        indexed = await (_read_index(connection, only) if qdrant is None else read_points(connection, qdrant, only))
        expected = await _expected(cluster, manifest)
        terms = await _expected_postings(connection, indexed, expected)
        if qdrant is not None:
            terms = defaultdict(set, {key: as_numbers(postings) for key, postings in terms.items()})
        for entry in manifest:
            found = indexed.pop(entry["document_id"], None)
            chunks = expected.get(entry["document_id"])
            wrong += _compare(entry, found, chunks, terms[found.key] if found else set())
        wrong += [f"{name} is in the index and nowhere else" for name, found in indexed.items() if _is_left(found)]
        if only is None:
            wrong += await (_wrong_tallies(connection) if qdrant is None else wrong_sums(connection))
    return Verdict(len(manifest), sum(len(chunks) for _, chunks in expected.values()), wrong)


# -- what must be


Expected = tuple[dict[str, Any], list[Chunk]]


async def _manifest(cluster: Cluster) -> AsyncIterator[dict[str, Any]]:
    after: str | None = ""
    while after is not None:
        page = await cluster.read(f"/api/documents/manifest?limit={PAGE}&after={after}")
        for entry in page["entries"]:
            yield entry
        after = page["next_after"]


async def _expected(cluster: Cluster, manifest: list[dict[str, Any]]) -> dict[str, Expected]:
    """Of every live document its description and its chunks, made anew from its content."""
    expected = {}
    async with (
        ParserPool() as parsers,
        open_http_embedder(cluster.embedding_url, model="by-hash", api_key=OPERATOR_KEY) as embedder,
    ):
        for entry in manifest:
            if entry["deleted"]:
                continue
            path = f"/api/documents/{entry['document_id']}"
            document = await cluster.read(path)
            content = await cluster.read(f"{path}/content")
            chunks: list[Chunk] = []
            with contextlib.suppress(DocumentRejected):  # nothing to read in it
                parsed = await parsers.parse(content, document["media_type"], document["filename"])
                chunks = chunk(parsed, token_spans=embedder.token_spans)
            expected[document["id"]] = document, chunks
    return expected


def _read_text(title: str, piece: Chunk) -> str:
    """What the words of a chunk come from."""
    text = "\n".join(filter(None, (title, piece.heading, piece.text)))
    return f"{text}\n{spellings(text)}"


async def _expected_postings(
    connection: psycopg.AsyncConnection, indexed: Mapping[str, Indexed], expected: Mapping[str, Expected]
) -> dict[int, set[tuple[Any, ...]]]:
    rows = [
        (
            indexed[document_id].key,
            piece.ordinal,
            _read_text(document["title"], piece),
        )
        for document_id, (document, chunks) in expected.items()
        if document_id in indexed
        for piece in chunks
    ]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    postings: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    for key, *posting in await (await connection.execute(EXPECTED_POSTINGS, columns)).fetchall():
        postings[key].add(tuple(posting))
    return postings


def _unlike_record(manifest: list[dict[str, Any]], record: Record) -> list[str]:
    """Where the Document Service is not what it acknowledged."""
    live = {entry["document_id"]: entry for entry in manifest if not entry["deleted"]}
    buried = {entry["document_id"]: entry["version"] for entry in manifest if entry["deleted"]}
    wrong = list(record.violations)
    for key, kept in record.live.items():
        entry = live.pop(kept.id, None)
        if entry is None or not _as_kept(entry, kept):
            wrong.append(f"{key}: acknowledged {kept}, the Document Service has {entry}")
    wrong += [f"the Document Service has {document_id}, which nobody made" for document_id in live]
    if buried != record.buried:
        wrong.append(f"tombstones differ: {sorted(set(buried.items()) ^ set(record.buried.items()))[:SHOWN_MAX]}")
    return wrong


def _as_kept(entry: dict[str, Any], kept: Kept) -> bool:
    readers = _with_owner(kept.readers)
    return (entry["version"], entry["content_sha256"], set(entry["readers"])) == (
        kept.version,
        kept.content_sha256,
        readers,
    )


def _with_owner(readers: Collection[str]) -> set[str]:
    return set(readers) if "everyone" in readers else {*readers, OWNER}


# -- what is


@contextlib.asynccontextmanager
async def index_tables(cluster: Cluster) -> AsyncIterator[psycopg.AsyncConnection]:
    """One snapshot of the only generation's tables."""
    async with await psycopg.AsyncConnection.connect(cluster.urls.index_database_url) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        [(generation,)] = await (await connection.execute("SELECT id FROM generations")).fetchall()
        path = sql.SQL("SET LOCAL search_path TO {}, public").format(sql.Identifier(f"generation_{generation}"))
        await connection.execute(path)
        yield connection


async def _read_index(connection: psycopg.AsyncConnection, only: Collection[str] | None) -> dict[str, Indexed]:
    async def rows(statement: str) -> list[tuple[Any, ...]]:
        return await (await connection.execute(statement.encode())).fetchall()

    documents = {
        document_id: Indexed(key, version, removed, title, readers, content_sha256, (chunks, terms))
        for document_id, key, version, removed, title, readers, content_sha256, chunks, terms in await rows(
            "SELECT document_id, key, version, removed, title, readers, content_sha256, chunks, terms FROM documents"
        )
    }
    by_key = {document.key: document for document in documents.values()}
    for key, *outline in await rows(
        "SELECT document_key, ordinal, hash, text, heading, page, start_offset, end_offset FROM chunks ORDER BY 1, 2"
    ):
        by_key[key].chunks.append(tuple(outline))
    for key, digest, vector in await rows("SELECT document_key, hash, embedding::real[] FROM vectors"):
        by_key[key].vectors[digest] = vector
    for key, *posting in await rows(POSTINGS):
        by_key[key].postings.add(tuple(posting))
    return {name: document for name, document in documents.items() if only is None or name in only}


async def _wrong_tallies(connection: psycopg.AsyncConnection) -> list[str]:
    kept, counted = [
        await (await connection.execute(statement)).fetchone()
        for statement in (
            "SELECT sum(documents), sum(chunks), sum(terms) FROM tallies",
            "SELECT (SELECT count(*) FROM documents WHERE NOT removed), (SELECT count(*) FROM chunks), "
            "(SELECT coalesce(sum(e & 65535), 0) FROM (SELECT DISTINCT ON (document_key, block, entry >> 24) entry AS e "
            " FROM postings CROSS JOIN LATERAL unnest(entries) AS entry) AS one)",
        )
    ]
    return [] if kept == counted else [f"the tallies say {kept}, counted are {counted}"]


# -- the comparison


def _compare(
    entry: dict[str, Any], found: Indexed | None, expected: Expected | None, terms: set[tuple[Any, ...]]
) -> list[str]:
    """What is wrong with one document."""
    name = f"{entry['document_id']}@{entry['version']}"
    if expected is not None and not expected[1]:
        return (
            [] if entry["state"] == "failed" and found is None else [f"{name} has no text, yet it is {entry['state']}"]
        )
    if entry["state"] != "indexed":
        return [f"{name} is {entry['state']}"]
    if expected is None:
        return [f"{name} was deleted, the index still has {found}"] if found is not None and _is_left(found) else []
    if found is None or found.removed:
        return [f"{name} is missing"]
    document, chunks = expected
    hashes = [content_hash(document["title"], piece) for piece in chunks]
    outline = [
        (piece.ordinal, digest, piece.text, piece.heading, piece.page, piece.start, piece.end)
        for piece, digest in zip(chunks, hashes, strict=True)
    ]
    vectors = {digest: _vector(document["title"], piece) for piece, digest in zip(chunks, hashes, strict=True)}
    checks = {
        "version": found.version == entry["version"],
        "content": found.content_sha256 == document["content_sha256"],
        "title": found.title == document["title"],
        "readers": set(found.readers) == _with_owner(document["readers"]),
        "chunks": found.chunks == outline and found.sizes[0] == len(chunks),
        "vectors": set(found.vectors) == set(vectors)
        and all(np.allclose(found.vectors[digest], vectors[digest], atol=2e-3) for digest in vectors),
        "postings": found.postings == terms,
    }
    return [f"{name} has the wrong {what}" for what, right in checks.items() if not right]


def _is_left(found: Indexed) -> bool:
    """Whether there is more of it than a tombstone."""
    return bool(not found.removed or found.chunks or found.vectors or found.postings)


def _vector(title: str, piece: Chunk) -> np.ndarray:
    vector = np.array(by_hash(embedded_text(title, piece)))
    return vector / np.linalg.norm(vector)
