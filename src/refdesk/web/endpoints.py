"""What an endpoint says of itself: its address, what its caller does there, what it takes and gives.

The application (`http`) acts by it, and ``/openapi.json`` is made from it.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from refdesk.access.policy import Action
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import InvalidRequest, NotFound
from refdesk.contracts.texts import Text
from refdesk.web.bodies import said

SHOWN_MAX = 80
"""Characters of a wrong value that its refusal repeats."""
Handler = Callable[[Request, Principal], Awaitable[ASGIApp]]
SocketHandler = Callable[[WebSocket, Principal], Awaitable[None]]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A named text beside the body: what it may be is said once, for those who call and for what is checked."""

    name: str
    kind: Any = Text
    """A type that msgspec checks; numbers come as their digits."""
    where: Literal["query", "path", "header"] = "query"
    meaning: str
    default: Any = None

    def of(self, request: Request) -> Any:
        """What the request gives, or the default. Raises InvalidRequest; for a path NotFound, since nothing is there."""
        given = self._given(request)
        if given is None or (given == "" and self.where != "path"):
            return self.default
        try:
            return msgspec.convert(given, self.kind, strict=False)
        except msgspec.ValidationError as error:
            if self.where == "path":
                raise NotFound from error
            raise InvalidRequest(
                f"{self.name}={given[:SHOWN_MAX]!r} is not valid: {said(error)}.", field=self.name
            ) from error

    def _given(self, request: Request) -> str | None:
        match self.where:
            case "query":
                return request.query_params.get(self.name)
            case "path":
                return str(request.path_params[self.name])
            case "header":
                return request.headers.get(self.name)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One route: its address, what its caller does, what it takes and gives (these feed ``/openapi.json``)."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    action: Action
    handler: Handler
    summary: str
    parameters: tuple[Parameter, ...] = ()
    request: Any = None
    """Its JSON body."""
    form: Any = None
    """Its body as multipart/form-data, where it takes one."""
    response: Any = None
    """Its JSON reply."""
    media_types: tuple[str, ...] = ()
    """What else it may reply."""
    status: int = 200
    also: tuple[int, ...] = ()
    """Statuses of other replies that are no problem."""
    open_to: Callable[[HTTPConnection], bool] | None = None
    """Whom it lets in without a key, whatever its action."""
    records_itself: bool = False
    """Whether the handler writes to the audit log before it acts, since only it knows upon what."""


class SocketEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One WebSocket route. ``action`` is what opens it; each message has one of its own."""

    path: str
    action: Action
    handler: SocketHandler
    summary: str


def whole(low: int, high: int) -> Any:
    """The kind of a whole number within [low, high]."""
    return Annotated[int, Meta(ge=low, le=high)]
