"""The project's own server around an application, and clients on bare sockets who send it whatever a test wants."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec
from starlette.types import ASGIApp

from refdesk.app.server import Server, bind, open_server
from refdesk.web.connections import ConnectionLimits
from tests.support.patience import within

READ_S_MAX = 20.0
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Reply(msgspec.Struct, frozen=True):
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        """The type of the problem it tells."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(msgspec.json.decode(self.body)["type"])


@dataclass
class Peer:
    """One connection to a server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """As much as the server takes: one that has refused us may end the connection meanwhile."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def reply(self) -> Reply:
        async with within(READ_S_MAX):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Reply(int(head[0].split()[1]), headers, body)

    async def rest(self) -> bytes:
        """All that comes until the server ends the connection."""
        async with within(READ_S_MAX):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def ask(self, data: bytes) -> Reply:
        await self.send(data)
        return await self.reply()

    def close(self) -> None:
        self.writer.close()


@dataclass
class Edge:
    """A running server and the connections a test has opened to it."""

    server: Server
    port: int
    peers: list[Peer] = field(default_factory=list)

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    async def connect(self, *, source: str = "127.0.0.1") -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0)))
        self.peers.append(peer)
        return peer

    async def ask(self, data: bytes) -> Reply:
        """The reply to these bytes on a connection of their own."""
        return await (await self.connect()).ask(data)


async def until(holds: Callable[[], bool], *, within_s: float = READ_S_MAX) -> None:
    """Wait for a condition that can only be looked at."""
    async with within(within_s):
        while not holds():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, limits: ConnectionLimits) -> AsyncIterator[Edge]:
    listener: socket.socket = bind("127.0.0.1", 0)
    server = open_server(app, limits)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    edge = Edge(server, listener.getsockname()[1])
    try:
        yield edge
    finally:
        for peer in edge.peers:
            peer.close()
        server.stop()
        await serving
