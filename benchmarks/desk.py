"""The whole of Refdesk for a benchmark: real servers, the sample handbook indexed, one assistant alone on its core.

The embedded PostgreSQL, NATS and Valkey, the Document Service, the stub model and the client share the other core. Each target
(``start``) gets the first core; targets are measured one at a time. With ``apart``, all of the AI side has the first core: the
index in a PostgreSQL of its own, Valkey, the stub model.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import psutil

from measuring import machine
from refdesk.app import samples
from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import Stack, StackOptions, StackUrls, running_stack
from refdesk.app.embedded.supervisor import Service
from refdesk.contracts.errors import Unavailable

TARGET_CORE, LOAD_CORE = 0, 1
OPERATOR_KEY = "operator-key-of-the-benchmark"
STUB = Path(__file__).with_name("stub_llm.py")
MEMORY = Path("/dev/shm")
INDEX_S_MAX = 300.0
STOP_S_MAX = 60.0

RAISED = {
    "REFDESK_CONCURRENT_ANSWERS_MAX": "400",
    "REFDESK_WAITING_MAX": "4000",
    "REFDESK_WAITING_PER_PRINCIPAL_MAX": "4000",
    "REFDESK_CONCURRENT_PER_PRINCIPAL_MAX": "10000",
    "REFDESK_REQUESTS_PER_MINUTE_MAX": "1000000",
    "REFDESK_TOKENS_PER_MINUTE_MAX": "1000000000",
    "REFDESK_TOKENS_PER_DAY_MAX": "10000000000",
}
"""Limits that would refuse this load; everything else is as it comes."""


@dataclass(frozen=True)
class Desk:
    stack: Stack
    urls: StackUrls
    folder: Path
    stub_port: int
    documents_port: int
    assistant_port: int
    key: str
    """An API key of a principal who may read the handbook."""
    settings: dict[str, str]
    """What the services were started with."""

    async def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        health_path: str,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Starts a target on its core, and returns the process id of its root once it answers.

        The command's last word is its own alone.
        """
        service = Service(
            name=name,
            command=command,
            health_url=f"http://127.0.0.1:{port}{health_path}",
            environment=environment or {},
        )
        with on_core(TARGET_CORE):
            await self.stack.children.start(service.child(self.urls))
        return pid_of(command[-1])

    async def stub_counts(self) -> dict[str, int]:
        """Calls and deltas of the stub so far."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.stub_port}/counts") as response,
        ):
            counts: dict[str, int] = await response.json(content_type=None)
            return counts


@asynccontextmanager
async def running_desk(*, pace_s: float, apart: bool = False) -> AsyncIterator[Desk]:
    """Everything but the other targets. The calling process and all that it starts keep to the load core."""
    print(f"machine: {machine()}")
    print("settings:", ", ".join(f"{name}={value}" for name, value in RAISED.items()), "else the defaults")
    for name in [name for name in os.environ if name.startswith("REFDESK_")]:
        del os.environ[name]
    os.sched_setaffinity(0, {LOAD_CORE})
    async with AsyncExitStack() as leaving:
        folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="refdesk-bench-")))
        stack = await leaving.enter_async_context(running_stack(StackOptions(data_dir=folder)))
        ai_core = TARGET_CORE if apart else LOAD_CORE
        urls = await leaving.enter_async_context(_apart(stack.urls)) if apart else stack.urls
        stub_port, documents_port, assistant_port = free_port(), free_port(), free_port()
        settings = {
            **RAISED,
            "REFDESK_DATA_DIR": str(folder),
            "REFDESK_OPERATOR_KEY": OPERATOR_KEY,
            "REFDESK_DOCUMENTS_URL": f"http://127.0.0.1:{documents_port}",
            "REFDESK_LLM_URL": f"http://127.0.0.1:{stub_port}/v1",
            "REFDESK_LLM_MODEL": "stub",
        }
        with on_core(ai_core):
            await stack.children.start(_stub(stub_port, pace_s).child(urls))
        await stack.children.start(_service("documents", documents_port, settings).child(urls))
        await _index_the_handbook(folder, f"http://127.0.0.1:{documents_port}", settings, urls)
        with on_core(TARGET_CORE):
            await stack.children.start(_service("assistant", assistant_port, settings).child(urls))
        key = await _make_key(f"http://127.0.0.1:{assistant_port}")
        yield Desk(stack, urls, folder, stub_port, documents_port, assistant_port, key, settings)


@asynccontextmanager
async def _apart(documents: StackUrls) -> AsyncIterator[StackUrls]:
    """Where everything is, with a PostgreSQL and a Valkey for the AI side alone, on its core and off the others' disk."""
    async with AsyncExitStack() as leaving:
        home = MEMORY if MEMORY.is_dir() else None
        folder = leaving.enter_context(tempfile.TemporaryDirectory(prefix="refdesk-bench-ai-", dir=home))
        with on_core(TARGET_CORE):
            options = StackOptions(data_dir=Path(folder), nats_url=documents.nats_url)
            ai = await leaving.enter_async_context(running_stack(options))
        index_url, valkey_url = ai.urls.index_database_url, ai.urls.valkey_url
        yield replace(documents, index_database_url=index_url, valkey_url=valkey_url)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started in this block stays on this core."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, {LOAD_CORE})


def pid_of(*words: str) -> int:
    """The descendant of ours whose command line has these words."""
    for process in psutil.Process().children(recursive=True):
        line = " ".join(process.cmdline())
        if all(word in line for word in words):
            return int(process.pid)
    raise LookupError(f"no process of ours has {words} in its command line")


def _stub(port: int, pace_s: float) -> Service:
    return Service(
        name="stub",
        command=(sys.executable, str(STUB), str(port), str(pace_s)),
        health_url=f"http://127.0.0.1:{port}/counts",
    )


def _service(name: str, port: int, settings: dict[str, str]) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", "refdesk", name, "--port", str(port)),
        health_url=f"http://127.0.0.1:{port}/health/ready",
        environment=settings,
    )


async def _index_the_handbook(folder: Path, documents_url: str, settings: dict[str, str], urls: StackUrls) -> None:
    """With an indexer that may use every core and is gone before anything is measured."""
    port = free_port()
    log = (folder / "logs" / "indexer.log").open("wb")
    process = psutil.Popen(
        [sys.executable, "-m", "refdesk", "indexer", "--port", str(port)],
        env={**os.environ, **urls.environment(), **settings},
        stdout=log,
        stderr=log,
    )
    process.cpu_affinity([TARGET_CORE, LOAD_CORE])
    try:
        async with asyncio.timeout(INDEX_S_MAX):
            while not await _is_loaded(documents_url):
                print("the handbook is still being indexed", file=sys.stderr)
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


async def _is_loaded(documents_url: str) -> bool:
    try:
        await samples.load(documents_url, operator_key=OPERATOR_KEY)
    except Unavailable:
        return False
    return True


async def _make_key(url: str) -> str:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {OPERATOR_KEY}"}) as session,
        session.post(f"{url}/api/keys", json={"name": "bench", "groups": []}) as response,
    ):
        assert response.status == 201, await response.text()
        return str((await response.json())["key"])
