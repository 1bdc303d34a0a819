"""HTTP as both services speak it: endpoints with a declared action, JSON bodies, problem details.

Every endpoint says what its caller does (``action``); the application authenticates, asks the policy, and only then runs
the handler. It runs, and its response is sent, while the caller's permission stands. What is open when that is withdrawn ends:
a request with a problem, an event stream with an ``error`` event, a WebSocket with code 1008. An error of the one error tree
becomes ``application/problem+json`` (RFC 9457); anything else is logged and becomes a plain 500. Pure ASGI throughout: nothing
here stands between a handler and the client's disconnect.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Annotated, Any, Literal, Protocol, TypeVar, runtime_checkable

import msgspec
from msgspec import Meta
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from refdesk.access.audit import Audit
from refdesk.access.authentication import Authenticate
from refdesk.access.permission import Permission
from refdesk.access.policy import ANONYMOUS, Action, may, require
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import (
    BodyTooLarge,
    InvalidRequest,
    MalformedJson,
    MethodNotAllowed,
    NotFound,
    RefdeskError,
    RequestTooSlow,
    Unauthenticated,
    problem,
)
from refdesk.contracts.texts import WITHOUT_NUL, Text
from refdesk.outside import logs, tracing
from refdesk.web.addresses import MCP_ADDRESS, OPENAI_ADDRESSES, RESOURCE_METADATA, public_base
from refdesk.web.auditing import Trail
from refdesk.web.openai_errors import error_object, openai_status

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
JSON_BYTES_MAX = 1 << 20
"""Ceiling of a JSON request body, in bytes; uploads have their own."""

BODY_CLOCK = "refdesk.body_clock"
"""Where a request's scope says how long its body may take."""

SHOWN_MAX = 80
"""Characters of a wrong value that its refusal repeats."""

FAREWELL_S_MAX = 2.0
"""How long a connection that is ended may take for the words that say why."""
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013
"""RFC 6455, 7.4.1, and its registry: why a WebSocket is closed."""

DATA_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Of what is data and no page: it is one reader's, and means nothing to a browser."""

Permit = Callable[[HTTPConnection, Principal], Permission]
"""How long a caller who was let in may stay."""
Handler = Callable[[Request, Principal], Awaitable[ASGIApp]]
SocketHandler = Callable[[WebSocket, Principal], Awaitable[None]]

T = TypeVar("T")


class BodyClock(msgspec.Struct, frozen=True, kw_only=True):
    """How long a request's body may take, and stand still, in seconds; and the error that says which setting that is."""

    total_s: float = 30.0
    pause_s: float = 10.0
    total_setting: str = "REFDESK_BODY_SECONDS_MAX"
    pause_setting: str = "REFDESK_BODY_PAUSE_SECONDS_MAX"
    error: type[RequestTooSlow] = RequestTooSlow

    def ran_out(self, received: int, *, paused: bool) -> RequestTooSlow:
        if paused:
            what, seconds, setting = "paused for more than", self.pause_s, self.pause_setting
        else:
            what, seconds, setting = "was not complete after", self.total_s, self.total_setting
        return self.error(
            f"The request's body {what} {seconds:g} s, with {received:,} bytes here. Send it again over a faster "
            f"connection, or raise {setting}.",
            limit=str(seconds),
            actual=received,
        )


def for_ever(_: HTTPConnection, __: Principal) -> Permission:
    """The permission of callers whose rights do not change."""
    return Permission()


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


class Json(Response):
    """A JSON response from a msgspec struct or plain data, which is not cached, and which no browser takes for a page."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        super().init_headers({**DATA_HEADERS, **(headers or {})})


def server_timing(seconds: Mapping[str, float | None]) -> dict[str, str]:
    """The header of that name (W3C): what each step took, in milliseconds."""
    told = [f"{name};dur={value * 1000:.1f}" for name, value in seconds.items() if value is not None]
    return {"Server-Timing": ", ".join(told)} if told else {}


def refusal(error: RefdeskError, scope: Scope) -> Response:
    """The error as those who call this address read it: OpenAI's object below ``/v1/``, problem details elsewhere."""
    details, headers = problem(error), _refusal_headers(error, scope)
    if scope["path"].startswith(OPENAI_ADDRESSES):
        return openai_refusal(details, headers=headers)
    body = msgspec.json.encode(details)
    return Response(body, status_code=error.status, headers=headers, media_type="application/problem+json")


def openai_refusal(details: Mapping[str, Any], *, headers: Mapping[str, str] = DATA_HEADERS) -> Response:
    """A problem's details as OpenAI's error."""
    return Json(error_object(details), status_code=openai_status(details["status"]), headers=headers)


def _outside(error: RefdeskError, scope: Scope) -> Response:
    """The refusal of a request that came to no endpoint, which has an id all the same."""
    response = refusal(error, scope)
    response.headers[REQUEST_ID] = logs.request_id(Headers(scope=scope).get(REQUEST_ID))
    return response


def _refusal_headers(error: RefdeskError, scope: Scope) -> dict[str, str]:
    headers = dict(DATA_HEADERS)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = _challenge(scope)
    if error.status == 408:  # the rest of the request is not waited for
        headers["Connection"] = "close"
    return headers


def _challenge(scope: Scope) -> str:
    """Agents are told where they learn who lets them in (RFC 9728, 5.1)."""
    if scope["path"] != MCP_ADDRESS:
        return 'Bearer realm="refdesk"'
    return f'Bearer realm="refdesk", resource_metadata="{public_base(scope)}{RESOURCE_METADATA}{MCP_ADDRESS}"'


async def body_pieces(request: Request, clock: BodyClock) -> AsyncGenerator[bytes, None]:
    """The body as it arrives; raises the clock's error when it stalls or drips."""
    stream, received = request.stream(), 0
    loop = asyncio.get_running_loop()
    end_s = loop.time() + clock.total_s
    while True:
        pause_end_s = loop.time() + clock.pause_s
        try:
            async with asyncio.timeout_at(min(pause_end_s, end_s)):
                piece = await anext(stream, None)
        except TimeoutError:
            raise clock.ran_out(received, paused=pause_end_s < end_s) from None
        if piece is None:
            return
        received += len(piece)
        yield piece


async def read_body(request: Request, *, bytes_max: int, clock: BodyClock | None = None) -> bytes:
    """The whole body; raises BodyTooLarge at the first piece past ``bytes_max``, RequestTooSlow by the clock."""
    pieces, total = [], 0
    async with aclosing(body_pieces(request, clock or request.scope.get(BODY_CLOCK) or BodyClock())) as arriving:
        async for piece in arriving:
            total += len(piece)
            if total > bytes_max:
                raise BodyTooLarge(
                    f"The request body is larger than {bytes_max:,} bytes. Send less.", limit=bytes_max, actual=total
                )
            pieces.append(piece)
    return b"".join(pieces)


async def read_json(
    request: Request, kind: type[T], *, bytes_max: int = JSON_BYTES_MAX, clock: BodyClock | None = None
) -> T:
    """The JSON body as ``kind``; raises MalformedJson or InvalidRequest, naming the field."""
    return decode_json(await read_body(request, bytes_max=bytes_max, clock=clock), kind)


def decode_json(body: bytes | str, kind: type[T]) -> T:
    """Raises MalformedJson or InvalidRequest, naming the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request is not valid: {said(error)}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedJson(f"The body is not valid JSON ({error}). Send a JSON object.") from error
    except RecursionError as error:
        raise MalformedJson("The body is nested too deeply. Send the JSON object that /openapi.json shows.") from error


def said(error: msgspec.ValidationError) -> str:
    """What is wrong, for people."""
    return str(error).replace(f"matching regex {WITHOUT_NUL!r}", "without NUL characters")


def whole(low: int, high: int) -> Any:
    """The kind of a whole number within [low, high]."""
    return Annotated[int, Meta(ge=low, le=high)]


@runtime_checkable
class Identifiable(Protocol):
    """A response that says itself which request it answers, and may have a word for that already."""

    def identify(self, request_id: str) -> str:
        """Which one it says that is."""
        ...


@runtime_checkable
class Ending(Protocol):
    """A response that says why it ends when it is broken off, as an `EventStream` does."""

    async def end(self, send: Send, error: RefdeskError) -> None: ...


class Door(msgspec.Struct, frozen=True):
    """Who is let in, for how long, and where that is written down."""

    authenticate: Authenticate
    permit: Permit = for_ever
    audit: Audit | None = None

    async def admit(self, connection: HTTPConnection, action: Action, trail: Trail) -> tuple[Principal, Permission]:
        """Raises Unauthenticated and Forbidden."""
        if may(ANONYMOUS, action):
            return ANONYMOUS, Permission()
        principal = await self.authenticate(connection)
        if principal is None:
            raise Unauthenticated
        trail.known(principal)
        require(principal, action)
        return principal, self.permit(connection, principal)


class _Guarded:
    """An endpoint as an ASGI app: authenticate, ask the policy, handle, turn errors into problems."""

    def __init__(self, endpoint: Endpoint, door: Door, clock: BodyClock) -> None:
        self._endpoint = endpoint
        self._door = door
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[BODY_CLOCK] = self._clock
        request = Request(scope, receive, send)
        endpoint = self._endpoint
        about = logs.InRequest(logs.request_id(request.headers.get(REQUEST_ID)), f"{endpoint.method} {endpoint.path}")
        with logs.in_request(about):
            await self._answer(request, about)

    async def _answer(self, request: Request, about: logs.InRequest) -> None:
        scope, receive, send = request.scope, request.receive, request._send
        endpoint = self._endpoint
        trail = Trail(
            self._door.audit,
            request,
            endpoint.action,
            did=f"{endpoint.method} {endpoint.path}",
            request_id=about.request_id,
            is_recorded_later=endpoint.records_itself,
        )
        try:
            principal, permission = await self._admitted(request, trail)
            about.principal_id = principal.id
            await trail.admitted(principal)
            async with permission.held():
                with tracing.continued(request.headers.get("traceparent")):
                    response = await self._endpoint.handler(request, principal)
        except RefdeskError as error:
            trail.refused(error)
            if error.status >= 500:
                logger.warning("%s %s: %s", request.method, self._endpoint.path, error)
            response = refusal(error, scope)
        except ClientDisconnect:
            about.outcome = "disconnected"
            trail.refused(None)
            return
        except Exception:
            trail.refused(None)
            logger.exception("%s %s failed", request.method, self._endpoint.path)
            response = refusal(RefdeskError(), scope)
        else:
            trail.done()
            about.outcome = _identified(response, about)
            await _send(response, permission, scope, receive, send)
            return
        about.outcome = _identified(response, about)
        await response(scope, receive, send)

    async def _admitted(self, request: Request, trail: Trail) -> tuple[Principal, Permission]:
        open_to = self._endpoint.open_to
        if open_to is not None and open_to(request):
            return ANONYMOUS, Permission()
        return await self._door.admit(request, self._endpoint.action, trail)


def _identified(response: ASGIApp, about: logs.InRequest) -> str:
    """The response says which request it answers. Its status, as a text."""
    if isinstance(response, Response):
        about.request_id = response.headers.setdefault(REQUEST_ID, about.request_id)
        return str(response.status_code)
    stream: object = response
    if isinstance(stream, Identifiable):
        about.request_id = stream.identify(about.request_id)
    return "200"


async def _send(response: ASGIApp, permission: Permission, scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the response while the permission stands; one that has last words then says them, others are broken off."""
    try:
        async with permission.held():
            await response(scope, receive, send)
    except RefdeskError as error:
        logger.info("%s %s was ended: %s", scope["method"], scope["path"], error)
        last: object = response
        if isinstance(last, Ending):
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S_MAX):
                    await last.end(send, error)


class _Path:
    """The endpoints of one address as an ASGI app: the one for the request's method."""

    def __init__(self) -> None:
        self._by_method: dict[str, _Guarded] = {}

    def add(self, method: str, guarded: _Guarded) -> None:
        self._by_method[method] = guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        endpoint = self._by_method.get("GET" if method == "HEAD" else method)
        await (endpoint or self._refusal(scope))(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp:
        response = _outside(MethodNotAllowed(f"{scope['path']} does not take {scope['method']}."), scope)
        response.headers["Allow"] = ", ".join(self._by_method)
        return response


class _GuardedSocket:
    """A WebSocket endpoint as an ASGI app: authenticate, ask the policy, handle."""

    def __init__(self, endpoint: SocketEndpoint, door: Door) -> None:
        self._endpoint = endpoint
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        trail = Trail(self._door.audit, websocket, self._endpoint.action, did=f"WebSocket {self._endpoint.path}")
        try:
            principal, permission = await self._door.admit(websocket, self._endpoint.action, trail)
            await trail.admitted(principal)
        except RefdeskError as error:
            trail.refused(error)
            await websocket.send_denial_response(refusal(error, scope))
            return
        try:
            async with permission.held():
                await self._endpoint.handler(websocket, principal)
        except RefdeskError as error:
            logger.info("%s was ended: %s", self._endpoint.path, error)
            with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                async with asyncio.timeout(FAREWELL_S_MAX):
                    code = TRY_AGAIN_LATER if error.status == 503 else POLICY_VIOLATION
                    await websocket.close(code, error.code)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    error = NotFound(f"There is nothing at {scope['path']}. /openapi.json lists every address.")
    await refuse(error, scope, receive, send)


async def refuse(error: RefdeskError, scope: Scope, receive: Receive, send: Send) -> None:
    """The error in place of an application's answer."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(refusal(error, scope))
    else:
        await _outside(error, scope)(scope, receive, send)


def create_app(
    endpoints: Iterable[Endpoint | SocketEndpoint],
    *,
    authenticate: Authenticate,
    body_clock: BodyClock = BodyClock(),  # noqa: B008 (frozen)
    permit: Permit = for_ever,
    audit: Audit | None = None,
) -> ASGIApp:
    """One ASGI application of these endpoints. ``authenticate`` gives None for a caller without a valid key.

    A bare router: the middlewares of a whole Starlette would wrap every ``send``, and an answer sends for every word.
    """
    door = Door(authenticate, permit, audit)
    paths: dict[str, _Path] = {}
    routes: list[BaseRoute] = []
    for endpoint in endpoints:
        if isinstance(endpoint, SocketEndpoint):
            routes.append(WebSocketRoute(endpoint.path, _GuardedSocket(endpoint, door)))
            continue
        if endpoint.path not in paths:
            paths[endpoint.path] = _Path()
            routes.append(Route(endpoint.path, paths[endpoint.path]))
        paths[endpoint.path].add(endpoint.method, _Guarded(endpoint, door, body_clock))
    return Router(routes, redirect_slashes=False, default=_nothing_here)
