"""A Document Service on a real socket and a real database, for tests."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import aiohttp
import msgspec
import uvicorn
from psycopg_pool import AsyncConnectionPool
from starlette.requests import HTTPConnection
from tests.support.patience import within

from refdesk.app.server import Server
from refdesk.contracts.access import Principal, Role, role_within
from refdesk.documents import sync_routes
from refdesk.documents.changes import Limits
from refdesk.documents.content_check import ContentCheck
from refdesk.documents.content_record import ContentRecord
from refdesk.documents.contents import Contents
from refdesk.documents.feed import DocumentFeed
from refdesk.documents.outbox import Outbox
from refdesk.documents.quotas import UploadQuotas
from refdesk.documents.routes import endpoints
from refdesk.documents.service import DocumentService
from refdesk.documents.store import MIGRATIONS, DocumentStore
from refdesk.documents.syncs import Syncs
from refdesk.documents.waiting import SILENCE_S_MAX
from refdesk.outside.blobs import Blobs
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.settings.documents import UploadLimits
from refdesk.web.http import create_app

UNLIMITED = UploadLimits(at_once=1000, per_minute=10**6, bytes_per_day=10**15)
ALICE = Principal(id="alice", groups=("hr", "legal"))
HR = Principal(id="harriet", groups=("hr",))
STRANGER = Principal(id="stella")
EDITOR = Principal(id="edgar", groups=("editors",))
ADMINISTRATOR = Principal(id="ada", groups=("administrators",))


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True)
class Desk:
    """A running Document Service and its parts."""

    url: str
    service: DocumentService
    store: DocumentStore
    outbox: Outbox
    pool: AsyncConnectionPool
    database_url: str
    directory: Path
    session: aiohttp.ClientSession
    check: ContentCheck

    async def call(
        self,
        method: str,
        path: str = "",
        *,
        by: Principal | None = ALICE,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> Reply:
        """One request to ``/api/documents`` + path, as a principal or as nobody."""
        request = self.session.request(method, self.address(path), headers={**key(by), **(headers or {})}, **body)
        async with request as response:
            return Reply(response.status, response.headers, await response.read())

    def address(self, path: str) -> str:
        return f"{self.url}/api/documents{path}"

    async def add(self, title: str = "Holidays", *, by: Principal = ALICE, **fields: Any) -> Any:
        """A new document by JSON; its representation."""
        reply = await self.call("POST", by=by, json={"title": title, "text": f"# {title}\n\nThirty days.", **fields})
        assert reply.status == 201, reply.body
        return reply.json

    async def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []


def key(principal: Principal | None) -> dict[str, str]:
    if principal is None:
        return {}
    return {"Authorization": f"Bearer {' '.join([principal.id, f'role={principal.role}', *principal.groups])}"}


async def authenticate(connection: HTTPConnection) -> Principal | None:
    kind, _, given = connection.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or not given:
        return None
    name, *words = given.split()
    groups = tuple(word for word in words if not word.startswith("role="))
    roles = [role for role in get_args(Role) if f"role={role}" in words]
    return Principal(id=name, groups=groups, role=role_within(groups, roles[0] if roles else "writer"))


@contextlib.asynccontextmanager
async def open_desk(
    database_url: str, directory: Path, *, limits: Limits | None = None, uploads: UploadLimits | None = None
) -> AsyncIterator[Desk]:
    async with open_pool(database_url, name="test documents", size_max=8) as pool, aiohttp.ClientSession() as session:
        await migrate(pool, MIGRATIONS)
        store = DocumentStore(pool, silence_s=lambda: SILENCE_S_MAX)  # as on an idle machine
        record, blobs = ContentRecord(pool), Blobs(directory)
        contents = Contents(blobs, store=store, record=record, limits=limits)
        service = DocumentService(store, contents=contents, limits=limits)
        check = ContentCheck(record, blobs, retell=service.retell)
        feed = DocumentFeed(store, database_url=database_url)
        listed = endpoints(service, feed=feed, check=check, quotas=UploadQuotas(uploads or UNLIMITED))
        app = create_app([*sync_routes.endpoints(Syncs(pool)), *listed], authenticate=authenticate)
        async with running(feed.run), serving(app) as url:
            yield Desk(url, service, store, Outbox(pool), pool, database_url, directory, session, check)


@contextlib.asynccontextmanager
async def running(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Endless coroutines, cancelled on leaving; one that ended by itself fails the test."""
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            assert task.cancelled(), task


@contextlib.asynccontextmanager
async def serving(app: Any, *, port: int = 0) -> AsyncIterator[str]:
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:  # asyncio sets TCP_NODELAY only where it says TCP
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        server = Server(uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop()
            await task


async def eventually(condition: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """The condition's value once it is true; a condition may be a coroutine function."""
    async with within(within_s):
        while True:
            value = condition()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            await asyncio.sleep(0.01)
