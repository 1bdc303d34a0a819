"""Refdesk below a path of its proxy: ``https://intranet.example/desk/``.

The path is that of REFDESK_PUBLIC_URL, or the one that a trusted proxy names in ``X-Forwarded-Prefix``. A proxy may pass it on
or take it away: both are understood. The page needs none of this, for its addresses are relative.
"""

import re

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from refdesk.access.clients import Network, address_of, is_among
from refdesk.web.addresses import PUBLIC_URL

HEADER = b"x-forwarded-prefix"
_PREFIX = re.compile(r"(?:/[\w.~-]+)+")


class Prefixed:
    """The application, its addresses without the prefix, which stands in ``root_path`` (ASGI)."""

    def __init__(self, app: ASGIApp, *, path: str, trusted: tuple[Network, ...], public_url: str | None = None) -> None:
        self._app = app
        self._path = path.rstrip("/")
        self._public_url = public_url
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PUBLIC_URL] = self._public_url
        prefix = self._named(scope) or self._path
        if not prefix:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == prefix and scope["type"] == "http":  # relative addresses would lead beside it
            await RedirectResponse(f"{prefix}/", status_code=308)(scope, receive, send)
            return
        if path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
        await self._app({**scope, "path": path, "root_path": prefix}, receive, send)

    def _named(self, scope: Scope) -> str:
        """What the proxy says, where it may say so, and if it is a path."""
        said = next((value for name, value in scope["headers"] if name == HEADER), b"").decode("latin-1").rstrip("/")
        if not said or not _PREFIX.fullmatch(said):
            return ""
        peer = address_of(scope["client"][0] if scope.get("client") else None)
        return said if is_among(peer, self._trusted) else ""
