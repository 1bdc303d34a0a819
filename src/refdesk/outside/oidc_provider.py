"""Calls to an OpenID provider: JSON documents and form posts, each within a time and a size, through the proxy if there is one.

Redirects are not followed, and no cookie is kept: an address that the provider names is that address. What a provider that
was reached by TLS names without TLS is refused.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec

from refdesk.contracts.errors import Unavailable

CONNECT_S = 3.0
SAID_CHARACTERS_MAX = 200
CALLS_AT_ONCE = 16
"""However many people, or strangers, come to sign in."""
PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}
FORM = {**PLAIN, "Content-Type": "application/x-www-form-urlencoded"}

ProxyFor = Callable[[str], str | None]
"""The proxy by which an address is reached; None for none."""


class ProviderSilent(Unavailable):
    """The identity provider does not answer. Keys go on working; sign in again when it is back (`refdesk doctor` looks at it)."""

    code = "provider-unavailable"
    title = "Identity provider unavailable"


class ProviderRefused(ProviderSilent):
    """The identity provider answered with an error of its own: ``error`` is its code, empty where it gave none."""

    def __init__(self, message: str, *, error: str = "", answered: int = 0) -> None:
        super().__init__(message)
        self.error = error
        self.answered = answered


class ProviderCalls:
    """See `open_provider_calls`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        issuer: str,
        *,
        timeout_s: float,
        reply_bytes_max: int,
        proxy_for: ProxyFor,
    ) -> None:
        self.host = urlsplit(issuer).netloc.rpartition("@")[2]
        """For people: who does not answer."""
        self._secure = urlsplit(issuer).scheme == "https"
        self._session = session
        self._timeout_s = timeout_s
        self._reply_bytes_max = reply_bytes_max
        self._proxy_for = proxy_for
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)

    async def get(self, url: str, *, bearer: str | None = None) -> dict[str, Any]:
        """The JSON object at an address. Raises ProviderSilent and ProviderRefused."""
        authorization = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return await self._object("GET", url, headers={**PLAIN, **authorization})

    async def post(self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str]) -> dict[str, Any]:
        """What a form is answered with; an empty object for an empty answer. Raises as `get`."""
        return await self._object("POST", url, headers={**FORM, **headers}, body=urlencode(form).encode())

    async def _object(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> dict[str, Any]:
        self._require_safe(url)
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                status, reply = await self._exchange(method, url, headers=headers, body=body)
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise ProviderSilent(f"The identity provider {self.host} does not answer: {_said(error)}.") from error
        decoded = _decoded(reply)
        if status != 200:
            raise self._refusal(status, decoded)
        if decoded is None:
            raise ProviderSilent(
                f"The identity provider {self.host} answered {method} {url} with something else than JSON."
            )
        return decoded

    async def _exchange(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        call = self._session.request(
            method, url, headers=headers, data=body, proxy=self._proxy_for(url), allow_redirects=False
        )
        async with call as response:
            pieces, total = [], 0
            async for piece in response.content.iter_any():
                total += len(piece)
                if total > self._reply_bytes_max:
                    raise ValueError(f"its reply is larger than {self._reply_bytes_max:,} bytes")
                pieces.append(piece)
            return response.status, b"".join(pieces)

    def _require_safe(self, url: str) -> None:
        scheme = urlsplit(url).scheme
        if scheme != "https" and (self._secure or scheme != "http"):
            raise ProviderSilent(f"The identity provider {self.host} names {url!r}, which is not reached by https.")

    def _refusal(self, status: int, reply: dict[str, Any] | None) -> ProviderRefused:
        told = reply or {}
        error, why = _text(told.get("error")), _text(told.get("error_description"))
        said = ": ".join(part for part in (error, why) if part)
        message = f"The identity provider {self.host} answered {status}{f' ({said})' if said else ''}."
        return ProviderRefused(message, error=error, answered=status)


@asynccontextmanager
async def open_provider_calls(
    issuer: str, *, timeout_s: float, reply_bytes_max: int, proxy_for: ProxyFor
) -> AsyncIterator[ProviderCalls]:
    """Nothing is asked yet. ``timeout_s`` bounds a whole call, ``reply_bytes_max`` what is read of its answer.

    Each call has a connection of its own. A provider may close one that was kept just when the next call is sent on it, and a
    code or a refresh token that may have been taken cannot be sent again.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_S)
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield ProviderCalls(session, issuer, timeout_s=timeout_s, reply_bytes_max=reply_bytes_max, proxy_for=proxy_for)


def _decoded(body: bytes) -> dict[str, Any] | None:
    if not body:
        return {}
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _text(value: Any) -> str:
    return value[:SAID_CHARACTERS_MAX] if isinstance(value, str) else ""


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:SAID_CHARACTERS_MAX].rstrip(".")
