"""How long a caller who was let in may stay: as long as their key is unchanged.

    api_keys ──NOTIFY──▶ look ──▶ those whose key is gone or changed ──▶ Permission.withdraw
                          ▲
                          └── once a second, where the news did not come through

One look asks for every key that anything open is held by, whatever number of streams there are; nothing is asked while nothing
is open. Access control fails closed: a key that could not be looked up for ``silence_s_max`` counts as gone.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.requests import HTTPConnection

from refdesk.access.authentication import bearer
from refdesk.access.keys import CHANNEL, ApiKeys, key_id_of
from refdesk.access.permission import Permission
from refdesk.contracts.access import LOCAL_ADMINISTRATOR, OPERATOR, Principal
from refdesk.contracts.errors import AccessChanged, RefdeskError, Unauthenticated, Unavailable
from refdesk.outside.postgres.database import listen

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
"""How often keys are looked at by themselves. News of a change come at once."""
LOOK_S_MIN = 0.5
"""What a look may take in any case, however long the database has been silent."""


class Stay:
    """Those who came in with one key, and when it was last known to be the same."""

    def __init__(self, principal: Principal, *, confirmed_at: float) -> None:
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._database_url = database_url
        self._silence_s_max = silence_s_max
        self._clock = clock
        self._stays: dict[str, Stay] = {}
        """By the key's id; the local administrator, who has no key, under an empty one."""
        self._news = asyncio.Event()

    def __call__(self, connection: HTTPConnection, principal: Principal) -> Permission:
        """The permission of a caller who was just let in."""
        if principal == OPERATOR:
            return Permission()  # its key is a setting of this process
        key_id = "" if principal == LOCAL_ADMINISTRATOR else key_id_of(bearer(connection) or "")
        stay = self._stays.get(key_id)
        if stay is None or stay.principal != principal:
            self._end(key_id, AccessChanged())
            stay = self._stays[key_id] = Stay(principal, confirmed_at=self._clock())
        return stay.permission

    async def run(self) -> None:
        """Look, for as long as the process lives; the database's absence does not end it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._look_forever())

    async def _listen(self) -> None:
        async for _ in listen(self._database_url, CHANNEL):
            self._keys.forget()
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
        self._stays = {key_id: stay for key_id, stay in self._stays.items() if stay.permission.is_held}
        if not self._stays:
            return
        began, stays = self._clock(), dict(self._stays)
        look = asyncio.create_task(self._current(list(stays)))
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

    async def _current(self, key_ids: list[str]) -> dict[str, Principal]:
        current = await self._keys.principals(key_ids)
        if "" in key_ids and not await self._keys.exist():
            current[""] = LOCAL_ADMINISTRATOR
        return current

    def _compare(self, stays: dict[str, Stay], current: dict[str, Principal], *, began: float) -> None:
        for key_id, stay in stays.items():
            now = current.get(key_id)
            if self._stays.get(key_id) is not stay:
                continue  # it has ended meanwhile
            if now == stay.principal:
                stay.confirmed_at = began
            elif now is None:
                self._end(key_id, Unauthenticated("Your key was revoked while this was open."))
            else:
                self._end(key_id, AccessChanged())

    def _patience_s(self) -> float:
        """How long an answer may take before the first of those who are here has stayed too long without one."""
        first = min(stay.confirmed_at for stay in self._stays.values())
        return max(LOOK_S_MIN, first + self._silence_s_max - self._clock())

    def _end_unconfirmed(self) -> None:
        latest = self._clock() - self._silence_s_max
        for key_id, stay in list(self._stays.items()):
            if stay.confirmed_at < latest:
                self._end(key_id, Unavailable("Keys cannot be looked up, so nothing may stay open. Try again."))

    def _end(self, key_id: str, reason: RefdeskError) -> None:
        stay = self._stays.pop(key_id, None)
        if stay is not None:
            stay.permission.withdraw(reason)
