"""Does the Document Service feel a saturated AI side? Its latency meanwhile against its latency alone, in one run.

    python benchmarks/isolation.py [--rounds 8] [--seconds 5] [--streams 160 | --files FOLDER]

Apart as in production, on two cores: the Document Service, its PostgreSQL, NATS and this client have one; the assistant, an
indexer, the index's PostgreSQL, Valkey, the stub model and the askers the other. Documents are read, listed, created and changed
at their own pace, whatever becomes of the requests before (open loop), in rounds of three sides:

* alone: the AI side has nothing to do;
* beside embedding: nor has it here, but a process that belongs to nobody runs the embedding model on its core. Two cores of one
  machine are not two machines, they share caches and memory: this is what any neighbour at such work would do;
* beside the AI side: with ``--streams`` answers at a time and a document of hundreds of passages to be embedded; or, with
  ``--files``, with the files below that folder, hostile ones for instance, uploaded again and again as fast as they are read.

A side begins when nothing is pending; each second round has the opposite order; ratios are of the same round. Exits with 1 when
the AI side's core was not saturated, the service's own was too busy to tell, or a request failed.
"""

import argparse
import asyncio
import itertools
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import aiohttp

import desk as desks
from load import Target, load
from measuring import CoreTime, Ratio, quantile, table
from refdesk.app.embedded.nats import free_port
from refdesk.outside.embedding.packaged import open_packaged_embedder
from streaming import PACE_S, REFDESK_DELTA, SHORT, refdesk_request

PER_SECOND = 60
OPERATIONS = ("read", "read", "list", "read", "change", "create")
"""What is done, in turn."""
HUGE_CHARACTERS = 600_000
SATURATE_S = 2.0
"""From the first asker until the clock runs: answers are spread over their own length."""
SATURATED_MIN, OWN_CORE_MAX = 0.95, 0.80
SETTLE_S_MAX = 120.0
AHEAD = 8
"""How many uploaded files wait to be read."""
LOOK_S = 1.0
"""How often that is looked at: each look is one more request."""


@dataclass
class Side:
    """What was seen beside one kind of company, round by round."""

    seconds: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    """Operation → a list of latencies for each round."""
    ai_core: list[float] = field(default_factory=list)
    own_core: list[float] = field(default_factory=list)
    failed: int = 0


ALONE, MACHINE, AI = "alone", "beside embedding", "beside the AI side"
Sides = dict[str, Side]


class Documents:
    """A client of the Document Service, and the documents it works with."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._numbers = itertools.count()
        self._ids: list[str] = []

    async def operate(self, operation: str) -> None:
        number = next(self._numbers)
        text = f"Note {number}: the ferry to berth {number % 40} leaves at {number % 24}:15 from now on."
        body = {"title": f"Note {number}", "text": text}
        match operation:
            case "create":
                self._ids.append((await self._call("POST", "", json=body))["id"])
            case "change":
                await self._call("PUT", f"/{self._id(number)}", json=body)
            case "list":
                await self._call("GET", "?limit=20")
            case _:
                await self._call("GET", f"/{self._id(number)}")

    async def prepare(self, count: int) -> None:
        for _ in range(count):
            await self.operate("create")

    async def put_huge(self) -> None:
        """A document that keeps an indexer busy for longer than a round."""
        sentence = (
            "The crossing of {0} takes {1} minutes when the wind is below {2} knots, and the mate writes it down.\n\n"
        )
        text = "".join(sentence.format(n, n % 90, n % 30) for n in range(HUGE_CHARACTERS // 100))
        self._huge = (await self._call("POST", "", json={"title": "Log of the crossings", "text": text}))["id"]

    async def drop_huge(self) -> None:
        await self._call("DELETE", f"/{self._huge}")

    async def at_rest(self) -> None:
        async with asyncio.timeout(SETTLE_S_MAX):
            while (await self._call("GET", "/backlog"))["documents_pending"]:
                await asyncio.sleep(0.1)

    def _id(self, number: int) -> str:
        return self._ids[number % len(self._ids)]

    async def _call(self, method: str, path: str, **arguments: object) -> dict[str, object]:
        async with self._session.request(method, f"/api/documents{path}", **arguments) as response:
            response.raise_for_status()
            return await response.json() if response.status != 204 else {}


@asynccontextmanager
async def working(*words: str) -> AsyncIterator[None]:
    """This script at other work, on the AI side's core, from some time before the block to its end."""
    with desks.on_core(desks.TARGET_CORE):
        process = await asyncio.create_subprocess_exec(sys.executable, __file__, *words, stdin=asyncio.subprocess.PIPE)
    await asyncio.sleep(SATURATE_S)
    try:
        yield
    finally:
        await process.communicate(b"")
        assert process.returncode == 0, f"{words[0]} failed"


async def embed(models: Path) -> None:
    """Embeds the same passages until standard input ends."""
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    passages = ["The ferry leaves at noon, and the mate writes it down. " * 8] * 32
    async with open_packaged_embedder(models) as embedder:
        while not ended.done():
            await embedder.embed(passages)


@asynccontextmanager
async def answering(desk: desks.Desk, documents: Documents, *, streams: int) -> AsyncIterator[None]:
    """Answers without pause and a large document to embed, for as long as the block."""
    await documents.put_huge()
    async with working("ask", str(desk.assistant_port), desk.key, str(streams)):
        yield
    await documents.drop_huge()


async def ask(port: int, key: str, streams: int) -> None:
    """So many answers at a time until standard input ends. Its own program, so that it shares no core with the client."""
    target = Target("refdesk", port, refdesk_request(port, key), REFDESK_DELTA)
    async with load(target, streams=streams, pieces=SHORT, pace_s=PACE_S):
        await asyncio.to_thread(sys.stdin.read)


async def add(port: int, folder: Path) -> None:
    """Uploads these files, a few ahead of the indexer, until standard input ends; then deletes them."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with documents_client(port) as session:
        ids: list[str] = []
        for file in itertools.cycle(files):
            form = aiohttp.FormData()
            form.add_field("file", file.read_bytes(), filename=file.name)
            async with session.post("/api/documents", data=form) as response:
                if response.status == 201:  # others are refused at the door
                    ids.append((await response.json())["id"])
            while not ended.done() and await _pending(session) >= AHEAD:
                await asyncio.wait([ended], timeout=LOOK_S)
            if ended.done():
                break
        print(f"{len(ids)} files added", file=sys.stderr)
        for document_id in ids:
            async with session.delete(f"/api/documents/{document_id}") as response:
                response.raise_for_status()


async def _pending(session: aiohttp.ClientSession) -> int:
    async with session.get("/api/documents/backlog") as response:
        return int((await response.json())["documents_pending"])


def documents_client(port: int) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {desks.OPERATOR_KEY}"}
    return aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers)


async def measure(documents: Documents, side: Side, *, seconds: float) -> None:
    """Operations at their pace for so long."""
    loop = asyncio.get_running_loop()
    took: dict[str, list[float]] = defaultdict(list)

    async def one(operation: str, due: float) -> None:
        await asyncio.sleep(due - loop.time())
        started = perf_counter()
        try:
            await documents.operate(operation)
        except aiohttp.ClientError:
            side.failed += 1
        took[operation].append(perf_counter() - started)

    ai, own, begin = CoreTime.of(desks.TARGET_CORE), CoreTime.of(desks.LOAD_CORE), loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(PER_SECOND * seconds)):
            tasks.create_task(one(OPERATIONS[number % len(OPERATIONS)], begin + number / PER_SECOND))
    side.ai_core.append(CoreTime.of(desks.TARGET_CORE).share_since(ai))
    side.own_core.append(CoreTime.of(desks.LOAD_CORE).share_since(own))
    for operation, values in took.items():
        side.seconds[operation].append(values)


def report(sides: Sides) -> bool:
    """Whether the figures may be used."""
    rows = [_row(operation, share, sides) for operation in dict.fromkeys(OPERATIONS) for share in (0.50, 0.95, 0.99)]
    print(table(HEADINGS, rows))
    busy, failed = [], 0
    for name, side in sides.items():
        print(f"{name}: AI side's core {median(side.ai_core):.0%} busy, Document Service's {median(side.own_core):.0%}")
        failed += side.failed
        busy.append(median(side.own_core))
    print(f"failed requests: {failed}")
    return median(sides[AI].ai_core) >= SATURATED_MIN and max(busy) <= OWN_CORE_MAX and failed == 0


HEADINGS = (
    "operation",
    "quantile",
    *(f"{name}, ms" for name in (ALONE, MACHINE, AI)),
    "÷ alone [95 %]",
    "÷ embedding [95 %]",
)


def _row(operation: str, share: float, sides: Sides) -> list[str]:
    alone, machine, ai = ([quantile(each, share) for each in side.seconds[operation]] for side in sides.values())
    milliseconds = [f"{median(each) * 1e3:.2f}" for each in (alone, machine, ai)]
    return [operation, f"p{share * 100:.0f}", *milliseconds, str(Ratio.of(ai, alone)), str(Ratio.of(ai, machine))]


async def main() -> int:
    arguments = _arguments()
    sides: Sides = {ALONE: Side(), MACHINE: Side(), AI: Side()}
    async with desks.running_desk(pace_s=PACE_S, apart=True) as desk:
        await _start_indexer(desk)
        async with documents_client(desk.documents_port) as session:
            documents = Documents(session)
            await documents.prepare(40)
            for number in range(arguments.rounds):
                for name in sides if number % 2 == 0 else reversed(sides):
                    await documents.at_rest()
                    async with _company(name, desk, documents, arguments):
                        await measure(documents, sides[name], seconds=arguments.seconds)
    return 0 if report(sides) else 1


def _company(
    name: str, desk: desks.Desk, documents: Documents, arguments: argparse.Namespace
) -> AbstractAsyncContextManager[None]:
    if name == ALONE:
        return nullcontext()
    if name == MACHINE:
        return working("embed", str(desk.folder / "models"))
    if arguments.files:
        return working("add", str(desk.documents_port), str(arguments.files))
    return answering(desk, documents, streams=arguments.streams)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--streams", type=int, default=160)
    parser.add_argument("--files", type=Path)
    return parser.parse_args()


async def _start_indexer(desk: desks.Desk) -> None:
    port = free_port()
    command = (sys.executable, "-m", "refdesk", "indexer", "--port", str(port))
    await desk.start("indexer", command, port=port, health_path="/health/ready", environment=desk.settings)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ask", port, key, streams]:
            asyncio.run(ask(int(port), key, int(streams)))
        case ["embed", models]:
            asyncio.run(embed(Path(models)))
        case ["add", port, folder]:
            asyncio.run(add(int(port), Path(folder)))
        case _:
            sys.exit(asyncio.run(main()))
