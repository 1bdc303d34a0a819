"""The two cookies of people who sign in: of a session, and of a sign-in under way.

By https they are ``__Host-`` cookies: a browser takes one only over TLS, from this very host, for the whole of it, so that no
neighbour below the same domain can plant one. That wants ``Path=/`` also where the desk is below a path of its proxy. A
narrower path would protect nothing: a page elsewhere on the same host can read what the desk's pages can. Two desks on one host
are told apart by their cookies' names, which have the digest of the path.

By plain http, which only loopback may be, browsers refuse such cookies. There they are called ``refdesk-loopback-…``, with the
port, for cookies do not know ports.
"""

import hashlib
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection

from refdesk.contracts.addresses import is_loopback
from refdesk.contracts.errors import ConfigurationError


class Cookies(msgspec.Struct, frozen=True, kw_only=True):
    """How the cookies of one desk are called, by the address at which people find it."""

    base: str
    """The desk's public address, without a slash at its end."""
    origin: str
    """As browsers write it in ``Origin``."""
    session_name: str
    attempt_name: str
    secure: bool

    def session_of(self, connection: HTTPConnection) -> str | None:
        return connection.cookies.get(self.session_name) or None

    def attempt_of(self, connection: HTTPConnection) -> str | None:
        return connection.cookies.get(self.attempt_name) or None

    def session(self, value: str, *, age_s: int) -> str:
        """The header that sets it."""
        return self._set(self.session_name, value, age_s)

    def attempt(self, value: str, *, age_s: int) -> str:
        return self._set(self.attempt_name, value, age_s)

    def no_session(self) -> str:
        """The header that takes it away."""
        return self._set(self.session_name, "", 0)

    def no_attempt(self) -> str:
        return self._set(self.attempt_name, "", 0)

    def _set(self, name: str, value: str, age_s: int) -> str:
        secure = "; Secure" if self.secure else ""
        return f"{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}"


def cookies_for(public_url: str) -> Cookies:
    """Raises ConfigurationError for an address by plain http that is not this machine's."""
    base = public_url.rstrip("/")
    parts = urlsplit(base)
    secure, host = parts.scheme == "https", parts.hostname or ""
    if not secure and not is_loopback(host):
        raise ConfigurationError(
            f"People cannot sign in at {public_url}: whoever listens on the way could take their sessions. Put a proxy with TLS "
            "before Refdesk, and set REFDESK_PUBLIC_URL to its https address."
        )
    path = f"-{hashlib.sha256(parts.path.encode()).hexdigest()[:8]}" if parts.path else ""
    name = f"__Host-refdesk{path}" if secure else f"refdesk-loopback-{parts.port or 80}{path}"
    return Cookies(
        base=base,
        origin=_origin(parts.scheme, host, parts.port),
        session_name=name,
        attempt_name=f"{name}-signing-in",
        secure=secure,
    )


def _origin(scheme: str, host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    usual = {"https": 443, "http": 80}[scheme]
    return f"{scheme}://{shown}" if port in (None, usual) else f"{scheme}://{shown}:{port}"
