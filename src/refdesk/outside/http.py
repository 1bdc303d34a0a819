"""HTTP as both services speak it: endpoints with a declared policy, JSON bodies, problem details.

Every endpoint says who may call it (``policy``); the application authenticates, checks the policy, and only then runs
the handler. An error of the one error tree becomes ``application/problem+json`` (RFC 9457); anything else is logged and
becomes a plain 500. Pure ASGI throughout: nothing here stands between a handler and the client's disconnect.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from refdesk.contracts.access import Principal
from refdesk.contracts.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    MalformedJson,
    MethodNotAllowed,
    NotFound,
    RefdeskError,
    Unauthenticated,
    problem,
)
from refdesk.outside import tracing

logger = logging.getLogger(__name__)

JSON_BYTES_MAX = 1 << 20
"""Ceiling of a JSON request body, in bytes; uploads have their own."""

Policy = Literal["public", "principal", "administrator"]
Authenticate = Callable[[HTTPConnection], Awaitable[Principal | None]]
Handler = Callable[[Request, Principal], Awaitable[ASGIApp]]
SocketHandler = Callable[[WebSocket, Principal], Awaitable[None]]

ANONYMOUS = Principal(id="anonymous")

T = TypeVar("T")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One route: its address, who may call it, what it takes and gives (the last two feed ``/openapi.json``)."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    policy: Policy
    handler: Handler
    summary: str
    request: Any = None
    response: Any = None
    status: int = 200


class SocketEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One WebSocket route."""

    path: str
    policy: Policy
    handler: SocketHandler
    summary: str


class Json(Response):
    """A JSON response from a msgspec struct or plain data."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


def problem_response(error: RefdeskError) -> Response:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="refdesk"'
    body = msgspec.json.encode(problem(error))
    return Response(body, status_code=error.status, headers=headers, media_type="application/problem+json")


async def read_body(request: Request, *, bytes_max: int) -> bytes:
    """The whole body; raises BodyTooLarge at the first piece past ``bytes_max``."""
    pieces, total = [], 0
    async for piece in request.stream():
        total += len(piece)
        if total > bytes_max:
            raise BodyTooLarge(
                f"The request body is larger than {bytes_max:,} bytes. Send less.", limit=bytes_max, actual=total
            )
        pieces.append(piece)
    return b"".join(pieces)


async def read_json(request: Request, kind: type[T], *, bytes_max: int = JSON_BYTES_MAX) -> T:
    """The JSON body as ``kind``; raises MalformedJson or InvalidRequest, naming the field."""
    return decode_json(await read_body(request, bytes_max=bytes_max), kind)


def decode_json(body: bytes | str, kind: type[T]) -> T:
    """Raises MalformedJson or InvalidRequest, naming the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request is not valid: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedJson(f"The body is not valid JSON ({error}). Send a JSON object.") from error


def query_int(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    """An integer query parameter within [low, high]; raises InvalidRequest."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise InvalidRequest(f"{name}={text!r} is not valid: give a whole number from {low} to {high}.", field=name)
    return int(text)


class _Guarded:
    """An endpoint as an ASGI app: authenticate, check the policy, handle, turn errors into problems."""

    def __init__(self, endpoint: Endpoint, authenticate: Authenticate) -> None:
        self._endpoint = endpoint
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            principal = await _admit(request, self._endpoint.policy, self._authenticate)
            with tracing.continued(request.headers.get("traceparent")):
                response = await self._endpoint.handler(request, principal)
        except RefdeskError as error:
            if error.status >= 500:
                logger.warning("%s %s: %s", request.method, self._endpoint.path, error)
            response = problem_response(error)
        except ClientDisconnect:
            return
        except Exception:
            logger.exception("%s %s failed", request.method, self._endpoint.path)
            response = problem_response(RefdeskError())
        await response(scope, receive, send)


async def _admit(connection: HTTPConnection, policy: Policy, authenticate: Authenticate) -> Principal:
    if policy == "public":
        return ANONYMOUS
    principal = await authenticate(connection)
    if principal is None:
        raise Unauthenticated
    if policy == "administrator" and not principal.administrator:
        raise Forbidden("Only administrators may do this. Use a key of the group `administrators`.")
    return principal


class _Path:
    """The endpoints of one address as an ASGI app: the one for the request's method."""

    def __init__(self) -> None:
        self._by_method: dict[str, _Guarded] = {}

    def add(self, endpoint: Endpoint, authenticate: Authenticate) -> None:
        self._by_method[endpoint.method] = _Guarded(endpoint, authenticate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        endpoint = self._by_method.get("GET" if method == "HEAD" else method)
        await (endpoint or self._refusal(f"{scope['path']} does not take {method}."))(scope, receive, send)

    def _refusal(self, detail: str) -> ASGIApp:
        response = problem_response(MethodNotAllowed(detail))
        response.headers["Allow"] = ", ".join(self._by_method)
        return response


class _GuardedSocket:
    """A WebSocket endpoint as an ASGI app: authenticate, check the policy, handle."""

    def __init__(self, endpoint: SocketEndpoint, authenticate: Authenticate) -> None:
        self._endpoint = endpoint
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        try:
            principal = await _admit(websocket, self._endpoint.policy, self._authenticate)
        except RefdeskError as error:
            await websocket.send_denial_response(problem_response(error))
            return
        await self._endpoint.handler(websocket, principal)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    problem = problem_response(NotFound(f"There is nothing at {scope['path']}. /openapi.json lists every address."))
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(problem)
    else:
        await problem(scope, receive, send)


def create_app(endpoints: Iterable[Endpoint | SocketEndpoint], *, authenticate: Authenticate) -> ASGIApp:
    """One ASGI application of these endpoints. ``authenticate`` gives None for whoever has no valid key.

    A bare router: the middlewares of a whole Starlette would wrap every ``send``, and an answer sends for every word.
    """
    paths: dict[str, _Path] = {}
    routes: list[BaseRoute] = []
    for endpoint in endpoints:
        if isinstance(endpoint, SocketEndpoint):
            routes.append(WebSocketRoute(endpoint.path, _GuardedSocket(endpoint, authenticate)))
            continue
        if endpoint.path not in paths:
            paths[endpoint.path] = _Path()
            routes.append(Route(endpoint.path, paths[endpoint.path]))
        paths[endpoint.path].add(endpoint, authenticate)
    return Router(routes, redirect_slashes=False, default=_nothing_here)
