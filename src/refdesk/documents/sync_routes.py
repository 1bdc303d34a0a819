"""Receipts of syncs over HTTP: ``/api/documents/syncs``."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.contracts.syncs import SyncBegun, SyncReceipt, SyncReport
from refdesk.contracts.texts import Text
from refdesk.documents.syncs import Syncs
from refdesk.web.bodies import read_json
from refdesk.web.endpoints import Endpoint, Parameter, whole
from refdesk.web.replies import Json

PAGE_DEFAULT, PAGE_MAX = 20, 200

_ROOT = "/api/documents/syncs"
ID = Parameter(name="id", where="path", meaning="The sync")
OWNER = Parameter(
    name="owner", meaning="Whose syncs: a principal's id (default: yours; of administrators: everybody's)"
)
SOURCE = Parameter(name="source", meaning="All of this source, instead of the newest of each")
LIMIT = Parameter(name="limit", kind=whole(1, PAGE_MAX), default=PAGE_DEFAULT, meaning="Receipts on the page")


class SyncStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is synced: what its documents' external ids begin with, and whose they are (default: the caller's)."""

    source: Text
    owner: Text | None = None


class Receipts(msgspec.Struct, frozen=True):
    """Newest first."""

    syncs: list[SyncReceipt]


def endpoints(syncs: Syncs) -> list[Endpoint]:
    routes = _Routes(syncs)
    return [
        Endpoint(
            method="POST",
            path=_ROOT,
            action="syncs.report",
            handler=routes.begin,
            summary="Begin to tell of a sync",
            request=SyncStart,
            response=SyncBegun,
            status=201,
        ),
        Endpoint(
            method="GET",
            path=_ROOT,
            action="syncs.read",
            handler=routes.page,
            summary="List receipts of syncs, newest first",
            parameters=(SOURCE, OWNER, LIMIT),
            response=Receipts,
        ),
        Endpoint(
            method="GET",
            path=_ROOT + "/{id}",
            action="syncs.read",
            handler=routes.read,
            summary="A sync's receipt",
            parameters=(ID,),
            response=SyncReceipt,
        ),
        Endpoint(
            method="PUT",
            path=_ROOT + "/{id}",
            action="syncs.report",
            handler=routes.tell,
            summary="Tell how far a sync has come",
            parameters=(ID,),
            request=SyncReport,
            status=204,
        ),
    ]


class _Routes:
    def __init__(self, syncs: Syncs) -> None:
        self._syncs = syncs

    async def begin(self, request: Request, principal: Principal) -> ASGIApp:
        given = await read_json(request, SyncStart)
        begun = await self._syncs.begin(principal, source=given.source, owner=given.owner or principal.id)
        return Json(begun, status_code=201)

    async def page(self, request: Request, principal: Principal) -> ASGIApp:
        receipts = await self._syncs.page(
            principal, owner=OWNER.of(request), source=SOURCE.of(request), limit=LIMIT.of(request)
        )
        return Json(Receipts(receipts))

    async def read(self, request: Request, principal: Principal) -> ASGIApp:
        return Json(await self._syncs.read(principal, ID.of(request)))

    async def tell(self, request: Request, principal: Principal) -> ASGIApp:
        await self._syncs.tell(principal, ID.of(request), await read_json(request, SyncReport))
        return Response(status_code=204)
