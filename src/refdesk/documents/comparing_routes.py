"""What changed in a version of a document, over HTTP."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.documents.comparing import Changes, Comparisons
from refdesk.web.endpoints import Endpoint, Parameter
from refdesk.web.replies import Json

Version = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]

ID = Parameter(name="id", where="path", meaning="The document")
VERSION = Parameter(name="version", kind=Version, where="path", meaning="One of its versions")
SINCE = Parameter(
    name="since", kind=Version, meaning="The one it is compared with; without it, the one before that you may read"
)


def endpoints(comparisons: Comparisons) -> list[Endpoint]:
    async def show(request: Request, principal: Principal) -> ASGIApp:
        changes = await comparisons.changes(
            ID.of(request), scope=principal.scope, version=VERSION.of(request), since=SINCE.of(request)
        )
        return Json(changes)

    return [
        Endpoint(
            method="GET",
            path="/api/documents/{id}/versions/{version}/changes",
            action="documents.read",
            handler=show,
            summary="What changed in a version's text",
            parameters=(ID, VERSION, SINCE),
            response=Changes,
        )
    ]
