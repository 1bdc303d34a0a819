"""What is open when a service is told to stop: what waits for news ends at once, and whole; the process follows."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from tests.support.running import REFDESK, environment, until

from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import StackUrls

OPERATOR = {"Authorization": "Bearer operator"}
GRACE_S = 20.0
"""What a running answer has; a feed that waited for its end would take that long."""


@asynccontextmanager
async def documents(
    home: Path, servers: StackUrls, database: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A Document Service of its own process, ready."""
    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "REFDESK_DOCUMENTS_DATABASE_URL": database,
        "REFDESK_NATS_URL": servers.nats_url,
        "REFDESK_OPERATOR_KEY": "operator",
        "REFDESK_DATA_DIR": str(home),
    }
    process = await asyncio.create_subprocess_exec(
        *(*REFDESK, "documents", "--port", url.rpartition(":")[2]),
        env=environment(home, **settings),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                try:
                    async with session.get(f"{url}/health/ready") as reply:
                        return reply.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await until(ready, what="the Document Service is ready")
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_an_open_documents_view_does_not_hold_up_the_end(
    tmp_path: Path, servers: StackUrls, fresh_database: str
) -> None:
    """Its feed has no end of its own: it is ended with a whole reply, long before the grace is over."""
    async with (
        documents(tmp_path, servers, fresh_database) as (process, url),
        aiohttp.ClientSession(headers=OPERATOR) as session,
        session.get(f"{url}/api/documents/events") as feed,
    ):
        assert feed.status == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(GRACE_S / 2):
            await feed.read()  # raises when the reply is cut short
            assert await process.wait() == 0
