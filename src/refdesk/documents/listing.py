"""Listings of documents: which, in which order, and where the next page goes on.

A cursor is the place of the page's last document in its order: its id, and the key it was sorted by. So a page costs the same
wherever it is, and is stable against documents that come and go.

A total has no such shortcut: it is counted. So it is counted once for each state of the documents, and not at all where the first
page holds everything.
"""

import base64
import binascii
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.resources import files
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Scope
from refdesk.contracts.documents import Document, Page, State
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.texts import Text
from refdesk.documents.changes import Limits, is_id, prefix, search_text
from refdesk.outside.postgres.database import load_queries, one_statement

Sort = Literal["newest", "oldest", "changed", "title", "largest"]
"""``changed``: the last one first. Every other order is as its name says."""

TOTALS_KEPT_MAX = 1000
TITLED_MAX = 1000
"""A part of a title that more documents have is looked for in the order of the listing, page by page."""
LIKE_SPECIAL = re.compile(r"[\\%_]")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which documents a listing shows. ``since`` and ``until`` bound when they were changed last; ``until`` is not within."""

    sort: Sort = "newest"
    state: State | None = None
    title_part: str | None = None
    tag: str | None = None
    owner: str | None = None
    source: str | None = None
    """What their external ids begin with."""
    since: datetime | None = None
    until: datetime | None = None

    def checked(self, limits: Limits) -> "Selection":
        """Raises InvalidRequest."""
        return msgspec.structs.replace(
            self,
            title_part=search_text("q", self.title_part, limits),
            tag=search_text("tag", self.tag, limits),
            owner=search_text("owner", self.owner, limits),
            source=prefix("source", self.source, limits),
        )


KEYS: Mapping[Sort, Any] = {
    "newest": None,
    "oldest": None,
    "changed": datetime,
    "title": Text,
    "largest": Annotated[int, Meta(ge=0, le=(1 << 63) - 1)],
}
"""What documents are sorted by besides their ids, of each order."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended."""

    sort: Sort
    id: str
    key: Any = None


class Titles(NamedTuple):
    """What a part of a title asks for: if few have it, these documents; else the part itself, since a page is soon full."""

    ids: list[str] | None = None
    part: str | None = None


class Listings:
    """Reads pages and counts. Every read takes the scope it is made for. ``explaining``: what `explain_waiting` wants to know."""

    def __init__(self, pool: AsyncConnectionPool, *, explaining: Callable[[], Mapping[str, float]]) -> None:
        self._pool = pool
        self._explaining = explaining
        self._sql = load_queries(files("refdesk.documents") / "listing.sql")
        self._totals: dict[tuple[str, Selection, Scope], int] = {}

    async def page(
        self, selection: Selection, scope: Scope, *, limit: int, cursor: str | None = None, counted: bool = False
    ) -> Page:
        """``counted``: with how many are on all pages. Raises InvalidRequest for a cursor that is none, or of another order."""
        titles = await self._titles(selection.title_part)
        rows = await self._fetch(*self.statement(selection, scope, limit=limit, cursor=cursor, titles=titles))
        documents = [msgspec.convert(row, Document) for row in rows[:limit]]
        more = len(rows) > limit
        page = Page(documents=documents, next_cursor=_write_cursor(rows[limit - 1], selection.sort) if more else None)
        if not counted:
            return page
        on_all = await self._total(selection, scope, titles) if more or cursor is not None else len(documents)
        return msgspec.structs.replace(page, total=on_all)

    def statement(
        self, selection: Selection, scope: Scope, *, limit: int, cursor: str | None, titles: Titles
    ) -> tuple[bytes, dict[str, Any]]:
        """What is asked for a page, and one document more. Raises InvalidRequest as `page` does."""
        after = None if cursor is None else _read_cursor(cursor, selection.sort)
        paging = {**_after(after), "sort": selection.sort, "count": limit + 1}
        return self._sql.list_documents, {**_filters(selection, scope, titles), **paging, **self._explaining()}

    async def _titles(self, part: str | None) -> Titles:
        if part is None:
            return Titles()
        like = "%" + LIKE_SPECIAL.sub(r"\\\g<0>", part) + "%"
        found = await self._fetch(self._sql.documents_titled, {"title_like": like, "count": TITLED_MAX + 1})
        if len(found) > TITLED_MAX:
            return Titles(part=part)
        return Titles(ids=[row["document_id"] for row in found])

    async def _total(self, selection: Selection, scope: Scope, titles: Titles) -> int:
        """Counted once as long as no document changes."""
        asked = (msgspec.structs.replace(selection, sort="newest"), scope)
        now = (await self._fetch(self._sql.epoch, {}))[0]["epoch"]
        if (now, *asked) in self._totals:
            return self._totals[(now, *asked)]
        counted = (await self._fetch(self._sql.count_documents, _filters(selection, scope, titles)))[0]
        if len(self._totals) >= TOTALS_KEPT_MAX:
            self._totals.clear()
        return self._totals.setdefault((counted["epoch"], *asked), int(counted["total"]))

    async def _fetch(self, query: bytes, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        async with one_statement(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, parameters, prepare=False)  # a plan for these filters, not for any
            return await cursor.fetchall()


def _filters(selection: Selection, scope: Scope, titles: Titles) -> dict[str, Any]:
    end = None if selection.source is None else selection.source + chr(sys.maxunicode)
    asked = {**msgspec.structs.asdict(selection), "source_end": end, "title_part": titles.part, "ids": titles.ids}
    return {**asked, "readers": list(scope.readers), "everything": scope.everything}


def _after(place: Place | None) -> dict[str, Any]:
    keys: dict[str, Any] = {"after_time": None, "after_title": None, "after_bytes": None}
    if place is None:
        return {"after": None, **keys}
    named = {"changed": "after_time", "title": "after_title", "largest": "after_bytes"}.get(place.sort)
    return {"after": place.id, **keys, **({} if named is None else {named: place.key})}


def _write_cursor(row: dict[str, Any], sort: Sort) -> str:
    """By age it is the id alone, as in the releases before there were other orders."""
    if sort == "newest":
        return _printed(bytes.fromhex(row["id"]))
    key = {"changed": row["updated_at"].isoformat(), "title": row["title_key"], "largest": row["content_bytes"]}.get(
        sort
    )
    return _printed(msgspec.json.encode(Place(sort, row["id"], key)))


def _printed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _read_cursor(cursor: str, sort: Sort) -> Place:
    """Raises InvalidRequest."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = Place("newest", raw.hex()) if sort == "newest" else msgspec.json.decode(raw, type=Place)
        if place.sort == sort and is_id(place.id):
            return msgspec.structs.replace(place, key=msgspec.convert(place.key, KEYS[sort]))
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        pass
    raise InvalidRequest(
        "The cursor is not valid. Pass next_cursor exactly as it came, with the same `sort`.", field="cursor"
    )
