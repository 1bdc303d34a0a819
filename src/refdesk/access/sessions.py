"""Sessions of people who signed in: rows that every replica shares.

    cookie (256 random bits) ──SHA-256──▶ row: who, since when, last seen, last confirmed, tokens sealed by the cookie

Whoever reads the table cannot become anybody in it. A session ends when it was idle or is old, when it is ended here or at the
provider, and when the provider does not vouch for it any more (`oidc.rechecks`). A process remembers a session for a second.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import resources
from typing import Any

import msgspec

from refdesk.access.sealing import KeptTokens, sealed, unsealed
from refdesk.contracts.access import Principal, Role
from refdesk.contracts.errors import NotFound, RefdeskError
from refdesk.outside.postgres.database import load_queries, one_statement, transaction
from refdesk.outside.postgres.pool import Pool
from refdesk.settings.access import SessionLimits

MEMORY_S = 1.0
"""How long a process remembers a session: one that was ended is gone everywhere within this time."""
REMEMBERED_MAX = 10_000
SEEN_EVERY_S = 60.0
"""How exactly the last use is known, at the most; a tenth of the idle time where that is less."""
BROWSER_CHARACTERS_MAX = 200


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One that stands. ``unconfirmed_s``: since the provider last vouched for it; ``renewable``: it can be asked again."""

    id: str
    principal: Principal
    subject: str
    sealed_tokens: bytes
    renewable: bool
    unconfirmed_s: float
    unseen_s: float


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """Who has signed in, with what the provider gave for them."""

    issuer: str
    subject: str
    provider_session: str | None
    principal: Principal
    tokens: KeptTokens
    browser: str


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session as its owner and administrators may see it."""

    id: str
    principal_id: str
    name: str
    groups: tuple[str, ...]
    role: Role
    browser: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    current: bool = False
    """Whether it is the one that asks."""


class Sessions:
    """The sessions in their database, with a one-second memory."""

    def __init__(self, pool: Pool, limits: SessionLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._pool = pool
        self._queries = load_queries(resources.files("refdesk.access") / "sessions.sql")
        self._clock = clock
        self._known: dict[bytes, tuple[float, asyncio.Task[Session | None]]] = {}
        self._seen_every_s = min(SEEN_EVERY_S, limits.idle_s_max / 10)

    async def begin(self, new: NewSession) -> str:
        """A new session; its cookie's value, which is nowhere else."""
        cookie = secrets.token_urlsafe(32)
        values = {
            "cookie_sha256": _digest(cookie),
            "issuer": new.issuer,
            "subject": new.subject,
            "provider_session": new.provider_session,
            **_rights(new.principal),
            "sealed_tokens": sealed(new.tokens, cookie),
            "renewable": new.tokens.refresh is not None,
            "browser": new.browser[:BROWSER_CHARACTERS_MAX],
            "lasts_s": self.limits.s_max,
        }
        async with transaction(self._pool) as connection:
            await connection.execute(self._queries.sweep_sessions)
            await connection.execute(self._queries.begin_session, values)
            crowd = {"principal_id": new.principal.id, "most": self.limits.per_principal_max}
            await connection.execute(self._queries.end_crowd, crowd)
        return cookie

    async def find(self, cookie: str) -> Session | None:
        """The session of this cookie, as it was within the last second; None for none that stands."""
        digest, now = _digest(cookie), self._clock()
        remembered = self._known.get(digest)
        if remembered is None or now - remembered[0] >= MEMORY_S:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            remembered = self._known[digest] = now, asyncio.create_task(self.look_up(cookie))
        try:
            return await asyncio.shield(remembered[1])
        except RefdeskError:
            if self._known.get(digest) is remembered:
                del self._known[digest]
            raise

    async def look_up(self, cookie: str) -> Session | None:
        """As `find`, but never from memory. It has been seen now."""
        values = {"cookie_sha256": _digest(cookie), "idle_s": self.limits.idle_s_max}
        async with one_statement(self._pool) as connection:
            row = await (await connection.execute(self._queries.find_session, values)).fetchone()
            if row is None:
                return None
            found = _session(row)
            if found.unseen_s > self._seen_every_s:
                await connection.execute(self._queries.note_seen, {"id": found.id})
        return found

    async def standing(self, ids: Sequence[str]) -> dict[str, Session]:
        """Those of these sessions that stand now: never from memory."""
        values = {"ids": list(ids), "idle_s": self.limits.idle_s_max}
        async with one_statement(self._pool) as connection:
            rows = await (await connection.execute(self._queries.find_sessions, values)).fetchall()
        return {found.id: found for found in map(_session, rows)}

    # asking the provider again

    async def claim(self, session: Session, *, lease_s: float) -> bool:
        """Whether this process alone, for so long, may use the session's tokens: a refresh token is used once."""
        values = {"id": session.id, "sealed_tokens": session.sealed_tokens, "lease_s": lease_s}
        async with one_statement(self._pool) as connection:
            return await (await connection.execute(self._queries.claim_asking, values)).fetchone() is not None

    async def release(self, session: Session) -> None:
        """Nothing was learned: another process may ask."""
        values = {"id": session.id, "sealed_tokens": session.sealed_tokens}
        async with one_statement(self._pool) as connection:
            await connection.execute(self._queries.release_asking, values)

    async def confirm(self, session: Session, principal: Principal, *, tokens: KeptTokens, cookie: str) -> None:
        """The provider has vouched for it, with these rights."""
        rights = _rights(principal)
        del rights["principal_id"]
        values = {"id": session.id, "sealed_tokens": sealed(tokens, cookie), **rights}
        async with one_statement(self._pool) as connection:
            await connection.execute(self._queries.confirm_session, values)
        self.forget()

    # ending

    async def end(self, session_id: str, *, of: Principal | None = None) -> None:
        """End a session, ``of`` one principal or anybody's. Raises NotFound."""
        values = {"id": session_id, "principal_id": None if of is None else of.id}
        if not await self._ended(self._queries.end_session, values):
            raise NotFound

    async def end_cookie(self, cookie: str) -> KeptTokens:
        """End the session of this cookie, if there is one; the provider's tokens that went with it."""
        async with one_statement(self._pool) as connection:
            cursor = await connection.execute(self._queries.end_cookie, {"cookie_sha256": _digest(cookie)})
            row = await cursor.fetchone()
        self.forget()
        return KeptTokens() if row is None else unsealed(bytes(row[0]), cookie)

    async def end_at_provider(self, issuer: str, *, subject: str | None, provider_session: str | None) -> int:
        """End those of one of the provider's sessions or, without it, of one of its subjects; how many there were."""
        values = {"issuer": issuer, "subject": subject, "provider_session": provider_session}
        query = self._queries.end_of_subject if provider_session is None else self._queries.end_of_provider_session
        return await self._ended(query, values)

    async def spend_logout_token(self, token_id: str, *, expires_at: float) -> bool:
        """Whether a logout token comes for the first time."""
        values = {"id_sha256": _digest(token_id), "expires_at": expires_at}
        async with transaction(self._pool) as connection:
            await connection.execute(self._queries.sweep_logout_tokens)
            return await (await connection.execute(self._queries.spend_logout_token, values)).fetchone() is not None

    async def _ended(self, query: bytes, values: dict[str, Any]) -> int:
        async with one_statement(self._pool) as connection:
            ended = len(await (await connection.execute(query, values)).fetchall())
        self.forget()
        return ended

    # showing

    async def listing(self, *, of: Principal | None, current: str | None) -> list[SessionView]:
        """The sessions of one principal, newest first, or everybody's."""
        values = {"idle_s": self.limits.idle_s_max, "principal_id": None if of is None else of.id}
        async with one_statement(self._pool) as connection:
            query = self._queries.list_all if of is None else self._queries.list_own
            rows = await (await connection.execute(query, values)).fetchall()
        return [_view(row, current=current) for row in rows]

    def forget(self) -> None:
        """Look again before anybody is let in: something has changed."""
        self._known.clear()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _rights(principal: Principal) -> dict[str, Any]:
    groups = list(principal.groups)
    return {"principal_id": principal.id, "name": principal.name, "groups": groups, "role": principal.role}


def _session(row: Sequence[Any]) -> Session:
    session_id, principal_id, name, groups, role, subject, sealed_tokens, renewable, unconfirmed_s, unseen_s = row
    return Session(
        id=session_id,
        principal=Principal(id=principal_id, groups=tuple(groups), name=name, role=role),
        subject=subject,
        sealed_tokens=bytes(sealed_tokens),
        renewable=renewable,
        unconfirmed_s=unconfirmed_s,
        unseen_s=unseen_s,
    )


def _view(row: Sequence[Any], *, current: str | None) -> SessionView:
    session_id, principal_id, name, groups, role, browser, created_at, seen_at, expires_at = row
    return SessionView(
        id=session_id,
        principal_id=principal_id,
        name=name,
        groups=tuple(groups),
        role=role,
        browser=browser,
        created_at=created_at,
        seen_at=seen_at,
        expires_at=expires_at,
        current=session_id == current,
    )
