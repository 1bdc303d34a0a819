"""Requests that a page of another site makes a signed-in person's browser send.

A browser sends a cookie along by itself; a key it does not. So what comes with a session's cookie has to show that the desk's own
page has sent it: a WebSocket by its ``Origin``, whatever changes something by a token that only that page can read, and by the
headers in which browsers name the sender. ``SameSite=Lax`` alone would let in pages of other hosts below the same domain.
"""

import hashlib
import hmac

from starlette.requests import HTTPConnection

from refdesk.contracts.errors import Forbidden

TOKEN_HEADER = "X-CSRF-Token"  # noqa: S105
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""
OWN = ("same-origin", "none")
"""What ``Sec-Fetch-Site`` says of our own page, and of a person who types the address."""


class CrossSite(Forbidden):
    """This request does not come from the desk's own page. Send the `csrf_token` of `GET /api/me` as `X-CSRF-Token`, or a key."""

    code = "cross-site"
    title = "Cross-site request"


def csrf_token(cookie: str) -> str:
    """The token of a session: made of its cookie, so that it can be told and checked without being kept."""
    return hmac.digest(cookie.encode(), b"refdesk csrf", hashlib.sha256).hex()


def require_own_page(connection: HTTPConnection, cookie: str, *, origin: str) -> None:
    """Raises CrossSite unless a request that came with this session's cookie may have been sent by the desk's page."""
    headers = connection.headers
    if connection.scope["type"] == "websocket":
        if headers.get("origin") != origin:
            raise CrossSite("This WebSocket was not opened by the desk's own page.")
        return
    if connection.scope["method"] in SAFE:
        return
    if headers.get("sec-fetch-site", OWN[0]) not in OWN or headers.get("origin", origin) != origin:
        raise CrossSite
    if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), csrf_token(cookie).encode()):
        raise CrossSite
