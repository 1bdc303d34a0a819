"""PostgreSQL: a pool per process, forward-only migrations, named queries and a listener that never gives up.

Nothing here knows a table of ours, except the list of applied migrations. The driver's errors end at this border (see
`errors`).
"""

import asyncio
import hashlib
import logging
import re
import select
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib.resources.abc import Traversable

from psycopg import AsyncConnection, Error, OperationalError, ProgrammingError, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from psycopg.generators import notifies
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.outside.postgres.errors import translated
from refdesk.outside.postgres.pool import Pool

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 30.0
UNACKNOWLEDGED_MS_MAX = 20_000
"""How long what was sent may stay unacknowledged. Keepalives do not run meanwhile; TCP alone waits for a quarter of an hour."""
LISTEN_CHECK_S = 30.0
"""How long a silent listener goes before it asks the server whether it is still there."""
LISTEN_RETRY_S = 1.0
START_POLL_S = 0.25
_FINAL = "FATAL"
_PASSING = ("starting up", "shutting down", "too many", "remaining connection slots")
"""Words of refusals that pass by themselves; any other `FATAL` stays until somebody mends it."""

_NAME = re.compile(r"^-- name: *([a-z_][a-z0-9_]*) *$", re.MULTILINE)

_CREATE_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)"""


@asynccontextmanager
async def open_pool(
    url: str,
    *,
    name: str,
    size_min: int = 1,
    size_max: int = 8,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
) -> AsyncIterator[Pool]:
    """A pool of connections, closed on leaving. Opens without waiting: a server that comes up later is found.

    Borrow from it by `transaction`, `one_statement` or `pipelined`. A connection is checked before it is lent; times
    come in UTC; ``name`` is what `pg_stat_activity` shows.
    """
    conninfo = connection_string(url, name=name, statement_timeout_s=statement_timeout_s)
    pool = Pool(conninfo, name=name, min_size=min(size_min, size_max), size_max=size_max, check=_check)
    async with pool:
        yield pool


async def _check(connection: AsyncConnection) -> None:
    """Close the connection and raise `OperationalError` when the server has left: there is something to be read then.

    Asking the server would tell no more, and cost a round trip for every transaction.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await connection.close()  # the pool keeps what is open
        raise OperationalError("the server has closed the connection")


@asynccontextmanager
async def transaction(pool: AsyncConnectionPool, *, part: str = "PostgreSQL") -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction: committed on leaving, rolled back on an error, errors translated."""
    async with _lent(pool, part=part, autocommit=False) as connection:
        yield connection


@asynccontextmanager
async def one_statement(pool: AsyncConnectionPool) -> AsyncIterator[AsyncConnection]:
    """A connection for a single statement, which is a transaction by itself: one round trip rather than three."""
    async with _lent(pool, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def pipelined(pool: AsyncConnectionPool, begin: bytes) -> AsyncIterator[AsyncConnection]:
    """A transaction, begun by this statement, that waits only where rows are fetched; otherwise as `transaction`.

    An error of a statement may be raised by a later one, or on leaving. Rows of the last statements may be fetched after it:
    they come in the same round trip as the word that all is committed. (The driver's own BEGIN and COMMIT are waited for.)
    """
    async with _lent(pool, autocommit=True) as connection, connection.pipeline():
        await connection.execute(begin)
        yield connection
        await connection.execute(b"COMMIT")


@asynccontextmanager
async def _lent(
    pool: AsyncConnectionPool, *, part: str = "PostgreSQL", autocommit: bool
) -> AsyncIterator[AsyncConnection]:
    with translated(part):
        async with pool.connection() as connection:
            if connection.autocommit != autocommit:
                await connection.set_autocommit(autocommit)
            yield connection


async def require_database(url: str, *, setting: str, wait_s: float) -> None:
    """Return once the database that `setting` names takes a connection.

    Raises ConfigurationError that says what the server said: at once when it refuses us, after `wait_s` when it is away.
    """
    clock = asyncio.get_running_loop().time
    until_s = clock() + wait_s
    while (refusal := await _refusal(url, setting=setting)) is not None:
        lasting = _FINAL in refusal and not any(words in refusal for words in _PASSING)
        if lasting or clock() >= until_s:
            mend = f"Mend {setting}" if lasting else f"Start that server, or mend {setting}"
            raise ConfigurationError(f"The database of {setting} takes no connection: {refusal}. {mend}.")
        await asyncio.sleep(START_POLL_S)


async def _refusal(url: str, *, setting: str) -> str | None:
    """What the server, or the way to it, says; None when it takes a connection."""
    try:
        async with await AsyncConnection.connect(url, connect_timeout=CONNECT_TIMEOUT_S):
            return None
    except (ProgrammingError, ValueError) as error:  # it may hold a password: not repeated
        raise ConfigurationError(
            f"{setting} is not the address of a database. Give one such as postgresql://user:password@host/name."
        ) from error
    except OperationalError as error:
        lines = [line.strip(" \t-") for line in str(error).splitlines()]
        told = [line for line in lines if line and not line.startswith("Is the server running")]
        return told[-1].rstrip(".") if told else type(error).__name__  # of several addresses, the last


async def migrate(pool: AsyncConnectionPool, migrations: Traversable) -> list[str]:
    """Apply the numbered ``.sql`` files that the database does not have yet, in one transaction; return their names.

    Forward only. Safe when many processes start at once (advisory lock). Unknown applied files are left alone, so that
    the last release runs on the next schema. Raises `ConfigurationError` when an applied file has been changed since, or
    the database lets us make no tables.
    """
    files = sorted((file for file in migrations.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    with _refusals_explained():
        async with transaction(pool) as connection:
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('refdesk.schema_migrations', 0))")
            await connection.execute(_CREATE_MIGRATIONS)
            cursor = await connection.execute("SELECT name, sha256 FROM schema_migrations")
            applied = {str(name): str(digest) for name, digest in await cursor.fetchall()}
            return [file.name for file in files if await _apply(connection, file, applied)]


@contextmanager
def _refusals_explained() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        cause = error.__cause__
        if isinstance(cause, InsufficientPrivilege):
            raise ConfigurationError(
                f"A database does not let its user make Refdesk's tables: {_words(cause)}. Make that user the owner of the "
                "database, or run there as its owner: GRANT ALL ON SCHEMA public TO <user>;"
            ) from cause
        if isinstance(cause, ReadOnlySqlTransaction):
            raise ConfigurationError(
                f"A database is read-only: {_words(cause)}. Name the primary server, not a standby, or make it writable."
            ) from cause
        raise


def _words(error: Error) -> str:
    return error.diag.message_primary or type(error).__name__


class Queries(Mapping[str, bytes]):
    """The named queries of one ``.sql`` file, by item or by attribute."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._queries = {name: text.encode() for name, text in queries.items()}

    def __getitem__(self, name: str) -> bytes:
        return self._queries[name]

    def __getattr__(self, name: str) -> bytes:
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(f"there is no query named {name}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._queries)

    def __len__(self) -> int:
        return len(self._queries)


def load_queries(file: Traversable) -> Queries:
    """Read named queries: each starts at a line ``-- name: some_name`` and ends before the next one."""
    _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
    names, texts = parts[0::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file.name} has two queries of the same name")
    return Queries(dict(zip(names, (text.strip() for text in texts), strict=True)))


async def listen(url: str, channel: str) -> AsyncGenerator[str, None]:
    """Payloads notified on a channel, for ever: a lost connection is replaced.

    Yields an empty payload after every (re)connect, since something may have been missed: look, then wait.
    The driver's own `AsyncConnection.notifies` looks ten times a second; this one rests until something comes.
    """
    heard: deque[str] = deque()
    while True:
        try:
            async with await _listener(url, channel) as connection:
                heard.append("")
                connection.add_notify_handler(lambda notification: heard.append(notification.payload))
                while True:
                    while heard:
                        yield heard.popleft()
                    await _wait_for_news(connection)
        except OperationalError as error:
            logger.warning("Listening on %s was interrupted (%s); connecting again.", channel, type(error).__name__)
            await asyncio.sleep(LISTEN_RETRY_S)


async def _wait_for_news(connection: AsyncConnection) -> None:
    """Returns when the connection's handlers have been called, or when the server has shown that it is there."""
    try:
        async with asyncio.timeout(LISTEN_CHECK_S):
            await connection.wait(notifies(connection.pgconn), interval=LISTEN_CHECK_S)
    except TimeoutError:
        await connection.execute("SELECT 1")


async def _listener(url: str, channel: str) -> AsyncConnection:
    conninfo = connection_string(url, name=f"refdesk listen {channel}", statement_timeout_s=STATEMENT_TIMEOUT_S)
    connection = await AsyncConnection.connect(conninfo, autocommit=True)
    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    return connection


async def _apply(connection: AsyncConnection, file: Traversable, applied: Mapping[str, str]) -> bool:
    script = file.read_bytes()
    digest = hashlib.sha256(script).hexdigest()
    if file.name in applied:
        if applied[file.name] != digest:
            raise ConfigurationError(f"The migration {file.name} was changed after it was applied. Add a new one.")
        return False
    await connection.execute(script)
    await connection.execute("INSERT INTO schema_migrations (name, sha256) VALUES (%s, %s)", (file.name, digest))
    return True


def connection_string(url: str, *, name: str, statement_timeout_s: float) -> str:
    """The URL with our time limits: a peer that vanished is noticed, whether we wait for it or it for us."""
    given = conninfo_to_dict(url)
    ours = f"-c statement_timeout={int(statement_timeout_s * 1000)} -c TimeZone=UTC"
    options = f"{given.get('options') or ''} {ours}".strip()
    return make_conninfo(
        url,
        application_name=name,
        connect_timeout=CONNECT_TIMEOUT_S,
        keepalives=1,
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        tcp_user_timeout=UNACKNOWLEDGED_MS_MAX,
        options=options,
    )
