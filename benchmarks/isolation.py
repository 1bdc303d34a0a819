"""Does the Document Service feel a saturated AI side? Its latency meanwhile against its latency alone, in one run.

    python benchmarks/isolation.py [--rounds 8] [--seconds 5] [--streams 160]

Apart as in production, on two cores: the Document Service, its PostgreSQL, NATS and this client have one; the assistant, an
indexer, the index's PostgreSQL, Valkey, the stub model and the askers the other. Documents are read, listed, created and changed
at their own pace, whatever becomes of the requests before (open loop). A saturated round adds ``--streams`` answers at a time and
a document of hundreds of passages to be embedded; an idle one begins when nothing is pending. Order ABBA, ratios of a pair.
Exits with 1 when the AI side was not saturated, the service's own core was too busy to tell, or a request failed.
"""

import argparse
import asyncio
import itertools
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import aiohttp

import desk as desks
from load import Target, load
from measuring import CoreTime, Ratio, quantile, table
from refdesk.app.embedded.nats import free_port
from streaming import PACE_S, REFDESK_DELTA, SHORT, refdesk_request

PER_SECOND = 60
OPERATIONS = ("read", "read", "list", "read", "change", "create")
"""What is done, in turn."""
HUGE_CHARACTERS = 600_000
SATURATE_S = 2.0
"""From the first asker until the clock runs: answers are spread over their own length."""
SATURATED_MIN, OWN_CORE_MAX = 0.95, 0.80
SETTLE_S_MAX = 120.0


@dataclass
class Side:
    """Idle or saturated: what was seen, round by round."""

    seconds: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    """Operation → a list of latencies for each round."""
    ai_core: list[float] = field(default_factory=list)
    own_core: list[float] = field(default_factory=list)
    failed: int = 0


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
async def saturated(desk: desks.Desk, documents: Documents, *, streams: int) -> AsyncIterator[None]:
    """Answers without pause and a large document to embed, for as long as the block."""
    with desks.on_core(desks.TARGET_CORE):
        arguments = (str(desk.assistant_port), desk.key, str(streams))
        askers = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "ask", *arguments, stdin=asyncio.subprocess.PIPE
        )
    await documents.put_huge()
    await asyncio.sleep(SATURATE_S)
    try:
        yield
    finally:
        await askers.communicate(b"")
        await documents.drop_huge()
        assert askers.returncode == 0, "the askers failed"
        await documents.at_rest()


async def ask(port: int, key: str, streams: int) -> None:
    """So many answers at a time until standard input ends. Its own program, so that it shares no core with the client."""
    target = Target("refdesk", port, refdesk_request(port, key), REFDESK_DELTA)
    async with load(target, streams=streams, pieces=SHORT, pace_s=PACE_S):
        await asyncio.to_thread(sys.stdin.read)


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


def report(idle: Side, busy: Side) -> bool:
    """Whether the figures may be used."""
    rows = []
    for operation in dict.fromkeys(OPERATIONS):
        pairs = [(idle.seconds[operation], busy.seconds[operation])]
        rows += [_row(operation, share, *pair) for pair in pairs for share in (0.50, 0.95, 0.99)]
    print(table(["operation", "quantile", "alone ms", "AI saturated ms", "ratio [95 %]"], rows))
    ai, own = median(busy.ai_core), max(median(idle.own_core), median(busy.own_core))
    print(f"\nAI side's core {median(idle.ai_core):.0%} busy alone, {ai:.0%} saturated")
    print(f"Document Service's core {median(idle.own_core):.0%} alone, {median(busy.own_core):.0%} meanwhile")
    print(f"failed requests: {idle.failed} and {busy.failed}")
    return ai >= SATURATED_MIN and own <= OWN_CORE_MAX and idle.failed == busy.failed == 0


def _row(operation: str, share: float, idle: list[list[float]], busy: list[list[float]]) -> list[str]:
    alone, meanwhile = (quantile(itertools.chain(*rounds), share) * 1e3 for rounds in (idle, busy))
    ratio = Ratio.of([quantile(each, share) for each in busy], [quantile(each, share) for each in idle])
    return [operation, f"p{share * 100:.0f}", f"{alone:.2f}", f"{meanwhile:.2f}", str(ratio)]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--streams", type=int, default=160)
    arguments = parser.parse_args()
    idle, busy = Side(), Side()
    async with desks.running_desk(pace_s=PACE_S, apart=True) as desk:
        await _start_indexer(desk)
        headers = {"Authorization": f"Bearer {desks.OPERATOR_KEY}"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{desk.documents_port}", headers=headers) as session:
            documents = Documents(session)
            await documents.prepare(40)
            for number in range(arguments.rounds):
                for side in (idle, busy) if number % 2 == 0 else (busy, idle):
                    if side is busy:
                        async with saturated(desk, documents, streams=arguments.streams):
                            await measure(documents, side, seconds=arguments.seconds)
                    else:
                        await documents.at_rest()
                        await measure(documents, side, seconds=arguments.seconds)
    return 0 if report(idle, busy) else 1


async def _start_indexer(desk: desks.Desk) -> None:
    port = free_port()
    command = (sys.executable, "-m", "refdesk", "indexer", "--port", str(port))
    await desk.start("indexer", command, port=port, health_path="/health/ready", environment=desk.settings)


if __name__ == "__main__":
    if sys.argv[1:2] == ["ask"]:
        asyncio.run(ask(int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
    else:
        sys.exit(asyncio.run(main()))
