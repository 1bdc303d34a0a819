"""The OpenID provider: where its doors are, which keys it signs with, and what its token endpoint says.

Everything that is asked of it goes through here: the discovery document and the keys are kept (`fetched`), token requests are
not. It calls itself by the issuer that the settings name, to the letter, or nothing that it says counts.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from authlib.oauth2.auth import ClientAuth
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey, import_key

from refdesk.access.oidc.fetched import Fetched
from refdesk.outside.oidc_provider import ProviderCalls, ProviderSilent

KEYS_MAX = 100
"""Keys of a provider that are looked at."""
LOOKED_AT_S = 60.0
"""How old the news of a provider that answers may be, for whoever asks how it does."""
DISCOVERY = "/.well-known/openid-configuration"


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are to the provider, and how much of its silence is borne."""

    issuer: str
    client_id: str
    client_secret: str | None = None
    scopes: str = "openid profile email"
    prompt: str | None = None
    keys_age_s_max: float = 3600.0
    keys_pause_s: float = 30.0
    silence_s_max: float = 900.0


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The discovery document, as far as it matters here (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    revocation_endpoint: str | None = None
    code_challenge_methods_supported: list[str] | None = None
    token_endpoint_auth_methods_supported: list[str] | None = None
    authorization_response_iss_parameter_supported: bool = False


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What the token endpoint gave."""

    access_token: str
    id_token: str | None = None
    refresh_token: str | None = None


class Provider:
    """One per process."""

    def __init__(
        self,
        calls: ProviderCalls,
        settings: ProviderSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.host = calls.host
        self._calls = calls
        kept: dict[str, Any] = {"age_s_max": settings.keys_age_s_max, "pause_s": settings.keys_pause_s}
        kept |= {"silence_s_max": settings.silence_s_max, "clock": clock}
        self._metadata = Fetched(self._discover, **kept)
        self._keys = Fetched(self._fetch_keys, **kept)

    @property
    def issuer(self) -> str:
        return self.settings.issuer

    async def metadata(self) -> Metadata:
        """Raises ProviderSilent."""
        return await self._metadata.get()

    async def keys(self, key_id: str | None) -> list[Key]:
        """Its keys of that id, or all without one. An unknown id has them fetched again, as often as ``keys_pause_s`` allows."""
        found = _named(await self._keys.get(), key_id)
        return found or _named(await self._keys.renewed(), key_id)

    async def tokens(self, grant_type: Literal["authorization_code", "refresh_token"], **form: str) -> Tokens:
        """What a grant is worth. Raises ProviderRefused, ProviderSilent."""
        metadata = await self.metadata()
        reply = await self._call(metadata, metadata.token_endpoint, {"grant_type": grant_type, **form})
        try:
            return msgspec.convert(reply, Tokens)
        except msgspec.ValidationError as error:
            raise ProviderSilent(f"The identity provider {self.host} gave no tokens: {error}.") from error

    async def user_info(self, access_token: str) -> dict[str, Any] | None:
        """What it says of whom the token is of; None where it has no such address. Raises ProviderRefused, ProviderSilent."""
        address = (await self.metadata()).userinfo_endpoint
        return None if address is None else await self._calls.get(address, bearer=access_token)

    async def revoke(self, refresh_token: str) -> None:
        """Have a token forgotten, where the provider offers that. Raises ProviderRefused, ProviderSilent."""
        metadata = await self.metadata()
        if metadata.revocation_endpoint is not None:
            form = {"token": refresh_token, "token_type_hint": "refresh_token"}
            await self._call(metadata, metadata.revocation_endpoint, form)

    async def look(self) -> str | None:
        """Raises ProviderSilent when the provider did not answer lately: its description, or its keys, were not to be had."""
        for fetched in (self._metadata, self._keys):
            await fetched.looked_at(age_s_max=LOOKED_AT_S)
        return None

    async def _call(self, metadata: Metadata, address: str, form: Mapping[str, str]) -> dict[str, Any]:
        """A call as the client that we are: by the method that the provider takes."""
        secret = self.settings.client_secret
        taken = metadata.token_endpoint_auth_methods_supported or ["client_secret_basic"]
        if secret is None:
            return await self._calls.post(address, {**form, "client_id": self.settings.client_id}, headers={})
        if "client_secret_basic" not in taken and "client_secret_post" in taken:
            posted = {"client_id": self.settings.client_id, "client_secret": secret}
            return await self._calls.post(address, {**form, **posted}, headers={})
        auth = ClientAuth(quote(self.settings.client_id, safe=""), quote(secret, safe=""), "client_secret_basic")
        _, headers, _ = auth.prepare("POST", address, {}, "")
        return await self._calls.post(address, form, headers=headers)

    async def _discover(self) -> Metadata:
        document = await self._calls.get(self.issuer.rstrip("/") + DISCOVERY)
        try:
            metadata = msgspec.convert(document, Metadata)
        except msgspec.ValidationError as error:
            raise ProviderSilent(f"The identity provider {self.host} describes itself wrongly: {error}.") from error
        if metadata.issuer != self.issuer:
            raise ProviderSilent(
                f"The identity provider at REFDESK_OIDC_ISSUER={self.issuer} calls itself {metadata.issuer!r}. "
                "Set exactly what it calls itself."
            )
        methods = metadata.code_challenge_methods_supported
        if methods is not None and "S256" not in methods:
            raise ProviderSilent(
                f"The identity provider {self.host} takes no code challenge by S256 (PKCE), without which nobody is signed in."
            )
        return metadata

    async def _fetch_keys(self) -> list[Key]:
        document = await self._calls.get((await self.metadata()).jwks_uri)
        given = document.get("keys")
        if not isinstance(given, list):
            raise ProviderSilent(f"The identity provider {self.host} publishes no keys at its jwks_uri.")
        return [key for key in map(_public_key, given[:KEYS_MAX]) if key is not None]


def _public_key(given: Any) -> Key | None:
    """A key that signatures are checked with; None for any other, such as a shared secret that should not be there."""
    if not isinstance(given, dict) or given.get("kty") not in ("RSA", "EC", "OKP") or given.get("use", "sig") != "sig":
        return None
    try:
        key = import_key(given)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) else None


def _named(keys: list[Key], key_id: str | None) -> list[Key]:
    return [key for key in keys if key_id is None or key.kid == key_id]
