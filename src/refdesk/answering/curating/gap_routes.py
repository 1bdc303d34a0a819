"""Gaps over HTTP: for curators, with the questions; for askers, that a document may answer theirs by now."""

import base64
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.access.policy import Action, may
from refdesk.answering.curating.gaps import Gap, GapQuestion, GapStore, Notice, Place, Sight, State
from refdesk.answering.evidence.gate import Gate
from refdesk.answering.evidence.truth import Shown
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import InvalidRequest, NotFound
from refdesk.contracts.hidden_characters import clean
from refdesk.contracts.texts import Number
from refdesk.index.open_generations import OpenGenerations
from refdesk.web.endpoints import Endpoint, Handler, Parameter, whole
from refdesk.web.replies import Json

GAPS_PER_PAGE_MAX = 200

ID = Parameter(name="id", kind=Number, where="path", meaning="The gap")
STATE = Parameter(name="state", kind=State, default="open", meaning="Which gaps: open, answered or all")
LIMIT = Parameter(name="limit", kind=whole(1, GAPS_PER_PAGE_MAX), default=50, meaning="Gaps on a page")
CURSOR = Parameter(name="cursor", meaning="`next_cursor` of the page before")

_ROOT = "/api/gaps"


class Gaps(msgspec.Struct, frozen=True, omit_defaults=True):
    """The largest first; ``next_cursor`` is absent on the last page."""

    gaps: list[Gap]
    next_cursor: str | None = None


class GapQuestions(msgspec.Struct, frozen=True):
    """The newest first."""

    questions: list[GapQuestion]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A question of one's own, and the document that may answer it by now."""

    id: int
    question: str
    document_id: str
    title: str
    answered_at: datetime


class Mine(msgspec.Struct, frozen=True):
    answered: list[Answered]


class GapRoutes:
    def __init__(self, store: GapStore, *, generations: OpenGenerations, gate: Gate) -> None:
        self._store = store
        self._generations = generations
        self._gate = gate

    def endpoints(self) -> list[Endpoint]:
        one = _ROOT + "/{id}"
        return [
            _endpoint(
                "GET",
                _ROOT,
                self.page,
                "What the documents do not answer, the most asked first",
                parameters=(STATE, LIMIT, CURSOR),
                response=Gaps,
            ),
            _endpoint(
                "GET",
                _ROOT + "/mine",
                self.mine,
                "Questions of one's own that a document may answer by now",
                action="gaps.read_own",
                response=Mine,
            ),
            _endpoint("GET", one, self.questions, "The questions of a gap", parameters=(ID,), response=GapQuestions),
            _endpoint("DELETE", one, self.dismiss, "Put a gap away", parameters=(ID,), status=204),
            _endpoint(
                "POST",
                one + "/seen",
                self.see,
                "Put away the notice of a question of one's own",
                action="gaps.read_own",
                parameters=(ID,),
                status=204,
            ),
        ]

    async def page(self, request: Request, principal: Principal) -> ASGIApp:
        limit = LIMIT.of(request)
        state, after = STATE.of(request), _place(CURSOR.of(request))
        found = await self._store.page(_sight(principal), state=state, after=after, count=limit + 1)
        shown = found[:limit]
        return Json(Gaps(shown, _cursor(shown[-1]) if len(found) > limit else None))

    async def questions(self, request: Request, principal: Principal) -> ASGIApp:
        found = await self._store.questions_of(ID.of(request), _sight(principal))
        if not found:
            raise NotFound
        return Json(GapQuestions(found))

    async def dismiss(self, request: Request, principal: Principal) -> ASGIApp:
        gap_id = ID.of(request)
        if not await self._store.questions_of(gap_id, _sight(principal)) or not await self._store.dismiss(gap_id):
            raise NotFound
        return Response(status_code=204)

    async def see(self, request: Request, principal: Principal) -> ASGIApp:
        if not await self._store.see(ID.of(request), principal_id=principal.id):
            raise NotFound
        return Response(status_code=204)

    async def mine(self, _: Request, principal: Principal) -> ASGIApp:
        notices = await self._store.notices(principal.id)
        shown = [(notice, await self._title(notice, principal)) for notice in notices]
        return Json(
            Mine(
                [
                    Answered(
                        id=notice.id,
                        question=notice.question,
                        document_id=notice.document_id,
                        title=title,
                        answered_at=notice.answered_at,
                    )
                    for notice, title in shown
                    if title is not None
                ]
            )
        )

    async def _title(self, notice: Notice, principal: Principal) -> str | None:
        """None unless the document is there, and surely theirs to read."""
        document_id = notice.document_id
        found = await self._generations.on_active(
            lambda opened: opened.index.passages(document_id, scope=principal.scope)
        )
        if found is None:
            return None
        document, _ = found
        shown = Shown(document_id, document.version, document.content_sha256)
        look = await self._gate.look([shown], scope=principal.scope)
        return clean(document.title) if look.surely_allows(document_id, document.version) else None


def _sight(principal: Principal) -> Sight:
    return Sight(may(principal, "feedback.read_all"), list(principal.groups))


def _endpoint(
    method: Any, path: str, handler: Handler, summary: str, *, action: Action = "gaps.read", **told: Any
) -> Endpoint:
    return Endpoint(method=method, path=path, action=action, handler=handler, summary=summary, **told)


def _cursor(last: Gap) -> str:
    return base64.urlsafe_b64encode(f"{last.questions}.{last.id}".encode()).decode()


def _place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    try:
        questions, gap_id = base64.urlsafe_b64decode(cursor.encode()).decode().split(".")
        return Place(msgspec.convert(questions, Number, strict=False), msgspec.convert(gap_id, Number, strict=False))
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidRequest("The cursor is not one of ours. Begin without one.", field=CURSOR.name) from error
