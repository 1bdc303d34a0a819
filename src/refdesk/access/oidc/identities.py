"""Who the provider says that somebody is, from the tokens that it gave for them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from refdesk.access.oidc.people import NAMES, Mapped
from refdesk.access.oidc.provider import Provider, Tokens
from refdesk.access.oidc.tokens import InvalidToken, TokenChecks, is_subject, text_claim
from refdesk.contracts.access import Principal


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """``provider_session``: the provider's own name of the session that they have there."""

    subject: str
    provider_session: str | None
    principal: Principal


class Identities:
    """Both raise InvalidToken, and ProviderSilent when the provider does not answer."""

    def __init__(self, provider: Provider, checks: TokenChecks, mapped: Mapped) -> None:
        self._provider = provider
        self._checks = checks
        self._mapped = mapped

    async def signed_in(self, tokens: Tokens, *, nonce: str) -> Identity:
        """Who has just signed in, in the sign-in of that nonce."""
        if tokens.id_token is None:
            raise InvalidToken("there was no ID token")
        claims = await self._checks.id_token(tokens.id_token, nonce=nonce, access_token=tokens.access_token)
        return await self._identity(claims, tokens)

    async def still(self, tokens: Tokens, *, subject: str) -> Identity:
        """Who a subject is now, by the tokens that their refresh token was worth."""
        claims: dict[str, Any] = {}
        if tokens.id_token is not None:
            claims = await self._checks.id_token(tokens.id_token, nonce=None, access_token=tokens.access_token)
        identity = await self._identity(claims, tokens)
        if identity.subject != subject:
            raise InvalidToken("it is of somebody else")
        return identity

    def of_claims(self, claims: Mapping[str, Any]) -> Principal:
        """The principal of an access token: in the groups that it names."""
        return self._mapped.principal(self._provider.issuer, claims, self._mapped.groups_of(claims) or ())

    async def _identity(self, claims: dict[str, Any], tokens: Tokens) -> Identity:
        """What the ID token leaves open, the provider's user info says."""
        if self._mapped.groups_of(claims) is None or not any(claims.get(name) for name in NAMES):
            told = await self._provider.user_info(tokens.access_token) or {}
            if told and told.get("sub") != claims.get("sub", told.get("sub")):
                raise InvalidToken("its user info is of somebody else")
            claims = {**told, **claims}
        if not is_subject(claims.get("sub")):
            raise InvalidToken("nothing says who it is of")
        return Identity(
            subject=claims["sub"], provider_session=text_claim(claims, "sid"), principal=self.of_claims(claims)
        )
