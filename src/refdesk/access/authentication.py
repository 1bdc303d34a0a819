"""Who is calling, by the first of these that they bring:

    Authorization: Bearer ──▶ the operator's key ─▶ an API key ─▶ a token of the identity provider
    a cookie               ──▶ a session of somebody who signed in
    nothing                ──▶ the local administrator, while no key exists and nobody can sign in

What is brought decides alone: a wrong key is not made good by a cookie beside it.

The local administrator is convenient and therefore narrow: only a direct connection from loopback, to a loopback name, not
relayed by a proxy and not sent by a web page of another origin. A proxy on this machine that adds no header looks the same. So
where an identity provider is named there is no local administrator: people come through some proxy, and there may never be a
key that closes the door.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from refdesk.access import credentials
from refdesk.access.clients import LOOPBACK, Network, caller, is_straight, origin
from refdesk.access.credentials import Credential
from refdesk.access.keys import ApiKeys, key_id_of
from refdesk.access.policy import may
from refdesk.access.wrong_keys import WrongKeys
from refdesk.contracts.access import LOCAL_ADMINISTRATOR, OPERATOR, Principal
from refdesk.contracts.addresses import is_loopback
from refdesk.contracts.errors import RefdeskError, TooManyRequests, Unauthenticated

if TYPE_CHECKING:  # loaded only where an identity provider is named
    from refdesk.access.people import People

Authenticate = Callable[[HTTPConnection], Awaitable[Principal | None]]
"""The caller's principal; None without a valid key."""


class OperatorAlone:
    """Callable as `Authenticate`, where there are no keys: lets in the operator alone."""

    def __init__(self, operator_key: str) -> None:
        self._operator_key = operator_key

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        return OPERATOR if is_key(bearer(connection), self._operator_key) else None


class Authentication:
    """Callable as `Authenticate`. Access control fails closed: while keys cannot be read, no one is let in."""

    def __init__(
        self,
        keys: ApiKeys,
        *,
        operator_key: str,
        wrong_keys: WrongKeys | None = None,
        trusted: tuple[Network, ...] = LOOPBACK,
        people: "People | None" = None,
    ) -> None:
        self._keys = keys
        self._operator_key = operator_key
        self._wrong_keys = wrong_keys
        self._trusted = trusted
        self._people = people

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Raises TooManyRequests for an address that has sent too many wrong keys, and what `People` raises."""
        text = bearer(connection)
        if is_key(text, self._operator_key):
            credentials.keep(connection, Credential("operator"))
            return OPERATOR
        if text is not None:
            return await self._holder(connection, text)
        if self._people is not None:
            return await self._people.by_session(connection)
        if is_local(connection) and not await self._keys.exist():
            credentials.keep(connection, Credential("local"))
            return LOCAL_ADMINISTRATOR
        return None

    async def _holder(self, connection: HTTPConnection, text: str) -> Principal | None:
        """The principal of a key or token. Callers on this machine may try as many as they like."""
        address = caller(connection, trusted=self._trusted)
        if self._wrong_keys is None or address is None:
            return await self._of(connection, text)
        if wait_s := self._wrong_keys.wait_s(origin(address), text):
            raise TooManyRequests(
                "Too many wrong keys came from your address (REFDESK_WRONG_KEYS_PER_MINUTE_MAX). Wait as long as Retry-After "
                "says, and send a right one.",
                retry_after_s=wait_s,
            )
        try:
            principal = await self._of(connection, text)
        except Unauthenticated:
            self._wrong_keys.note(origin(address), text, right=False)
            raise
        self._wrong_keys.note(origin(address), text, right=principal is not None)
        return principal

    async def _of(self, connection: HTTPConnection, text: str) -> Principal | None:
        if self._people is not None and self._people.take(text):
            return await self._people.by_token(connection, text)
        credentials.keep(connection, Credential("key", key_id_of(text)))
        return await self._keys.principal(text)


class Insight:
    """Who may see the service's state: callers on this machine, callers with the metrics token, and administrators."""

    def __init__(self, authenticate: Authenticate, *, metrics_token: str | None) -> None:
        self._authenticate = authenticate
        self._metrics_token = metrics_token

    async def __call__(self, connection: HTTPConnection) -> bool:
        if self.without_key(connection):
            return True
        try:
            principal = await self._authenticate(connection)
        except RefdeskError:  # fails closed: fewer callers see the details, all still see whether the service is ready
            return False
        return principal is not None and may(principal, "metrics.read")

    def without_key(self, connection: HTTPConnection) -> bool:
        return is_local(connection) or is_key(bearer(connection), self._metrics_token)


def is_key(given: str | None, right: str | None) -> bool:
    """Compares in constant time. A key that is not set matches nothing."""
    return bool(given and right) and hmac.compare_digest(str(given).encode(), str(right).encode())


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
    if not is_straight(connection):
        return False
    if not is_loopback(host_of("//" + headers.get("host", ""))):
        return False
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or _netloc_of(origin) == headers.get("host")


def host_of(url: str) -> str:
    """The URL's host in lower case; empty when it has none, or is no URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _netloc_of(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""
