"""The generations of the index over HTTP, for administrators: begin one, look, compare, activate, discard."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Conflict, NotFound
from refdesk.contracts.texts import Text
from refdesk.index.ledger.generations import BEHIND_MAX, DRAIN_S, Engine, Gap, Generations, Live
from refdesk.index.open_generations import OpenGenerations
from refdesk.operations.comparison import Comparison, Expectation, compare, draw
from refdesk.web.http import Endpoint, Json, Parameter, read_json, whole

K_DEFAULT, K_MAX = 8, 50
QUESTIONS_MAX = 100
QUESTIONS_DEFAULT = 50
ACTIVATION_LOOK_S = 0.1
ID_MAX = (1 << 31) - 1
ID = Parameter(name="id", kind=whole(0, ID_MAX), where="path", meaning="The generation")

_ROOT = "/api/index/generations"


class Model(NamedTuple):
    """An embedding model to build a generation with; ``served``: its URL, without secrets, and its window in tokens."""

    name: str
    dimensions: int
    chunking: str
    served: tuple[str, int] | None


ChooseModel = Callable[[str | None], Awaitable[Model]]


class GenerationView(msgspec.Struct, frozen=True, kw_only=True):
    """A generation as it stands: ``documents_behind`` is what it lacks of the active one, ``gaps`` what it cannot hold."""

    id: int
    engine: Engine
    model: str
    embedding_url: str | None
    dimensions: int
    active: bool
    created_at: datetime
    documents: int
    chunks: int
    documents_behind: int
    gaps_count: int
    gaps: list[Gap]
    problem: str | None


class GenerationList(msgspec.Struct, frozen=True):
    """The active one first; ``configured_model`` and ``configured_engine`` are those that the settings name."""

    generations: list[GenerationView]
    configured_model: str
    configured_engine: Engine


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
    """Needs the index database, and indexers that do the work. ``configured_…`` is what the settings name."""

    def __init__(
        self,
        generations: OpenGenerations,
        *,
        choose_model: ChooseModel,
        configured_model: str,
        configured_engine: Engine,
    ) -> None:
        self._generations = generations
        self._choose_model = choose_model
        self._configured_model = configured_model
        self._configured_engine = configured_engine

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

    async def listing(self, _: Request, __: Principal) -> ASGIApp:
        views = [await self._view(live) for live in await self._record.live()]
        return Json(GenerationList(views, self._configured_model, self._configured_engine))

    async def begin(self, request: Request, _: Principal) -> ASGIApp:
        wanted = await read_json(request, NewGeneration)
        model = await self._choose_model(wanted.model)
        begun = await self._record.begin(
            engine=wanted.engine or self._configured_engine,
            model=model.name,
            dimensions=model.dimensions,
            chunking=model.chunking,
            served=model.served,
        )
        await self._record.forget_gaps(begun.id)
        return Json(await self._view(await self._find(begun.id)), status_code=202)

    async def compare(self, request: Request, _: Principal) -> ASGIApp:
        wanted = await read_json(request, ComparisonRequest)
        other = await self._find(ID.of(request))
        if other.active:
            raise Conflict(f"Generation {other.id} is the active one: there is nothing to compare it with.")
        active, beside = await self._generations.refresh(), await self._generations.open(other)
        questions = wanted.questions or await draw(active, count=QUESTIONS_DEFAULT)
        return Json(await compare(active, beside, questions, k=wanted.k))

    async def activate(self, request: Request, _: Principal) -> ASGIApp:
        """Returns once it is active. Changes to documents may wait meanwhile, searches do not."""
        wanted = await read_json(request, Activation)
        generation = await self._find(ID.of(request))
        await self._generations.open(generation)
        behind = await self._record.count_behind(generation.id, count_max=BEHIND_MAX)
        if not generation.active and behind < BEHIND_MAX:
            behind = await self._swap(generation.id, with_gaps=wanted.with_gaps)
        if behind:
            raise Conflict(
                f"Generation {generation.id} still lacks {'at least ' * (behind >= BEHIND_MAX)}{behind} documents of the "
                "active one. `refdesk reindex` shows how it gets on."
            )
        await self._generations.refresh()
        return Json(await self._view(await self._find(generation.id)))

    async def _swap(self, generation_id: int, *, with_gaps: bool) -> int:
        """Have changes wait, and swap as soon as nothing is behind; what still is when the time is up."""
        until = time.monotonic() + DRAIN_S
        behind = await self._record.activate(generation_id, with_gaps=with_gaps)
        if not behind:
            return 0
        try:
            await self._record.drain()
            while behind and time.monotonic() < until:
                await asyncio.sleep(ACTIVATION_LOOK_S)
                behind = await self._record.activate(generation_id, with_gaps=with_gaps)
        finally:
            await self._record.stop_draining()
        return behind

    async def drop(self, request: Request, _: Principal) -> ASGIApp:
        await self._generations.drop(await self._find(ID.of(request)))
        return Response(status_code=204)

    @property
    def _record(self) -> Generations:
        return self._generations.record

    async def _find(self, generation_id: int) -> Live:
        for live in await self._record.live():
            if live.id == generation_id:
                return live
        raise NotFound(f"There is no generation {generation_id}.")

    async def _view(self, live: Live) -> GenerationView:
        sizes = await self._generations.index_of(live).sizes()
        gaps_count, gaps = (0, []) if live.active else await self._record.gaps(live.id)
        return GenerationView(
            id=live.id,
            engine=live.engine,
            model=live.model,
            embedding_url=live.url,
            dimensions=live.dimensions,
            active=live.active,
            created_at=live.created_at,
            documents=sizes.documents,
            chunks=sizes.chunks,
            documents_behind=0 if live.active else await self._record.count_behind(live.id),
            gaps_count=gaps_count,
            gaps=gaps,
            problem=live.problem,
        )


def _endpoint(method: Any, path: str, handler: Any, summary: str, **told: Any) -> Endpoint:
    return Endpoint(method=method, path=path, action="index.manage", handler=handler, summary=summary, **told)
