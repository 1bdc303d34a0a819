"""Sessions are asked about again: whoever lost a group, or was taken out of the company, loses it here within a bound.

    since the provider vouched:   0 ──── every_s / 2 ──────────── every_s ─────────── every_s + silence_s_max
    a request                     goes on │ goes on, asks beside it │ waits for the answer │ is refused while there is none

A refresh token is used once, by one process: the others wait for what it learns. A provider that refuses it has ended the
session; one that does not answer has not. A session without a refresh token cannot be asked about: it ends
``unrenewable_s_max`` after the sign-in, and the person signs in again, which a provider that knows them answers by itself.
"""

import asyncio
import logging
from copy import copy

from refdesk.access.oidc.identities import Identities
from refdesk.access.oidc.provider import Provider
from refdesk.access.oidc.tokens import InvalidToken
from refdesk.access.sealing import KeptTokens, unsealed
from refdesk.access.sessions import Session, Sessions
from refdesk.contracts.errors import NotFound
from refdesk.outside.oidc_provider import ProviderRefused, ProviderSilent
from refdesk.settings.access import IdentityProvider

logger = logging.getLogger(__name__)

LEASE_S = 30.0
"""How long one process may take to ask; longer than all its calls together."""
POLL_S = 0.1
SILENT_PAUSE_S = 10.0
"""How long a provider that did not answer is left alone before the next session asks it."""
ENDED = frozenset({"invalid_grant", "interaction_required", "login_required", "access_denied"})
"""What a provider says that will not vouch for somebody any more (RFC 6749, 5.2)."""


class Rechecks:
    """One per process."""

    def __init__(
        self, provider: Provider, identities: Identities, sessions: Sessions, limits: IdentityProvider
    ) -> None:
        self._provider = provider
        self._identities = identities
        self._sessions = sessions
        self._limits = limits
        self._asking: dict[str, asyncio.Task[None]] = {}
        """By the session's id: one question at a time from this process."""
        self._silent: tuple[float, ProviderSilent] | None = None
        """Until when the provider is left alone, in the event loop's seconds, and why."""

    def overdue(self, session: Session) -> bool:
        """Whether nobody may come in or stay by it: the provider has not vouched for it for too long."""
        limits = self._limits
        most = limits.recheck_s + limits.silence_s_max if session.renewable else limits.unrenewable_s_max
        return session.unconfirmed_s > most

    async def confirmed(self, session: Session, cookie: str) -> Session | None:
        """The session as the provider vouches for it; None when it is over. Raises ProviderSilent."""
        if not session.renewable:
            return None if self.overdue(session) else session
        if session.unconfirmed_s < self._limits.recheck_s:
            self.ask_beside(session, cookie)
            return session
        error = await self._asked(session, cookie)
        now = await self._sessions.look_up(cookie)
        if now is not None and self.overdue(now):
            raise copy(error or ProviderSilent())
        return now

    def ask_beside(self, session: Session, cookie: str) -> None:
        """Ask in the background, when it is time to."""
        if session.renewable and session.unconfirmed_s >= self._limits.recheck_s / 2 and self._silence() is None:
            self._ask(session, cookie)

    async def close(self) -> None:
        """Let the questions that are under way end: an answer that is lost is a refresh token that is lost."""
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=LEASE_S)

    def _ask(self, session: Session, cookie: str) -> asyncio.Task[None]:
        task = self._asking.get(session.id)
        if task is None:
            task = self._asking[session.id] = asyncio.create_task(self._ask_once(session, cookie))
            task.add_done_callback(lambda done: self._settle(session.id, done))
        return task

    def _settle(self, session_id: str, task: asyncio.Task[None]) -> None:
        self._asking.pop(session_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a session could not be asked about: %s", error)

    def _silence(self) -> ProviderSilent | None:
        """What the provider failed with a moment ago."""
        if self._silent is None or self._silent[0] < asyncio.get_running_loop().time():
            return None
        return self._silent[1]

    async def _asked(self, session: Session, cookie: str) -> ProviderSilent | None:
        """Waits until the provider was asked; what it failed with."""
        if (silence := self._silence()) is not None:
            return silence
        task = self._ask(session, cookie)
        await asyncio.wait({task}, timeout=2 * self._limits.timeout_s)
        if not task.done():
            return ProviderSilent(f"The identity provider {self._provider.host} is slow to answer. Try again.")
        error = task.exception()
        if error is not None and not isinstance(error, ProviderSilent):
            raise error
        return error

    async def _ask_once(self, session: Session, cookie: str) -> None:
        """Raises ProviderSilent."""
        if not await self._sessions.claim(session, lease_s=LEASE_S):
            await self._others(session, cookie)
            return
        try:
            await self._renew(session, cookie)
        except InvalidToken as error:
            await self._end(session, f"its ID token is refused: {error}")
        except ProviderSilent as error:
            if isinstance(error, ProviderRefused) and error.error in ENDED:
                await self._end(session, str(error))
                return
            self._silent = asyncio.get_running_loop().time() + SILENT_PAUSE_S, error
            await self._sessions.release(session)
            raise

    async def _renew(self, session: Session, cookie: str) -> None:
        kept = unsealed(session.sealed_tokens, cookie)
        if kept.refresh is None:
            raise InvalidToken("there is no refresh token")
        tokens = await self._provider.tokens("refresh_token", refresh_token=kept.refresh)
        identity = await self._identities.still(tokens, subject=session.subject)
        rotated = KeptTokens(refresh=tokens.refresh_token or kept.refresh, id=tokens.id_token or kept.id)
        await self._sessions.confirm(session, identity.principal, tokens=rotated, cookie=cookie)

    async def _others(self, session: Session, cookie: str) -> None:
        """Until the process that asks has written what it learned."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + 2 * self._limits.timeout_s
        while loop.time() < end_s:
            now = await self._sessions.look_up(cookie)
            if now is None or now.sealed_tokens != session.sealed_tokens:
                self._sessions.forget()
                return
            await asyncio.sleep(POLL_S)

    async def _end(self, session: Session, why: str) -> None:
        logger.info("the session %s is over: %s", session.id, why)
        try:
            await self._sessions.end(session.id)
        except NotFound:
            return
