"""Receipts of syncs: what a sync tells of itself, kept so that whoever was not there can see what it did.

The service believes what it is told of files, and adds what it knows itself: which of the source's documents are searchable now.
"""

import sys
from importlib.resources import files
from typing import Any

import msgspec
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from refdesk.access.policy import Resource, may, require
from refdesk.contracts.access import PRINCIPAL_PREFIX, Principal, is_reader
from refdesk.contracts.documents import ReadingNote
from refdesk.contracts.errors import InvalidRequest, NotFound
from refdesk.contracts.syncs import (
    SyncBegun,
    SyncCounts,
    SyncEntry,
    SyncIndexing,
    SyncNote,
    SyncReceipt,
    SyncReport,
    SyncState,
    weightiest,
)
from refdesk.documents.changes import is_id, new_id
from refdesk.documents.store import Row, fetch
from refdesk.outside.postgres.database import load_queries, one_statement, transaction
from refdesk.settings.documents import SyncLimits

SILENCE_S_MAX = 60.0
"""A sync tells of itself every ten seconds."""
SOURCE_CHARACTERS_MAX = 512
"""As many as an external id has."""
LEFT_OFF_MAX = (1 << 31) - 1  # an integer of the table


class Syncs:
    """The table ``syncs``. Every method raises Unavailable when the database is away."""

    def __init__(self, pool: AsyncConnectionPool, *, limits: SyncLimits | None = None) -> None:
        self._pool = pool
        self._limits = limits or SyncLimits()
        self._sql = load_queries(files("refdesk.documents") / "syncs.sql")

    async def begin(self, principal: Principal, *, source: str, owner: str) -> SyncBegun:
        """Also forgets what is beyond the limits. Raises Forbidden, InvalidRequest."""
        require(principal, "syncs.report", Resource(owner=owner), field="owner")
        _check(source, owner)
        place = {"id": new_id(), "owner": owner, "source": source}
        async with transaction(self._pool) as connection:
            await connection.execute(self._sql.begin_sync, {**place, "started_by": principal.id})
            await connection.execute(self._sql.forget_older, {**place, "kept": self._limits.receipts_kept})
            await connection.execute(self._sql.forget_sources, {**place, "sources_max": self._limits.sources_max})
            rows = await fetch(connection, self._sql.count_running, {**place, "silence_s_max": SILENCE_S_MAX})
        return SyncBegun(id=place["id"], also_running=rows[0]["running"])

    async def tell(self, principal: Principal, sync_id: str, report: SyncReport) -> None:
        """How far it has come. Raises NotFound, also for somebody else's and for one that is forgotten."""
        await self._require(principal, sync_id)
        kept = weightiest(report.entries, count=self._limits.entries_max)
        named = report.counts.found + report.counts.gone - report.counts.unchanged
        async with one_statement(self._pool) as connection:
            parameters = {
                "id": sync_id,
                "finished": report.finished,
                "problem": report.problem,
                "counts": Jsonb(msgspec.to_builtins(report.counts)),
                "entries": Jsonb(msgspec.to_builtins(kept)),
                "entries_left_off": min(max(0, named - len(kept)), LEFT_OFF_MAX) if report.finished else 0,
            }
            await fetch(connection, self._sql.tell_sync, parameters)

    async def page(
        self, principal: Principal, *, owner: str | None, source: str | None, limit: int
    ) -> list[SyncReceipt]:
        """Newest first, without entries: of a source all, else the newest of each. Administrators see everybody's."""
        if not may(principal, "syncs.read_all"):
            owner = owner or principal.id
            require(principal, "syncs.read", Resource(owner=owner), field="owner")
        parameters = {"owner": owner, "source": source, "count": limit, "silence_s_max": SILENCE_S_MAX}
        return [_receipt(row) for row in await self._fetch("list_syncs", parameters)]

    async def read(self, principal: Principal, sync_id: str) -> SyncReceipt:
        """With its entries, and what the index has made of the source's documents by now. Raises NotFound."""
        await self._require(principal, sync_id)
        rows = await self._fetch("read_sync", {"id": sync_id, "silence_s_max": SILENCE_S_MAX})
        if not rows:
            raise NotFound
        return msgspec.structs.replace(_receipt(rows[0]), indexing=await self._indexing(rows[0]))

    async def _indexing(self, row: Row) -> SyncIndexing:
        source: str = row["source"]
        below = {"after": source, "below": source + chr(sys.maxunicode), "owner": row["owner"]}
        states = {one["state"]: one["documents"] for one in await self._fetch("count_states", below)}
        failures = await self._fetch("list_failures", {**below, "count": self._limits.entries_max})
        noted = await self._fetch("list_noted", {**below, "count": self._limits.entries_max})
        return SyncIndexing(
            indexed=states.get("indexed", 0),
            pending=states.get("pending", 0),
            failed=states.get("failed", 0),
            failures=[
                SyncEntry(one["external_id"].removeprefix(source), "failed", one["failure"] or "") for one in failures
            ],
            notes=[
                SyncNote(one["external_id"].removeprefix(source), msgspec.convert(one["notes"], list[ReadingNote]))
                for one in noted
            ],
        )

    async def _require(self, principal: Principal, sync_id: str) -> None:
        rows = await self._fetch("owner_of_sync", {"id": sync_id}) if is_id(sync_id) else []
        if not rows or not may(principal, "syncs.read", Resource(owner=rows[0]["owner"])):
            raise NotFound

    async def _fetch(self, name: str, parameters: dict[str, Any]) -> list[Row]:
        async with one_statement(self._pool) as connection:
            return await fetch(connection, self._sql[name], parameters)


def _check(source: str, owner: str) -> None:
    if not 0 < len(source) <= SOURCE_CHARACTERS_MAX:
        raise InvalidRequest(
            f"source has {len(source):,} characters; it may have 1 to {SOURCE_CHARACTERS_MAX}. Sync it under a shorter --name.",
            field="source",
            limit=SOURCE_CHARACTERS_MAX,
            actual=len(source),
        )
    if not is_reader(PRINCIPAL_PREFIX + owner):
        raise InvalidRequest("owner is not the id of a principal. `refdesk keys list` shows them.", field="owner")


def _receipt(row: Row) -> SyncReceipt:
    return SyncReceipt(
        id=row["id"],
        source=row["source"],
        owner=row["owner"],
        started_by=row["started_by"],
        started_at=row["started_at"],
        heard_at=row["heard_at"],
        state=_state(row),
        problem=row["problem"],
        counts=msgspec.convert(row["counts"], SyncCounts),
        entries=msgspec.convert(row.get("entries", []), list[SyncEntry]),
        entries_left_off=row.get("entries_left_off", 0),
    )


def _state(row: Row) -> SyncState:
    if row["finished"]:
        return "refused" if row["problem"] else "finished"
    return "stopped" if row["silent"] else "running"
