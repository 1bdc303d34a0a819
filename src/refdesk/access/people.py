"""People who sign in, as the doors of the desk know them: by the cookie of a session, or by a token of the provider."""

from collections.abc import Collection

from starlette.requests import HTTPConnection

from refdesk.access.cookies import Cookies
from refdesk.access.credentials import Credential, keep
from refdesk.access.cross_site import require_own_page
from refdesk.access.oidc.api_tokens import ApiTokens, may_be_token
from refdesk.access.oidc.rechecks import Rechecks
from refdesk.access.oidc.signing_in import SigningIn
from refdesk.access.sessions import Sessions
from refdesk.contracts.access import Principal


class People:
    """One per process, where an identity provider is named. Without ``tokens``, its bearer tokens are no keys."""

    def __init__(
        self,
        *,
        cookies: Cookies,
        sessions: Sessions,
        rechecks: Rechecks,
        signing_in: SigningIn,
        tokens: ApiTokens | None,
    ) -> None:
        self.cookies = cookies
        self.sessions = sessions
        self.signing_in = signing_in
        self._rechecks = rechecks
        self._tokens = tokens

    async def by_session(self, connection: HTTPConnection) -> Principal | None:
        """Who has the cookie that came along; None without one, or when its session is over.

        Raises CrossSite for what the desk's own page did not send, ProviderSilent when nobody has vouched for them for too long.
        """
        cookie = self.cookies.session_of(connection)
        session = None if cookie is None else await self.sessions.find(cookie)
        if cookie is None or session is None:
            return None
        require_own_page(connection, cookie, origin=self.cookies.origin)
        session = await self._rechecks.confirmed(session, cookie)
        if session is None:
            return None
        keep(connection, Credential("session", session.id, secret=cookie))
        return session.principal

    def take(self, text: str) -> bool:
        """Whether this is a token for `by_token`, rather than a key."""
        return self._tokens is not None and may_be_token(text)

    async def by_token(self, connection: HTTPConnection, text: str) -> Principal | None:
        """Whose access token this is. Raises Unauthenticated, saying why it is refused, and ProviderSilent."""
        if self._tokens is None:
            return None
        principal, credential = await self._tokens.holder(text)
        keep(connection, credential)
        return principal

    async def standing(self, held: Collection[Credential]) -> dict[str, Principal]:
        """Of these sessions those that still stand, by id, and whose they are: never from memory."""
        cookies = {session.id: session.secret for session in held}
        found = await self.sessions.standing(list(cookies))
        for session in found.values():
            self._rechecks.ask_beside(session, cookies[session.id])
        return {session.id: session.principal for session in found.values() if not self._rechecks.overdue(session)}

    def lives(self, token: Credential) -> bool:
        """Whether a token has not expired."""
        return self._tokens is not None and self._tokens.lives(token)

    def forget(self) -> None:
        """Look again before anybody is let in: something has changed."""
        self.sessions.forget()
