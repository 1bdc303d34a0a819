"""What became of a deleted document, over HTTP: ``/api/documents/{id}/erasure``."""

from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.documents.erasure import Erasure, ErasureView
from refdesk.web.endpoints import Endpoint, Parameter
from refdesk.web.replies import Json

ID = Parameter(name="id", where="path", meaning="The document that was deleted")


def endpoints(erasure: Erasure) -> list[Endpoint]:
    async def show(request: Request, principal: Principal) -> ASGIApp:
        return Json(await erasure.view(principal, ID.of(request)))

    return [
        Endpoint(
            method="GET",
            path="/api/documents/{id}/erasure",
            action="documents.read_erasure",
            handler=show,
            summary="Where a deleted document was erased, and when",
            parameters=(ID,),
            response=ErasureView,
        )
    ]
