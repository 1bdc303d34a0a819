"""``/mcp``: the way of a request from our door to the SDK's, and the SDK's lifetime.

The SDK is loaded by the first request, away from the event loop: desks that no agent visits pay nothing for it. Whoever comes
was let in like everywhere, and their permission is held while the reply is sent: when it is withdrawn, the reply is broken off
and the work under it ends.
"""

import asyncio
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette import types
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Forbidden, RefdeskError
from refdesk.contracts.texts import Text
from refdesk.doors.mcp.tools import Caller, Tools
from refdesk.web import sse
from refdesk.web.addresses import MCP_ADDRESS, public_base
from refdesk.web.bodies import JSON_BYTES_MAX, read_body
from refdesk.web.endpoints import Endpoint
from refdesk.web.http import REQUEST_ID
from refdesk.web.replies import DATA_HEADERS, refusal

_OWN_HEADERS = {name.lower().encode(): value.encode() for name, value in DATA_HEADERS.items()}


class Message(msgspec.Struct, frozen=True):
    """One message of JSON-RPC, as MCP has them. The SDK reads and writes it."""

    jsonrpc: Text
    method: Text | msgspec.UnsetType = msgspec.UNSET
    id: Any = msgspec.UNSET
    params: Any = msgspec.UNSET
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET


class McpRoutes:
    """Have ``run`` running."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._wanted = asyncio.Event()
        self._opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        """The SDK's module and its manager, once somebody has asked."""

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path=MCP_ADDRESS,
                action="tools.call",
                handler=self.serve,
                summary="MCP for agents (streamable HTTP, without sessions): search_documents, read_passage, ask",
                request=Message,
                response=Message,
                media_types=(sse.EVENT_STREAM,),
            )
        ]

    async def run(self) -> None:
        """Loads the SDK when it is first wanted, and keeps it open until cancelled."""
        await self._wanted.wait()
        server = await asyncio.to_thread(import_module, "refdesk.doors.mcp.server")
        manager = server.open_manager(self._tools)
        async with manager.run():
            self._opened.set_result((server, manager))
            await asyncio.Event().wait()

    async def serve(self, request: Request, principal: Principal) -> ASGIApp:
        base = public_base(request.scope)
        _check_origin(request, base)
        body = await read_body(request, bytes_max=JSON_BYTES_MAX)
        self._wanted.set()
        server, manager = await asyncio.shield(self._opened)
        return _Reply(manager.handle_request, body, {server.CALLER: Caller(principal, base)})


class _Reply:
    """What the SDK makes of one request."""

    def __init__(self, handle: ASGIApp, body: bytes, more: dict[str, Any]) -> None:
        self._handle = handle
        self._body = body
        self._more = more
        self._scope: Scope = {}
        self._headers = dict(_OWN_HEADERS)
        self._has_begun = False

    def identify(self, request_id: str) -> str:
        self._headers[REQUEST_ID.encode()] = request_id.encode()
        return request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        await self._handle({**scope, **self._more}, _replayed(self._body, receive), self._as_data(send))

    async def end(self, send: Send, error: RefdeskError) -> None:
        """The refusal, where nothing was said yet; a stream just ends: the protocol has no word for it."""
        if self._has_begun:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await _send_whole(refusal(error, self._scope), send)

    def _as_data(self, send: Send) -> Send:
        """With the headers of all that is data and no page."""

        async def sending(message: types.Message) -> None:
            if message["type"] == "http.response.start":
                self._has_begun = True
                given = dict(message.get("headers", []))
                message = {**message, "headers": list({**self._headers, **given}.items())}
            await send(message)

        return sending


def _check_origin(request: Request, base: str) -> None:
    """Agents name no origin. A page that names another one than ours was made to come here (DNS rebinding)."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc not in (request.headers.get("host"), urlsplit(base).netloc):
        raise Forbidden("Pages of other sites may not call /mcp. Call it from a program, which sends no Origin.")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The request's body once more, then what comes behind it: that the client has left."""
    first: list[types.Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> types.Message:
        return first.pop() if first else await receive()

    return replay


async def _send_whole(response: Response, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})
