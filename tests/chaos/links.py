"""TCP connections that can be broken on the way: what lies between the services and the servers.

    service ──▶ Link (127.0.0.1:port) ──▶ server
                 reset · silent · slow · down

A *silent* link is a peer that vanished: bytes go nowhere while the sockets stay open, and new connections are not
answered. When it speaks again, every connection that has lost bytes is reset, as a machine that came back resets what it
does not know; on those that were quiet meanwhile nothing happened. No byte is ever missing in the middle of a stream.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from refdesk.app.embedded import processes

PIECE_BYTES = 1 << 16
PIECES_UNDER_WAY_MAX = 64

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Streams]]


@dataclass(eq=False)
class _Connection:
    """Both ends of one connection through a link."""

    ends: list[asyncio.StreamWriter] = field(default_factory=list)
    has_lost_bytes: bool = False

    def reset(self) -> None:
        for end in self.ends:
            raw = end.get_extra_info("socket")
            if raw.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):  # closed already
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()

    async def closed(self) -> None:
        self.reset()
        for end in self.ends:
            with contextlib.suppress(OSError):
                await end.wait_closed()


class Link:
    """Run it with `open`; the faults are context managers and end with their blocks."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._connections: set[_Connection] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._silent = 0
        self._down = 0
        self._latency_s = 0.0
        self._bytes_per_s = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Link"]:
        """Listen on a port of the system's choice for the length of the block."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._carrying:
                task.cancel()
            await asyncio.gather(*self._carrying, return_exceptions=True)

    def reset(self) -> None:
        """Break every connection there is; new ones are welcome."""
        for connection in tuple(self._connections):
            connection.reset()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing passes for the length of the block."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1
            if not self._silent:
                for connection in tuple(self._connections):
                    if connection.has_lost_bytes:
                        connection.reset()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """What was behind it is gone: every connection is reset, new ones too, for the length of the block."""
        self._down += 1
        self.reset()
        try:
            yield
        finally:
            self._down -= 1

    @contextlib.contextmanager
    def slow(self, *, latency_s: float = 0.0, bytes_per_s: int = 0) -> Iterator[None]:
        """Every piece arrives later, or only so many bytes in a second, for the length of the block."""
        before = self._latency_s, self._bytes_per_s
        self._latency_s, self._bytes_per_s = latency_s, bytes_per_s
        try:
            yield
        finally:
            self._latency_s, self._bytes_per_s = before

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        connection = _Connection([writer])
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError):
                await self._carry_both_ways(connection, reader)
        finally:
            self._connections.discard(connection)
            await connection.closed()
            self._carrying.discard(task)

    async def _carry_both_ways(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        """Until either side hangs up."""
        if self._down:
            return
        if self._silent:
            connection.has_lost_bytes = True
            await reader.read(-1)  # what is said goes nowhere
            return
        far_reader, far_writer = await self._dial()
        connection.ends.append(far_writer)
        ways = ((reader, far_writer), (far_reader, connection.ends[0]))
        await processes.first_of(*(self._carry(connection, source, target) for source, target in ways))

    async def _carry(self, connection: _Connection, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=PIECES_UNDER_WAY_MAX)

        async def collect() -> None:
            clock = asyncio.get_running_loop()
            while piece := await source.read(PIECE_BYTES):
                await under_way.put((clock.time() + self._latency_s, piece))

        await processes.first_of(collect(), self._deliver(under_way, connection, target))

    async def _deliver(
        self, under_way: asyncio.Queue[tuple[float, bytes]], connection: _Connection, target: asyncio.StreamWriter
    ) -> None:
        clock = asyncio.get_running_loop()
        while True:
            due_at, piece = await under_way.get()
            await asyncio.sleep(max(0.0, due_at - clock.time()))
            if self._silent or connection.has_lost_bytes:
                connection.has_lost_bytes = True
                continue
            target.write(piece)
            await target.drain()
            if self._bytes_per_s:
                await asyncio.sleep(len(piece) / self._bytes_per_s)
