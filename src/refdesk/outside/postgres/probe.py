"""Whether a database does its work: tried on a connection of its own, so that an exhausted pool is seen and not suffered.

    kept connection   every look     read a table of ours; fill a few pages of a temporary table, and throw them away
    new connection    now and then   can one be made at all?  (a changed password, a limit that was reached)

A temporary table asks the disk for pages as any other does, and fails where it is full or read-only; but it is written neither
to the log nor to a replica, and its pages are gone with the transaction.
"""

import time
from collections.abc import Sequence

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege

from refdesk.contracts.errors import PoolExhausted, ReadOnly, Unavailable
from refdesk.outside.postgres.database import connection_string
from refdesk.outside.postgres.errors import meaning_of
from refdesk.outside.postgres.pool import Pool

CONNECT_S = 2
"""libpq takes no less."""
STATEMENT_S = 2.0
DOOR_EVERY_S = 4.0
"""How often a new connection is tried."""
STUCK_S_MAX = 3.0
"""How long a pool may have callers in line and lend nothing: longer than nearly all of our statements take."""

_MAKE_TRIAL = b"CREATE TEMPORARY TABLE refdesk_trial (filling text) ON COMMIT DELETE ROWS"
_UNPACKED = b"ALTER TABLE refdesk_trial ALTER filling SET STORAGE PLAIN"
_FILL_TRIAL = b"INSERT INTO refdesk_trial SELECT repeat('-', 8000) FROM generate_series(1, 8)"
_IS_READ_ONLY = b"SELECT current_setting('transaction_read_only') = 'on'"


class DatabaseProbe:
    """``read`` touches what is read there; ``writes``: whether the work needs writes; ``pools``: what the work borrows from."""

    def __init__(self, url: str, *, part: str, read: bytes, writes: bool, pools: Sequence[Pool] = ()) -> None:
        self._conninfo = connection_string(url, name="refdesk health", statement_timeout_s=STATEMENT_S)
        self._part = part
        self._read = read
        self._writes = writes
        self._pools = pools
        self._kept: AsyncConnection | None = None
        self._tries = False
        """Whether we may make temporary tables there."""
        self._door_tried_at = float("-inf")
        self._door_says: str | None = None

    async def look(self) -> str | None:
        """None when all is well; a sentence when the work goes on, but less well. Raises what the work would raise."""
        try:
            said = await self._work_of_kept() or await self._door()
        except psycopg.Error as error:
            raise self._meaning(error) from error
        for pool in self._pools:
            _require_flowing(pool)
        return said

    async def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.close()

    async def _work_of_kept(self) -> str | None:
        if self._kept is not None:
            try:
                return await self._work(self._kept)
            except psycopg.OperationalError:
                if not self._kept.closed:
                    raise
                await self.close()  # perhaps this connection alone has ended
        connection = await self._connect()
        try:
            self._tries = self._writes and await _make_trial(connection)
            said = await self._work(connection)
        except BaseException:
            await connection.close()
            raise
        self._kept = connection
        return said

    async def _work(self, connection: AsyncConnection) -> str | None:
        read_only = await _is_read_only(connection)
        await connection.execute(self._read)
        if read_only and self._writes:
            raise ReadOnly(f"The {self._part} takes no writes: it is a standby, or was set to read only.")
        if self._tries:
            await connection.execute(_FILL_TRIAL)
        return f"The {self._part} takes no writes: what is only read goes on." if read_only else None

    async def _door(self) -> str | None:
        """What would keep the pools from growing, or from replacing a connection."""
        if time.monotonic() - self._door_tried_at >= DOOR_EVERY_S:
            self._door_says = await self._try_door()
            self._door_tried_at = time.monotonic()
        return self._door_says

    async def _try_door(self) -> str | None:
        try:
            connection = await self._connect()
        except psycopg.Error as error:
            words = " ".join(str(error).split())
            return f"The {self._part} takes no new connection ({words}). The work goes on over those that there are."
        async with connection:
            if self._writes and await _is_read_only(connection):
                return f"New connections to the {self._part} are read-only. Those that there are can still write."
        return None

    async def _connect(self) -> AsyncConnection:
        return await AsyncConnection.connect(self._conninfo, connect_timeout=CONNECT_S, autocommit=True)

    def _meaning(self, error: psycopg.Error) -> Unavailable:
        known = meaning_of(error, part=f"The {self._part}")
        return known or Unavailable(f"The {self._part} lacks what Refdesk keeps there. Start the service again.")


async def _is_read_only(connection: AsyncConnection) -> bool:
    row = await (await connection.execute(_IS_READ_ONLY)).fetchone()
    return bool(row and row[0])


async def _make_trial(connection: AsyncConnection) -> bool:
    try:
        await connection.execute(_MAKE_TRIAL)
        await connection.execute(_UNPACKED)
    except InsufficientPrivilege:
        return False
    return True


def _require_flowing(pool: Pool) -> None:
    stuck_s = pool.stuck_s()
    if stuck_s < STUCK_S_MAX:
        return
    if pool.failure is not None:
        raise Unavailable(f"The pool {pool.name!r} cannot make a connection.") from pool.failure
    raise PoolExhausted(
        f"All {pool.max_size} connections of the pool {pool.name!r} are busy: nobody has got one for {stuck_s:.0f} s."
    )
