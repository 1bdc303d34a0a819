"""The Document Service's use cases: documents with versions, readers and content. Nothing of HTTP, nothing of the index.

A write is one transaction: the document's row, its history and its outbox row. Whoever may not read a document is told
that it is not there; whoever may read but not change it is told so.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from refdesk.access.policy import Resource, require
from refdesk.contracts.access import Principal, Scope
from refdesk.contracts.documents import (
    Document,
    DocumentVersion,
    FreshnessToken,
    Manifest,
    Page,
    Seen,
    StandingReply,
)
from refdesk.contracts.errors import (
    Conflict,
    ContentMissing,
    InvalidRequest,
    NotFound,
    Unavailable,
    VersionMismatch,
)
from refdesk.documents.changes import Change, Limits, external_id, is_id
from refdesk.documents.contents import Contents
from refdesk.documents.listing import Selection
from refdesk.documents.readers import PrincipalNamed, granted, ids_of, no_names
from refdesk.documents.store import Backlog, DocumentStore, DocumentTransaction, Row
from refdesk.outside import telemetry
from refdesk.outside.blobs import BlobMissing, OpenBlob
from refdesk.outside.postgres.conflicts import repeated

logger = logging.getLogger(__name__)

COLUMNS = ("title", "media_type", "content_sha256", "readers", "tags", "external_id", "filename", "url")
"""What makes a version: a change to none of these makes no new one."""

VERSION_MAX = (1 << 63) - 1  # a bigint


PUBLISHED_LOOK_S = 0.005
"""How often a change that waits for the broker to have its event looks whether it has."""


class ExternalName(msgspec.Struct, frozen=True):
    """An external id, or the beginning of some, among those of one owner."""

    external_id: str
    owner: str


class Wanted(msgspec.Struct, frozen=True):
    """A checked change, who wants it, and the ids of the principals that its readers name."""

    change: Change
    by: Principal
    ids: dict[str, str]

    def over(self, before: Collection[str]) -> Change:
        """The change to a document with these readers. Raises Forbidden."""
        asked = self.change.readers
        if asked is None:
            return self.change
        return msgspec.structs.replace(self.change, readers=granted(asked, by=self.by, before=before, ids=self.ids))


class DocumentService:
    """Use cases. Raises the errors of the one tree; `Unavailable` when the database does not answer.

    ``beside``: the tables for what nobody waits for, with connections of its own; unset, it shares those of ``store``.
    """

    def __init__(
        self,
        store: DocumentStore,
        *,
        contents: Contents,
        limits: Limits | None = None,
        beside: DocumentStore | None = None,
        principal_named: PrincipalNamed = no_names,
    ) -> None:
        self._store = store
        self._beside = beside or store
        self.contents = contents
        self._principal_named = principal_named
        self.limits = limits or Limits()

    # -- writing

    @repeated
    async def create(self, principal: Principal, change: Change, *, traceparent: str | None = None) -> Document:
        """A new document, owned by the principal. Raises InvalidRequest, Forbidden, and Conflict for an external id in use."""
        wanted = await self._wanted(principal, change)
        async with self._store.writing() as writing:
            return await self._insert(writing, wanted, owner=principal.id, traceparent=traceparent)

    @repeated
    async def replace(
        self,
        principal: Principal,
        document_id: str,
        change: Change,
        *,
        if_match: frozenset[int] | None = None,
        traceparent: str | None = None,
    ) -> Document:
        """The next version, or the same one when nothing changes. Raises NotFound, Forbidden, VersionMismatch."""
        wanted = await self._wanted(principal, change)
        async with self._store.writing() as writing:
            row = await self._lock_for_change(writing, principal, document_id, if_match)
            document = await self._replace(writing, wanted, row, traceparent=traceparent)
        await self._until_published_if_narrowed(row, document)
        return document

    @repeated
    async def put_external(
        self,
        principal: Principal,
        name: ExternalName,
        change: Change,
        *,
        if_match: frozenset[int] | None = None,
        traceparent: str | None = None,
    ) -> tuple[Document, bool]:
        """Create or replace what its owner has under an external id; the second value says whether it was created.

        Everybody has external ids of their own, and a write under one never touches what somebody else has there. An
        administrator may write for another owner by saying so. Raises Forbidden.
        """
        require(principal, "documents.name", Resource(owner=name.owner), field="owner")
        wanted = await self._wanted(principal, msgspec.structs.replace(change, external_id=name.external_id))
        async with self._store.writing() as writing:
            document_id = await writing.find_external_id(wanted.change.external_id or "", owner=name.owner)
            if document_id is None:
                if if_match is not None:
                    raise VersionMismatch(
                        "There is no document under this external_id. Leave If-Match out to create it."
                    )
                return await self._insert(writing, wanted, owner=name.owner, traceparent=traceparent), True
            row = await self._lock_for_change(writing, principal, document_id, if_match)
            document = await self._replace(writing, wanted, row, traceparent=traceparent)
        await self._until_published_if_narrowed(row, document)
        return document, False

    @repeated
    async def delete(
        self,
        principal: Principal,
        document_id: str,
        *,
        if_match: frozenset[int] | None = None,
        traceparent: str | None = None,
    ) -> None:
        """From the commit on, no read finds it. Raises NotFound (also the second time), Forbidden, VersionMismatch."""
        async with self._store.writing() as writing:
            await self._lock_for_change(writing, principal, document_id, if_match)
            row = await writing.bury(document_id)
            await writing.record(row, change="deleted", changed_by=principal.id, traceparent=traceparent)
        await self._until_published(document_id)

    @repeated
    async def retry(self, principal: Principal, document_id: str, *, traceparent: str | None = None) -> Document:
        """Tell the current version again, as pending if it had failed. Raises NotFound, Forbidden."""
        async with self._store.writing() as writing:
            await self._lock_for_change(writing, principal, document_id, None)
            await writing.post(await writing.retry(document_id), traceparent=traceparent)
            return await writing.read(document_id)

    @repeated
    async def retell(self, tokens: list[FreshnessToken]) -> list[FreshnessToken]:
        """Tell those documents again that still are at the version given, deleted ones too; returns which.

        They are pending from then on, whatever they were: the index is to apply them anew. A document with a newer version
        is left alone, for that version has an event of its own.
        """
        self._check_few("documents", len(tokens))
        known = [token for token in tokens if is_id(token.document_id) and token.version <= VERSION_MAX]
        async with self._store.writing() as writing:
            rows = await writing.retell(known)
            for row in rows:
                await writing.post(row, traceparent=row["traceparent"])
        return [FreshnessToken(document_id=row["id"], version=row["version"]) for row in rows]

    async def check_may_change(self, principal: Principal, document_id: str) -> None:
        """Raise what a change would raise, before an upload is read. Raises NotFound, Forbidden."""
        document = await self.get(document_id, scope=principal.scope)
        require(principal, "documents.change", Resource(owner=document.owner, readers=document.readers))

    # -- reading

    async def get(self, document_id: str, *, scope: Scope) -> Document:
        """Raises NotFound."""
        document = await self._store.read(document_id, scope) if is_id(document_id) else None
        if document is None:
            raise NotFound
        return document

    async def open_content(
        self, document_id: str, *, scope: Scope, content_sha256: str | None = None
    ) -> tuple[Document, OpenBlob]:
        """The current content, to be read and closed. With ``content_sha256``: that one, or Conflict when superseded.

        Raises NotFound, and ContentMissing when the directory does not have it.
        """
        for last_try in (False, True):
            document = await self.get(document_id, scope=scope)
            if content_sha256 not in (None, document.content_sha256):
                raise Conflict(
                    f"This content was superseded by version {document.version}. Fetch the current one.",
                    version=document.version,
                )
            try:
                return document, await self.contents.open(document.content_sha256)
            except BlobMissing as error:  # replaced and swept since we looked: look again
                if last_try:
                    await self.contents.note_missing(document.content_sha256)
                    raise ContentMissing from error
        raise AssertionError("unreachable")

    async def page(
        self, selection: Selection, *, scope: Scope, limit: int, cursor: str | None = None, counted: bool = False
    ) -> Page:
        """A page is stable against documents that come and go. ``counted``: with its total. Raises InvalidRequest."""
        checked = selection.checked(self.limits)
        return await self._store.listings.page(checked, scope, limit=limit, cursor=cursor, counted=counted)

    async def external(self, principal: Principal, name: ExternalName, *, after: str | None, limit: int) -> Page:
        """What an owner has under the external ids that begin with this one.

        In the order of their external ids; the cursor is the last one. Raises InvalidRequest, Forbidden.
        """
        require(principal, "documents.name", Resource(owner=name.owner), field="owner")
        prefix = external_id(name.external_id, self.limits)
        documents = await self._store.external(
            after=max(prefix, after or ""), below=prefix + chr(sys.maxunicode), owner=name.owner, count=limit + 1
        )
        more = len(documents) > limit
        return Page(documents=documents[:limit], next_cursor=documents[limit - 1].external_id if more else None)

    async def versions(self, document_id: str, *, scope: Scope) -> list[DocumentVersion]:
        """The newest ``limits.versions_shown_max`` of those that the scope could read, newest first. Raises NotFound."""
        count = self.limits.versions_shown_max
        versions = await self._store.versions(document_id, scope, count=count) if is_id(document_id) else []
        if not versions:
            raise NotFound
        return versions

    async def standing(self, document_ids: list[str], *, scope: Scope, seen: Sequence[Seen] = ()) -> StandingReply:
        """What the source of truth says of these documents to this scope: those that exist and are readable.

        ``seen``: versions that the caller has of some of them, one of each, to be told whether they are known.
        """
        self._check_few("document_ids", len(document_ids))
        ids = {text for text in document_ids if is_id(text)}
        possible = {one.document_id: one for one in seen if one.document_id in ids and 0 <= one.version <= VERSION_MAX}
        return await self._store.standing(sorted(ids), scope, seen=list(possible.values()))

    async def manifest(self, *, after: str, limit: int) -> Manifest:
        """What the index should show, page by page: every document and every tombstone."""
        entries = await self._store.manifest_page(after=after, count=limit + 1)
        more = len(entries) > limit
        return Manifest(entries=entries[:limit], next_after=entries[limit - 1].document_id if more else None)

    async def manifest_of(self, document_ids: list[str]) -> Manifest:
        """The same of the documents named; those that never were are absent."""
        self._check_few("document_ids", len(document_ids))
        return Manifest(entries=await self._store.manifest_of(sorted({text for text in document_ids if is_id(text)})))

    async def backlog(self) -> Backlog:
        """What is on its way; for people."""
        return await self._store.backlog()

    async def measure(self) -> None:
        """Set the metrics that the tables tell. Raises Unavailable; what is not known is NaN then, never an old value."""
        gauges = telemetry.outbox_pending, telemetry.outbox_oldest_age, telemetry.index_lag, telemetry.contents_missing
        states = {state: telemetry.documents.labels(state) for state in ("indexed", "pending", "failed")}
        with telemetry.known_or_nan(*gauges, *states.values()):
            now = await self._beside.measures()
        telemetry.outbox_pending.set(now.outbox_pending)
        telemetry.outbox_oldest_age.set(now.outbox_oldest_age_seconds)
        telemetry.index_lag.set(now.index_lag_seconds)
        telemetry.contents_missing.set(now.contents_missing)
        for state, gauge in states.items():
            gauge.set(getattr(now, state))

    def _check_few(self, field: str, count: int) -> None:
        if count > self.limits.standing_ids_max:
            raise InvalidRequest(
                f"{field} has {count:,} entries; the limit is {self.limits.standing_ids_max:,}.",
                field=field,
                limit=self.limits.standing_ids_max,
                actual=count,
            )

    # -- after a transaction

    async def _until_published_if_narrowed(self, before: Row, now: Document) -> None:
        if not set(before["readers"]) <= set(now.readers):
            await self._until_published(now.id)

    async def _until_published(self, document_id: str) -> None:
        """So that whoever is told of it can rely on it, even should this service fall silent now (docs/adr/0025).

        A broker or a database that is away holds it up by no more than ``limits.revocation_wait_s``: it is committed.
        """
        if not self.limits.revocation_wait_s:
            return
        with contextlib.suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(self.limits.revocation_wait_s):
                while not await self._store.is_published(document_id):
                    await asyncio.sleep(PUBLISHED_LOOK_S)

    # -- inside a transaction

    async def _wanted(self, principal: Principal, change: Change) -> Wanted:
        """The change checked, and what its readers' names mean. Raises InvalidRequest, Unavailable."""
        checked = change.checked(self.limits)
        return Wanted(checked, principal, await ids_of(checked.readers or (), self._principal_named))

    async def _insert(
        self, writing: DocumentTransaction, wanted: Wanted, *, owner: str, traceparent: str | None
    ) -> Document:
        row = await writing.insert(wanted.over(()).for_new_document(), owner=owner)
        await writing.record(row, change="created", changed_by=wanted.by.id, traceparent=traceparent)
        return await writing.read(row["id"])

    async def _replace(
        self, writing: DocumentTransaction, wanted: Wanted, row: Row, *, traceparent: str | None
    ) -> Document:
        columns = wanted.over(row["readers"]).over(row)
        if columns["external_id"] != row["external_id"]:
            require(wanted.by, "documents.name", Resource(owner=row["owner"]), field="owner")
        if _differs(columns, row):
            row = await writing.replace(row["id"], columns)
            await writing.record(row, change="replaced", changed_by=wanted.by.id, traceparent=traceparent)
        return await writing.read(row["id"])

    async def _lock_for_change(
        self, writing: DocumentTransaction, principal: Principal, document_id: str, if_match: frozenset[int] | None
    ) -> Row:
        row = await writing.lock(document_id, principal.scope) if is_id(document_id) else None
        if row is None:
            raise NotFound
        require(principal, "documents.change", Resource(owner=row["owner"], readers=row["readers"]))
        if if_match is not None and row["version"] not in if_match:
            raise VersionMismatch(
                f"The document is at version {row['version']}, not at the one in If-Match. Fetch it again and repeat "
                "the change with its new ETag.",
                version=row["version"],
            )
        return row


def _differs(columns: dict[str, Any], row: Row) -> bool:
    return any(columns[name] != row[name] for name in COLUMNS)
