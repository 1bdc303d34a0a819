"""A server process of its own under headers without end, and connections that say nothing."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import psutil
import pytest
from tests.support.edge import GET, Peer, until

HEADERS_S_MAX = 6.0
"""Long enough for a busy machine to open all the connections."""
HALF_OPEN = 500
GROWTH_BYTES_MAX = 16 << 20
PIECE = b"x" * (64 << 10)
PEERS = 4
SERVER = f"""
import asyncio
from refdesk.app import server
from refdesk.web.connections import ConnectionLimits
from refdesk.access.authentication import OperatorAlone
from refdesk.app.health import Health, health_endpoints
from refdesk.web.http import create_app

listener = server.bind("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
app = create_app(health_endpoints(Health([])), authenticate=OperatorAlone("operator"))
asyncio.run(server.serve(app, sockets=[listener], limits=ConnectionLimits(head_s_max={HEADERS_S_MAX})))
"""


@dataclass(frozen=True)
class Process:
    pid: int
    port: int

    async def connect(self) -> Peer:
        return Peer(*await asyncio.open_connection("127.0.0.1", self.port))

    @property
    def memory(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    @property
    def connections(self) -> int:
        sockets = psutil.Process(self.pid).net_connections("tcp")
        return sum(1 for socket in sockets if socket.status == psutil.CONN_ESTABLISHED)


@pytest.fixture(scope="module")
async def process() -> AsyncIterator[Process]:
    """Refdesk's server with health behind it, as every service has it."""
    started = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE)
    assert started.stdout
    yield Process(started.pid, int(await started.stdout.readline()))
    started.terminate()
    assert await started.wait() == 0


async def flood(process: Process, size: int, *, beginning: bytes) -> int:
    """Send so many bytes of one header; the status of the reply, read once the sending ends."""
    with open_peer(await process.connect()) as peer:
        await peer.send(beginning)
        with contextlib.suppress(ConnectionError):
            for _ in range(size // len(PIECE)):
                peer.writer.write(PIECE)
                await peer.writer.drain()
        return (await peer.reply()).status


@contextlib.contextmanager
def open_peer(peer: Peer) -> Iterator[Peer]:
    try:
        yield peer
    finally:
        peer.close()


@pytest.mark.parametrize("size", [1 << 20, pytest.param(64 << 20, marks=pytest.mark.long)])
async def test_headers_without_end_are_refused_and_cost_no_memory(process: Process, size: int) -> None:
    """With a key, without one, in the address, and on the way to a WebSocket."""
    beginnings = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer rdk_0\r\nX: ",
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: ",
        b"GET /",
    ]
    await asyncio.gather(*(flood(process, 1 << 20, beginning=beginning) for beginning in beginnings))
    before = process.memory
    for beginning in beginnings:
        floods = (flood(process, size, beginning=beginning) for _ in range(PEERS))
        assert await asyncio.gather(*floods) == [431] * PEERS
    assert process.memory - before < GROWTH_BYTES_MAX


async def test_half_open_connections_leave_on_time_and_keep_nobody_out(process: Process) -> None:
    """Half of them have sent something; a client who comes meanwhile is served."""
    await until(lambda: process.connections == 0)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(open_peer(await process.connect())) for _ in range(HALF_OPEN)]
        for peer in peers[::2]:
            await peer.send(GET[:10])
        began_s = asyncio.get_running_loop().time()
        client = stack.enter_context(open_peer(await process.connect()))
        assert (await client.ask(GET)).status == 200
        ends = await asyncio.gather(*(peer.rest() for peer in peers))
        assert asyncio.get_running_loop().time() - began_s < HEADERS_S_MAX * 5
    assert [end.startswith(b"HTTP/1.1 408") for end in ends] == [True, False] * (HALF_OPEN // 2)
    await until(lambda: process.connections == 0)
