"""The audit log over HTTP, for administrators: page by page, or all of it as JSON lines or as a table."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from refdesk.access.audit import Audit, Entry, KeptEntry, Result, Wanted
from refdesk.contracts.access import Principal
from refdesk.contracts.texts import NUMBER_MAX, Number, Text
from refdesk.web.endpoints import Endpoint, Parameter, whole
from refdesk.web.replies import DATA_HEADERS, Json
from refdesk.web.spreadsheets import CSV, as_csv, attachment

PAGE_DEFAULT, PAGE_MAX = 100, 1000
SEND_S_MAX = 60.0
"""How long a reader of the export may take for one piece."""

Moment = Annotated[datetime, Meta(tz=True)]
PRINCIPAL = Parameter(name="principal", kind=Text, meaning="Only what this principal did, by its id")
ACTION = Parameter(name="action", kind=Text, meaning="Only this action, such as `documents.change`")
OBJECT = Parameter(name="object", kind=Text, meaning="Only what was done to this, by its id")
RESULT = Parameter(name="result", kind=Result, meaning="Only what came out so")
SINCE = Parameter(name="from", kind=Moment, meaning="Not before this time")
UNTIL = Parameter(name="to", kind=Moment, meaning="Before this time")
LIMIT = Parameter(name="limit", kind=whole(1, PAGE_MAX), default=PAGE_DEFAULT, meaning="Entries on a page")
CURSOR = Parameter(name="cursor", kind=Number, default=NUMBER_MAX, meaning="`next_cursor` of the page before")
FILTERS = (PRINCIPAL, ACTION, OBJECT, RESULT, SINCE, UNTIL)


class Entries(msgspec.Struct, frozen=True, omit_defaults=True):
    """Newest first; ``next_cursor`` is absent on the last page."""

    entries: list[KeptEntry]
    next_cursor: str | None = None


def audit_endpoints(audit: Audit) -> list[Endpoint]:
    async def page(request: Request, principal: Principal) -> ASGIApp:
        limit = LIMIT.of(request)
        found = await audit.page(_wanted(request), before=CURSOR.of(request), count=limit + 1)
        return Json(Entries(found[:limit], str(found[limit - 1].id) if len(found) > limit else None))

    async def export(request: Request, principal: Principal) -> ASGIApp:
        pages = audit.pages(_wanted(request))
        return Export(await anext(pages, []), pages, form=JSON_LINES)

    async def table(request: Request, principal: Principal) -> ASGIApp:
        pages = audit.pages(_wanted(request))
        return Export(await anext(pages, []), pages, form=TABLE)

    told: dict[str, Any] = {"method": "GET", "action": "audit.read"}
    return [
        Endpoint(
            path="/api/audit",
            handler=page,
            summary="Who did what, newest first",
            parameters=(*FILTERS, LIMIT, CURSOR),
            response=Entries,
            **told,
        ),
        Endpoint(
            path="/api/audit/export",
            handler=export,
            summary="The same as JSON lines, oldest first, all of it",
            parameters=FILTERS,
            media_types=(JSON_LINES.media_type,),
            **told,
        ),
        Endpoint(
            path="/api/audit.csv",
            handler=table,
            summary="The same as a table for spreadsheets",
            parameters=FILTERS,
            media_types=(TABLE.media_type,),
            **told,
        ),
    ]


def _wanted(request: Request) -> Wanted:
    return Wanted(
        principal=PRINCIPAL.of(request),
        action=ACTION.of(request),
        object=OBJECT.of(request),
        result=RESULT.of(request),
        since=SINCE.of(request),
        until=UNTIL.of(request),
    )


class Form(NamedTuple):
    """How entries are written: ``head`` comes first, ``lines`` writes some of them."""

    media_type: str
    lines: Callable[[list[KeptEntry]], bytes]
    head: bytes = b""
    headers: Mapping[str, str] = {}


COLUMNS = ("id", *Entry.__struct_fields__)


def _rows(entries: list[KeptEntry]) -> bytes:
    return as_csv([[getattr(entry, name) for name in COLUMNS] for entry in entries]).encode()


JSON_LINES = Form("application/x-ndjson", msgspec.json.Encoder().encode_lines)
TABLE = Form(CSV, _rows, as_csv([COLUMNS]).encode(), attachment("audit.csv"))


class Export:
    """Entry by entry, page after page as the reader takes them. What breaks off on the way ends without its last piece."""

    def __init__(self, first: list[KeptEntry], rest: AsyncIterator[list[KeptEntry]], *, form: Form) -> None:
        self._first = first
        self._rest = rest
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = {**DATA_HEADERS, **self._form.headers, "content-type": self._form.media_type}
        headers = [(name.lower().encode(), value.encode()) for name, value in told.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._piece(send, self._form.head + self._form.lines(self._first))
        async for page in self._rest:
            await self._piece(send, self._form.lines(page))
        await send({"type": "http.response.body", "body": b""})

    async def _piece(self, send: Send, piece: bytes) -> None:
        async with asyncio.timeout(SEND_S_MAX):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
