"""A pool of connections that knows why none can be had: all are busy, or none can be made.

The driver's pool raises the same for both. To us they are different faults with different remedies, and readiness has to see
an exhausted pool without waiting in its line.
"""

import time
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from refdesk.contracts.errors import PoolExhausted, Unavailable

WAIT_S = 10.0
"""How long a caller waits for a connection."""
WAIT_WITHOUT_SERVER_S = 2.0
"""The same once no connection could be made: whoever comes then is told soon."""
RECONNECT_S = 8.0
"""How long a broken connection is tried again at growing intervals; then the next caller tries at once."""


class Pool(AsyncConnectionPool):
    """As the driver's. ``failure`` is why the last try to connect failed; None once one has succeeded."""

    def __init__(self, conninfo: str, *, size_max: int, **options: Any) -> None:
        self.failure: psycopg.Error | None = None
        self._asked: dict[object, float] = {}
        """When each caller in line came, oldest first."""
        self._lent_at = float("-inf")
        super().__init__(
            conninfo,
            connection_class=_telling(self),
            max_size=size_max,
            open=False,
            timeout=WAIT_S,
            reconnect_timeout=RECONNECT_S,
            **options,
        )

    async def getconn(self, timeout: float | None = None) -> AsyncConnection:
        """Raises PoolExhausted, or Unavailable when no connection can be made."""
        ticket = object()
        self._asked[ticket] = time.monotonic()
        patience_s = WAIT_S if self.failure is None else WAIT_WITHOUT_SERVER_S
        try:
            connection = await super().getconn(timeout or patience_s)
        except PoolTimeout as error:
            raise self._refusal() from (self.failure or error)
        finally:
            del self._asked[ticket]
        self._lent_at = time.monotonic()
        return connection

    def stuck_s(self) -> float:
        """How long nobody has got a connection though somebody waits; 0 when nobody waits."""
        oldest = next(iter(self._asked.values()), None)
        return 0.0 if oldest is None else max(0.0, time.monotonic() - max(oldest, self._lent_at))

    def _refusal(self) -> Unavailable:
        if self.failure is not None:
            return Unavailable("PostgreSQL cannot be reached. It is tried again by itself; `refdesk doctor` says why.")
        return PoolExhausted(
            f"All {self.max_size} connections of the pool {self.name!r} have been busy for {WAIT_S:g} s. Try again shortly; "
            "docs/howto/operate.md says which setting gives it more."
        )


def _telling(pool: Pool) -> type[AsyncConnection]:
    """Connections that tell the pool how connecting went."""

    class Telling(AsyncConnection):
        @classmethod
        async def connect(cls, conninfo: str = "", **options: Any) -> Any:
            try:
                connection = await super().connect(conninfo, **options)
            except psycopg.Error as error:
                pool.failure = error
                raise
            pool.failure = None
            return connection

    return Telling
