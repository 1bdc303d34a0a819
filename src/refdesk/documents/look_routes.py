"""Pages of documents over HTTP: `/api/documents/{id}/pages/…`."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.contracts.texts import Number, Text
from refdesk.documents.looks import Looks
from refdesk.web.endpoints import Endpoint, Parameter, whole
from refdesk.web.replies import DATA_HEADERS

WIDTH_DEFAULT = 1000
TEXT_MAX = 2000
PNG = "image/png"

ID = Parameter(name="id", where="path", meaning="The document")
PAGE = Parameter(name="page", kind=whole(1, 1_000_000), where="path", meaning="The page, from 1 on")
VERSION = Parameter(name="version", kind=Number, meaning="This version, or 409 when there is a newer one")
MARKED = Parameter(name="text", kind=Annotated[Text, Meta(max_length=TEXT_MAX)], default="", meaning="What to find")

_PAGE = "/api/documents/{id}/pages/{page}"


class LookRoutes:
    """``width_max``: the widest image, in pixels."""

    def __init__(self, looks: Looks, *, width_max: int) -> None:
        self._looks = looks
        self._width = Parameter(
            name="width",
            kind=whole(16, width_max),
            default=min(WIDTH_DEFAULT, width_max),
            meaning="How wide the image is, in pixels",
        )

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path=f"{_PAGE}.png",
                action="documents.read",
                handler=self.image,
                summary="A page of a PDF as it looks",
                parameters=(ID, PAGE, self._width, VERSION),
                media_types=(PNG,),
                also=(304,),
            ),
            Endpoint(
                method="GET",
                path=f"{_PAGE}/marks",
                action="documents.read",
                handler=self.marks,
                summary="Where a text stands on a page: rectangles in shares of its width and height",
                parameters=(ID, PAGE, MARKED, VERSION),
                media_types=("application/json",),
            ),
        ]

    async def image(self, request: Request, principal: Principal) -> ASGIApp:
        page, width = PAGE.of(request), self._width.of(request)
        document = await self._looks.document(ID.of(request), scope=principal.scope, version=VERSION.of(request))
        tag = f'"{document.content_sha256[:32]}-{page}-{width}"'
        headers = {**DATA_HEADERS, "Cache-Control": "private, no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        drawn = await self._looks.page(document, scope=principal.scope, page=page, width=width)
        return Response(drawn, media_type=PNG, headers=headers)

    async def marks(self, request: Request, principal: Principal) -> ASGIApp:
        document = await self._looks.document(ID.of(request), scope=principal.scope, version=VERSION.of(request))
        found = await self._looks.marks(document, scope=principal.scope, page=PAGE.of(request), text=MARKED.of(request))
        return Response(found, media_type="application/json", headers=DATA_HEADERS)
