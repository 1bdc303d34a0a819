"""Access tokens of the provider as keys to the API: whoever sends one is who they are when they sign in."""

import hashlib
import time
from collections.abc import Callable

from refdesk.access.credentials import Credential
from refdesk.access.oidc.identities import Identities
from refdesk.access.oidc.tokens import InvalidToken, TokenChecks
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Unauthenticated


class ApiTokens:
    """Nothing is kept of a token: each is checked whenever it comes."""

    def __init__(self, checks: TokenChecks, identities: Identities, *, now: Callable[[], float] = time.time) -> None:
        self._checks = checks
        self._identities = identities
        self._now = now

    async def holder(self, token: str) -> tuple[Principal, Credential]:
        """Whose token it is. Raises Unauthenticated, saying why it is refused, and ProviderSilent."""
        try:
            claims = await self._checks.access_token(token)
        except InvalidToken as error:
            raise Unauthenticated(
                f"Your token is refused: {error}. Get another one from your identity provider."
            ) from error
        digest = hashlib.sha256(token.encode()).hexdigest()[:32]
        return self._identities.of_claims(claims), Credential("token", digest, expires_at=self._checks.dies_at(claims))

    def lives(self, token: Credential) -> bool:
        """Whether a token has not expired."""
        return self._now() < token.expires_at


def may_be_token(text: str) -> bool:
    """Whether this may be a signed token; keys have no dots."""
    return text.count(".") == 2
