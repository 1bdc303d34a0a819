"""Usage over HTTP: one's own and what is left of it; everybody's for those who run the desk; as a table for spreadsheets."""

import base64
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.access.policy import require
from refdesk.answering.usage.budget import Budget
from refdesk.answering.usage.caps import BILLIONTHS, Cap, Spender, Subject
from refdesk.answering.usage.prices import Prices
from refdesk.answering.usage.settled import By, Sum, SumKey, UsageStore, Wanted
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.texts import Text
from refdesk.outside.valkey.client import ValkeyError
from refdesk.web.endpoints import Endpoint, Parameter, whole
from refdesk.web.replies import DATA_HEADERS, Json
from refdesk.web.spreadsheets import CSV, as_csv, attachment

DAYS_SHOWN = 30
ROWS_MAX = 1000
TABLE_ROWS_MAX = 50_000
BY_ALL: tuple[By, ...] = ("day", "principal", "group", "model")

Of = Literal["me", "everybody"]

OF = Parameter(name="of", kind=Of, default="me", meaning="Whose usage")
FIRST = Parameter(name="from", meaning="The first day (UTC); without it, thirty days ago")
LAST = Parameter(name="to", meaning="The last day; without it, today")
BY = Parameter(name="by", meaning="What is summed up by, separated by commas: day, principal, group, model")
PRINCIPAL = Parameter(name="principal", meaning="Only this principal's, by id")
GROUP = Parameter(name="group", meaning="Only of those who were in this group")
MODEL = Parameter(name="model", meaning="Only this model's")
LIMIT = Parameter(name="limit", kind=whole(1, ROWS_MAX), default=100, meaning="Rows on a page")
CURSOR = Parameter(name="cursor", meaning="`next_cursor` of the page before")
_CHOICE = (OF, FIRST, LAST, BY, PRINCIPAL, GROUP, MODEL)


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sum. ``answers`` were written for these principals; ``shared`` were somebody else's words, and used nothing."""

    day: str = ""
    principal_id: str = ""
    principal: str = ""
    group: str = ""
    model: str = ""
    answers: int
    shared: int
    input_tokens: int
    output_tokens: int
    cost: float | None = None


class Left(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cap, what is used of it, and when it begins anew. ``group``: the cap is shared by all who are in it."""

    window: str
    limit: float
    used: float
    left: float
    resets_in_seconds: int
    group: str = ""


class UsageReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``left``: what the caller may still use; absent while it cannot be known. ``next_cursor`` is absent on the last page."""

    currency: str
    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")
    rows: list[UsageRow]
    left: list[Left] | None = None
    next_cursor: str | None = None


class UsageRoutes:
    def __init__(self, store: UsageStore, *, budget: Budget, prices: Prices) -> None:
        self._store = store
        self._budget = budget
        self._prices = prices

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path="/api/usage",
                action="usage.read",
                handler=self.show,
                summary="What answers have used of the models, and what is left",
                parameters=(*_CHOICE, LIMIT, CURSOR),
                response=UsageReply,
                media_types=(CSV,),
            ),
            Endpoint(
                method="GET",
                path="/api/usage.csv",
                action="usage.read",
                handler=self.table,
                summary="The same as a table",
                parameters=_CHOICE,
                media_types=(CSV,),
            ),
        ]

    async def show(self, request: Request, principal: Principal) -> ASGIApp:
        if CSV in request.headers.get("accept", ""):
            return await self.table(request, principal)
        wanted, limit = _wanted(request, principal), LIMIT.of(request)
        sums = await self._store.sums(wanted, after=_place(CURSOR.of(request)), count=limit + 1)
        more = len(sums) > limit
        return Json(
            UsageReply(
                currency=self._prices.currency,
                first=wanted.first.isoformat(),
                last=wanted.last.isoformat(),
                rows=[_row(one) for one in sums[:limit]],
                left=await self._left(principal) if OF.of(request) == "me" else None,
                next_cursor=_cursor(sums[limit - 1].key) if more else None,
            )
        )

    async def table(self, request: Request, principal: Principal) -> ASGIApp:
        wanted = _wanted(request, principal)
        sums = await self._store.sums(wanted, after=None, count=TABLE_ROWS_MAX + 1)
        if len(sums) > TABLE_ROWS_MAX:
            raise InvalidRequest(
                f"There are more than {TABLE_ROWS_MAX:,} rows. Ask for fewer days, or sum up by less.",
                limit=TABLE_ROWS_MAX,
                actual=len(sums),
            )
        name = f"usage-{wanted.first}-{wanted.last}.csv"
        headers = DATA_HEADERS | attachment(name)
        return Response(
            _csv([_row(one) for one in sums], currency=self._prices.currency), media_type=CSV, headers=headers
        )

    async def _left(self, principal: Principal) -> list[Left] | None:
        try:
            return [
                _left(subject, *counted)
                for subject in self._budget.subjects(Spender(principal.id, principal.groups))
                for counted in await self._budget.counted(subject)
            ]
        except ValkeyError:
            return None


def _wanted(request: Request, principal: Principal) -> Wanted:
    """Raises Forbidden for whoever may only see their own, and InvalidRequest."""
    is_own = OF.of(request) == "me"
    if not is_own:
        require(principal, "usage.read_all", field=OF.name)
    today = datetime.now(UTC).date()
    last = _day(LAST, request) or today
    first = _day(FIRST, request) or last - timedelta(days=DAYS_SHOWN - 1)
    if first > last:
        raise InvalidRequest(f"from={first} is after to={last}. Turn them round.", field=FIRST.name)
    return Wanted(
        by=_by(BY.of(request)),
        first=first,
        last=last,
        principal_id=principal.id if is_own else PRINCIPAL.of(request),
        group=GROUP.of(request),
        model=MODEL.of(request),
    )


def _day(parameter: Parameter, request: Request) -> date | None:
    text = parameter.of(request)
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{parameter.name}={text[:80]!r} is no day. Write it as 2026-11-30.", field=parameter.name
        ) from error


def _by(text: str | None) -> tuple[By, ...]:
    if text is None:
        return ("day", "model")
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in BY_ALL]
    if unknown:
        raise InvalidRequest(f"by={unknown[0][:80]!r} is not known. Give some of {', '.join(BY_ALL)}.", field=BY.name)
    return tuple(name for name in BY_ALL if name in names)


def _cursor(key: SumKey) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(list(key))).decode()


def _place(cursor: str | None) -> SumKey | None:
    if cursor is None:
        return None
    try:
        parts = msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode()), type=tuple[Text, Text, Text, Text])
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidRequest("The cursor is not one of ours. Begin without one.", field=CURSOR.name) from error
    return SumKey(*parts)


def _row(one: Sum) -> UsageRow:
    key = one.key
    return UsageRow(
        day=key.day,
        principal_id=key.principal_id,
        principal=one.name or "",
        group=key.group,
        model=key.model,
        answers=one.answers,
        shared=one.shared,
        input_tokens=one.usage.input_tokens,
        output_tokens=one.usage.output_tokens,
        cost=None if one.cost is None else float(one.cost),
    )


def _left(subject: Subject, cap: Cap, used: int, resets_in_s: int) -> Left:
    scale = 1 if cap.unit == "tokens" else BILLIONTHS
    limit = cap.limit if cap.unit == "cost" else Decimal(cap.counted_limit)
    return Left(
        window=cap.name,
        limit=float(limit),
        used=used / scale,
        left=max(0, cap.counted_limit - used) / scale,
        resets_in_seconds=resets_in_s,
        group=subject.group or "",
    )


def _csv(rows: Sequence[UsageRow], *, currency: str) -> str:
    fields = [field.name for field in msgspec.structs.fields(UsageRow)]
    return as_csv([[*fields, "currency"], *([*(getattr(row, name) for name in fields), currency] for row in rows)])
