"""`refdesk desk` in this process, put together by its own composition, with the endpoints that it serves at hand."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from refdesk.access.keys import ApiKeys, open_api_keys
from refdesk.app import server
from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.services import common, desk
from refdesk.settings.tree import Settings
from refdesk.web.endpoints import Endpoint, SocketEndpoint
from refdesk.web.http import create_app
from tests.integration.nats_server import NatsServer
from tests.support.databases import own_database
from tests.support.desk import GENEROUS, fresh_valkey
from tests.support.running import MODELS

OPERATOR_KEY = "the-operators-own-key"
START_S_MAX = 120.0


@dataclass(frozen=True)
class LiveDesk:
    """It runs; ``keys`` changes keys as another process would."""

    url: str
    settings: Settings
    endpoints: list[Endpoint | SocketEndpoint]
    keys: ApiKeys
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, *, key: str | None = None, **request: Any) -> tuple[int, Any, bytes]:
        """(status, headers, body) of a call that comes through a proxy, from elsewhere."""
        headers = {"X-Forwarded-For": "203.0.113.7", **request.pop("headers", {})}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        async with self.session.request(method, self.url + path, headers=headers, **request) as reply:
            if reply.content_type == "text/event-stream" and path.endswith("/documents/events"):
                return reply.status, reply.headers, await reply.content.readany()  # it has no end
            return reply.status, reply.headers, await reply.read()


@contextlib.asynccontextmanager
async def live_desk(
    servers: StackUrls, folders: pytest.TempPathFactory, *, valkey_number: int, **changes: Any
) -> AsyncIterator[LiveDesk]:
    """Its databases and its broker are its own."""
    folder, port = folders.mktemp("live"), free_port()
    nats = NatsServer(folder)
    nats.start()
    try:
        async with own_database(servers) as database_url, aiohttp.ClientSession() as session:
            settings = Settings.of(
                **{
                    "host": "127.0.0.1",
                    "port": port,
                    "data_dir": folder,
                    "model_dir": Path(os.environ[MODELS]),
                    "content_dir": folder / "content",
                    "documents_database_url": database_url,
                    "index_database_url": database_url,
                    "access_database_url": database_url,
                    "nats_url": nats.url,
                    "valkey_url": await fresh_valkey(servers.valkey_url, number=valkey_number),
                    "documents_url": f"http://127.0.0.1:{port}",
                    "operator_key": OPERATOR_KEY,
                    "wrong_keys_per_minute_max": 1_000_000,
                    "uploads_per_minute_max": 1_000_000,
                    "searches_per_minute_max": 1_000_000,
                    **GENEROUS,
                    **changes,
                }
            )
            async with (
                _served(settings) as endpoints,
                open_api_keys(database_url, setting="access_database_url") as keys,
            ):
                yield LiveDesk(settings.services.documents_url or "", settings, endpoints, keys, session)
    finally:
        nats.kill()


@contextlib.asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[list[Endpoint | SocketEndpoint]]:
    """The desk's own ``serve``, but for signals: it ends with the block."""
    taken: list[Endpoint | SocketEndpoint] = []
    up, done = asyncio.Event(), asyncio.Event()

    def kept(given: Sequence[Endpoint | SocketEndpoint], **options: Any) -> Any:
        taken.extend(given)
        return create_app(given, **options)

    async def until_done(
        app: Any, *, sockets: list[socket.socket], background: Sequence[Callable[[], Any]], **_: Any
    ) -> None:
        async with asyncio.TaskGroup() as tasks, _listening(app, sockets):
            working = [tasks.create_task(work()) for work in background]
            up.set()
            await done.wait()
            for task in working:
                task.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "create_app", kept)
        patch.setattr(server, "serve", until_done)
        serving = asyncio.create_task(desk.serve(settings))
        try:
            async with asyncio.timeout(START_S_MAX):
                await asyncio.wait(
                    {serving, started := asyncio.ensure_future(up.wait())}, return_when="FIRST_COMPLETED"
                )
            started.cancel()
            yield taken
        finally:
            done.set()
            await serving


@contextlib.asynccontextmanager
async def _listening(app: Any, sockets: list[socket.socket]) -> AsyncIterator[None]:
    web = server.Server(
        uvicorn.Config(app, lifespan="off", log_config=None, proxy_headers=False, timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(web.serve(sockets=sockets))
    try:
        yield
    finally:
        web.stop()
        await task
