"""How long a caller who was let in may stay: as long as what they were let in by is unchanged.

    api_keys, sessions ──NOTIFY──▶ look ──▶ those whose key or session is gone or changed ──▶ Permission.withdraw
                                    ▲
                                    └── once a second, where the news did not come through

One look asks for every key and session that anything open is held by, whatever number of streams there are; nothing is asked
while nothing is open. Access control fails closed: what could not be looked up for ``silence_s_max`` counts as gone. Tokens end
when they expire.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from refdesk.access.credentials import Credential, Kind, kept
from refdesk.access.keys import CHANNEL, ApiKeys
from refdesk.access.permission import STANDING, Permission
from refdesk.contracts.access import LOCAL_ADMINISTRATOR, Principal
from refdesk.contracts.errors import AccessChanged, RefdeskError, Unauthenticated, Unavailable
from refdesk.outside.postgres.database import listen

if TYPE_CHECKING:  # loaded only where an identity provider is named
    from refdesk.access.people import People

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
"""How often keys are looked at by themselves. News of a change come at once."""
LOOK_S_MIN = 0.5
"""What a look may take in any case, however long the database has been silent."""
LOST: Mapping[Kind, str] = {
    "key": "Your key was revoked, or has expired, while this was open.",
    "local": "A key was made while this was open: send one.",
    "session": "Your sign-in has ended while this was open. Sign in again.",
    "token": "Your token has expired while this was open. Get another one from your identity provider.",
}


class Stay:
    """Those who came in by one credential, and when it was last known to be the same."""

    def __init__(self, credential: Credential, principal: Principal, *, confirmed_at: float) -> None:
        self.credential = credential
        self.principal = principal
        self.confirmed_at = confirmed_at
        self.permission = Permission()


class Permissions:
    """One per process. ``run`` must run for any to be withdrawn."""

    def __init__(
        self,
        keys: ApiKeys,
        *,
        database_url: str,
        silence_s_max: float,
        people: "People | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._people = people
        self._database_url = database_url
        self._silence_s_max = silence_s_max
        self._clock = clock
        self._stays: dict[str, Stay] = {}
        """By the credential's name."""
        self._news = asyncio.Event()

    def __call__(self, connection: HTTPConnection, principal: Principal) -> Permission:
        """The permission of a caller who was just let in."""
        credential = kept(connection)
        if credential is None or credential.kind == "operator":
            return STANDING  # the operator's key is a setting of this process
        name = credential.name
        stay = self._stays.get(name)
        if stay is None or stay.principal != principal:
            self._end(name, AccessChanged())
            stay = self._stays[name] = Stay(credential, principal, confirmed_at=self._clock())
        return stay.permission

    async def run(self) -> None:
        """Look, for as long as the process lives; the database's absence does not end it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._look_forever())

    async def _listen(self) -> None:
        async for _ in listen(self._database_url, CHANNEL):
            self._keys.forget()
            if self._people is not None:
                self._people.forget()
            self._news.set()

    async def _look_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._news.wait()
            self._news.clear()
            await self._look()

    async def _look(self) -> None:
        """Those who are still here, as their keys are now. A look that the database does not answer is left behind."""
        self._stays = {name: stay for name, stay in self._stays.items() if stay.permission.is_held}
        if not self._stays:
            return
        began, stays = self._clock(), dict(self._stays)
        look = asyncio.create_task(self._current([stay.credential for stay in stays.values()]))
        await asyncio.wait({look}, timeout=self._patience_s())
        if not look.done():
            look.cancel()
            logger.warning("the access database does not answer; open connections end in time")
        elif (error := look.exception()) is not None:
            if not isinstance(error, RefdeskError):
                raise error
            logger.warning("keys cannot be looked at: %s", error)
        else:
            self._compare(stays, look.result(), began=began)
        self._end_unconfirmed()

    async def _current(self, held: Collection[Credential]) -> dict[str, Principal | None]:
        """By the credential's name, whose it is now; None for those whose principal their own text says, as a token's does."""
        current: dict[str, Principal | None] = {}
        by_kind: dict[Kind, list[Credential]] = {}
        for credential in held:
            by_kind.setdefault(credential.kind, []).append(credential)
        if keys := by_kind.get("key"):
            found = await self._keys.principals([key.id for key in keys])
            current |= {key.name: found[key.id] for key in keys if key.id in found}
        for local in by_kind.get("local", ()):
            if not await self._keys.exist():
                current[local.name] = LOCAL_ADMINISTRATOR
        if self._people is not None:
            current |= await self._current_people(self._people, by_kind)
        return current

    async def _current_people(
        self, people: "People", by_kind: Mapping[Kind, list[Credential]]
    ) -> dict[str, Principal | None]:
        current: dict[str, Principal | None] = {
            token.name: None for token in by_kind.get("token", ()) if people.lives(token)
        }
        if sessions := by_kind.get("session"):
            found = await people.standing(sessions)
            current |= {session.name: found[session.id] for session in sessions if session.id in found}
        return current

    def _compare(self, stays: dict[str, Stay], current: dict[str, Principal | None], *, began: float) -> None:
        for name, stay in stays.items():
            if self._stays.get(name) is not stay:
                continue  # it has ended meanwhile
            if name not in current:
                self._end(name, Unauthenticated(LOST.get(stay.credential.kind)))
            elif current[name] in (stay.principal, None):
                stay.confirmed_at = began
            else:
                self._end(name, AccessChanged())

    def _patience_s(self) -> float:
        """How long an answer may take before the first of those who are here has stayed too long without one."""
        first = min(stay.confirmed_at for stay in self._stays.values())
        return max(LOOK_S_MIN, first + self._silence_s_max - self._clock())

    def _end_unconfirmed(self) -> None:
        latest = self._clock() - self._silence_s_max
        for name, stay in list(self._stays.items()):
            if stay.confirmed_at < latest:
                self._end(name, Unavailable("Keys cannot be looked up, so nothing may stay open. Try again."))

    def _end(self, name: str, reason: RefdeskError) -> None:
        stay = self._stays.pop(name, None)
        if stay is not None:
            stay.permission.withdraw(reason)
