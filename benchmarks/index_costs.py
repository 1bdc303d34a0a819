"""What a search costs among many chunks, and what the index takes to build and to keep: beside another checkout, in one run.

    python benchmarks/index_costs.py --data ../shared/data --against ../before [--chunks 100000] [--rounds 8]

Two desks stand side by side, `refdesk up` of this checkout and of the other one, which has its own `.venv`. Both get the same
documents, sentences of SciFact's abstracts mixed at random, and the same questions, SciFact's, one after another; a round asks
both, the next one in the opposite order. A stub takes the embedding model's place: each word is a random direction, a text the
sum of its words. So what is measured is everything but the model.

CPU is that of all processes of a desk; the index's size is its database's. Ratios are the median of the rounds with their 95 %
bootstrap interval. Exits with 1 when a bound is missed: 1.3 for a search, 1.6 for the size, 1 ÷ 0.9 for building.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import quote
from zlib import crc32

import aiohttp
import numpy as np
import psycopg
from aiohttp import web

from measuring import Ratio, cpu_ns, machine, quantile, table
from refdesk.app.embedded.nats import free_port

KEY = "operator-key-of-the-benchmark"
DIMENSIONS = 384
SECTIONS = 50
"""Of a document; each is about a chunk."""
SECTION_WORDS = 110
UPLOADS_AT_ONCE = 4
READY_S_MAX = 120
QUESTIONS = 60
"""Of a round, to each desk."""
SEARCH_MAX, SIZE_MAX, BUILDING_MAX = 1.3, 1.6, 1 / 0.9
SEED = 7


@dataclass
class Desk:
    """A running `refdesk up`, and what was measured of it."""

    name: str
    process: asyncio.subprocess.Process
    data: Path
    session: aiohttp.ClientSession
    built_s: float = 0.0
    building_ns: float = 0.0
    bytes: int = 0
    chunks: int = 0
    search_ns: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)


async def main() -> int:
    arguments = _arguments()
    print(f"machine: {machine()}")
    async with AsyncExitStack() as stack:
        embedding_url = await stack.enter_async_context(_stub_model())
        checkouts = {"before": arguments.against, "now": Path(__file__).parents[1]}
        desks = [await stack.enter_async_context(_desk(*one, embedding_url)) for one in checkouts.items()]
        for desk in desks:
            await _build(desk, arguments)
        questions = cycle(row["text"] for row in _read(arguments.data / "retrieval/scifact/queries.jsonl"))
        for number in range(-1, arguments.rounds):
            asked = list(islice(questions, QUESTIONS))
            for desk in desks if number % 2 else desks[::-1]:
                await _search(desk, asked, keep=number >= 0)
    return _report(*desks)


def _report(before: Desk, now: Desk) -> int:
    ratios = {
        "search, CPU": (Ratio.of(now.search_ns, before.search_ns), SEARCH_MAX),
        "search, p50": (Ratio.of(now.p50_ms, before.p50_ms), SEARCH_MAX),
        "size of a chunk": (_single(now.bytes / now.chunks, before.bytes / before.chunks), SIZE_MAX),
        "building, seconds a chunk": (_single(now.built_s / now.chunks, before.built_s / before.chunks), BUILDING_MAX),
        "building, CPU a chunk": (
            _single(now.building_ns / now.chunks, before.building_ns / before.chunks),
            BUILDING_MAX,
        ),
    }
    print(f"\n{before.chunks} and {now.chunks} chunks\n")
    rows = [(desk.name, *_told(desk)) for desk in (before, now)]
    print(table(("", "search CPU ms", "p50 ms", "kB a chunk", "built, chunks/s", "CPU ms a chunk"), rows))
    print(
        "\n"
        + table(("now ÷ before", "[95 %]", "at most"), [(n, str(r), f"{most:.2f}") for n, (r, most) in ratios.items()])
    )
    return 0 if all(ratio.middle <= most for ratio, most in ratios.values()) else 1


def _single(now: float, before: float) -> Ratio:
    return Ratio(now / before, now / before, now / before)


def _told(desk: Desk) -> tuple[str, ...]:
    figures = (
        quantile(desk.search_ns, 0.5) / 1e6,
        quantile(desk.p50_ms, 0.5),
        desk.bytes / desk.chunks / 1000,
        desk.chunks / desk.built_s,
        desk.building_ns / desk.chunks / 1e6,
    )
    return tuple(f"{figure:.2f}" for figure in figures)


# building


async def _build(desk: Desk, arguments: argparse.Namespace) -> None:
    """Upload documents until there are as many chunks as wanted; the clock runs until the last is in the index."""
    texts = _documents(arguments.data, count=arguments.chunks // SECTIONS)
    spent, began = cpu_ns(desk.process.pid), perf_counter()

    async def send() -> None:
        for number, text in texts:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("file", text.encode(), filename=f"study-{number}.md", content_type="text/markdown")
            async with desk.session.post("/api/documents", data=form) as response:
                await _decoded(response, 201)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(UPLOADS_AT_ONCE):
            tasks.create_task(send())
    while (await _asked(desk, "/api/documents/backlog"))["documents_pending"]:
        await asyncio.sleep(0.5)
    desk.built_s, desk.building_ns = perf_counter() - began, cpu_ns(desk.process.pid) - spent
    desk.bytes, desk.chunks = await _weighed(desk)
    print(f"{desk.name}: {desk.chunks} chunks in {desk.built_s:.0f} s", flush=True)


def _documents(data: Path, *, count: int) -> Iterator[tuple[int, str]]:
    """The same ones each time."""
    rows = _read(data / "retrieval/scifact/corpus.jsonl")
    sentences = [part for row in rows for part in row["text"].split(". ") if len(part) > 20]
    chance = random.Random(SEED)
    for number in range(count):
        parts = [f"# Study {number}"]
        for section in range(SECTIONS):
            words: list[str] = []
            while len(words) < SECTION_WORDS:
                words += f"{chance.choice(sentences)}.".split()
            parts.append(f"## Part {section} of {number}\n\n{' '.join(words)}")
        yield number, "\n\n".join(parts)


async def _weighed(desk: Desk) -> tuple[int, int]:
    """Bytes and chunks of the index, as autovacuum would leave it."""
    lines = next(desk.data.rglob("postmaster.pid")).read_text().splitlines()
    url = f"postgresql://refdesk@/index?host={quote(lines[4], safe='')}"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE")
        cursor = await connection.execute(
            "SELECT pg_database_size('index')::bigint, (SELECT sum(chunks)::bigint FROM generation_1.tallies)"
        )
        (found,) = await cursor.fetchall()
    return found[0], found[1]


# searching


async def _search(desk: Desk, questions: Sequence[str], *, keep: bool) -> None:
    took, spent = [], cpu_ns(desk.process.pid)
    for question in questions:
        began = perf_counter()
        async with desk.session.post("/api/search", json={"query": question, "limit": 10}) as response:
            hits = (await _decoded(response, 200))["hits"]
        took.append(1000 * (perf_counter() - began))
        if len(hits) < 10:
            raise SystemExit(f"VOID {desk.name} found {len(hits)} passages for {question!r}")
    if keep:
        desk.search_ns.append((cpu_ns(desk.process.pid) - spent) / len(questions))
        desk.p50_ms.append(quantile(took, 0.5))


async def _asked(desk: Desk, path: str) -> Any:
    async with desk.session.get(path) as response:
        return await _decoded(response, 200)


async def _decoded(response: aiohttp.ClientResponse, status: int) -> Any:
    if response.status != status:
        raise SystemExit(f"VOID {response.method} {response.url} answered {response.status}: {await response.text()}")
    return await response.json()


# running


@asynccontextmanager
async def _desk(name: str, checkout: Path, embedding_url: str) -> AsyncIterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="refdesk-bench-") as folder:
        home, port = Path(folder), free_port()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("REFDESK_")} | {
            "HOME": folder,
            "XDG_STATE_HOME": folder,
            "REFDESK_OPERATOR_KEY": KEY,
            "REFDESK_EMBEDDING_URL": embedding_url,
            "REFDESK_EMBEDDING_MODEL": "stub",
            "REFDESK_REQUESTS_PER_MINUTE_MAX": "1000000",
        }
        command = [checkout / ".venv/bin/python", "-m", "refdesk", "up", "--no-samples"]
        with (home / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, "--data-dir", home / "data", "--port", str(port), env=environment, stdout=log, stderr=log
            )
        try:
            await _until_ready(process, home / "log")
            headers = {"Authorization": f"Bearer {KEY}"}
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
                yield Desk(name, process, home / "data", session)
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def _until_ready(process: asyncio.subprocess.Process, log: Path) -> None:
    until_s = perf_counter() + READY_S_MAX
    while b"Refdesk is ready" not in log.read_bytes():
        if process.returncode is not None or perf_counter() > until_s:
            raise SystemExit(log.read_text())
        await asyncio.sleep(0.2)


@asynccontextmanager
async def _stub_model() -> AsyncIterator[str]:
    """An embedding server whose vectors cost next to nothing."""

    async def embeddings(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        data = [{"index": place, "embedding": _vector(text)} for place, text in enumerate(texts)]
        return web.json_response({"data": data, "model": "stub", "usage": {"prompt_tokens": 0, "total_tokens": 0}})

    application = web.Application(client_max_size=64 << 20)
    application.router.add_post("/v1/embeddings", embeddings)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await runner.cleanup()


def _vector(text: str) -> list[float]:
    words = {word.strip(".,;:()?").lower() for word in text.split() if len(word) > 3}
    total = np.sum([_direction(word) for word in words] or [_direction("")], axis=0)
    return [round(float(value), 4) for value in total / np.linalg.norm(total)]


@cache
def _direction(word: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(crc32(word.encode())).standard_normal(DIMENSIONS).astype(np.float32)


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
