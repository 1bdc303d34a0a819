"""Faults of every part, on real servers, each as a block: it begins and ends with it. What must be seen is beside it."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import nats
import psutil
import psycopg
from aiohttp import web
from redis.asyncio import Redis
from tests.chaos.cluster import Cluster
from tests.chaos.links import Link
from tests.support.embedding_server import by_hash
from tests.support.running import until

from refdesk.app.embedded.stack import with_database

FILLING = bytes(1 << 16)
CONTENT_BYTES = 4 << 20
TABLESPACE_BYTES = 64 << 20

Level = Literal["degraded", "unavailable"]


@dataclass
class Models:
    """A server of models whose answers a fault may spoil."""

    status: int = 200
    url: str = ""
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Models"]:
        self.flowing.set()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._completions)
        app.router.add_post("/v1/rerank", self._rerank)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            self.flowing.set()
            await runner.cleanup()

    @contextlib.contextmanager
    def answering(self, status: int) -> Iterator[None]:
        self.status = status
        try:
            yield
        finally:
            self.status = 200

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        self.flowing.clear()
        try:
            yield
        finally:
            self.flowing.set()

    async def _embeddings(self, request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        data = [{"index": place, "embedding": by_hash(text)} for place, text in enumerate(texts)]
        return await self._reply({"data": data})

    async def _models(self, _: web.Request) -> web.Response:
        return await self._reply({"data": [{"id": "scripted"}]})

    async def _completions(self, _: web.Request) -> web.Response:
        message = {"role": "assistant", "content": "Yes."}
        return await self._reply({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    async def _rerank(self, request: web.Request) -> web.Response:
        texts = (await request.json())["documents"]
        return await self._reply({"results": [{"index": place, "relevance_score": 0.5} for place in range(len(texts))]})

    async def _reply(self, body: Any) -> web.Response:
        await self.flowing.wait()
        return web.json_response(body, status=self.status)


@dataclass(frozen=True)
class Scene:
    """A cluster with an assistant, and what faults are made with."""

    cluster: Cluster
    content: Path
    tablespace: Path
    embedding: Models
    language: Models
    valkey: Redis
    model: Link

    async def sql(self, *statements: str) -> None:
        """As the superuser, on a connection of its own."""
        async with await self.connect() as connection:
            for statement in statements:
                await connection.execute(statement.encode())

    async def connect(self, name: str = "postgres") -> psycopg.AsyncConnection:
        url = with_database(self.cluster.urls.documents_database_url, name=name)
        return await psycopg.AsyncConnection.connect(url, autocommit=True)


Happens = Callable[[Scene], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """``seen``: by service, the part that is named and how ill it is; ``refusal``: what an upload gets meanwhile."""

    name: str
    happens: Happens
    seen: Mapping[str, tuple[str, Level]]
    says: str
    refusal: tuple[int, str] | None = None


def mount(folder: Path, *, size: int, options: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "refdesk-test", str(folder)], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """Not a byte is left."""
    filling = folder / "filling"
    try:
        with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(FILLING)
        yield
    finally:
        filling.unlink()


@contextlib.asynccontextmanager
async def content_full(scene: Scene) -> AsyncIterator[None]:
    with _filled(scene.content):
        yield


@contextlib.asynccontextmanager
async def content_read_only(scene: Scene) -> AsyncIterator[None]:
    await asyncio.to_thread(_remount, scene.content, "ro")
    try:
        yield
    finally:
        await asyncio.to_thread(_remount, scene.content, "rw")


@contextlib.asynccontextmanager
async def content_without_inodes(scene: Scene) -> AsyncIterator[None]:
    await asyncio.to_thread(_remount, scene.content, f"nr_inodes={_inodes(scene.content)}")
    try:
        yield
    finally:
        await asyncio.to_thread(_remount, scene.content, "nr_inodes=10000")


def _inodes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_files - found.f_ffree


@contextlib.asynccontextmanager
async def another_content(scene: Scene) -> AsyncIterator[None]:
    """Another volume over the one that belongs there."""
    await asyncio.to_thread(mount, scene.content, size=CONTENT_BYTES)
    try:
        yield
    finally:
        await asyncio.to_thread(unmount, scene.content)


@contextlib.asynccontextmanager
async def tablespace_full(scene: Scene) -> AsyncIterator[None]:
    with _filled(scene.tablespace):
        yield


@contextlib.asynccontextmanager
async def _altered(scene: Scene, begin: list[str], end: list[str]) -> AsyncIterator[None]:
    await scene.sql(*begin)
    try:
        yield
    finally:
        await scene.sql(*end)


def read_only(scene: Scene) -> AbstractAsyncContextManager[None]:
    """As after a failover that left us with the standby."""
    begin = ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"]
    end = [
        "SET default_transaction_read_only = off",
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    ]
    return _altered(scene, begin, end)


def refusing(database: str) -> Happens:
    """Connections that there are end, and no new one is let in."""

    def happens(scene: Scene) -> AbstractAsyncContextManager[None]:
        begin = [
            f"ALTER DATABASE {database} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
        ]
        return _altered(scene, begin, [f"ALTER DATABASE {database} ALLOW_CONNECTIONS true"])

    return happens


def no_new_connections(scene: Scene) -> AbstractAsyncContextManager[None]:
    """Those that there are stay: as with a password that was changed."""
    begin = ["ALTER DATABASE documents ALLOW_CONNECTIONS false"]
    return _altered(scene, begin, ["ALTER DATABASE documents ALLOW_CONNECTIONS true"])


@contextlib.asynccontextmanager
async def connections_taken(scene: Scene) -> AsyncIterator[None]:
    """Every last one that the server gives."""
    async with contextlib.AsyncExitStack() as taken:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                await taken.enter_async_context(await scene.connect())
        yield


@contextlib.asynccontextmanager
async def keys_gone(scene: Scene) -> AsyncIterator[None]:
    async with await scene.connect("documents") as connection:
        await connection.execute("ALTER TABLE api_keys RENAME TO api_keys_away")
        try:
            yield
        finally:
            await connection.execute("ALTER TABLE api_keys_away RENAME TO api_keys")


def locked(table: str, mode: str, *, database: str = "documents") -> Happens:
    """Somebody holds a lock and does not let go."""

    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        async with await scene.connect(database) as connection, connection.transaction(force_rollback=True):
            await connection.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
            yield

    return happens


@contextlib.asynccontextmanager
async def writes_exhausted(scene: Scene) -> AsyncIterator[None]:
    """More changes than there are connections for them, all waiting for a lock; reads go on."""
    before = await _added(scene)
    async with locked("documents", "EXCLUSIVE")(scene):
        writing = [asyncio.create_task(_write(scene, n)) for n in range(12)]
        try:
            yield
            status, _ = await scene.cluster.call("GET", f"/api/documents/{before}")
            assert status == 200, "reads starve beside changes"
        finally:
            for task in writing:
                task.cancel()
            await asyncio.wait(writing)


async def _added(scene: Scene) -> str:
    status, body = await _write(scene, 0)
    assert status == 201, body
    return str(body["id"])


async def _write(scene: Scene, number: int) -> tuple[int, Any]:
    body = {"title": f"Document {number}", "text": "Thirty days."}
    return await scene.cluster.call("POST", "/api/documents", json=body)


def frozen(name: str) -> Happens:
    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        with scene.cluster.members[name].frozen():
            yield

    return happens


@contextlib.asynccontextmanager
async def postgres_frozen(scene: Scene) -> AsyncIterator[None]:
    """All of it: each of its processes leads a group of its own."""
    postmaster = psutil.Process(scene.cluster.members["postgres"].pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def killed(name: str) -> Happens:
    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        await scene.cluster.members[name].kill()
        try:
            yield
        finally:
            await scene.cluster.start(name)

    return happens


def silent(link: str) -> Happens:
    """Packets vanish."""

    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        with scene.cluster.links[link].silent():
            yield

    return happens


SLOW_LATENCY_S = 1.5
"""Of a piece, each way: what is asked for over such a link comes three seconds later."""


def slow(*links: str) -> Happens:
    """Everything arrives, and late. ``model``: the language model's link."""

    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        with contextlib.ExitStack() as stack:
            for name in links:
                link = scene.model if name == "model" else scene.cluster.links[name]
                stack.enter_context(link.slow(latency_s=SLOW_LATENCY_S))
            yield

    return happens


@contextlib.asynccontextmanager
async def model_down(scene: Scene) -> AsyncIterator[None]:
    with scene.model.down():
        yield


def stream_full(name: str) -> Happens:
    """Of what a reader of somebody else's has not read."""

    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        client = await nats.connect(scene.cluster.urls.nats_url)
        reader = {"durable_name": "foreign", "ack_policy": "explicit", "deliver_policy": "all"}
        try:
            await _ask(client, f"CONSUMER.DURABLE.CREATE.{name}.foreign", {"stream_name": name, "config": reader})
            await _added(scene)
            messages = 0

            async def has_come() -> bool:
                nonlocal messages
                messages = (await _ask(client, f"STREAM.INFO.{name}"))["state"]["messages"]
                return messages > 0

            await until(has_come, what=f"a message is on {name}", within_s=30.0)
            config = (await _ask(client, f"STREAM.INFO.{name}"))["config"]
            await _ask(client, f"STREAM.UPDATE.{name}", config | {"max_msgs": messages})
            try:
                yield
            finally:
                await _ask(client, f"STREAM.UPDATE.{name}", config)
                await _ask(client, f"CONSUMER.DELETE.{name}.foreign")
        finally:
            await client.close()

    return happens


async def _ask(client: Any, call: str, body: Any = None) -> Any:
    asked = b"" if body is None else msgspec.json.encode(body)
    reply = await client.request(f"$JS.API.{call}", asked, timeout=10)
    answer = msgspec.json.decode(reply.data)
    assert "error" not in answer, answer
    return answer


def valkey_set(values: Mapping[str, str]) -> Happens:
    """For as long as it happens; then they are what they were."""

    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        before = {name: (await scene.valkey.config_get(name))[name] for name in values}
        for name, value in values.items():
            await scene.valkey.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                await scene.valkey.config_set(name, value)

    return happens


@contextlib.asynccontextmanager
async def valkey_replica(scene: Scene) -> AsyncIterator[None]:
    await scene.valkey.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        await scene.valkey.execute_command("REPLICAOF", "NO", "ONE")


@contextlib.asynccontextmanager
async def valkey_evicting(scene: Scene) -> AsyncIterator[None]:
    used = int((await scene.valkey.info("memory"))["used_memory"])
    values = {"maxmemory": str(used + (1 << 20)), "maxmemory-policy": "allkeys-lru"}
    async with valkey_set(values)(scene):
        filling = asyncio.create_task(_keep_filling(scene.valkey))
        try:
            yield
        finally:
            filling.cancel()
            await asyncio.wait([filling])


async def _keep_filling(valkey: Redis) -> None:
    while True:
        await valkey.set(os.urandom(8).hex(), FILLING, ex=30)
        await asyncio.sleep(0.02)


def model_answers(name: str, status: int) -> Happens:
    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        models: Models = getattr(scene, name)
        with models.answering(status):
            yield

    return happens


def model_silent(name: str) -> Happens:
    @contextlib.asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        models: Models = getattr(scene, name)
        with models.silent():
            yield

    return happens


FULL, READ_ONLY, AWAY = (507, "insufficient-storage"), (503, "read-only"), (503, "unavailable")
CONTENT: Mapping[str, tuple[str, Level]] = {"documents": ("content directory", "unavailable")}
DOCUMENTS_DATABASE: Mapping[str, tuple[str, Level]] = {"documents": ("documents database", "unavailable")}
INDEX_DATABASE: Mapping[str, tuple[str, Level]] = {
    "assistant": ("index database", "unavailable"),
    "indexer-1": ("index database", "unavailable"),
}
EVERY_DATABASE = DOCUMENTS_DATABASE | INDEX_DATABASE
ACCESS: Mapping[str, tuple[str, Level]] = {
    "documents": ("access database", "unavailable"),
    "assistant": ("access database", "unavailable"),
}
BROKER: Mapping[str, tuple[str, Level]] = {
    "documents": ("NATS", "degraded"),
    "assistant": ("NATS", "degraded"),
    "indexer-1": ("NATS", "unavailable"),
}
TRUTH: Mapping[str, tuple[str, Level]] = {
    "assistant": ("Document Service", "degraded"),
    "indexer-1": ("Document Service", "unavailable"),
}
EMBEDDING: Mapping[str, tuple[str, Level]] = {
    "assistant": ("embedding model", "unavailable"),
    "indexer-1": ("embedding model", "unavailable"),
}
VALKEY: Mapping[str, tuple[str, Level]] = {"assistant": ("Valkey", "degraded")}
LANGUAGE: Mapping[str, tuple[str, Level]] = {"assistant": ("language model", "degraded")}

FAULTS = (
    Fault("content directory full", content_full, CONTENT, "full", FULL),
    Fault("content directory read-only", content_read_only, CONTENT, "read-only", READ_ONLY),
    Fault("content directory without inodes", content_without_inodes, CONTENT, "full", FULL),
    Fault("another volume at the content directory", another_content, CONTENT, "mounted", AWAY),
    Fault("documents database without space", tablespace_full, DOCUMENTS_DATABASE, "no space"),
    Fault(
        "databases read-only",
        read_only,
        DOCUMENTS_DATABASE | {"assistant": ("index database", "degraded"), "indexer-1": INDEX_DATABASE["indexer-1"]},
        "takes no writes",
        READ_ONLY,
    ),
    Fault("documents database refuses", refusing("documents"), DOCUMENTS_DATABASE | ACCESS, "not currently accepting"),
    Fault("index database refuses", refusing("index"), INDEX_DATABASE, "not currently accepting"),
    Fault(
        "no new connections", no_new_connections, {"documents": ("documents database", "degraded")}, "new connection"
    ),
    Fault(
        "all connections taken",
        connections_taken,
        {"documents": ("documents database", "degraded"), "assistant": ("index database", "degraded")},
        "too many clients",
    ),
    Fault("keys cannot be read", keys_gone, ACCESS, "lacks"),
    Fault("keys locked", locked("api_keys", "ACCESS EXCLUSIVE"), ACCESS, ""),
    Fault("changes exhaust their pool", writes_exhausted, DOCUMENTS_DATABASE, "documents writes"),
    Fault("PostgreSQL frozen", postgres_frozen, EVERY_DATABASE, "not answered"),
    Fault(
        "PostgreSQL's postmaster frozen",
        frozen("postgres"),
        {"documents": ("documents database", "degraded"), "assistant": ("index database", "degraded")},
        "new connection",
    ),
    Fault("PostgreSQL killed", killed("postgres"), EVERY_DATABASE, "not answer", AWAY),
    Fault("PostgreSQL in a black hole", silent("documents postgres"), DOCUMENTS_DATABASE, ""),
    Fault("NATS frozen", frozen("nats"), BROKER, ""),
    Fault("NATS killed", killed("nats"), BROKER, "not connected"),
    Fault("NATS in a black hole", silent("indexer nats"), {"indexer-1": ("NATS", "unavailable")}, ""),
    Fault("stream of documents full", stream_full("DOCUMENTS"), BROKER, "full"),
    Fault("Valkey frozen", frozen("valkey"), VALKEY, ""),
    Fault("Valkey killed", killed("valkey"), VALKEY, ""),
    Fault("Valkey a replica", valkey_replica, VALKEY, "no writes"),
    Fault("Valkey full", valkey_set({"maxmemory": "1"}), VALKEY, "full"),
    Fault("Valkey evicting", valkey_evicting, VALKEY, "throws away"),
    Fault("Document Service frozen", frozen("documents"), TRUTH, ""),
    Fault("Document Service killed", killed("documents"), TRUTH, ""),
    Fault("embedding model's server fails", model_answers("embedding", 500), EMBEDDING, "500"),
    Fault("embedding model's server silent", model_silent("embedding"), EMBEDDING, ""),
    Fault("language model's server fails", model_answers("language", 503), LANGUAGE, "503"),
    Fault("language model's server silent", model_silent("language"), LANGUAGE, ""),
)

EVERY_SERVICE = ("documents", "indexer", "assistant")
EACH_DOWN_AND_SLOW = (
    Fault("PostgreSQL down", killed("postgres"), EVERY_DATABASE, "not answer"),
    Fault("PostgreSQL slow", slow(*(f"{name} postgres" for name in EVERY_SERVICE)), EVERY_DATABASE, ""),
    Fault("NATS down", killed("nats"), BROKER, "not connected"),
    Fault("NATS slow", slow(*(f"{name} nats" for name in EVERY_SERVICE)), BROKER, ""),
    Fault("Valkey down", killed("valkey"), VALKEY, ""),
    Fault("Valkey slow", slow("assistant valkey"), VALKEY, ""),
    Fault("language model down", model_down, LANGUAGE, "cannot be reached"),
    Fault("language model slow", slow("model"), LANGUAGE, "not answered"),
    Fault("Document Service down", killed("documents"), TRUTH, ""),
    Fault("Document Service slow", slow("indexer documents"), TRUTH, ""),
)
"""What the operations page must name, too."""
