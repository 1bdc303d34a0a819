"""HTTP as both services speak it: who is let in to an endpoint, for how long, and how what goes wrong is said.

Every endpoint says what its caller does (`endpoints`); the application authenticates, asks the policy, and only then runs
the handler. It runs, and its response is sent, while the caller's permission stands. What is open when that is withdrawn ends:
a request with a problem, an event stream with an ``error`` event, a WebSocket with code 1008. An error of the one error tree
becomes ``application/problem+json`` (RFC 9457); anything else is logged and becomes a plain 500. Pure ASGI throughout: nothing
here stands between a handler and the client's disconnect.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol, runtime_checkable

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from refdesk.access.audit import Audit
from refdesk.access.authentication import Authenticate
from refdesk.access.permission import STANDING, Permission
from refdesk.access.policy import ANONYMOUS, Action, may, require
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import MethodNotAllowed, NotFound, RefdeskError, Unauthenticated
from refdesk.outside import logs, telemetry, tracing
from refdesk.web.auditing import Trail
from refdesk.web.bodies import BODY_CLOCK, BodyClock
from refdesk.web.endpoints import Endpoint, SocketEndpoint
from refdesk.web.replies import refusal
from refdesk.web.routing import Routing

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"


FAREWELL_S_MAX = 2.0
"""How long a connection that is ended may take for the words that say why."""
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013
"""RFC 6455, 7.4.1, and its registry: why a WebSocket is closed."""


Permit = Callable[[HTTPConnection, Principal], Permission]
"""How long a caller who was let in may stay."""


def for_ever(_: HTTPConnection, __: Principal) -> Permission:
    """The permission of callers whose rights do not change."""
    return STANDING


def _outside(error: RefdeskError, scope: Scope) -> Response:
    """The refusal of a request that came to no endpoint, which has an id all the same."""
    response = refusal(error, scope)
    response.headers[REQUEST_ID] = logs.request_id(Headers(scope=scope).get(REQUEST_ID))
    return response


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
            return ANONYMOUS, STANDING
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
            await self._answer(request, send, about)

    async def _answer(self, request: Request, send: Send, about: logs.InRequest) -> None:
        scope, receive, endpoint = request.scope, request.receive, self._endpoint
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
            telemetry.unexpected_errors.labels("request").inc()
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
            return ANONYMOUS, STANDING
        return await self._door.admit(request, self._endpoint.action, trail)


def _identified(response: ASGIApp, about: logs.InRequest) -> str:
    """The response says which request it answers. Its status, as a text.

    One that is no `Response` may say it by a method ``identify(request_id)``, and returns the one that it says.
    """
    if isinstance(response, Response):
        about.request_id = response.headers.setdefault(REQUEST_ID, about.request_id)
        return str(response.status_code)
    identify: Callable[[str], str] | None = getattr(response, "identify", None)
    if identify is not None:
        about.request_id = identify(about.request_id)
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

    Bare routes: the middlewares of a whole Starlette would wrap every ``send``, and an answer sends for every word.
    """
    door = Door(authenticate, permit, audit)
    paths: dict[str, _Path] = {}
    routing = Routing(default=_nothing_here)
    for endpoint in endpoints:
        if isinstance(endpoint, SocketEndpoint):
            routing.add("websocket", endpoint.path, _GuardedSocket(endpoint, door))
            continue
        if endpoint.path not in paths:
            paths[endpoint.path] = _Path()
            routing.add("http", endpoint.path, paths[endpoint.path])
        paths[endpoint.path].add(endpoint.method, _Guarded(endpoint, door, body_clock))
    return routing
