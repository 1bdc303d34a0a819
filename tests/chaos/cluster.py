"""Refdesk's services as real processes on real servers, every one of which may be killed, frozen or cut off.

writers ──HTTP──▶ documents ─┬─ link ─▶ postgres ◀─ link ─┬─ indexer-1, indexer-2
                             └─ link ─▶   nats   ◀─ link ─┤        │
                     ▲                                    │        └─HTTP─▶ embedding server (the test's)
                     └──────────────── link ──────────────┘
asker ──HTTP──▶ assistant ── links ──▶ valkey, postgres, documents       (only where a test asks for them)
"""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import psutil
from psycopg.conninfo import conninfo_to_dict
from tests.chaos.links import Dial, Link
from tests.chaos.nursery import Nursery
from tests.chaos.sabotage import NOTES
from tests.support.embedding_server import by_hash, embedding_server
from tests.support.running import environment, until

from refdesk.app.embedded import processes
from refdesk.app.embedded.children import Child, nothing
from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.postgres import SOCKET_NAME, USER
from refdesk.app.embedded.stack import StackOptions, StackUrls, plan, prepare_databases

OPERATOR_KEY = "chaos"
HEADERS = {"Authorization": f"Bearer {OPERATOR_KEY}"}
READY_S_MAX = 180.0
CALL_S_MAX = 60.0
QUICK = {
    "REFDESK_EVENT_LEASE_S": "1.5",
    "REFDESK_RELAY_LEASE_S": "1.5",
    "REFDESK_OUTAGE_PAUSE_S_MAX": "0.5",
    "REFDESK_RECONCILE_INTERVAL_S": "1000000",  # nothing is to be mended by any other hand
}
"""Short leases: what a killed process had in its hands is given to another soon."""


class Member:
    """One process of the cluster through all its lives."""

    def __init__(
        self,
        name: str,
        *,
        start: Callable[[], Awaitable[int]],
        healthy: Callable[[], Awaitable[bool]],
        sweep: Callable[[], Awaitable[None]] = nothing,
    ) -> None:
        self.name = name
        self.lives = 0
        self._start = start
        self._healthy = healthy
        self._sweep = sweep
        self._process: psutil.Process | None = None

    async def start(self) -> None:
        """Returns as soon as the process runs."""
        self._process = psutil.Process(await self._start())
        self.lives += 1

    @property
    def alive(self) -> bool:
        """Also while some of its threads are still dying: until the last has, its port is taken."""
        try:
            return (
                self._process is not None
                and self._process.is_running()
                and (self._process.status() != psutil.STATUS_ZOMBIE or self._process.num_threads() > 1)
            )
        except psutil.NoSuchProcess:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return int(self._process.pid)

    async def ready(self, *, within_s: float = READY_S_MAX) -> None:
        await until(self._healthy, what=f"{self.name} answers", within_s=within_s)

    async def come_back(self) -> None:
        """Start until it answers: a service whose database is away ends, and a supervisor starts it again."""

        async def answers_or_ended() -> bool:
            return not self.alive or await self._healthy()

        await self.start()
        await until(answers_or_ended, what=f"{self.name} answers", within_s=READY_S_MAX)
        if not self.alive:
            await self.come_back()

    async def ended(self, *, within_s: float = READY_S_MAX) -> None:
        async def dead() -> bool:
            return not self.alive

        await until(dead, what=f"{self.name} ends", within_s=within_s)

    async def kill(self) -> None:
        """SIGKILL, to it and all it started."""
        processes.signal_group(self.pid, signal.SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        if self.alive:
            await self.kill()
        await self._sweep()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for the length of the block, children included."""
        processes.signal_group(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        """Let go on what froze itself."""
        processes.signal_group(self.pid, signal.SIGCONT)


@dataclass
class Cluster:
    """What runs. ``urls`` lead to the servers directly, past the links."""

    folder: Path
    urls: StackUrls
    nursery: Nursery
    session: aiohttp.ClientSession
    embedding_url: str
    links: dict[str, Link] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    sabotage: dict[str, Sequence[str]] = field(default_factory=dict)
    """By member: what its next life is started with."""
    mutants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By service: what every life of it is started with."""

    @property
    def notes(self) -> Path:
        """Where a fail-point that was reached leaves its name."""
        return self.folder / "notes"

    @property
    def indexers(self) -> list[Member]:
        return [member for name, member in self.members.items() if name.startswith("indexer")]

    async def start(self, *names: str) -> None:
        """Start these together; returns when they answer."""
        await asyncio.gather(*(self.members[name].start() for name in names))
        await asyncio.gather(*(self.members[name].ready() for name in names))

    async def restart(self, name: str, *, sabotage: Sequence[str] = ()) -> None:
        """Kill it if it lives, and start it again, perhaps sabotaged; returns when it answers."""
        await self.members[name].stop()
        self.sabotage[name] = sabotage
        await self.start(name)

    async def wipe_nats(self) -> None:
        """Take the store away from under the running server, kill it, start it on nothing."""
        await asyncio.to_thread(_remove, self.folder / "data" / "nats" / "store")
        await self.members["nats"].kill()
        await asyncio.to_thread(_remove, self.folder / "data" / "nats" / "store")
        await self.start("nats")

    def address(self, path: str, *, of: str = "documents") -> str:
        return f"http://127.0.0.1:{self.ports[of]}{path}"

    async def call(self, method: str, path: str, *, of: str = "documents", **options: Any) -> tuple[int, Any]:
        """One call as the operator: status and decoded body; status 0 when there was no whole reply."""
        try:
            async with self.session.request(method, self.address(path, of=of), **options) as reply:
                body = await reply.read()
                is_json = "json" in reply.headers.get("Content-Type", "") and not path.endswith("/content")
                return reply.status, await reply.json(content_type=None) if body and is_json else body
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, None

    async def read(self, path: str, **options: Any) -> Any:
        """The body of a reply that must come, however long that takes."""
        found: Any = None

        async def answered() -> bool:
            nonlocal found
            status, found = await self.call("GET", path, **options)
            assert status in (0, 200) or status >= 500, f"GET {path}: {status} {found}"
            return status == 200

        await until(answered, what=f"GET {path} is answered")
        return found

    # what stands where

    def add_service(self, name: str, **settings: str) -> None:
        """``name`` is a service's, perhaps with a number behind it."""
        service, port = name.split("-")[0], free_port()
        self.ports[name] = port
        given = environment(self.folder, REFDESK_PORT=str(port), **self._settings(service) | settings)

        async def start() -> int:
            log = self.folder / "data" / "logs" / f"{name}.log"
            sabotage = [*self.mutants.get(service, ()), *self.sabotage.pop(name, ())]
            return await self.nursery.bear(service, environment=given, log=log, sabotage=sabotage)

        async def healthy() -> bool:
            return (await self.call("GET", "/health/live", of=name))[0] == 200

        self.members[name] = Member(name, start=start, healthy=healthy)

    def _nats_url(self, service: str) -> str:
        """Through a link, except to servers of the test's own."""
        if (link := self.links.get(f"{service} nats")) is None:
            return self.urls.nats_url
        login = urlsplit(self.urls.nats_url).netloc.rpartition("@")[0]
        return f"nats://{login}@127.0.0.1:{link.port}"

    def _valkey_url(self) -> str:
        """Where there is one."""
        link, given = self.links.get("assistant valkey"), urlsplit(self.urls.valkey_url)
        return self.urls.valkey_url if link is None else f"redis://127.0.0.1:{link.port}?{given.query}"

    def _settings(self, service: str) -> dict[str, str]:
        return QUICK | {
            NOTES: str(self.notes),
            "REFDESK_DATA_DIR": str(self.folder / "data"),
            "REFDESK_OPERATOR_KEY": OPERATOR_KEY,
            "REFDESK_DOCUMENTS_DATABASE_URL": self._database_url(service, "documents"),
            "REFDESK_INDEX_DATABASE_URL": self._database_url(service, "index"),
            "REFDESK_NATS_URL": self._nats_url(service),
            "REFDESK_VALKEY_URL": self._valkey_url(),
            "REFDESK_DOCUMENTS_URL": f"http://127.0.0.1:{self.links['indexer documents'].port}",
            "REFDESK_EMBEDDING_URL": self.embedding_url,
            "REFDESK_EMBEDDING_MODEL": "by-hash",
        }

    def _database_url(self, service: str, name: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.links[f'{service} postgres'].port}/{quote(name)}"

    def add_server(self, child: Child) -> None:
        log = self.folder / "data" / "logs" / f"{child.program.name}.log"

        async def start() -> int:
            await child.sweep()
            await child.prepare()
            return (await processes.spawn(child.program, log_path=log)).pid

        self.members[child.program.name] = Member(
            child.program.name, start=start, healthy=child.healthy, sweep=child.sweep
        )


@contextlib.asynccontextmanager
async def open_cluster(
    folder: Path,
    nursery: Nursery,
    *,
    indexers: int = 2,
    with_assistant: bool = False,
    nats_url: str | None = None,
    settings: Mapping[str, str] | None = None,
    mutants: Mapping[str, Sequence[str]] | None = None,
) -> AsyncIterator[Cluster]:
    """Everything started and healthy; everything killed on leaving. The links are whole.

    ``nats_url``: servers of the test's own, to be used without links. ``settings``: more of them, for every service.
    ``mutants``: what every life of a service is sabotaged with.
    """
    folder.chmod(0o711)  # PostgreSQL, run by root, works as another user and must pass through
    data_dir = folder / "data"
    data_dir.mkdir(mode=0o711)
    (folder / "notes").mkdir()
    _, server_url, urls, servers = plan(StackOptions(data_dir=data_dir, nats_url=nats_url), data_dir=data_dir)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        timeout = aiohttp.ClientTimeout(total=CALL_S_MAX)
        session = await enter(aiohttp.ClientSession(headers=HEADERS, timeout=timeout))
        embedding_url = await enter(embedding_server(by_hash))
        cluster = Cluster(folder, urls, nursery, session, embedding_url, mutants=mutants or {})
        stack.push_async_callback(_stop, cluster)
        for server in servers:
            if server.program.name != "valkey" or with_assistant:
                cluster.add_server(server)
        await cluster.start(*cluster.members)
        await prepare_databases(server_url, urls=urls)
        lines = _lines(cluster, server_url, with_nats=nats_url is None)
        if with_assistant:
            lines["assistant valkey"] = lambda: asyncio.open_unix_connection(urlsplit(urls.valkey_url).path)
        for name, dial in lines.items():
            cluster.links[name] = await enter(Link(dial).open())
        names = ["documents", *(f"indexer-{n + 1}" for n in range(indexers)), *["assistant"] * with_assistant]
        for name in names:
            cluster.add_service(name, **(settings or {}))
        await cluster.start("documents")
        await cluster.start(*names[1:])
        yield cluster


def _lines(cluster: Cluster, server_url: str, *, with_nats: bool) -> dict[str, Dial]:
    """Which links there are, and where each leads."""
    socket = Path(str(conninfo_to_dict(server_url)["host"])) / SOCKET_NAME
    lines: dict[str, Dial] = {
        "indexer documents": lambda: asyncio.open_connection("127.0.0.1", cluster.ports["documents"])
    }
    for service in ("documents", "indexer", "assistant"):
        lines[f"{service} postgres"] = lambda: asyncio.open_unix_connection(socket)
        if with_nats:
            lines[f"{service} nats"] = lambda: asyncio.open_connection(
                "127.0.0.1", urlsplit(cluster.urls.nats_url).port
            )
    return lines


async def _stop(cluster: Cluster) -> None:
    for member in reversed(cluster.members.values()):
        await member.stop()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
