"""Three nats-servers of a test's own that form a cluster, each to be stopped, killed and frozen."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from tests.integration.nats_server import NatsServer, free_ports

from refdesk.contracts.errors import Unavailable
from refdesk.outside.nats.connection import Connection

SIZE = 3
TOKEN = "shown-to-every-node"
FORMED_S_MAX = 60.0


class NatsCluster:
    """``nodes`` by their names. Acknowledged is what a quorum has on disk."""

    def __init__(self, folder: Path) -> None:
        routes = {f"n{number}": port for number, port in enumerate(free_ports(SIZE))}
        self.nodes = {name: _node(folder / name, name=name, routes=routes) for name in routes}

    @property
    def urls(self) -> str:
        return ",".join(url_of(node) for node in self.nodes.values())

    def others(self, name: str) -> list[NatsServer]:
        return [node for other, node in self.nodes.items() if other != name]

    async def leader(self, of: str, *, at: Connection) -> str:
        """The name of the node that leads ``STREAM`` or ``STREAM.consumer``, once there is one."""
        call = f"{'CONSUMER' if '.' in of else 'STREAM'}.INFO.{of}"
        async with asyncio.timeout(FORMED_S_MAX):
            while True:
                with contextlib.suppress(Unavailable):
                    info = await at.api(call, dict[str, Any])
                    if leader := info["cluster"].get("leader"):
                        return str(leader)
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def nats_cluster(folder: Path) -> AsyncIterator[NatsCluster]:
    """Started, and formed: it makes streams of three replicas."""
    cluster = NatsCluster(folder)
    try:
        for node in cluster.nodes.values():
            await asyncio.to_thread(node.start)
        async with Connection.open(cluster.urls, name="test", wait_s=10.0) as connection:
            await _formed(connection)
        yield cluster
    finally:
        for node in cluster.nodes.values():
            node.kill()


async def _formed(connection: Connection) -> None:
    stream = {"name": "FORMED", "num_replicas": SIZE}
    async with asyncio.timeout(FORMED_S_MAX):
        while True:
            with contextlib.suppress(Unavailable):
                await connection.api("STREAM.CREATE.FORMED", dict[str, Any], stream)
                await connection.api("STREAM.DELETE.FORMED", dict[str, Any])
                return
            await asyncio.sleep(0.1)


def url_of(node: NatsServer) -> str:
    """With what it asks for."""
    return node.url.replace("//", f"//{TOKEN}@")


@contextlib.contextmanager
def frozen(*nodes: NatsServer) -> Iterator[None]:
    """SIGSTOP for the length of the block."""
    for node in nodes:
        node.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            node.signal(signal.SIGCONT)


def _node(folder: Path, *, name: str, routes: dict[str, int]) -> NatsServer:
    folder.mkdir(parents=True)
    cluster = {
        "name": "test",
        "listen": f"127.0.0.1:{routes[name]}",
        "routes": [f"nats://127.0.0.1:{port}" for other, port in routes.items() if other != name],
    }
    more = {"server_name": name, "cluster": cluster, "authorization": {"token": TOKEN}}
    return NatsServer(folder, jetstream={"sync_interval": "always"}, more=more)
