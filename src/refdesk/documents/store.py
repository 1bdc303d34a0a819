"""The Document Service's tables, by what is done with them.

The statements are in ``store.sql`` and, for the outbox, in ``outbox.sql``.

A `Writing` is one transaction: a change, its history and its outbox row are committed together or not at all.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Scope, readers_with_owner
from refdesk.contracts.documents import (
    Document,
    DocumentStanding,
    DocumentVersion,
    FreshnessToken,
    ManifestEntry,
    Seen,
    StandingReply,
)
from refdesk.contracts.errors import Conflict
from refdesk.contracts.events import (
    DocumentChanged,
    DocumentDeleted,
    IndexApplied,
    IndexErased,
    IndexFailed,
    IndexStarted,
    encode,
)
from refdesk.documents.changes import new_id
from refdesk.documents.listing import Listings
from refdesk.documents.waiting import PUBLISH_S_MAX, silence_s_max
from refdesk.outside.postgres.database import Queries, load_queries, one_statement, transaction

SOURCE = "refdesk/documents"
"""The CloudEvents source of the events about documents."""

Row = dict[str, Any]

MIGRATIONS = files("refdesk.documents") / "migrations"
READ = b"SELECT EXISTS (SELECT 1 FROM documents LIMIT 1)"
"""Reads a table of ours: what tries a database runs it."""


class Backlog(msgspec.Struct, frozen=True):
    """What is on its way, as the tables say (not this process's memory)."""

    outbox_pending: int
    outbox_oldest_age_seconds: float
    documents_indexed: int
    documents_pending: int
    documents_failed: int
    index_lag_seconds: float
    contents_missing: int


class Measures(msgspec.Struct, frozen=True):
    """What metrics show of it: asked often, and each from an index alone."""

    outbox_pending: int
    outbox_oldest_age_seconds: float
    index_lag_seconds: float
    contents_missing: int
    indexed: int
    pending: int
    failed: int


class Changed(msgspec.Struct, frozen=True):
    """What became of a document: its current form (None when it is gone) and who may, or could, read it."""

    document_id: str
    document: Document | None
    audience: list[str]
    readers_before: list[str]


async def fetch(connection: AsyncConnection, query: bytes, parameters: Mapping[str, Any]) -> list[Row]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()


class DocumentTransaction:
    """One open transaction."""

    def __init__(self, connection: AsyncConnection, sql: Queries, *, outbox_sql: Queries) -> None:
        self._connection = connection
        self._sql = sql
        self._outbox_sql = outbox_sql

    async def insert(self, columns: Mapping[str, Any], *, owner: str) -> Row:
        """Raises Conflict when the owner has a document under this external id already."""
        return await self._write(self._sql.insert_document, {**columns, "id": new_id(), "owner": owner})

    async def lock(self, document_id: str, scope: Scope) -> Row | None:
        """The document's row, held until the end of the transaction; None when the scope has no such document."""
        rows = await fetch(self._connection, self._sql.lock_document, {"id": document_id, **_within(scope)})
        return rows[0] if rows else None

    async def replace(self, document_id: str, columns: Mapping[str, Any]) -> Row:
        """Raises Conflict when the owner has another document under this external id."""
        return await self._write(self._sql.replace_document, {**columns, "id": document_id})

    async def bury(self, document_id: str) -> Row:
        """Its versions are forgotten after the row is buried, which notes the contents that they had (`erasure`)."""
        row = await self._write(self._sql.bury_document, {"id": document_id})
        await self._connection.execute(self._sql.forget_versions, {"id": document_id})
        return row

    async def retry(self, document_id: str) -> Row:
        return await self._write(self._sql.retry_document, {"id": document_id})

    async def retell(self, tokens: list[FreshnessToken]) -> list[Row]:
        """The rows of those documents that still are at the version given, now pending."""
        ids, versions = [token.document_id for token in tokens], [token.version for token in tokens]
        return await fetch(self._connection, self._sql.retell_documents, {"ids": ids, "versions": versions})

    async def find_external_id(self, external_id: str, *, owner: str) -> str | None:
        """The id of the document that the owner has under this external id; no other write decides meanwhile."""
        name = {"external_id": external_id, "owner": owner}
        await self._connection.execute(self._sql.serialise_external_id, name)
        rows = await fetch(self._connection, self._sql.find_external_id, name)
        return rows[0]["id"] if rows else None

    async def record(self, row: Row, *, change: str, changed_by: str, traceparent: str | None) -> None:
        """The new version's place in the history, and its event."""
        parameters = {**row, "change": change, "changed_by": changed_by}
        await self._connection.execute(self._sql.record_version, parameters)
        await self.post(row, traceparent=traceparent)

    async def post(self, row: Row, *, traceparent: str | None) -> None:
        """Put the current version's event into the outbox, under a new event id."""
        await self._connection.execute(self._outbox_sql.post_event, outbox_row(row, traceparent=traceparent))
        await self._connection.execute(self._sql.announce, {"id": row["id"]})

    async def read(self, document_id: str) -> Document:
        """As it stands in this transaction, without why it waits."""
        return document_of((await fetch(self._connection, self._sql.read_written, {"id": document_id}))[0])

    async def _write(self, query: bytes, parameters: Mapping[str, Any]) -> Row:
        try:
            rows = await fetch(self._connection, query, parameters)
        except UniqueViolation as error:
            raise Conflict(
                "You have a document with this external_id already. Replace it with "
                "PUT /api/documents/by-external-id/<external_id>.",
                field="external_id",
            ) from error
        return rows[0]


class DocumentStore:
    """Reads, and transactions for writing. Every read takes the scope it is made for; deleted documents are in none.

    ``queue_counted_max``: how many changes ahead of a document are counted; more are told as "at least". ``writes``: the pool
    that changes borrow from, so that neither they nor reads can take all connections; unset, they share one.
    ``silence_s``: how long an indexer may be silent now.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        *,
        writes: AsyncConnectionPool | None = None,
        queue_counted_max: int = 1000,
        silence_s: Callable[[], float] = silence_s_max,
    ) -> None:
        self._pool = pool
        self._writes = writes or pool
        self._queue_counted_max = queue_counted_max
        self._silence_s = silence_s
        self._sql = load_queries(files("refdesk.documents") / "store.sql")
        self._outbox_sql = load_queries(files("refdesk.documents") / "outbox.sql")
        self.listings = Listings(pool, explaining=self._explaining)

    def _explaining(self) -> dict[str, float]:
        return {
            "counted_max": self._queue_counted_max,
            "publish_s_max": PUBLISH_S_MAX,
            "silence_s_max": self._silence_s(),
        }

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[DocumentTransaction]:
        async with transaction(self._writes) as connection:
            yield DocumentTransaction(connection, self._sql, outbox_sql=self._outbox_sql)

    async def read(self, document_id: str, scope: Scope) -> Document | None:
        documents = await self._documents(self._sql.read_document, {"id": document_id, **_within(scope)})
        return documents[0] if documents else None

    async def external(self, *, after: str, below: str, owner: str, count: int) -> list[Document]:
        """What the owner has under the external ids between the two, in their order."""
        parameters = {"after": after, "below": below, "owner": owner, "count": count}
        return await self._documents(self._sql.list_external, parameters)

    async def versions(self, document_id: str, scope: Scope, *, count: int) -> list[DocumentVersion]:
        """Those that the scope could read, newest first; empty when it has no such document now."""
        rows = await self._fetch(self._sql.list_versions, {"id": document_id, "count": count, **_within(scope)})
        return [msgspec.convert(row, DocumentVersion) for row in rows]

    async def standing(self, document_ids: list[str], scope: Scope, *, seen: Sequence[Seen] = ()) -> StandingReply:
        """One snapshot of versions and lag. ``seen``: at most one version of each document."""
        parameters = {
            "document_ids": document_ids,
            "seen_ids": [one.document_id for one in seen],
            "seen_versions": [one.version for one in seen],
            "seen_contents": [one.content_sha256 for one in seen],
            "count": len(document_ids) + 1,
            **_within(scope),
        }
        rows = await self._fetch(self._sql.standing, parameters)
        now, oldest = rows[0]["now"], rows[0]["oldest"]
        return StandingReply(
            as_of=oldest or now,
            index_lag_seconds=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
            standings=[msgspec.convert(row, DocumentStanding) for row in rows if row["document_id"] is not None],
            epoch=rows[0]["epoch"],
        )

    async def manifest_page(self, *, after: str, count: int) -> list[ManifestEntry]:
        """Of every document, tombstones too, in the order of ids. For administrators alone: it takes no scope."""
        rows = await self._fetch(self._sql.manifest_page, {"after": after, "count": count})
        return [_manifest_entry(row) for row in rows]

    async def manifest_of(self, document_ids: list[str]) -> list[ManifestEntry]:
        """Of those named that exist, tombstones too. For administrators alone: it takes no scope."""
        rows = await self._fetch(
            self._sql.manifest_of, {"document_ids": document_ids, "count": max(1, len(document_ids))}
        )
        return [_manifest_entry(row) for row in rows]

    async def changed(self, document_ids: list[str]) -> list[Changed]:
        """For the event streams, which filter by scope themselves."""
        parameters = {"ids": document_ids, "count": len(document_ids), **self._explaining()}
        return [
            Changed(
                document_id=row["changed_id"],
                document=None if row["id"] is None else document_of(row),
                audience=row["audience_now"],
                readers_before=row["readers_before"],
            )
            for row in await self._fetch(self._sql.changed_documents, parameters)
        ]

    async def is_published(self, document_id: str) -> bool:
        """Whether the broker has everything about this document."""
        async with one_statement(self._pool) as connection:
            rows = await fetch(connection, self._outbox_sql.is_published, {"document_id": document_id})
        return bool(rows[0]["published"])

    async def unreferenced(self, names: list[str], *, versions_kept: int) -> set[str]:
        """Those that are the content of no document, and of none of its last versions."""
        parameters = {"names": names, "count": len(names), "versions_kept": versions_kept}
        rows = await self._fetch(self._sql.unreferenced_content, parameters)
        return {row["name"] for row in rows}

    async def backlog(self) -> Backlog:
        return msgspec.convert((await self._fetch(self._sql.backlog, {}))[0], Backlog)

    async def measures(self) -> Measures:
        return msgspec.convert((await self._fetch(self._sql.measures, {}))[0], Measures)

    async def apply_started(self, event: IndexStarted) -> None:
        """About the current version only, for as long as it is said again in time."""
        await self._hear(self._sql.apply_started, {**msgspec.structs.asdict(event), "lease_s": self._silence_s()})

    async def apply_indexed(self, event: IndexApplied) -> float | None:
        """Apply-if-newer: duplicates and older versions change nothing.

        Returns how many seconds the oldest change that is searchable now has waited; None when nothing was applied, or
        nothing waited.
        """
        parameters = {
            "document_id": event.document_id,
            "version": event.version,
            "title": event.title,
            "notes": None if event.notes is None else msgspec.json.encode(event.notes).decode(),
            "seconds": msgspec.json.encode(event.seconds).decode(),
        }
        rows = await self._hear(self._sql.apply_indexed, parameters)
        return rows[0]["waited_s"] if rows else None

    async def apply_failed(self, event: IndexFailed) -> None:
        """About the current version only; never after it was applied."""
        await self._hear(self._sql.apply_failed, msgspec.structs.asdict(event))

    async def apply_erased(self, event: IndexErased) -> None:
        """Of a document that is deleted. Told again, it changes nothing but the time."""
        places = {**event.places, **{f"index generation {name}": 0 for name in event.generations}}
        parameters = {
            "document_id": event.document_id,
            "erased_at": event.occurred_at,
            "places": list(places),
            "removed": list(places.values()),
        }
        await self._hear(self._sql.apply_erased, parameters)

    async def _hear(self, query: bytes, parameters: Mapping[str, Any]) -> list[Row]:
        """Apply what an indexer says; that it says something is news in itself."""
        async with transaction(self._pool) as connection:
            rows = await fetch(connection, query, parameters)
            await connection.execute(self._sql.hear_of_indexer)
        return rows

    async def _documents(self, query: bytes, parameters: Mapping[str, Any]) -> list[Document]:
        """The documents of the rows; those that are pending say why."""
        return [document_of(row) for row in await self._fetch(query, {**parameters, **self._explaining()})]

    async def _fetch(self, query: bytes, parameters: Mapping[str, Any]) -> list[Row]:
        async with one_statement(self._pool) as connection:
            return await fetch(connection, query, parameters)


def outbox_row(row: Row, *, traceparent: str | None, retold: int = 0) -> Row:
    """The parameters of an outbox row that tells of the document's current version, for the ``retold``-th time again."""
    event_id, event = new_id(), event_of(row)
    return {
        "event_id": event_id,
        "document_id": row["id"],
        "version": row["version"],
        "subject": event.subject,
        "payload": encode(event, event_id=event_id, source=SOURCE, traceparent=traceparent),
        "traceparent": traceparent,
        "retold": retold,
    }


def event_of(row: Row) -> DocumentChanged | DocumentDeleted:
    """The event that tells of a document's current version.

    Its readers name everybody who may read the document, the owner included, for that is what the index filters by.
    """
    if row["deleted_at"] is not None:
        return DocumentDeleted(document_id=row["id"], version=row["version"], occurred_at=row["updated_at"])
    return DocumentChanged(
        document_id=row["id"],
        version=row["version"],
        content_sha256=row["content_sha256"],
        media_type=row["media_type"],
        title=row["title"],
        readers=readers_with_owner(row["readers"], row["owner"]),
        tags=tuple(row["tags"]),
        external_id=row["external_id"],
        filename=row["filename"],
        url=row["url"],
        occurred_at=row["updated_at"],
    )


def document_of(row: Row) -> Document:
    return msgspec.convert(row, Document)


def _manifest_entry(row: Row) -> ManifestEntry:
    return msgspec.convert({**row, "readers": readers_with_owner(row["readers"], row["owner"])}, ManifestEntry)


def _within(scope: Scope) -> dict[str, Any]:
    return {"readers": list(scope.readers), "everything": scope.everything}
