"""A `refdesk desk` process: every route of Refdesk on one address, over real servers and a database of its own."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import StackUrls
from refdesk.settings.loading import to_environment
from refdesk.settings.tree import Settings
from tests.integration.nats_server import NatsServer
from tests.support.databases import own_database
from tests.support.desk import until
from tests.support.running import MODELS

OPERATOR_KEY = "operator"
READY_S_MAX = 300.0


@dataclass(frozen=True)
class WholeDesk:
    """It runs; ``log`` is what it writes."""

    url: str
    port: int
    log: Path
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The decoded reply to the operator, who may do everything."""
        headers = {"Authorization": f"Bearer {OPERATOR_KEY}", **options.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            assert response.status < 300, await response.text()
            return await response.json()


@contextlib.asynccontextmanager
async def whole_desk(servers: StackUrls, folder: Path, **changes: Any) -> AsyncIterator[WholeDesk]:
    """One that is ready, and is ended when the block is left."""
    nats = NatsServer(folder)
    nats.start()
    try:
        async with own_database(servers) as database_url, aiohttp.ClientSession() as session:
            port = free_port()
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
                    "valkey_url": servers.valkey_url,
                    "documents_url": f"http://127.0.0.1:{port}",
                    "operator_key": OPERATOR_KEY,
                    **changes,
                }
            )
            async with _process(settings, folder / "desk.log") as process:
                desk = WholeDesk(settings.services.documents_url or "", port, folder / "desk.log", session)
                await until(lambda: _ready(desk, process), within_s=READY_S_MAX)
                yield desk
    finally:
        nats.kill()


@contextlib.asynccontextmanager
async def _process(settings: Settings, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFDESK_")}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "refdesk", "desk"), env=kept | to_environment(settings), stderr=file, stdout=file
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(desk: WholeDesk, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None, desk.log.read_text()
    try:
        async with desk.session.get(f"{desk.url}/health/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
