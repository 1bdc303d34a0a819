"""Running one service: its background work and its HTTP server, from ready to a graceful end."""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec
import uvicorn
from starlette.types import ASGIApp

from refdesk.access.keys import ApiKeys
from refdesk.app.tls import Certificate
from refdesk.contracts.addresses import is_loopback
from refdesk.contracts.errors import ConfigurationError
from refdesk.web import connections
from refdesk.web.connections import ConnectionLimits

logger = logging.getLogger(__name__)

GRACE_S = 20
"""How long open requests and streams may take to end after SIGTERM."""
HURRY_S = 4
"""How long before the end of the grace what is still open is ended."""
FILES_BESIDE = 256
"""Open files a service needs beside its connections: databases, NATS, Valkey, content, models."""
SOCKET_MESSAGE_BYTES_MAX = 512 * 1024
"""The largest WebSocket message taken in; who reads it may want less."""
BACKLOG = 2048
UNSENT_BYTES_MAX = 128 * 1024
"""What the kernel keeps for a reader beyond what is on its way to them: whoever reads slowly costs no more."""

GARBAGE_THRESHOLD = 10_000
"""New objects between two looks for cycles. Python's 700 are a few answers' words, which no cycle keeps alive."""

Background = Callable[[], Awaitable[None]]


class Secure(msgspec.Struct, frozen=True):
    """Where TLS is spoken, with which certificate. A handshake may take ``handshake_s``."""

    sockets: Sequence[socket.socket]
    certificate: Certificate
    handshake_s: float


class Server(uvicorn.Server):
    """uvicorn without its signal handling: signals are ours, and the exit code is 0 after a graceful end.

    It does not look ten times a second whether it should end either, but is told by ``stop``.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()
        self.secure: Secure | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """With those that speak TLS. (uvicorn knows one kind of all its sockets, and no limit for a handshake.)"""
        await super().startup(sockets=sockets)
        if self.secure is None:
            return
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
            )
            return made

        for listener in self.secure.sockets:
            self.servers.append(
                await loop.create_server(
                    protocol,
                    sock=listener,
                    ssl=self.secure.certificate.context,
                    ssl_handshake_timeout=self.secure.handshake_s,
                    backlog=config.backlog,
                )
            )

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: ASGIApp,
    *,
    sockets: Sequence[socket.socket],
    limits: ConnectionLimits,
    secure: Secure | None = None,
    background: Sequence[Background] = (),
    on_stop: Sequence[Callable[[], None]] = (),
    on_hurry: Sequence[Background] = (),
) -> None:
    """Serves until SIGINT or SIGTERM; background work runs for as long, and its failure ends the service.

    ``secure``: sockets that speak TLS. ``on_stop`` ends at once what waits for news and has no end of its own. Open requests and
    streams have ``GRACE_S``; shortly before its end ``on_hurry`` is called, to end what is still open with words rather than a
    broken connection.
    """
    server = open_server(app, limits)
    server.secure = secure
    _settle_memory()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_run(work)) for work in background]
        serving = tasks.create_task(server.serve(sockets=list(sockets)))
        with stop_signals() as stopping:
            waiting = tasks.create_task(stopping.wait())
            await asyncio.wait([waiting, serving], return_when=asyncio.FIRST_COMPLETED)
            for stop in on_stop:
                stop()
            server.stop()
            await asyncio.wait([serving], timeout=GRACE_S - HURRY_S)
            for hurry in on_hurry:
                await hurry()
            await asyncio.wait([serving])
        for task in (*running, waiting):
            task.cancel()


def open_server(app: ASGIApp, limits: ConnectionLimits) -> "Server":
    """A server of the app, not yet running, with as many connections as this process may have files open."""
    files = _open_files(limits.connections_max + FILES_BESIDE)
    connections_max = max(1, min(limits.connections_max, files - FILES_BESIDE))
    if connections_max < limits.connections_max:
        logger.warning(
            "%d connections are all that %d open files leave room for, not %d: raise the limit (`ulimit -n`), or lower "
            "REFDESK_CONNECTIONS_MAX.",
            connections_max,
            files,
            limits.connections_max,
        )
    return Server(
        connections.configuration(
            app,
            msgspec.structs.replace(limits, connections_max=connections_max),
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
            ws_max_size=SOCKET_MESSAGE_BYTES_MAX,
            backlog=BACKLOG,
        )
    )


def _open_files(wanted: int) -> int:
    """How many files this process may have open, after asking for as many as are wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def _settle_memory() -> None:
    """What is loaded by now stays for as long as the process: the search for garbage need not look through it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


async def _run(work: Background) -> None:
    await work()


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGINT or SIGTERM sets."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield stopping
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def bind(host: str, port: int, *, send_timeout_s: float | None = None) -> socket.socket:
    """A listening socket; raises ConfigurationError saying what to do when the address is taken.

    A connection that takes no byte for ``send_timeout_s`` is reset by the kernel, whatever waits to be sent on it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if send_timeout_s is not None:
        _bound_sending(listener, send_timeout_s)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{host}:{port} cannot be used: {error.strerror}. Stop what listens there, or choose another with --port."
        ) from error
    listener.listen(BACKLOG)
    return listener


def _bound_sending(listener: socket.socket, timeout_s: float) -> None:
    """For every connection that the listener accepts. A server can close a connection only after all it has written."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; elsewhere the network's own patience decides
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)


async def refuse_open_door(keys: ApiKeys, *, host: str) -> None:
    """Raises ConfigurationError when the address is not loopback and no API key exists yet."""
    if not is_loopback(host) and not await keys.exist():
        raise ConfigurationError(
            f"Refdesk does not listen on {host} while no API key exists: everybody there would be administrator. "
            "Make the first one with `refdesk keys create NAME --groups administrators --database URL`, or set "
            "REFDESK_BOOTSTRAP_KEY_FILE to a file with a key from `refdesk keys generate`."
        )
