"""The names that a service goes by: requests by others are refused, where an operator says which are its own."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from refdesk.app.auth import host_of, is_loopback
from refdesk.contracts.errors import Misdirected
from refdesk.outside.http import refuse

HEALTH = "/health/"


def named(app: ASGIApp, hosts: str | None) -> ASGIApp:
    """The application under these names, separated by commas, `*.example.org` for all below; None: under any."""
    names = [name.strip().lower() for name in (hosts or "").split(",") if name.strip()]
    return _Named(app, names) if names else app


class _Named:
    """Loopback names are always its own. Health answers to any: a platform asks by address."""

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(HEALTH) or self._is_own(HTTPConnection(scope).headers.get("host", "")):
            await self._app(scope, receive, send)
        else:
            await refuse(Misdirected(), scope, receive, send)

    def _is_own(self, given: str) -> bool:
        host = host_of("//" + given)
        return is_loopback(host) or any(fnmatchcase(host, name) for name in self._names)
