"""What the provider's tokens are checked for: ID tokens of a sign-in, logout tokens, access tokens of its APIs.

A token counts when a key of the provider has signed it by an algorithm of the list (never ``none``, never one with a shared
secret), when it is for us, of its kind, and of now. None of the three can be used as another one.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec
from authlib.oauth2.claims import JWTClaims
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from refdesk.access.oidc.provider import Provider

SUBJECT_CHARACTERS_MAX = 255  # OpenID Connect Core 1.0, section 2
HEADER_BYTES_MAX = 8192
ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""What may be on the list of algorithms at all."""
DISTANT_S = 32503680000.0
"""The year 3000: an end that is no end."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
OTHER_KINDS = frozenset({"ID", "Logout", "Refresh", "Offline"})
"""What Keycloak's tokens say in ``typ`` that are no access tokens."""


class InvalidToken(Exception):
    """A token that does not count, and why."""


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    typ: str | None = None


class _Registry(JWSRegistry):
    """Providers put what they like into headers: certificates, names of their own."""

    max_header_length = HEADER_BYTES_MAX

    def get_alg(self, name: str) -> Any:
        """As the library's, which warns of ``EdDSA``, the old name of Ed25519 that providers still use."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(f"{name} is not allowed")
        return self.algorithms[name]


class TokenChecks:
    """Every method raises InvalidToken, and ProviderSilent while the provider's keys are not to be had."""

    def __init__(
        self,
        provider: Provider,
        *,
        algorithms: Collection[str],
        audiences: Collection[str] = (),
        leeway_s: float = 30.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._algorithms = sorted(algorithms)
        self._registry = _Registry(algorithms=self._algorithms, strict_check_header=False)
        self._audiences = list(audiences)
        self._leeway_s = leeway_s
        self._now = now

    async def id_token(self, token: str, *, nonce: str | None, access_token: str) -> dict[str, Any]:
        """The claims of an ID token from the token endpoint; ``nonce``: of the sign-in, None where it is refreshed."""
        header, claims = await self._signed(token, kinds=("jwt",))
        client_id = self._provider.settings.client_id
        params = {"nonce": nonce, "client_id": client_id, "access_token": access_token}
        self._validate(CodeIDToken(claims, header, self._expected([client_id]), params))
        return claims

    async def access_token(self, token: str) -> dict[str, Any]:
        """The claims of an access token for one of our audiences."""
        header, claims = await self._signed(token, kinds=("jwt", "at+jwt", "application/at+jwt"))
        if "events" in claims or "nonce" in claims or "at_hash" in claims or claims.get("typ") in OTHER_KINDS:
            raise InvalidToken("it is no access token")
        self._validate(JWTClaims(claims, header, self._expected(self._audiences)))
        return claims

    async def logout_token(self, token: str) -> dict[str, Any]:
        """The claims of a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.6); its ``jti`` may be spent."""
        header, claims = await self._signed(token, kinds=("jwt", "logout+jwt"))
        essential = {"iat": {"essential": True}, "jti": {"essential": True}, "exp": {"essential": True}}
        expected = {**self._expected([self._provider.settings.client_id], subject=False), **essential}
        self._validate(JWTClaims(claims, header, expected), subject=False)
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
            raise InvalidToken("it has no logout event")
        if "nonce" in claims:
            raise InvalidToken("it has a nonce")
        if not any(isinstance(claims.get(name), str) and claims[name] for name in ("sub", "sid")):
            raise InvalidToken("it names neither a subject nor a session")
        return claims

    def dies_at(self, claims: Mapping[str, Any]) -> float:
        """From when on a token of these claims is refused, in seconds since 1970."""
        return min(float(claims["exp"]), DISTANT_S) + self._leeway_s

    def _expected(self, audiences: list[str], *, subject: bool = True) -> dict[str, Any]:
        expected: dict[str, Any] = {
            "iss": {"essential": True, "value": self._provider.issuer},
            "aud": {"essential": True, "values": audiences},
            "exp": {"essential": True},
        }
        return {**expected, "sub": {"essential": True}} if subject else expected

    def _validate(self, claims: JWTClaims, *, subject: bool = True) -> None:
        try:
            claims.validate(now=int(self._now()), leeway=self._leeway_s)
        except JoseError as error:
            raise InvalidToken(" ".join(part for part in (error.error, error.description) if part)) from error
        if subject and not is_subject(claims["sub"]):
            raise InvalidToken("its subject is none")

    async def _signed(self, token: str, *, kinds: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of a token that the provider has signed."""
        header = read_header(token)
        if header.alg not in self._algorithms:
            raise InvalidToken(f"its algorithm {header.alg[:20]!r} is not among REFDESK_OIDC_ALGORITHMS")
        if (header.typ or "jwt").lower() not in kinds:
            raise InvalidToken("it is a token of another kind")
        for key in await self._provider.keys(header.kid):
            try:
                decoded = jwt.decode(token, key, algorithms=self._algorithms, registry=self._registry)
            except (JoseError, ValueError, TypeError, RecursionError):
                continue
            return decoded.header, decoded.claims
        raise InvalidToken("no key of the provider has signed it")


def read_header(token: str) -> _Header:
    """The header of what may be a signed token. Raises InvalidToken."""
    parts = token.split(".", 3)
    if len(parts) != 3 or len(parts[0]) > 2 * HEADER_BYTES_MAX:
        raise InvalidToken("it is no signed token")
    try:
        return msgspec.json.decode(urlsafe_b64decode(parts[0].encode()), type=_Header)
    except (ValueError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidToken("its header cannot be read") from error


def is_subject(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= SUBJECT_CHARACTERS_MAX and value.isprintable()


def text_claim(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim that is a short printable text; None otherwise."""
    value = claims.get(name)
    return value if is_subject(value) else None
