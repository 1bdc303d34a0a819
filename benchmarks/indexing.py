"""How fast documents become searchable: against embedding alone, and how long one small document takes, idle and under load.

    python benchmarks/indexing.py throughput --data ../shared/data/handbook/18f/v1_2024-01-01 [--threads 1] [--cores 0,1]
    python benchmarks/indexing.py huge       --data … [--documents 1] [--chunks 10000]
    python benchmarks/indexing.py latency    --data … [--samples 200]
    python benchmarks/indexing.py pressure   --data … [--documents 1] [--chunks 10000]

``throughput`` uploads a folder of Markdown, ``huge`` one document of that many chunks made of its text; the clock runs from the
first upload to the last commit in the index. Embedding alone is the same chunks, model and threads in a process of its own on
the same cores, before and after. The whole of Refdesk, servers and uploading client included, has these cores and no other.

``latency`` writes one small document after another and asks, with its freshness token, for a word that only it has: the
clock runs from the first byte of the write to the answer that shows it; when the index had it, by its own notification, is told
apart. ``pressure`` does so while huge documents are indexed,
from the moment that the first of them is being embedded until the last is searchable.
Exits with 1 when a document is not found or embedding alone drifts by more than 10 %.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import psutil
import psycopg

from measuring import drift, machine, process_ns, quantile, table
from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import Stack, StackOptions, running_stack
from refdesk.app.embedded.supervisor import Service
from refdesk.index.chunks import Chunk, embedded_text
from refdesk.indexing.chunking import chunk
from refdesk.indexing.parsing import ParserPool
from refdesk.outside.embedding.packaged import TEXTS_PER_THREAD, Turns, open_packaged_embedder

OPERATOR_KEY = "operator-key-of-the-benchmark"
UPLOADS_AT_ONCE = 4
WAIT_S = 30
DRIFT_MAX = 0.10
RAW_TEXTS = 1500
WORDS = 60


@dataclass(frozen=True)
class Running:
    """All of Refdesk, and a client of it."""

    stack: Stack
    session: aiohttp.ClientSession
    documents_url: str
    assistant_url: str
    committed: dict[str, float]
    """When the index told of each document."""


@dataclass(frozen=True)
class Source:
    """A document to be, and how many characters it has."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Took:
    """Seconds from the write of a document until the index had it, and until an answer showed it."""

    committed_s: float
    found_s: float


async def main() -> int:
    arguments = _arguments()
    os.sched_setaffinity(0, arguments.cores)
    print(f"machine: {machine()}; cores {sorted(arguments.cores)}, {arguments.threads} embedding thread(s)")
    sources = _sources(arguments.data)
    with tempfile.TemporaryDirectory(prefix="refdesk-bench-") as directory:
        folder = Path(directory)
        match arguments.what:
            case "throughput":
                return await _throughput(folder, sources, arguments)
            case "huge":
                huge = [_huge(sources, arguments.chunks, number) for number in range(arguments.documents)]
                return await _throughput(folder, huge, arguments)
            case "latency":
                return await _latency(folder, arguments)
            case _:
                return await _pressure(folder, sources, arguments)


# throughput


async def _throughput(folder: Path, sources: Sequence[Source], arguments: argparse.Namespace) -> int:
    texts = await _texts(folder, sources)
    before = await _raw(folder, texts, threads=arguments.threads)
    async with _running(folder, threads=arguments.threads) as running:
        await _write_small(running, 0)
        spent, began = _spent(), perf_counter()
        await _upload(running, sources)
        seconds = await _until_indexed(running, count=len(sources) + 1) - began
        costs = _since(spent)
        chunks = await _count(running) - 1
    after = await _raw(folder, texts, threads=arguments.threads)
    _report(sources, chunks, seconds, costs, [before, after])
    return 0 if chunks == len(texts) and drift([before[0], after[0]]) <= DRIFT_MAX else 1


def _report(
    sources: Sequence[Source], chunks: int, seconds: float, costs: dict[str, int], raw: list[tuple[float, float]]
) -> None:
    characters = sum(len(source.content.decode()) for source in sources)
    alone, own_ms = (sum(values) / len(values) for values in zip(*raw, strict=True))
    print(f"\n{len(sources)} documents, {characters:,} characters, {chunks} chunks in {seconds:.1f} s\n")
    rows = [
        ("embedding alone", f"{raw[0][0]:.1f} and {raw[1][0]:.1f}", "", f"{own_ms:.2f}"),
        (
            "to searchable",
            f"{chunks / seconds:.1f}",
            f"{characters / seconds / 1000:.1f}",
            f"{sum(costs.values()) / chunks / 1e6:.2f}",
        ),
    ]
    print(table(("", "chunks/s", "kchar/s", "CPU ms/chunk"), rows))
    print(
        f"\nratio {chunks / seconds / alone:.3f}; of the CPU alone {own_ms / (sum(costs.values()) / chunks / 1e6):.3f}\n"
    )
    print(table(("process", "CPU ms/chunk"), [(name, f"{ns / chunks / 1e6:.3f}") for name, ns in costs.items()]))


async def _texts(folder: Path, sources: Sequence[Source]) -> list[str]:
    """What the model will read: the chunks as the indexer cuts them."""
    async with open_packaged_embedder(folder / "models") as embedder, ParserPool() as parsers:
        cut = partial(chunk, token_spans=embedder.token_spans, count_tokens=embedder.count_tokens)
        found: list[tuple[str, Chunk]] = []
        for source in sources:
            parsed = await parsers.parse(source.content, "text/markdown", source.name)
            title = parsed.own_title() or source.name
            found += [(title, one) for one in cut(parsed)]
    return [embedded_text(title, one) for title, one in found]


async def _raw(folder: Path, texts: Sequence[str], *, threads: int) -> tuple[float, float]:
    """Texts a second and CPU milliseconds a text, of an evenly spread sample."""
    sample = texts[:: max(1, len(texts) // RAW_TEXTS)]
    turns = Turns(threads=threads, texts=TEXTS_PER_THREAD)
    async with open_packaged_embedder(folder / "models", turns=turns) as embedder:
        await embedder.embed(sample[:20])
        spent, began = process_ns(os.getpid()), perf_counter()
        await embedder.embed(sample)
        seconds, ns = perf_counter() - began, process_ns(os.getpid()) - spent
    return len(sample) / seconds, ns / len(sample) / 1e6


# one small document


async def _latency(folder: Path, arguments: argparse.Namespace) -> int:
    async with _running(folder, threads=arguments.threads) as running:
        await _warm_up(running)
        took = [await _write_small(running, number) for number in range(1000, 1000 + arguments.samples)]
    _report_latency("idle", took)
    return 0


async def _pressure(folder: Path, sources: Sequence[Source], arguments: argparse.Namespace) -> int:
    huge = [_huge(sources, arguments.chunks, number) for number in range(arguments.documents)]
    async with _running(folder, threads=arguments.threads) as running:
        await _warm_up(running)
        uploads = asyncio.create_task(_upload(running, huge))
        took: list[Took] = []
        started = perf_counter()
        while not (uploads.done() and await _pending(running) == 0) and perf_counter() - started < arguments.seconds:
            took.append(await _write_small(running, 1000 + len(took)))
        await uploads
        print(f"{await _count(running)} chunks are searchable, {await _pending(running)} documents are not yet")
    _report_latency(f"beside {len(huge)} document(s) of about {arguments.chunks} chunks", took)
    return 0


async def _warm_up(running: Running) -> None:
    for number in range(20):
        await _write_small(running, number)


def _report_latency(what: str, took: Sequence[Took]) -> None:
    print(f"\none small document, {what}, {len(took)} samples, ms\n")
    rows = []
    for name, seconds in (
        ("in the index", [one.committed_s for one in took]),
        ("found", [one.found_s for one in took]),
    ):
        milliseconds = [1000 * one for one in seconds]
        quantiles = [f"{quantile(milliseconds, share):.0f}" for share in _QUANTILES.values()]
        rows.append((name, *quantiles, f"{max(milliseconds):.0f}"))
    print(table(("", *_QUANTILES, "max"), rows))


_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


async def _write_small(running: Running, number: int) -> Took:
    word = f"marker{number:06}x"
    text = f"# Note {number}\n\nThe word of this note is {word}. " + "It is a short note of a few sentences. " * (
        WORDS // 8
    )
    began = perf_counter()
    document = {"title": f"Note {number}", "text": text, "media_type": "text/markdown"}
    async with running.session.post(f"{running.documents_url}/api/documents", json=document) as response:
        written = await _decoded(response, 201)
    question = {"query": word, "limit": 3, "after": [written["freshness_token"]], "wait_seconds": WAIT_S}
    async with running.session.post(f"{running.assistant_url}/api/search", json=question) as response:
        found = await _decoded(response, 200)
    seconds = perf_counter() - began
    if written["id"] not in {hit["document_id"] for hit in found["hits"]}:
        raise SystemExit(f"VOID {word} was not found: {found}")
    while written["id"] not in running.committed:  # the notification may come just after the answer
        await asyncio.sleep(0.001)
    return Took(running.committed[written["id"]] - began, seconds)


# sources


def _sources(data: Path) -> list[Source]:
    files = sorted(file for file in data.rglob("*") if file.suffix == ".md")
    if not files:
        raise SystemExit(f"{data} has no Markdown: --data takes a folder of *.md files.")
    return [Source(file.relative_to(data).as_posix().replace("/", "_"), _text(file)) for file in files]


def _text(file: Path) -> bytes:
    content = file.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise SystemExit(f"{file} is not UTF-8 ({error.reason}): leave it out of --data.") from None
    return content


CHUNKS_OF_A_COPY = 2086
"""What the 18F handbook makes."""


def _huge(sources: Sequence[Source], chunks: int, number: int) -> Source:
    """One document of about so many chunks: the texts again and again, each paragraph numbered so that none repeats."""
    paragraphs = [part for source in sources for part in source.content.decode().split("\n\n") if part.strip()]
    share = chunks / CHUNKS_OF_A_COPY
    wanted = int(share * len(paragraphs))
    numbered = [f"{paragraphs[n % len(paragraphs)]} ({number}.{n})" for n in range(wanted)]
    return Source(f"huge-{number}.md", "\n\n".join(numbered).encode())


# running everything


@asynccontextmanager
async def _running(folder: Path, *, threads: int) -> AsyncIterator[Running]:
    for name in [name for name in os.environ if name.startswith("REFDESK_")]:
        del os.environ[name]
    documents_port, indexer_port, assistant_port = free_port(), free_port(), free_port()
    settings = {
        "REFDESK_DATA_DIR": str(folder),
        "REFDESK_OPERATOR_KEY": OPERATOR_KEY,
        "REFDESK_DOCUMENTS_URL": f"http://127.0.0.1:{documents_port}",
        "REFDESK_EMBEDDING_THREADS": str(threads),
        "REFDESK_REQUESTS_PER_MINUTE_MAX": "1000000",
    }
    ports = {"documents": documents_port, "indexer": indexer_port, "assistant": assistant_port}
    async with running_stack(StackOptions(data_dir=folder)) as stack:
        services = [_service(name, port, settings).child(stack.urls) for name, port in ports.items()]
        await stack.children.start(*services)
        headers = {"Authorization": f"Bearer {OPERATOR_KEY}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            urls = [f"http://127.0.0.1:{port}" for port in (documents_port, assistant_port)]
            committed: dict[str, float] = {}
            listening = asyncio.create_task(_listen(stack.urls.index_database_url, committed))
            try:
                yield Running(stack, session, *urls, committed)
            finally:
                listening.cancel()


def _service(name: str, port: int, settings: dict[str, str]) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", "refdesk", name, "--port", str(port)),
        health_url=f"http://127.0.0.1:{port}/health/ready",
        environment=settings,
    )


async def _upload(running: Running, sources: Sequence[Source]) -> None:
    waiting = iter(sources)

    async def send() -> None:
        for source in waiting:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("file", source.content, filename=source.name)
            async with running.session.post(f"{running.documents_url}/api/documents", data=form) as response:
                await _decoded(response, 201)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(UPLOADS_AT_ONCE):
            tasks.create_task(send())


async def _listen(url: str, committed: dict[str, float]) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("LISTEN refdesk_index")
        async for notification in connection.notifies():
            committed[notification.payload.partition("@")[0]] = perf_counter()


async def _until_indexed(running: Running, *, count: int) -> float:
    """When the last of so many documents was committed in the index: told by its own notification."""
    url = running.stack.urls.index_database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("LISTEN refdesk_index")
        while await _documents(connection) < count:
            async for _ in connection.notifies(timeout=5, stop_after=1):
                pass
        return perf_counter()


async def _documents(connection: psycopg.AsyncConnection[Any]) -> int:
    cursor = await connection.execute("SELECT sum(documents)::bigint FROM generation_1.tallies")
    return int((await cursor.fetchall())[0][0] or 0)


async def _count(running: Running) -> int:
    async with await psycopg.AsyncConnection.connect(running.stack.urls.index_database_url) as connection:
        cursor = await connection.execute("SELECT sum(chunks)::bigint FROM generation_1.tallies")
        return int((await cursor.fetchall())[0][0])


async def _pending(running: Running) -> int:
    async with running.session.get(f"{running.documents_url}/api/documents/backlog") as response:
        return int((await _decoded(response, 200))["documents_pending"])


async def _decoded(response: aiohttp.ClientResponse, status: int) -> Any:
    if response.status != status:
        raise SystemExit(f"VOID {response.method} {response.url} answered {response.status}: {await response.text()}")
    return await response.json()


# who spends the CPU


def _spent() -> dict[int, tuple[str, int]]:
    """CPU nanoseconds so far, by process, of ours and everything below."""
    root = psutil.Process()
    spent: dict[int, tuple[str, int]] = {}
    for one in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            spent[one.pid] = (_role(one), process_ns(one.pid))
    return spent


def _since(earlier: dict[int, tuple[str, int]]) -> dict[str, int]:
    costs: dict[str, int] = defaultdict(int)
    for pid, (role, ns) in _spent().items():
        costs[role] += ns - earlier.get(pid, ("", 0))[1]
    return dict(sorted(costs.items(), key=lambda cost: -cost[1]))


def _role(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    if process.pid == os.getpid():
        return "client"
    for name in ("postgres", "nats", "valkey", "sandbox", "indexer", "assistant", "documents"):
        if name in line:
            return {"sandbox": "parsers", "postgres": "PostgreSQL", "nats": "NATS", "valkey": "Valkey"}.get(name, name)
    return "other"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "huge", "latency", "pressure"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", type=lambda text: {int(core) for core in text.split(",")}, default={0, 1})
    parser.add_argument("--documents", type=int, default=1)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long `pressure` measures at most")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
