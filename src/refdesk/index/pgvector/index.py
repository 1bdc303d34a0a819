"""The hybrid index in PostgreSQL: vectors in an HNSW graph, keywords in a postings table, readers in every query.

    replace ── one transaction ──▶ documents · chunks · vectors (HNSW) · postings · tallies ── NOTIFY refdesk_index
    stage ── parts ahead of it ──▶ vectors, which no search shows before ┘

A document's row carries its version and is the lock for everything of it. All changes to a document are one transaction, all
statements of a search see one snapshot: no search ever sees half a version, and a removed document is gone with the commit.

What it does not do: choose among generations (`ledger.generations`), or purge tombstones (a row each).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.index.chunks import Chunk, IndexedDocument, Passage, content_hash
from refdesk.index.ledger.generations import Generation, Role
from refdesk.index.ledger.holdings import Holdings, Sizes, access, announce, facts, storable, tombstone, touch
from refdesk.index.ledger.statements import one as _one
from refdesk.index.ledger.statements import row as _row
from refdesk.index.ledger.statements import rows as _rows
from refdesk.index.pgvector import halfvec
from refdesk.index.pgvector.searching import Searching
from refdesk.index.port import CHUNKS_PER_DOCUMENT_MAX, ChunkIndex, Holding, Vectors, check_chunks
from refdesk.index.spellings import spellings
from refdesk.outside.postgres.database import load_queries

STATEMENT_CHUNKS_MAX = 1_024
"""What one statement writes of a document, in whole blocks of 64: each stays far below the pool's statement timeout."""

_queries = load_queries(files("refdesk.index.pgvector") / "index.sql")


class PgvectorIndex(ChunkIndex):
    """See `port.ChunkIndex`. The ledger and the chunks are changed in one transaction."""

    def __init__(self, pool: AsyncConnectionPool, generation: Generation, *, role: Role | None = None) -> None:
        self._generation = generation
        super().__init__(Holdings(pool, generation, role=role))
        self._searching = Searching(self._holdings, text_search=generation.text_search)

    async def stage(self, document_id: str, version: int, hashes: Sequence[bytes], vectors: Vectors) -> bool:
        async with self._holdings.change() as connection:
            values = {"document_id": document_id, "version": version}
            await connection.execute(_queries.add_unborn, values)
            row = await _row(connection, _queries.lock_older, values)
            if row is None:
                return False
            await _add_vectors(connection, row[0], hashes, vectors)
        return True

    async def replace(self, document: IndexedDocument, chunks: Sequence[Chunk], vectors: Vectors) -> bool:
        """Vectors of unchanged text keep their place in the graph; when no chunk differs, only the document's row is written."""
        check_chunks(document.document_id, chunks, vectors, dimensions=self._generation.dimensions)
        hashes = await asyncio.to_thread(lambda: [content_hash(document.title, chunk) for chunk in chunks])
        columns = await asyncio.to_thread(_columns, document.title, chunks, hashes)
        async with self._holdings.change() as connection:
            claimed = await _row(connection, _queries.claim_version, facts(document))
            if claimed is None:
                return False
            key, before = claimed[0], Sizes(*claimed[1:])
            after = Sizes(removed=False, chunks=before.chunks, terms=before.terms)
            if not before.chunks or await _differs(connection, key, chunks, hashes):
                await _write_vectors(connection, key, hashes, vectors)
                terms = await self._write_chunks(connection, key, document.title, columns)
                after = Sizes(removed=False, chunks=len(chunks), terms=terms)
            await _settle(connection, key, document, before=before, after=after)
        return True

    async def remove(self, document_id: str, version: int) -> bool:
        gone = tombstone(document_id, version)
        async with self._holdings.change() as connection:
            claimed = await _row(connection, _queries.claim_version, facts(gone))
            if claimed is None:
                return False
            async with connection.pipeline():
                for query in (_queries.delete_chunks, _queries.delete_postings, _queries.delete_vectors):
                    await connection.execute(query, {"key": claimed[0]})
            after = Sizes(removed=True, chunks=0, terms=0)
            await _settle(connection, claimed[0], gone, before=Sizes(*claimed[1:]), after=after)
        return True

    async def search(
        self, text: str, vector: Vectors, *, scope: Scope, filters: Filters | None = None, limit: int
    ) -> list[Passage]:
        return await self._searching.search(text, vector, access(scope, filters), limit=limit)

    async def passages(self, document_id: str, *, scope: Scope) -> tuple[IndexedDocument, list[Chunk]] | None:
        values = access(scope, Filters(document_ids=(document_id,))) | {"chunks_max": CHUNKS_PER_DOCUMENT_MAX}
        async with self._holdings.read() as connection:
            rows = await _rows(connection, _queries.passages, values)
        if not rows:
            return None
        return _document(rows[0]), [_chunk(row[10:]) for row in rows if row[10] is not None]

    async def known_vectors(self, document_id: str) -> dict[bytes, Vectors]:
        values = {"document_id": document_id, "chunks_max": CHUNKS_PER_DOCUMENT_MAX}
        async with self._holdings.read() as connection:
            cursor = await connection.execute(_queries.known_vectors, values, binary=True)
            rows = await cursor.fetchall()
        return await asyncio.to_thread(lambda: {row[0]: halfvec.from_binary(row[1]) for row in rows})

    async def sample(self, count: int) -> list[tuple[str, str]]:
        async with self._holdings.read() as connection:
            drawn = await _rows(connection, _queries.sample, {"count": count})
        return [(document_id, text) for document_id, text in drawn]

    async def audit(self, *, after: str = "", count: int) -> list[Holding]:
        return await self._held(_queries.page, {"after": after, "count": count})

    async def holdings(self, document_ids: Iterable[str]) -> dict[str, Holding]:
        held = await self._held(_queries.of, {"document_ids": list(document_ids)})
        return {holding.document_id: holding for holding in held}

    async def reopen(self, seen: Holding, *, version: int, readers: Iterable[str]) -> bool:
        values = {"document_id": seen.document_id, "seen_version": seen.version}
        async with self._holdings.change() as connection:
            opened = await _row(connection, _queries.reopen, values | {"version": version, "readers": list(readers)})
            if opened is None:
                return False
            if not seen.whole:
                await connection.execute(_queries.delete_chunks, {"key": opened[0]})
                await connection.execute(_queries.delete_postings, {"key": opened[0]})
            await touch(connection)
        return True

    async def tidy(self) -> None:
        """Nothing is left to do: each change deletes what it replaces."""

    async def _held(self, query: bytes, values: dict[str, Any]) -> list[Holding]:
        async with self._holdings.read() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, values)
            return [msgspec.convert(found, Holding) for found in await cursor.fetchall()]

    async def _write_chunks(self, connection: AsyncConnection, key: int, title: str, columns: Mapping[str, Any]) -> int:
        """Write chunks and postings anew; return the sum of the chunks' lengths in terms."""
        values = {"key": key, "title": storable(title), "text_search": self._generation.text_search}
        async with connection.pipeline():
            await connection.execute(_queries.delete_chunks, {"key": key})
            await connection.execute(_queries.delete_postings, {"key": key})
            await connection.execute(_queries.insert_chunks, {"key": key, **columns})
        terms = 0
        for first in range(0, len(columns["ordinals"]), STATEMENT_CHUNKS_MAX):
            end = first + STATEMENT_CHUNKS_MAX
            more = {name: columns[name][first:end] for name in ("ordinals", "spellings")}
            part = values | more | {"first": first, "end": end}
            terms += int((await _one(connection, _queries.insert_postings, part))[0])
        return terms


async def _differs(connection: AsyncConnection, key: int, chunks: Sequence[Chunk], hashes: Sequence[bytes]) -> bool:
    outline = await _rows(connection, _queries.chunk_outline, _of(key))
    given = ((c.ordinal, digest, c.page, c.start, c.end) for c, digest in zip(chunks, hashes, strict=True))
    return outline != sorted(given)


def _of(key: int) -> dict[str, int]:
    return {"key": key, "chunks_max": CHUNKS_PER_DOCUMENT_MAX}


async def _write_vectors(connection: AsyncConnection, key: int, hashes: Sequence[bytes], vectors: Vectors) -> None:
    """Delete the vectors of text that is gone, add those of text that is new."""
    await connection.execute(_queries.delete_vectors_except, {"key": key, "hashes": list(hashes)})
    await _add_vectors(connection, key, hashes, vectors)


async def _add_vectors(connection: AsyncConnection, key: int, hashes: Sequence[bytes], vectors: Vectors) -> None:
    """Those that are not there yet. The caller holds the document's row."""
    there = {row[0] for row in await _rows(connection, _queries.vector_hashes, {"key": key, "hashes": list(hashes)})}
    places = list({digest: place for place, digest in enumerate(hashes) if digest not in there}.values())
    for first in range(0, len(places), STATEMENT_CHUNKS_MAX):
        part = places[first : first + STATEMENT_CHUNKS_MAX]
        payload = halfvec.copy_rows(key, [hashes[place] for place in part], vectors[part])
        async with connection.cursor() as cursor, cursor.copy(_queries.copy_vectors) as copy:
            await copy.write(payload)


async def _settle(
    connection: AsyncConnection, key: int, document: IndexedDocument, *, before: Sizes, after: Sizes
) -> None:
    async with connection.pipeline():
        await connection.execute(_queries.settle, {"key": key, **after._asdict()})
        await announce(connection, document, before=before, after=after)


def _columns(title: str, chunks: Sequence[Chunk], hashes: Sequence[bytes]) -> dict[str, Any]:
    return {
        "ordinals": [chunk.ordinal for chunk in chunks],
        "hashes": list(hashes),
        "texts": [storable(chunk.text) for chunk in chunks],
        "headings": [chunk.heading and storable(chunk.heading) for chunk in chunks],
        "pages": [chunk.page for chunk in chunks],
        "starts": [chunk.start for chunk in chunks],
        "ends": [chunk.end for chunk in chunks],
        "spellings": [spellings("\n".join((title, chunk.heading or "", chunk.text))) for chunk in chunks],
    }


def _document(row: Sequence[Any]) -> IndexedDocument:
    document_id, version, title, readers, tags, sources, changed_on, media_type, url, content_sha256 = row[:10]
    return IndexedDocument(
        document_id=document_id,
        version=version,
        title=title,
        readers=tuple(readers),
        tags=tuple(tags),
        sources=tuple(sources),
        changed_on=changed_on,
        media_type=media_type,
        url=url,
        content_sha256=content_sha256,
    )


def _chunk(row: Sequence[Any]) -> Chunk:
    ordinal, text, heading, page, start, end = row
    return Chunk(ordinal=ordinal, text=text, heading=heading, page=page, start=start, end=end)
