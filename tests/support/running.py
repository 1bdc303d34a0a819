"""`refdesk up` as a child process, and what a test does with it: calls, the command line, signals."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from refdesk.app.embedded.nats import free_port
from refdesk.indexing.priority import limit, waits
from tests.support.patience import within

REFDESK = (sys.executable, "-m", "refdesk")
READY_S_MAX = 180.0
STOP_S_MAX = 40.0
WITHIN_S = 180.0
POLL_S = 0.05
MODELS = "TEST_MODEL_DIR"
"""Names the folder where a run makes the embedding model once, for all that it starts."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> Json:
        """The JSON object on the last line."""
        found: Json = json.loads(self.out.splitlines()[-1])
        return found


@dataclass(frozen=True)
class Event:
    """A server-sent event and when it arrived, in the event loop's seconds."""

    name: str
    data: Any
    at_s: float


async def until(holds: Callable[[], Awaitable[bool]], *, what: str, within_s: float = WITHIN_S) -> None:
    """Wait for a condition that can only be looked at."""
    try:
        async with within(within_s):
            while not await holds():
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None


def environment(home: Path, **settings: str) -> dict[str, str]:
    """Ours without any setting of Refdesk's, and with a home where nothing of the developer's is found.

    Its indexer stands back for nobody and spares nothing: beside it are other tests, and its own one waits. What is slow
    because the machine is busy is not taken for silent.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFDESK_")}
    home_variables = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
    no_courtesy = {"REFDESK_INDEX_NICENESS": "0", "REFDESK_PARSE_PROCESSORS_SPARED": "0"}
    patience = {"REFDESK_TRUTH_TIMEOUT_S": "5", "REFDESK_VALKEY_TIMEOUT_S": "2"}
    models = {"REFDESK_MODEL_DIR": os.environ[MODELS]} if MODELS in os.environ else {}
    return {**kept, **home_variables, "NO_COLOR": "1", **no_courtesy, **patience, **models, **settings}


async def command(*arguments: str, home: Path, within_s: float = WITHIN_S, **settings: str) -> Said:
    """Run a `refdesk` command to its end."""
    process = await asyncio.create_subprocess_exec(
        *REFDESK,
        *arguments,
        cwd=home,
        env=environment(home, **settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with within(within_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode or 0, out.decode(), err.decode())


class Refdesk:
    """One running `refdesk up`. Its calls raise when the answer is not the one expected, telling the problem."""

    def __init__(self, process: asyncio.subprocess.Process, *, home: Path, port: int) -> None:
        self.process = process
        self.home = home
        self.data_dir = home / "data"
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self._session = aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=WITHIN_S))
        self._ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    # its process

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())
            if "Refdesk is ready" in self.lines[-1]:
                self._ready.set()

    async def ready(self) -> None:
        """Returns when it says so. How long it waits for a busy machine's processors does not count."""
        ready = asyncio.create_task(self._ready.wait())
        with contextlib.suppress(TimeoutError):
            async with limit(READY_S_MAX, waited=self._waited_s):
                await asyncio.wait((ready, self._reading), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            raise AssertionError(f"Refdesk did not become ready: {self.lines}")

    def _waited_s(self) -> float:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = (psutil.Process(self.process.pid), *self.family())
            return sum(sum(waits(process.pid).values()) for process in family)
        return 0.0

    def family(self) -> list[psutil.Process]:
        """Everything it has started that runs now."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process:
        """One of its children by the name it is supervised under."""
        return psutil.Process(json.loads((self.data_dir / "run" / f"{name}.pid").read_text())["pid"])

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait for its end; its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with within(STOP_S_MAX):
            await self._reading
            code = await self.process.wait()
        await self._session.close()
        return code

    # the command line

    async def command(self, *arguments: str, within_s: float = WITHIN_S) -> Said:
        return await command(*arguments, home=self.home, within_s=within_s, REFDESK_URL=self.url)

    # the HTTP API

    @contextlib.asynccontextmanager
    async def open(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._session.request(method, path, **options) as response:
            yield response

    async def call(self, method: str, path: str, *, expect: Iterable[int] = (200,), **options: Any) -> Json:
        """The decoded body of a reply with an expected status."""
        async with self.open(method, path, **options) as response:
            body = await response.read()
            assert response.status in expect, f"{method} {path}: {response.status} {body.decode(errors='replace')}"
            return json.loads(body) if body else {}

    async def upload(self, name: str, content: bytes, *, path: str = "/api/documents", method: str = "POST") -> Json:
        """Send a file; the document as the service shows it."""
        form = aiohttp.FormData()
        form.add_field("file", content, filename=name)
        return await self.call(method, path, data=form, expect=(200, 201))

    async def document(self, document_id: str) -> Json:
        return await self.call("GET", f"/api/documents/{document_id}")

    async def settled(self, document: Json, *, within_s: float = WITHIN_S) -> Json:
        """The document once its version is no longer pending."""
        current = document

        async def done() -> bool:
            nonlocal current
            current = await self.document(document["id"])
            return bool(current["version"] >= document["version"] and current["state"] != "pending")

        await until(done, what=f"{document['title']} settles", within_s=within_s)
        return current

    async def delete(self, document: Json) -> None:
        await self.call("DELETE", f"/api/documents/{document['id']}", expect=(204,))

    async def empty(self) -> None:
        """Delete every document; the page may be deleting one itself at the moment."""
        while documents := (await self.call("GET", "/api/documents"))["documents"]:
            for document in documents:
                await self.call("DELETE", f"/api/documents/{document['id']}", expect=(204, 404))

    @contextlib.asynccontextmanager
    async def holding(self, name: str, content: bytes) -> AsyncIterator[Json]:
        """A document that is there, and settled, for as long as the block lasts."""
        document = await self.settled(await self.upload(name, content))
        try:
            yield document
        finally:
            await self.call("DELETE", f"/api/documents/{document['id']}", expect=(204, 404))

    async def backlog(self) -> Json:
        return await self.call("GET", "/api/documents/backlog")

    async def all_settled(self, *, within_s: float = WITHIN_S) -> None:
        async def nothing_pending() -> bool:
            return (await self.backlog())["documents_pending"] == 0

        await until(nothing_pending, what="no document is pending", within_s=within_s)

    async def search(self, query: str, **fields: Any) -> list[Json]:
        reply = await self.call("POST", "/api/search", json={"query": query, **fields})
        hits: list[Json] = reply["hits"]
        return hits

    async def ask(self, question: str, **fields: Any) -> Json:
        """The finished answer."""
        return await self.call("POST", "/api/answers", json={"question": question, **fields})

    async def stream(self, question: str, **fields: Any) -> AsyncIterator[Event]:
        """The answer's events as they arrive."""
        headers = {"Accept": "text/event-stream"}
        # However long the answer, heartbeats come between its words.
        patient = aiohttp.ClientTimeout(sock_read=WITHIN_S)
        request = {"json": {"question": question, **fields}, "headers": headers, "timeout": patient}
        async with self.open("POST", "/api/answers", **request) as reply:
            assert reply.status == 200, await reply.text()
            name = ""
            async for line in reply.content:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield Event(name, json.loads(value), asyncio.get_running_loop().time())


def cited(answer: Mapping[str, Any], sentence: Mapping[str, Any]) -> list[Json]:
    """The sources that a sentence of an answer cites."""
    sources = {source["n"]: source for source in answer["sources"]}
    return [sources[n] for n in sentence["citations"]]


async def start(home: Path, *arguments: str, **settings: str) -> Refdesk:
    """Start `refdesk up` on a data directory below ``home``; returns at once."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *REFDESK,
        "up",
        *("--data-dir", str(home / "data"), "--port", str(port)),
        *arguments,
        cwd=home,
        env=environment(home, PYTHONUNBUFFERED="1", **settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    return Refdesk(process, home=home, port=port)


@contextlib.asynccontextmanager
async def running(home: Path, *arguments: str, **settings: str) -> AsyncIterator[Refdesk]:
    """A `refdesk up` that is ready, and is stopped when the block is left."""
    refdesk = await start(home, *arguments, **settings)
    try:
        await refdesk.ready()
        yield refdesk
    finally:
        await refdesk.stop()
