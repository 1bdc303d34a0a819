"""A sign-in under way, bound to the browser that began it.

    browser keeps   secret   (a cookie)
    state           salt · where to go afterwards · a code over both, by the secret
    nonce, PKCE     codes over the salt, by the secret

Nothing is kept on our side, so that any replica may finish what another began and nobody can fill a table. A state that another
browser brings, or that was changed, does not match the secret of this one. Several tabs may be at it at once: each has a salt,
and therefore a nonce and a verifier, of its own.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable

import msgspec
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from refdesk.contracts.errors import SignInFailed

SALT_BYTES = 16
RETURN_CHARACTERS_MAX = 1000
_SECRET = re.compile(r"[\w-]{43}", re.ASCII)
_STATE = re.compile(r"([\w-]{32})\.([\w-]{0,4000})\.([\w-]{43})", re.ASCII)
_RETURN = re.compile(r"/(?:[\w.~!$&'()*+,;=:@%?#-][\w.~!$&'()*+,;=:@%/?#-]*)?", re.ASCII)
"""A path of this desk: one slash, and never two at its beginning, which would be another host."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What one sign-in goes with."""

    secret: str
    state: str
    nonce: str
    verifier: str
    return_to: str

    @property
    def challenge(self) -> str:
        return str(create_s256_code_challenge(self.verifier))


class Attempts:
    """Begins sign-ins and recognises them; one may take ``s_max`` seconds."""

    def __init__(self, *, s_max: float, now: Callable[[], float] = time.time) -> None:
        self.s_max = s_max
        self._now = now

    def begin(self, secret: str | None, return_to: str | None) -> Attempt:
        """An attempt by the secret that the browser has already, or a new one."""
        if secret is None or not _SECRET.fullmatch(secret):
            secret = _encoded(secrets.token_bytes(32))
        salt = _encoded(int(self._now()).to_bytes(8) + secrets.token_bytes(SALT_BYTES))
        return self._attempt(secret, salt, safe_return(return_to))

    def recognise(self, secret: str | None, state: str) -> Attempt:
        """The attempt of a state that came back. Raises SignInFailed unless this browser began it, and lately."""
        found = _STATE.fullmatch(state)
        if secret is None or found is None or not _SECRET.fullmatch(secret):
            raise SignInFailed("This sign-in was not begun in this browser, or its cookie is gone. Begin again.")
        salt, returning, _ = found.groups()
        attempt = self._attempt(secret, salt, safe_return(_decoded(returning).decode(errors="replace")))
        if not hmac.compare_digest(attempt.state, state):
            raise SignInFailed("This sign-in was not begun in this browser, or its cookie is gone. Begin again.")
        if self._now() - int.from_bytes(_decoded(salt)[:8]) > self.s_max:
            raise SignInFailed("This sign-in took too long. Begin again.")
        return attempt

    def _attempt(self, secret: str, salt: str, return_to: str) -> Attempt:
        begun = f"{salt}.{_encoded(return_to.encode())}"
        return Attempt(
            secret=secret,
            state=f"{begun}.{_code(secret, 'state', begun)}",
            nonce=_code(secret, "nonce", salt),
            verifier=_code(secret, "verifier", salt),
            return_to=return_to,
        )


def safe_return(return_to: str | None) -> str:
    """Where to go after a sign-in: a path of this desk, or its beginning."""
    given = return_to or "/"
    return given if len(given) <= RETURN_CHARACTERS_MAX and _RETURN.fullmatch(given) else "/"


def _code(secret: str, of: str, text: str) -> str:
    return _encoded(hmac.digest(secret.encode(), f"refdesk {of} {text}".encode(), hashlib.sha256))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
