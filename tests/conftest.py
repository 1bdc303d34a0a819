"""What every test may ask for: the real servers, started once per session, and databases of one's own on them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from refdesk.app.embedded.stack import StackOptions, StackUrls, running_stack
from refdesk.outside.cancellation import heed_cancellation
from tests.support.databases import own_database, prepare
from tests.support.distribution import Distribution, place_of
from tests.support.running import MODELS

# How fast examples are made and run is the machine's business, and a busy one's tests are no less right.
settings.register_profile("refdesk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("refdesk")

heed_cancellation()  # as the services and commands do that tests run in this process

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a background job of a script, nohup: children would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Distribution:
    return Distribution(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that several workers end together."""
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.fixture(scope="session", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first who needs the packaged model's file makes it, for all workers of a run and every desk that they start."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models"
    os.environ[MODELS] = str(folder)
    return folder


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StackUrls]:
    """A running stack in a directory of its own, shared by the whole session."""
    started: asyncio.Future[StackUrls] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()
    holder = asyncio.create_task(_hold_stack(tmp_path_factory.mktemp("servers"), started=started, done=done))
    await asyncio.wait((started, holder), return_when=asyncio.FIRST_COMPLETED)
    if holder.done():
        holder.result()
    yield started.result()
    done.set()
    await holder


async def _hold_stack(data_dir: Path, *, started: asyncio.Future[StackUrls], done: asyncio.Event) -> None:
    """A stack must be left in the task that entered it; a fixture's two halves may run in two."""
    async with running_stack(StackOptions(data_dir=data_dir)) as stack:
        await prepare(stack.urls)
        started.set_result(stack.urls)
        await done.wait()


@pytest.fixture
async def fresh_database(servers: StackUrls) -> AsyncIterator[str]:
    """The URL of a new, empty database with pgvector in it, dropped after the test."""
    async with own_database(servers) as url:
        yield url


@pytest.fixture(scope="session")
def nats_url(servers: StackUrls) -> str:
    """Shared by the session: use stream names of your own."""
    return servers.nats_url


@pytest.fixture(scope="session")
def valkey_url(servers: StackUrls) -> str:
    """Shared by the session: use a key prefix of your own."""
    return servers.valkey_url
