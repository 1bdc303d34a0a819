"""Signing in and out at the provider: the authorization code flow with PKCE, and both ways of logging out.

browser ── /auth/login ──▶ begin ──▶ provider ── /auth/callback ──▶ finish ──▶ a session
"""

from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri

from refdesk.access.oidc.attempts import Attempt, Attempts
from refdesk.access.oidc.identities import Identities
from refdesk.access.oidc.provider import Metadata, Provider
from refdesk.access.oidc.tokens import InvalidToken, TokenChecks, text_claim
from refdesk.access.sealing import KeptTokens
from refdesk.access.sessions import NewSession, Sessions
from refdesk.contracts.errors import LogoutRefused, SignInFailed
from refdesk.outside.oidc_provider import ProviderRefused, ProviderSilent

CALLBACK = "/auth/callback"
CODE_CHARACTERS_MAX = 8192


class Begun(msgspec.Struct, frozen=True):
    """Where the browser goes, and what it keeps meanwhile."""

    address: str
    secret: str


class SignedIn(msgspec.Struct, frozen=True):
    """``cookie``: of the new session. ``return_to``: a path of this desk."""

    cookie: str
    return_to: str


class SigningIn:
    """``base`` is the desk's public address: where the provider sends people back to is made of it alone."""

    def __init__(
        self,
        provider: Provider,
        *,
        checks: TokenChecks,
        identities: Identities,
        sessions: Sessions,
        attempts: Attempts,
        base: str,
    ) -> None:
        self._provider = provider
        self._checks = checks
        self._identities = identities
        self._sessions = sessions
        self._attempts = attempts
        self._base = base

    @property
    def attempt_s_max(self) -> int:
        """How long a sign-in may take, in seconds."""
        return int(self._attempts.s_max)

    async def begin(self, secret: str | None, *, return_to: str | None) -> Begun:
        """Raises ProviderSilent, rather than send anybody to a provider that does not answer."""
        await self._provider.look()
        metadata = await self._provider.metadata()
        attempt = self._attempts.begin(secret, return_to)
        address = prepare_grant_uri(
            metadata.authorization_endpoint,
            client_id=self._provider.settings.client_id,
            response_type="code",
            redirect_uri=self._base + CALLBACK,
            scope=self._provider.settings.scopes,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=attempt.challenge,
            code_challenge_method="S256",
            prompt=self._provider.settings.prompt,
        )
        return Begun(str(address), attempt.secret)

    async def finish(self, secret: str | None, reply: Mapping[str, str], *, browser: str) -> SignedIn:
        """A session of whom the provider has sent back. Raises SignInFailed, ProviderSilent."""
        attempt = self._attempts.recognise(secret, reply.get("state", ""))
        self._require_right_sender(reply, await self._provider.metadata())
        if "code" not in reply or len(reply["code"]) > CODE_CHARACTERS_MAX:
            raise SignInFailed(_refusal(reply.get("error", "")))
        cookie = await self._begin_session(attempt, reply["code"], browser=browser)
        return SignedIn(cookie, attempt.return_to)

    async def end(self, cookie: str) -> str | None:
        """End the session of this cookie; where its browser may end that at the provider, if it offers that."""
        kept = await self._sessions.end_cookie(cookie)
        try:
            metadata = await self._provider.metadata()
            if kept.refresh is not None:
                await self._provider.revoke(kept.refresh)
        except ProviderRefused:
            pass  # it knows the token no more, which is what was wanted
        except ProviderSilent:
            return None
        if metadata.end_session_endpoint is None:
            return None
        query = {"client_id": self._provider.settings.client_id, "post_logout_redirect_uri": self._base + "/"}
        if kept.id is not None:
            query["id_token_hint"] = kept.id
        separator = "&" if "?" in metadata.end_session_endpoint else "?"
        return f"{metadata.end_session_endpoint}{separator}{urlencode(query)}"

    async def end_at_providers_word(self, logout_token: str) -> None:
        """End the sessions that a logout token names. Raises LogoutRefused for one that is not valid, or comes twice."""
        try:
            claims = await self._checks.logout_token(logout_token)
        except InvalidToken as error:
            raise LogoutRefused(f"The logout token is refused: {error}.") from error
        issuer = self._provider.issuer
        if not await self._sessions.spend_logout_token(
            f"{issuer}|{claims['jti']}", expires_at=self._checks.dies_at(claims)
        ):
            raise LogoutRefused("The logout token was used before.")
        await self._sessions.end_at_provider(
            issuer, subject=text_claim(claims, "sub"), provider_session=text_claim(claims, "sid")
        )

    async def _begin_session(self, attempt: Attempt, code: str, *, browser: str) -> str:
        try:
            tokens = await self._provider.tokens(
                "authorization_code", code=code, redirect_uri=self._base + CALLBACK, code_verifier=attempt.verifier
            )
            identity = await self._identities.signed_in(tokens, nonce=attempt.nonce)
        except ProviderRefused as error:
            raise SignInFailed(f"{error} Begin again.") from error
        except InvalidToken as error:
            raise SignInFailed(f"What the identity provider said of you is refused: {error}. Begin again.") from error
        return await self._sessions.begin(
            NewSession(
                issuer=self._provider.issuer,
                subject=identity.subject,
                provider_session=identity.provider_session,
                principal=identity.principal,
                tokens=KeptTokens(refresh=tokens.refresh_token, id=tokens.id_token),
                browser=browser,
            )
        )

    def _require_right_sender(self, reply: Mapping[str, str], metadata: Metadata) -> None:
        """A reply that another provider has sent (mix-up, RFC 9207) is not taken to ours."""
        sender = reply.get("iss")
        if sender is None and not metadata.authorization_response_iss_parameter_supported:
            return
        if sender != self._provider.issuer:
            raise SignInFailed("This reply does not come from the identity provider that was asked. Begin again.")


def _refusal(error: str) -> str:
    """The provider's own words are in the address, where anybody can put them: only its code is repeated."""
    code = error if error.isascii() and error.replace("_", "").isalnum() and len(error) < 50 else "no code"
    return f"The identity provider has not signed you in ({code}). Begin again."
