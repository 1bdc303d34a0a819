"""The real assistant for tests: in this process or as processes of its own, over a real Document Service and index.

Only the language model is scripted. Documents are added to the Document Service and put into the index directly, with the
real embedder, so that these tests need no indexer.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np
import psycopg
import pytest
from redis.asyncio import Redis

from refdesk.access.keys import ApiKeys
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.services import assistant
from refdesk.app.services.common import open_keys
from refdesk.app.services.generations import open_generations
from refdesk.contracts.access import Principal
from refdesk.index.chunks import Chunk, IndexedDocument, embedded_text, sources_of
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.index.port import ChunkIndex
from refdesk.outside.embedding.packaged import Embedder, Turns
from refdesk.outside.postgres.database import open_pool
from refdesk.settings.loading import to_environment
from refdesk.settings.tree import Settings
from refdesk.web.http import create_app
from tests.integration.documents_desk import Desk as Documents
from tests.integration.documents_desk import authenticate, key, open_desk, running, serving
from tests.support.databases import own_database
from tests.support.patience import within
from tests.support.running import MODELS
from tests.support.scripted_llm import ScriptedLlm

ASKER = Principal(id="asker")
OPERATOR_KEY = "operator administrators"
"""Read by `documents_desk.authenticate`: an administrator."""

LEAVE = "Every employee has thirty days of paid leave a year. Unused days expire on 31 March."
VALKEY_DATABASES = 16
START_TIMEOUT_S = 180.0
GENEROUS = {
    "concurrent_answers_max": 400,
    "waiting_max": 4000,
    "waiting_per_principal_max": 4000,
    "concurrent_per_principal_max": 10_000,
    "requests_per_minute_max": 1_000_000,
    "tokens_per_minute_max": 1_000_000_000,
    "tokens_per_day_max": 10_000_000_000,
    "truth_timeout_s": 10.0,
    "valkey_timeout_s": 2.0,
}
"""Limits out of the way of tests that are about something else."""
VALKEY_PATIENCE_S = 30.0
"""How long a reply may take where a test is of something else: the machine may be busy with other tests."""
PATIENT = {"llm_first_token_timeout_s": 60.0, "llm_between_tokens_timeout_s": 60.0}
"""Clocks for a model whose words a test holds back."""


class Event(NamedTuple):
    """A server-sent event: what it says, and the bytes it came as. What is not of the answer's log has the id 0."""

    id: int
    name: str
    data: Any
    raw: bytes


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """The stream's events as they come; comments are passed over."""
    assert response.status == 200, await response.text()
    frame: list[bytes] = []
    async for line in response.content:
        if line.strip():
            frame.append(line)
            continue
        fields = dict(part.rstrip(b"\n").split(b": ", 1) for part in frame if not part.startswith(b":"))
        if fields:
            raw = b"".join(frame) + line
            yield Event(int(fields.get(b"id", 0)), fields[b"event"].decode(), msgspec.json.decode(fields[b"data"]), raw)
        frame = []


def text_of(stream: list[Event]) -> str:
    return "".join(event.data["text"] for event in stream if event.name == "delta")


def raw(stream: list[Event]) -> bytes:
    return b"".join(event.raw for event in stream)


@dataclass(frozen=True)
class Client:
    """An asker at one assistant."""

    url: str
    headers: dict[str, str]
    session: aiohttp.ClientSession

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        headers = self.headers | arguments.pop("headers", {})
        return self.session.request(method, f"{self.url}{path}", headers=headers, **arguments)

    def stream(self, question: str, **fields: Any) -> Any:
        """POST /api/answers as a stream: an async context manager of the response."""
        headers = {"Accept": "text/event-stream"}
        return self.call("POST", "/api/answers", json={"question": question, **fields}, headers=headers)

    def resume(self, answer_id: str, after: int) -> Any:
        return self.call("GET", f"/api/answers/{answer_id}/events", headers={"Last-Event-ID": str(after)})

    async def ask(self, question: str, **fields: Any) -> list[Event]:
        """The whole stream of an answer."""
        async with self.stream(question, **fields) as response:
            return [event async for event in events(response)]

    async def ask_until_cut(self, question: str, **fields: Any) -> list[Event]:
        """What arrives until the connection breaks."""
        seen: list[Event] = []
        with contextlib.suppress(aiohttp.ClientError):
            async with self.stream(question, **fields) as response:
                async for event in events(response):
                    seen.append(event)  # noqa: PERF401  what came before the break counts
        return seen

    async def rest(self, answer_id: str, *, after: int = 0) -> list[Event]:
        """The whole stream of an answer from there on."""
        async with self.resume(answer_id, after) as response:
            return [event async for event in events(response)]

    async def json(self, method: str, path: str, **arguments: Any) -> tuple[int, Any, Any]:
        """(status, headers, decoded body)"""
        async with self.call(method, path, **arguments) as response:
            body = await response.read()
            return response.status, response.headers, msgspec.json.decode(body) if body else None


class Indexing(Protocol):
    """Where documents are made searchable directly."""

    @property
    def index(self) -> ChunkIndex: ...

    @property
    def embedder(self) -> Embedder: ...


async def index_text(into: Indexing, document: dict[str, Any], text: str) -> None:
    """One chunk per paragraph."""
    chunks, start = [], 0
    for ordinal, paragraph in enumerate(text.split("\n\n")):
        chunks.append(Chunk(ordinal=ordinal, text=paragraph, start=start, end=start + len(paragraph)))
        start += len(paragraph) + 2
    vectors = await into.embedder.embed([embedded_text(document["title"], chunk) for chunk in chunks])
    indexed = IndexedDocument(
        document_id=document["id"],
        version=document["version"],
        title=document["title"],
        readers=tuple(document["readers"]),
        tags=tuple(document["tags"]),
        sources=sources_of(document["external_id"]),
        changed_on=datetime.fromisoformat(document["updated_at"]).date(),
        media_type=document["media_type"],
        content_sha256=document["content_sha256"],
    )
    assert await into.index.replace(indexed, chunks, np.asarray(vectors))


@dataclass
class AnswerDesk:
    """What the assistants of a test stand on."""

    settings: Settings
    llm: ScriptedLlm
    documents: Documents
    index: PgvectorIndex
    embedder: Embedder
    keys: ApiKeys
    session: aiohttp.ClientSession
    logs: Path
    ids: dict[str, str] = field(default_factory=dict)
    """Documents that the tests of a module share, by a name of theirs."""
    _keys: dict[Principal, str] = field(default_factory=dict)

    def with_settings(self, **changes: Any) -> Settings:
        return self.settings.having(**changes)

    async def add(self, title: str, text: str, *, readers: tuple[str, ...] = ("everyone",), **fields: Any) -> str:
        """A document in the Document Service and in the index; its id. Its owner is in the groups that may read it."""
        body = {"title": title, "text": text, "readers": list(readers), **fields}
        reply = await self.documents.call("POST", by=Principal(id="alice", groups=readers), json=body)
        assert reply.status == 201, reply.body
        await self.put_into_index(reply.json, text)
        return str(reply.json["id"])

    async def change(self, document_id: str, text: str) -> dict[str, Any]:
        """A new version in the Document Service alone."""
        reply = await self.documents.call("PUT", f"/{document_id}", json={"text": text})
        assert reply.status == 200, reply.body
        return dict(reply.json)

    async def put_into_index(self, document: dict[str, Any], text: str) -> None:
        await index_text(self, document, text)

    @contextlib.asynccontextmanager
    async def assistant_here(self, **changes: Any) -> AsyncIterator["Here"]:
        """An assistant in this process; whoever asks says who they are."""
        async with assistant.open_service(self.with_settings(**changes)) as service:
            app = create_app([*service.endpoints, *service.sockets], authenticate=authenticate)
            async with running(*service.background), serving(app) as url:
                yield Here(url, self.session, service.close)

    @contextlib.asynccontextmanager
    async def assistants(self, count: int = 1, **changes: Any) -> AsyncIterator[list["Process"]]:
        """So many assistant processes, ready."""
        settings = self.with_settings(host="127.0.0.1", **changes)
        started = [Process(self, settings.having(port=port)) for port in _free_ports(count)]
        try:
            await asyncio.gather(*(process.start() for process in started))
            yield started
        finally:
            await asyncio.gather(*(process.kill() for process in started))

    async def key_of(self, principal: Principal) -> str:
        """An API key of the principal's, made on first use. Its id is its name, as with keys that are older than ids."""
        if principal not in self._keys:
            self._keys[principal] = str(
                (await self.keys.create(principal.id, principal.groups, role=principal.role)).key
            )
            url = self.settings.databases.access_url or self.settings.databases.documents_url or ""
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute("UPDATE api_keys SET principal_id = name WHERE name = %s", (principal.id,))
        return self._keys[principal]


@dataclass(frozen=True)
class Here:
    url: str
    session: aiohttp.ClientSession
    close: Callable[[], Any]

    def client(self, principal: Principal = ASKER) -> Client:
        return Client(self.url, key(principal), self.session)


class Process:
    """One ``refdesk assistant`` process."""

    process: asyncio.subprocess.Process

    def __init__(self, desk: AnswerDesk, settings: Settings) -> None:
        self._desk = desk
        self._settings = settings
        self.url = f"http://127.0.0.1:{settings.address.port}"
        self.log = desk.logs / f"assistant-{settings.address.port}.log"

    async def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REFDESK_")}
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "refdesk", "assistant"),
                env=kept | to_environment(self._settings),
                stderr=log,
                stdout=log,
            )
        await until(self._ready, within_s=START_TIMEOUT_S)

    async def client(self, principal: Principal = ASKER) -> Client:
        key_text = await self._desk.key_of(principal)
        return Client(self.url, {"Authorization": f"Bearer {key_text}"}, self._desk.session)

    async def kill(self) -> None:
        """Ends the process at once, as a crash would."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def _ready(self) -> bool:
        assert self.process.returncode is None, self.log.read_text()
        try:
            async with self._desk.session.get(f"{self.url}/health/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


class Wire:
    """A TCP door in front of a Valkey on a Unix socket: open, shut (connections refused and cut) or stuck."""

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = urlsplit(target)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0

    @property
    def url(self) -> str:
        scheme = "rediss" if self._tls else "redis"
        return f"{scheme}://127.0.0.1:{self.port}?{self._target.query}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        self._flowing.set()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    def stick(self) -> None:
        self._flowing.clear()

    def unstick(self) -> None:
        self._flowing.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._target.path)
        self._writers |= {writer, there_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, there_writer))
                tasks.create_task(self._pump(there_reader, writer))
        finally:
            self._writers -= {writer, there_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


async def until(condition: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """The condition's value once it is true, looking every 10 ms; it may be a coroutine function."""
    async with within(within_s):
        while True:
            value = condition()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            await wait(0.01)


async def wait(seconds: float) -> None:
    """For what can only be shown by letting time pass."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, no two the same."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


async def fresh_valkey(url: str, *, number: int) -> str:
    """The URL of an emptied database of the session's Valkey."""
    fresh = f"{url.partition('?')[0]}?db={number % VALKEY_DATABASES}"
    async with Redis.from_url(fresh) as valkey:
        await valkey.flushdb()
    return fresh


@contextlib.asynccontextmanager
async def own_desk(
    servers: StackUrls, folders: pytest.TempPathFactory, *, valkey_number: int, **changes: Any
) -> AsyncIterator[AnswerDesk]:
    """A desk with a database of its own, for a whole module."""
    valkey_url = await fresh_valkey(servers.valkey_url, number=valkey_number)
    async with own_database(servers) as database_url:
        settings = {"database_url": database_url, "valkey_url": valkey_url, "nats_url": servers.nats_url}
        async with open_answer_desk(**settings, folder=folders.mktemp("desk"), **changes) as desk:
            yield desk


@contextlib.asynccontextmanager
async def open_answer_desk(
    *, database_url: str, valkey_url: str, folder: Path, **changes: Any
) -> AsyncIterator[AnswerDesk]:
    """Everything but the assistants."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        llm = await enter(ScriptedLlm().serving())
        documents = await enter(open_desk(database_url, folder / "blobs"))
        settings = Settings.of(
            **{
                "data_dir": folder,
                "model_dir": Path(os.environ[MODELS]),
                "documents_database_url": database_url,
                "index_database_url": database_url,
                "access_database_url": database_url,
                "valkey_url": valkey_url,
                "documents_url": documents.url,
                "operator_key": OPERATOR_KEY,
                "llm_url": llm.url,
                "llm_model": "scripted",
                **GENEROUS,
                **changes,
            }
        )
        pool = await enter(open_pool(database_url, name="test index", size_max=4))
        opened = await (await enter(open_generations(pool, settings, turns=Turns()))).active()
        keys = await enter(open_keys(settings))
        session = await enter(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield AnswerDesk(settings, llm, documents, opened.index, opened.embedder, keys, session, folder)
