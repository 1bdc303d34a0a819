"""When each key was last used: noted in memory, and written once a minute, beside the requests.

A request never waits for it. What a process has not written when it ends is lost: it is a sign of life, not a record (`audit`).
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources

from refdesk.contracts.errors import Unavailable
from refdesk.outside.postgres.database import load_queries, one_statement
from refdesk.outside.postgres.pool import Pool

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 60.0


def _now() -> datetime:
    return datetime.now(UTC)


class KeyUses:
    """Have ``run`` running; without it nothing is written."""

    def __init__(self, pool: Pool, *, clock: Callable[[], datetime] = _now) -> None:
        self._pool = pool
        self._clock = clock
        self._queries = load_queries(resources.files("refdesk.access") / "keys.sql")
        self._used: dict[str, datetime] = {}

    def note(self, name: str) -> None:
        """The key of that name opens something now."""
        self._used[name] = self._clock()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                await self.write()
            except Unavailable as error:
                logger.warning("when keys were used cannot be written now: %s", error)

    async def write(self) -> None:
        """What was noted since the last time. Raises Unavailable, and keeps it."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with one_statement(self._pool) as connection:
                values = {"names": list(used), "times": list(used.values())}
                await connection.execute(self._queries.note_uses, values)
        except Unavailable:
            self._used = {**used, **self._used}
            raise
