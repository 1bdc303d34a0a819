"""Erasure: a deleted document leaves every place that it was in, and whoever could delete it can see that it has.

    delete ─┬▶ row, versions                    in the deletion itself
            ├▶ content directory                within a minute, once nobody can be storing the same bytes
            ├▶ outbox                           what told of it before
            └▶ event ─▶ AI side ─▶ IndexErased  index, answers, feedback: as that says

The tombstone stays: an id, an owner, readers and times, without which a deletion could not be told again.
"""

import asyncio
import logging
from datetime import datetime
from importlib.resources import files
from typing import Literal

import msgspec
from psycopg_pool import AsyncConnectionPool

from refdesk.access.policy import Resource, may
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Conflict, NotFound, Unavailable
from refdesk.documents.changes import is_id
from refdesk.documents.store import Row, fetch
from refdesk.outside import telemetry
from refdesk.outside.blobs import Blobs
from refdesk.outside.postgres.database import load_queries, one_statement

logger = logging.getLogger(__name__)

ERASE_EVERY_S = 60.0
GRACE_S = 3600.0
"""How long a content that was stored is left alone: somebody may be about to name it (`blobs`)."""
CONTENTS_AT_ONCE = 500
OF_THE_AI_SIDE = ("index", "answers", "feedback")
"""Where it says that it has nothing any more; of the index, for each generation."""


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``shared``: another document has the same content, which so stays. ``removed`` counts what was there."""

    place: str
    state: Literal["erased", "pending", "shared"]
    erased_at: datetime | None = None
    removed: int = 0


class ErasureView(msgspec.Struct, frozen=True, kw_only=True):
    """``complete``: nothing is left anywhere, but for what another document has, too."""

    document_id: str
    version: int
    deleted_at: datetime
    complete: bool
    places: list[Place]


class Erasure:
    """The tables ``erasures`` and ``contents_to_erase``. Have ``run`` running. Raises Unavailable when the database is away."""

    def __init__(self, pool: AsyncConnectionPool, blobs: Blobs) -> None:
        self._pool = pool
        self._blobs = blobs
        self._sql = load_queries(files("refdesk.documents") / "erasure.sql")

    async def view(self, principal: Principal, document_id: str) -> ErasureView:
        """For those who could delete it. Raises NotFound for everybody else, and Conflict while it is there."""
        found = await self._fetch("tombstone", id=document_id) if is_id(document_id) else []
        if not found or not _could_delete(principal, found[0]):
            raise NotFound
        row = found[0]
        if row["deleted_at"] is None:
            raise Conflict("This document has not been deleted, so nothing of it is erased. DELETE it first.")
        told = {one["place"]: one for one in await self._fetch("places", id=document_id)}
        places = [
            Place(place="versions", state="erased", erased_at=row["deleted_at"]),
            _content(row, told.pop("content", None)),
            Place(place="events", state="pending" if row["events"] else "erased"),
            *_of_the_ai_side(told),
        ]
        return ErasureView(
            document_id=row["id"],
            version=row["version"],
            deleted_at=row["deleted_at"],
            complete=all(place.state != "pending" for place in places),
            places=places,
        )

    async def run(self) -> None:
        while True:
            try:
                await self.erase()
            except Unavailable as error:
                logger.warning("contents of deleted documents cannot be erased now: %s", error)
            except Exception:
                telemetry.unexpected_errors.labels("erasure").inc()
                logger.exception("erasing contents of deleted documents failed; trying again later")
            await asyncio.sleep(ERASE_EVERY_S)

    async def erase(self, *, grace_s: float = GRACE_S) -> int:
        """Remove contents that only deleted documents had, and events that told of them; returns how many contents are gone."""
        due = {row["sha256"] for row in await self._fetch("contents_due", count=CONTENTS_AT_ONCE)}
        gone = await self._blobs.erase(due, grace_s=grace_s) if due else set()
        async with one_statement(self._pool) as connection:
            await connection.execute(self._sql.contents_gone, {"names": sorted(gone)})
        async with one_statement(self._pool) as connection:
            await connection.execute(self._sql.forget_events)
        return len(gone)

    async def _fetch(self, name: str, **parameters: object) -> list[Row]:
        async with one_statement(self._pool) as connection:
            return await fetch(connection, self._sql[name], parameters)


def _could_delete(principal: Principal, row: Row) -> bool:
    """Who could not read it could not delete it either; an administrator and its owner always could."""
    return may(principal, "documents.read_erasure", Resource(owner=row["owner"], readers=row["readers"]))


def _content(row: Row, told: Row | None) -> Place:
    erased_at, removed = (None, 0) if told is None else (told["erased_at"], told["removed"])
    if not row["contents"]:
        return Place(place="content", state="erased", erased_at=erased_at, removed=removed)
    state: Literal["shared", "pending"] = "shared" if row["contents"] == row["shared"] else "pending"
    return Place(place="content", state=state, erased_at=erased_at, removed=removed)


def _of_the_ai_side(told: dict[str, Row]) -> list[Place]:
    """What it has told of, and what it has not yet."""
    known = [
        Place(place=place, state="erased", erased_at=row["erased_at"], removed=row["removed"])
        for place, row in told.items()
    ]
    silent = [name for name in OF_THE_AI_SIDE if not any(place.startswith(name) for place in told)]
    return known + [Place(place=name, state="pending") for name in silent]
