"""The generations of the index over HTTP, for operators. Only administrators compare them by questions of their own."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.access.policy import may, require
from refdesk.contracts.access import Principal
from refdesk.contracts.texts import Text
from refdesk.index.ledger.generations import Engine
from refdesk.operations.comparison import Comparison, Expectation
from refdesk.operations.generations import Difference, GenerationOperations, GenerationView
from refdesk.web.bodies import read_json
from refdesk.web.endpoints import Endpoint, Parameter, whole
from refdesk.web.replies import Json

K_DEFAULT, K_MAX = 8, 50
QUESTIONS_MAX = 100
ID_MAX = (1 << 31) - 1
ID = Parameter(name="id", kind=whole(0, ID_MAX), where="path", meaning="The generation")

_ROOT = "/api/index/generations"


class GenerationList(msgspec.Struct, frozen=True):
    """The active one first; ``configured_model`` and ``configured_engine`` are those that the settings name. ``differs``: what
    the active one was made with, and would not be any more."""

    generations: list[GenerationView]
    configured_model: str
    configured_engine: Engine
    differs: Difference | None


class NewGeneration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``model``: a packaged one's name, one at REFDESK_EMBEDDING_URL, the whole path of a folder with one, or fastembed:NAME.
    ``engine``: where vectors and text are kept. Absent: what the settings say."""

    model: Text | None = None
    engine: Engine | None = None


class Activation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``with_gaps``: although there are documents that it cannot hold."""

    with_gaps: bool = False


class ComparisonRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without questions, some are drawn from the documents."""

    questions: Annotated[list[Expectation], Meta(max_length=QUESTIONS_MAX)] = []
    k: Annotated[int, Meta(ge=1, le=K_MAX)] = K_DEFAULT


class GenerationRoutes:
    def __init__(self, operations: GenerationOperations) -> None:
        self._operations = operations

    def endpoints(self) -> list[Endpoint]:
        one = _ROOT + "/{id}"
        begin = "Begin another generation beside the active one"
        return [
            _endpoint("GET", _ROOT, self.listing, "The generations of the index", response=GenerationList),
            _endpoint("POST", _ROOT, self.begin, begin, request=NewGeneration, response=GenerationView, status=202),
            _endpoint(
                "POST",
                one + "/compare",
                self.compare,
                "Ask it and the active one the same questions",
                parameters=(ID,),
                request=ComparisonRequest,
                response=Comparison,
            ),
            _endpoint(
                "POST",
                one + "/activate",
                self.activate,
                "Search this one from now on",
                parameters=(ID,),
                request=Activation,
                response=GenerationView,
            ),
            _endpoint("DELETE", one, self.drop, "Discard one that is not searched", parameters=(ID,), status=204),
        ]

    async def listing(self, _: Request, principal: Principal) -> ASGIApp:
        views = [_seen(view, principal) for view in await self._operations.views()]
        model, engine = self._operations.configured_model, self._operations.configured_engine
        return Json(GenerationList(views, model, engine, await self._operations.differs()))

    async def begin(self, request: Request, principal: Principal) -> ASGIApp:
        wanted = await read_json(request, NewGeneration)
        return Json(_seen(await self._operations.begin(wanted.model, wanted.engine), principal), status_code=202)

    async def compare(self, request: Request, principal: Principal) -> ASGIApp:
        wanted = await read_json(request, ComparisonRequest)
        if wanted.questions:  # how they fare tells what the documents say
            require(principal, "index.compare", field="questions")
        return Json(await self._operations.compare(ID.of(request), wanted.questions, k=wanted.k))

    async def activate(self, request: Request, principal: Principal) -> ASGIApp:
        wanted = await read_json(request, Activation)
        return Json(_seen(await self._operations.activate(ID.of(request), with_gaps=wanted.with_gaps), principal))

    async def drop(self, request: Request, _: Principal) -> ASGIApp:
        await self._operations.drop(ID.of(request))
        return Response(status_code=204)


def _endpoint(method: Any, path: str, handler: Any, summary: str, **told: Any) -> Endpoint:
    return Endpoint(method=method, path=path, action="index.manage", handler=handler, summary=summary, **told)


def _seen(view: GenerationView, principal: Principal) -> GenerationView:
    """Why a document is a gap may name it: for those who read content."""
    if may(principal, "operations.read_content"):
        return view
    gaps = [msgspec.structs.replace(gap, reason="") for gap in view.gaps]
    return msgspec.structs.replace(view, gaps=gaps)
