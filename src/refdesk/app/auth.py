"""Who is calling: an API key's principal, the operator, or (while no key exists) the local administrator.

The local administrator is convenient and therefore narrow: only a direct connection from loopback, to a loopback name, not
relayed by a proxy and not sent by a web page of another origin.
"""

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from refdesk.app.keys import ApiKeys
from refdesk.contracts.access import LOCAL_ADMINISTRATOR, OPERATOR, Principal

_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


class Authentication:
    """Callable as outside.http's ``Authenticate``. Access control fails closed: keys that cannot be read let nobody in."""

    def __init__(self, keys: ApiKeys, *, operator_key: str) -> None:
        self._keys = keys
        self._operator_key = operator_key.encode()

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        key = bearer(connection)
        if key is not None:
            if hmac.compare_digest(key.encode(), self._operator_key):
                return OPERATOR
            return await self._keys.principal(key)
        if is_local(connection) and not await self._keys.exist():
            return LOCAL_ADMINISTRATOR
        return None


def bearer(connection: HTTPConnection) -> str | None:
    """The key of ``Authorization: Bearer <key>``; None when the header is absent, empty string when it is something else."""
    header = connection.headers.get("authorization")
    if header is None:
        return None
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def is_local(connection: HTTPConnection) -> bool:
    """Whether the request comes straight from this machine and was not sent by another site's page."""
    headers = connection.headers
    if connection.client is None or not is_loopback(connection.client.host):
        return False
    if any(name in headers for name in _PROXY_HEADERS):
        return False
    if not is_loopback(_host_of("//" + headers.get("host", ""))):
        return False
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or _netloc_of(origin) == headers.get("host")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _netloc_of(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""
