"""The names that a service goes by: requests by others are refused, where an operator says which are its own.

That keeps out a page of another site that makes a browser come here by a name of its own (DNS rebinding). Such a page has no
key, so Refdesk's own services, with the operator's key, and scrapers may come by any name.
"""

from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from refdesk.access.authentication import bearer, host_of, is_key
from refdesk.contracts.addresses import is_loopback
from refdesk.contracts.errors import Misdirected
from refdesk.settings.tree import Settings
from refdesk.web.http import refuse

HEALTH = "/health/"
METRICS = "/metrics"
"""By a name that is not a loopback one it wants a key or the token."""


def named(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The application under the names that are allowed, ``*.example.org`` for all below; under any where none is given."""
    names = {name.strip().lower() for name in (settings.address.allowed_hosts or "").split(",")} - {""}
    return _Named(app, names | _in_use(settings), operator_key=settings.services.operator_key) if names else app


def _in_use(settings: Settings) -> set[str]:
    """The names by which the settings themselves say that Refdesk is reached."""
    return {settings.address.host.lower(), host_of(settings.services.documents_url or "")} - {""}


class _Named:
    """Loopback names are always its own. Health and metrics answer to any name: platforms ask by address."""

    def __init__(self, app: ASGIApp, names: AbstractSet[str], *, operator_key: str | None) -> None:
        self._app = app
        self._names = names
        self._operator_key = operator_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(HEALTH) or scope["path"] == METRICS or self._is_for_us(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        else:
            await refuse(Misdirected(), scope, receive, send)

    def _is_for_us(self, connection: HTTPConnection) -> bool:
        host = host_of("//" + connection.headers.get("host", ""))
        if is_loopback(host) or any(fnmatchcase(host, name) for name in self._names):
            return True
        return is_key(bearer(connection), self._operator_key)
