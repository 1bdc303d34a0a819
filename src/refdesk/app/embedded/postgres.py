"""The embedded PostgreSQL: our child in the foreground, from the binaries of a wheel, on a unix socket only.

PostgreSQL refuses to run as root, so then it runs as somebody else (`accounts.py`).

Who may connect is asked of the kernel ("peer"): only the user who started Refdesk, whoever else gets to the socket. There is no
password that could be lost, and a data directory that was made before has the same rule at its next start.

Crash: when the postmaster is killed, its backends go by themselves as soon as they next wait for something, which a
long index build may not do for minutes. A new postmaster refuses to start until then, so `sweep` ends them. They are known
by `cluster_name`, which begins the title of each, and which is made from the data directory's path.
"""

# mypy: allow-untyped-calls
# psutil ships no types.

import asyncio
import contextlib
import hashlib
import os
import pwd
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from refdesk.app.embedded import child_logs, processes
from refdesk.app.embedded.accounts import account_for
from refdesk.app.embedded.children import Child, StartFailed
from refdesk.app.embedded.processes import Account, Program

USER = "refdesk"
MAJOR_VERSION = "18"
SOCKET_NAME = ".s.PGSQL.5432"
START_TIMEOUT_S = 300.0
"""Recovery after a crash replays at most max_wal_size; on a slow disk that is a minute or two."""
STOP_GRACE_S = 60.0
"""A fast shutdown writes all dirty buffers, at most shared_buffers."""
INITDB_TIMEOUT_S = 120.0
PROBE_TIMEOUT_S = 2
ORPHAN_WAIT_S = 5.0

INITDB_OPTIONS = (
    f"--username={USER}",
    "--auth=peer",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--locale=C.UTF-8",
    "--no-instructions",
)

SETTINGS = {
    # Durability: all of it. A commit that was acknowledged survives power loss.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Memory for a laptop: everything idle together stays under the target in ADR 0002.
    "max_connections": "80",  # what docs/howto/operate.md sums up for one of each service, and room for people
    "shared_buffers": "128MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "huge_pages": "off",
    "io_method": "sync",  # PostgreSQL 18's I/O workers are three more processes for no gain on a laptop's disk
    # The processor: one question or one index build must not take all cores; parallel workers would also need more
    # shared memory than the 64 MB that containers get.
    "max_worker_processes": "4",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "jit": "off",
    "random_page_cost": "1.1",
    # Disk
    "max_wal_size": "512MB",
    "min_wal_size": "80MB",
    "wal_compression": "on",
    # Housekeeping: queues such as the outbox live from being vacuumed often.
    "autovacuum": "on",
    "autovacuum_naptime": "30s",
    "autovacuum_max_workers": "2",
    "autovacuum_worker_slots": "4",
    # Log: to standard error, which is the child's log file.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %d ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


@dataclass(frozen=True, kw_only=True)
class PostgresPlace:
    """Where one embedded PostgreSQL lives.

    `data` is its data directory, `sockets` a directory for its socket alone, `binaries` the folder of `postgres` and
    `initdb`, `initdb_log` a file.
    """

    data: Path
    sockets: Path
    binaries: Path
    initdb_log: Path

    @property
    def cluster_name(self) -> str:
        return "refdesk-" + hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@/postgres?host={quote(str(self.sockets), safe='')}"


def postgres_child(place: PostgresPlace) -> Child:
    """The server as a child. Raises ConfigurationError when we are root and no other user can run it."""
    account = account_for(binary=place.binaries / "postgres", data=place.data, reached=(place.data, place.sockets))

    async def prepare() -> None:
        _our_name()
        await _initialise(place, account=account)
        _own(place.sockets, account=account)
        _write_settings(place, account=account)
        _remove_misleading_locks(place)

    async def sweep() -> None:
        await _end_orphans(place)

    return Child(
        program=Program(
            name="postgres",
            command=(
                str(place.binaries / "postgres"),
                "-D",
                str(place.data),
                "-c",
                f"config_file={place.data / 'refdesk.conf'}",
            ),
            account=account,
            working_directory=place.data.parent,
            stop_signal=signal.SIGINT,  # PostgreSQL's fast shutdown: SIGTERM would wait for every client
            stop_grace_s=STOP_GRACE_S,
        ),
        healthy=lambda: answers(place.url),
        prepare=prepare,
        sweep=sweep,
        start_timeout_s=START_TIMEOUT_S,
    )


async def answers(url: str) -> bool:
    """True when the server at `url` takes a connection and answers a query."""
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=PROBE_TIMEOUT_S) as connection:
            await connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


async def create_databases(url: str, *, names: Sequence[str]) -> None:
    """Create the databases that are missing on the server at `url`. Raises psycopg.Error."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s)", [list(names)])
        there = {name for (name,) in await cursor.fetchall()}
        for name in names:
            if name not in there:
                with contextlib.suppress(psycopg.errors.DuplicateDatabase):  # another process was faster
                    await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


async def create_vector_extension(url: str) -> None:
    """Raises psycopg.Error when the server has no pgvector or does not let us use it."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")


async def _initialise(place: PostgresPlace, *, account: Account | None) -> None:
    """Make the data directory if there is none; one that initdb did not finish never gets the name."""
    if (place.data / "PG_VERSION").exists():
        _require_own_version(place)
        return
    unfinished = place.data.with_name(place.data.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    _own(unfinished, account=account)
    await _run_initdb(place, directory=unfinished, account=account)
    unfinished.rename(place.data)


def _require_own_version(place: PostgresPlace) -> None:
    """Raises StartFailed when another major version made the data directory: PostgreSQL does not read it."""
    made_by = (place.data / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    if made_by != MAJOR_VERSION:
        raise StartFailed(
            f"{place.data} was made by PostgreSQL {made_by}; this Refdesk brings PostgreSQL {MAJOR_VERSION}. "
            "Start it with the Refdesk that made it, or choose another data directory with REFDESK_DATA_DIR."
        )


async def _run_initdb(place: PostgresPlace, *, directory: Path, account: Account | None) -> None:
    program = Program(
        name="initdb",
        command=(str(place.binaries / "initdb"), "-D", str(directory), *INITDB_OPTIONS),
        account=account,
        working_directory=directory.parent,
        stop_grace_s=2.0,
    )
    process = await processes.spawn(program, log_path=place.initdb_log)
    try:
        await processes.first_of(process.wait(), within_s=INITDB_TIMEOUT_S)
    finally:
        await processes.end(process, program=program, hurry=asyncio.Event())
    if process.returncode != 0:
        raise StartFailed(
            f"PostgreSQL's data directory {place.data} could not be made. "
            f"initdb said: {child_logs.tail(place.initdb_log)}. The log is {place.initdb_log}."
        )


def _own(path: Path, *, account: Account | None) -> None:
    if account:
        os.chown(path, account.uid, account.gid)


def _write_settings(place: PostgresPlace, *, account: Account | None) -> None:
    """Written anew at each start; ALTER SYSTEM still wins, for whoever wants to tune."""
    settings = SETTINGS | {
        "listen_addresses": "",
        "unix_socket_directories": str(place.sockets),
        "unix_socket_permissions": "0700",
        "cluster_name": place.cluster_name,
        "hba_file": str(place.data / "refdesk.hba"),
        "ident_file": str(place.data / "refdesk.ident"),
    }
    lines = ["# Written by Refdesk at each start. To change a setting, use ALTER SYSTEM.\n"]
    lines += [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
    files = {"conf": "".join(lines), "hba": "local all all peer map=us\n", "ident": f'us "{_our_name()}" all\n'}
    for kind, text in files.items():
        path = place.data / f"refdesk.{kind}"
        path.write_text(text, encoding="utf-8")
        _own(path, account=account)


def _our_name() -> str:
    """What PostgreSQL will call us. Raises StartFailed when this user has no name, which it needs, too, to run as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise StartFailed(
            f"PostgreSQL needs a name for the user {os.geteuid()}, and there is none. Give it a line in /etc/passwd, "
            "or set REFDESK_DATABASE_URL to a server of your own."
        ) from None


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _remove_misleading_locks(place: PostgresPlace) -> None:
    """Remove lock files of a crashed postmaster whose pid now belongs to something else.

    PostgreSQL itself removes those of a dead pid, but takes any live process of its own user for a rival; in a container
    that was restarted, the small pids make that likely. We hold the lock on the data directory, and a rival that
    is alive after all still holds the shared memory that a second postmaster looks for.
    """
    for path in (place.data / "postmaster.pid", place.sockets / f"{SOCKET_NAME}.lock"):
        with contextlib.suppress(OSError, ValueError):
            if not _is_postgres(int(path.read_text(encoding="utf-8").splitlines()[0])):
                path.unlink()


def _is_postgres(pid: int) -> bool:
    try:
        return "postgres" in psutil.Process(pid).name()
    except psutil.Error:
        return False


async def _end_orphans(place: PostgresPlace) -> None:
    """SIGKILL backends without a postmaster. What they were doing was lost with the postmaster's shared memory."""
    title = f"postgres: {place.cluster_name}: "
    orphans = [process for process in psutil.process_iter() if _title(process).startswith(title)]
    for orphan in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ORPHAN_WAIT_S):
            while any(_title(orphan).startswith(title) for orphan in orphans):
                await asyncio.sleep(processes.POLL_S)


def _title(process: psutil.Process) -> str:
    try:
        return next(iter(process.cmdline()), "")
    except psutil.Error:
        return ""
