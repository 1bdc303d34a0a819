"""What the ledger holds of the documents of one generation, and the transactions in which an engine reads and changes it.

Both engines stand on it: what they say of versions and sizes is what is said here.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.errors import UndefinedTable
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.contracts.documents import ReadingNote
from refdesk.index.chunks import IndexedDocument
from refdesk.index.ledger.generations import Generation, Role, check_role, enter, enter_to_change, moved, within
from refdesk.index.ledger.statements import one, row, rows
from refdesk.index.ranking import Corpus
from refdesk.outside.postgres.database import load_queries, one_statement, pipelined, transaction

Access = dict[str, Any]

_queries = load_queries(files("refdesk.index.ledger") / "holdings.sql")


class Held(NamedTuple):
    """A version of a document, its content, and what was found out when it was read; a tombstone has none of these."""

    version: int
    content_sha256: str
    title: str = ""
    notes: tuple[ReadingNote, ...] | None = None
    """None of a version that an earlier release wrote."""


class Sizes(NamedTuple):
    """What the tallies hold for one document."""

    removed: bool
    chunks: int
    terms: int


class Holdings:
    """Of one generation. Every method makes sure of the role as `port.ChunkIndex` says."""

    def __init__(self, pool: AsyncConnectionPool, generation: Generation, *, role: Role | None = None) -> None:
        self._pool = pool
        self._generation = generation
        self._role = role
        tallies = sql.Identifier(generation.schema, "tallies")
        self._epoch = sql.SQL(_queries.epoch.decode()).format(tallies=tallies).as_bytes(None)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        async with transaction(self._pool) as connection:
            await enter(connection, self._generation, role=self._role)
            yield connection

    @asynccontextmanager
    async def change(self) -> AsyncIterator[AsyncConnection]:
        """No swap happens until it ends."""
        async with transaction(self._pool) as connection:
            await enter_to_change(connection, self._generation, role=self._role)
            yield connection

    @asynccontextmanager
    async def snapshot(self, begin: bytes) -> AsyncIterator[AsyncConnection]:
        """A transaction, begun by this statement, in a pipeline."""
        async with (
            pipelined(self._pool, begin) as connection,
            within(connection, self._generation, role=self._role),
        ):
            yield connection

    async def versions(self, document_ids: Iterable[str]) -> dict[str, int]:
        async with self.read() as connection:
            found = await rows(connection, _queries.versions, {"document_ids": list(document_ids)})
        return {str(document_id): int(version) for document_id, version in found}

    async def held(self, document_id: str) -> Held | None:
        async with self.read() as connection:
            found = await row(connection, _queries.held, {"document_id": document_id})
        if found is None:
            return None
        version, content_sha256, title, notes = found
        told = None if notes is None else msgspec.convert(notes, tuple[ReadingNote, ...])
        return Held(version, content_sha256, title=title, notes=told)

    async def epoch(self) -> str:
        """A name of all changes to this generation: whatever changes the index changes its ledger, and the ledger's tallies.

        Not of the database's snapshot: other work writes there all the time. Every question asks for it: one round trip.
        """
        try:
            async with one_statement(self._pool) as connection:
                epoch, active = await one(connection, self._epoch, {"id": self._generation.id})
        except UndefinedTable as error:
            raise moved(self._generation) from error
        check_role(self._generation, self._role, active=active)
        return f"{self._generation.id}:{epoch}"

    async def sizes(self) -> Corpus:
        async with self.read() as connection:
            documents, chunks, terms = await one(connection, _queries.sizes, {})
        return Corpus(documents=documents, chunks=chunks, terms=terms)


async def announce(connection: AsyncConnection, document: IndexedDocument, *, before: Sizes, after: Sizes) -> None:
    """The end of a change: who waits for news hears of it with the commit, and the sizes of the index are brought up to date.

    In a pipeline of the caller's.
    """
    changes = {
        "documents": before.removed - after.removed,
        "chunks": after.chunks - before.chunks,
        "terms": after.terms - before.terms,
    }
    await connection.execute(_queries.announce, {"document_id": document.document_id, "version": document.version})
    await connection.execute(_queries.tally, changes)


async def touch(connection: AsyncConnection) -> None:
    """The end of a change that nobody waits for and that changes no size."""
    await connection.execute(_queries.touch, {})


def access(scope: Scope, filters: Filters | None) -> Access:
    """The parameters of `readable`: what every query is given."""
    filters = filters or Filters()
    return {
        "everything": scope.everything,
        "readers": list(scope.readers),
        "document_ids": list(filters.document_ids) or None,
        "tags": list(filters.tags) or None,
        "sources": list(filters.sources) or None,
        "since": filters.since,
        "until": filters.until,
    }


def facts(document: IndexedDocument) -> dict[str, Any]:
    """A document's columns."""
    return msgspec.structs.asdict(document) | {
        "title": storable(document.title),
        "readers": list(document.readers),
        "tags": list(document.tags),
        "sources": list(document.sources),
        "notes": msgspec.json.encode([_storable_note(note) for note in document.notes]).decode(),
    }


def tombstone(document_id: str, version: int) -> IndexedDocument:
    return IndexedDocument(
        document_id=document_id, version=version, title="", readers=(), media_type="", content_sha256=""
    )


def _storable_note(note: ReadingNote) -> ReadingNote:
    attachment = note.attachment and storable(note.attachment)
    return msgspec.structs.replace(note, text=storable(note.text), attachment=attachment)


def storable(text: str) -> str:
    """PostgreSQL's text holds any character but NUL."""
    return text.replace("\0", "\ufffd")
