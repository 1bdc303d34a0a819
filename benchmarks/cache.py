"""What a repeated question costs: an exact hit against static bytes from the same server, and 200 equal questions at once.

    python benchmarks/cache.py [--rounds 8] [--seconds 3] [--askers 200]

One connection asks one thing after another; rounds alternate their order and ratios are of the same round. The stampede asks a
question nobody has asked, on so many open connections at once: the model must be called once; how much later than the first
asker the others had each live delta is told. Exits with 1 when an answer is wrong or the model is called more than once.
"""

import argparse
import asyncio
import json
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from statistics import median
from time import perf_counter

import uvloop

import desk as desks
import stub_llm
from load import Asker, post
from measuring import Ratio, cpu_ns, quantile, table
from streaming import PACE_S, REFDESK_DELTA, SHORT

STATIC = "/web/favicon.svg"
OUTCOME = re.compile(rb'"cache":"(\w+)"')
STAMPEDES = 5

_questions = count()


@dataclass
class Figures:
    """One way of asking; ``cpu_us`` and ``p50_ms`` have a value per round."""

    cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


async def main() -> int:
    arguments = _arguments()
    async with desks.running_desk(pace_s=PACE_S) as desk:
        sound = await asyncio.to_thread(uvloop.run, _measure(desk, arguments))
    return 0 if sound else 1


async def _measure(desk: desks.Desk, arguments: argparse.Namespace) -> bool:
    hits_sound = await _hits(desk, rounds=arguments.rounds, seconds=arguments.seconds)
    stampedes = [await _stampede(desk, askers=arguments.askers) for _ in range(STAMPEDES)]
    return hits_sound and all(stampedes)


# an exact hit


async def _hits(desk: desks.Desk, *, rounds: int, seconds: float) -> bool:
    question = _question(desk)
    requests = {"static": _static(desk.assistant_port), "exact hit": question}
    asker = await _connect(desk)
    await _answer(asker, question)
    wrong, figures = 0, defaultdict(Figures)
    for number in range(-1, rounds):  # the first one warms up
        for name in requests if number % 2 == 0 else reversed(requests):
            measured = figures[name] if number >= 0 else Figures()
            wrong += await _round(desk, asker, requests[name], measured, seconds=seconds, is_hit=name != "static")
    _report_hits(figures)
    if wrong:
        print(f"VOID {wrong} answers were not the cached one")
    return not wrong


async def _round(
    desk: desks.Desk, asker: Asker, request: bytes, figures: Figures, *, seconds: float, is_hit: bool
) -> int:
    """How many replies were wrong."""
    pid, took, wrong = desks.pid_of("assistant", str(desk.assistant_port)), [], 0
    before, until = cpu_ns(pid), perf_counter() + seconds
    while perf_counter() < until:
        body = await _answer(asker, request)
        took.append((asker.stream.reads[-1][0] - asker.stream.asked_at) * 1000)
        wrong += is_hit and not _is_the_hit(body)
    figures.cpu_us.append((cpu_ns(pid) - before) / 1000 / len(took))
    figures.p50_ms.append(quantile(took, 0.5))
    figures.p99_ms.append(quantile(took, 0.99))
    return wrong


def _report_hits(figures: dict[str, Figures]) -> None:
    static, hit = figures["static"], figures["exact hit"]
    rows = [
        (name, f"{median(f.cpu_us):.0f}", f"{median(f.p50_ms):.2f}", f"{median(f.p99_ms):.2f}")
        for name, f in figures.items()
    ]
    print(f"\n## Exact hit, {len(static.cpu_us)} rounds, one connection, {SHORT} deltas replayed\n")
    print(table(("", "CPU µs", "p50 ms", "p99 ms"), rows))
    print(f"\nCPU ÷ static {Ratio.of(hit.cpu_us, static.cpu_us)}, p50 ÷ static {Ratio.of(hit.p50_ms, static.p50_ms)}")


def _is_the_hit(body: bytes) -> bool:
    return b'"cache":"hit"' in body and _text(body) == b"".join(stub_llm.deltas(SHORT))


# a stampede


async def _stampede(desk: desks.Desk, *, askers: int) -> bool:
    request = _question(desk)
    before = await desk.stub_counts()
    connections = [await _connect(desk) for _ in range(askers)]
    bodies = await asyncio.gather(*(_answer(asker, request) for asker in connections))
    calls = (await desk.stub_counts())["calls"] - before["calls"]
    wrong = sum(_text(body) != b"".join(stub_llm.deltas(SHORT)) for body in bodies)
    outcomes = [found[1].decode() if (found := OUTCOME.search(body)) else "none" for body in bodies]
    for asker in connections:
        asker.transport.close()
    leader = next((asker for asker, outcome in zip(connections, outcomes, strict=True) if outcome == "miss"), None)
    late = _late_ms(leader, connections) if leader else []
    print(
        f"stampede of {askers}: {calls} model call(s), {wrong} wrong, "
        f"{', '.join(f'{outcomes.count(o)} {o}' for o in sorted(set(outcomes)))}; "
        f"{len(late)} live deltas, behind the first asker p50 {quantile(late, 0.5):.2f} ms, p99 {quantile(late, 0.99):.2f} ms"
    )
    return calls == 1 and not wrong


def _late_ms(leader: Asker, askers: list[Asker]) -> list[float]:
    """How much later than the first asker the others had each delta, from the read on after the one they joined with."""
    reference = _arrivals(leader.stream.reads)
    late = []
    for asker in askers:
        if asker is not leader:
            joined = next(number for number, (_, data) in enumerate(asker.stream.reads) if stub_llm.FIRST in data)
            live = _arrivals(asker.stream.reads[joined + 1 :])
            late += [(at - reference[text]) * 1000 for text, at in live.items()]
    return late


def _arrivals(reads: list[tuple[float, bytes]]) -> dict[bytes, float]:
    """When each delta came, by its text."""
    return {text: at for at, data in reads for text in REFDESK_DELTA.findall(data)}


# asking


async def _connect(desk: desks.Desk) -> Asker:
    _, asker = await asyncio.get_running_loop().create_connection(Asker, "127.0.0.1", desk.assistant_port)
    return asker


async def _answer(asker: Asker, request: bytes) -> bytes:
    stream = asker.begin(request)
    await asker.ended
    return b"".join(data for _, data in stream.reads)


def _text(body: bytes) -> bytes:
    return b"".join(REFDESK_DELTA.findall(body))


def _question(desk: desks.Desk) -> bytes:
    """One that nobody has asked yet."""
    question = f"Question {next(_questions)}: how many days of leave are there? Answer in {SHORT} pieces."
    return post(desk.assistant_port, "/api/answers", json.dumps({"question": question}).encode(), key=desk.key)


def _static(port: int) -> bytes:
    return f"GET {STATIC} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--askers", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
