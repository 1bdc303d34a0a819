"""Listings of documents over HTTP: ``GET /api/documents``."""

from datetime import UTC, date, datetime, time, timedelta

from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.contracts.documents import Page, State
from refdesk.contracts.errors import InvalidRequest
from refdesk.documents.listing import Selection, Sort
from refdesk.documents.permitted import page_shown_to
from refdesk.documents.service import DocumentService
from refdesk.web.endpoints import Endpoint, Parameter, whole
from refdesk.web.replies import Json

PAGE_DEFAULT, PAGE_MAX = 50, 200
OWN = "me"

LIMIT = Parameter(name="limit", kind=whole(1, PAGE_MAX), default=PAGE_DEFAULT, meaning="Documents on a page")
CURSOR = Parameter(name="cursor", meaning="`next_cursor` of the page before")
SORT = Parameter(
    name="sort",
    kind=Sort,
    default="newest",
    meaning="The order; by `changed` and `largest` the last and the largest first",
)
STATE = Parameter(name="state", kind=State, meaning="Only documents in this state")
TITLE_PART = Parameter(name="q", meaning="A part of the title")
TAG = Parameter(name="tag", meaning="Only documents with this tag")
OWNER = Parameter(name="owner", meaning="Only documents of this principal, by id; `me` for yours")
SOURCE = Parameter(name="source", meaning="Only documents whose external id begins so")
FIRST = Parameter(name="from", meaning="Only documents that were changed on this day (UTC) or later")
LAST = Parameter(name="to", meaning="Only documents that were changed on this day or before")
TOTAL = Parameter(name="total", kind=bool, default=False, meaning="Count what is on all pages, too")


def endpoints(service: DocumentService) -> list[Endpoint]:
    async def page(request: Request, principal: Principal) -> ASGIApp:
        selection = _selection(request, principal)
        where = {"limit": LIMIT.of(request), "cursor": CURSOR.of(request), "counted": TOTAL.of(request)}
        return Json(page_shown_to(principal, await service.page(selection, scope=principal.scope, **where)))

    return [
        Endpoint(
            method="GET",
            path="/api/documents",
            action="documents.read",
            handler=page,
            summary="List documents, newest first unless sorted otherwise",
            parameters=(LIMIT, CURSOR, SORT, STATE, TITLE_PART, TAG, OWNER, SOURCE, FIRST, LAST, TOTAL),
            response=Page,
        )
    ]


def _selection(request: Request, principal: Principal) -> Selection:
    """Raises InvalidRequest."""
    owner = OWNER.of(request)
    return Selection(
        sort=SORT.of(request),
        state=STATE.of(request),
        title_part=TITLE_PART.of(request),
        tag=TAG.of(request),
        owner=principal.id if owner == OWN else owner,
        source=SOURCE.of(request),
        since=_midnight(FIRST, request),
        until=_midnight(LAST, request, days_later=1),
    )


def _midnight(parameter: Parameter, request: Request, *, days_later: int = 0) -> datetime | None:
    """Where the day begins that the parameter says, or one after it. Raises InvalidRequest."""
    given = parameter.of(request)
    if given is None:
        return None
    try:
        return datetime.combine(date.fromisoformat(given), time(), tzinfo=UTC) + timedelta(days=days_later)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{parameter.name}={given[:40]!r} is no day. Write it as 2026-05-01.", field=parameter.name
        ) from error
