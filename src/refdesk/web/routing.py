"""Which endpoint a request comes to."""

from typing import Literal

from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send


class Routing:
    """An address without parameters is looked up, whatever stands beside it; the others are tried one by one, in their order.

    An application has a hundred addresses, and the busiest have no parameters: a request should not pay for the others.
    """

    def __init__(self, *, default: ASGIApp) -> None:
        """``default`` answers at all other addresses."""
        self._whole: dict[tuple[str, str], ASGIApp] = {}
        """By a scope's type and path."""
        self._router = Router(redirect_slashes=False, default=default)

    def add(self, kind: Literal["http", "websocket"], path: str, app: ASGIApp) -> None:
        """``{name}`` in a path is a parameter."""
        if "{" not in path:
            self._whole[kind, path] = app
        elif kind == "http":
            self._router.routes.append(Route(path, app))
        else:
            self._router.routes.append(WebSocketRoute(path, app))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._whole.get((scope["type"], scope.get("path", "")))
        await (found or self._router)(scope, receive, send)
