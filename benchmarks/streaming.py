"""What a streamed token costs: the full Refdesk service and a peer, against nginx, which only passes bytes on.

    python benchmarks/streaming.py [--streams 1,50,200] [--rounds 8] [--seconds 4] [--litellm PATH]

Every target has one core to itself; the stub model, the client and Refdesk's servers have the other. A round measures every
target once, the next round in the opposite order; ratios are of the same round. CPU per token is given three times: everything
divided by tokens (asking, searching and checking included); the same without retrieval, whose cost is that of a search for
passages less that of a request which does nothing; and per *further* token, from answers of two lengths.
``--litellm`` is the program of a LiteLLM proxy in an environment of its own. Exits with 1 when a row is void.
"""

import argparse
import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

import desk as desks
from load import Asker, Request, Stream, Target, load, post
from measuring import CoreTime, Ratio, cpu_ns, drift, process_ns, quantile, table

PACE_S = 0.020
SHORT, LONG = 64, 192
"""Deltas of an answer; the difference tells what a further token costs."""
SEARCHES = 60
"""How many searches a round measures, one after the other."""
SEARCH_PACE_S_MAX = 0.026
"""Searches begin as far apart as the streams' questions do, and no further than those of 50 streams. Back to back they
would find everything in the processor's caches, which a question between words does not."""
WARM_UP_S = 0.5
SETTLE_S = 0.5
LOAD_CORE_SHARE_MAX = 0.80
DRIFT_MAX = 0.10
ERROR_SHARE_MAX = 0.001

OPENAI_DELTA = re.compile(rb'"content":"([^"]+)"')
REFDESK_DELTA = re.compile(rb'event: delta\ndata: {"text":"([^"]*)"')

PASSAGES = 8
"""The default of REFDESK_PASSAGES_MAX."""
SUBJECTS = ("leave", "travel", "security", "equipment", "parental leave", "expenses", "remote work", "training")
"""What is asked about, in turn: the handbook answers all of it."""


class Kind(NamedTuple):
    """What is measured in one go."""

    target: str
    pieces: int


@dataclass
class Row:
    """One target at one number of streams, all rounds; lists have a value per round."""

    cpu_us_per_token: list[float] = field(default_factory=list)
    client_us_per_token: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    load_core: list[float] = field(default_factory=list)
    target_core: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    retrieval_us: list[float] = field(default_factory=list)
    """CPU of the retrieval for one question."""
    ended: int = 0

    def void(self) -> list[str]:
        """Why these figures must not be used."""
        reasons = []
        if len(self.wrongs) > ERROR_SHARE_MAX * self.ended:
            reasons.append(f"{len(self.wrongs)} of {self.ended} streams: {self.wrongs[0]}")
        if median(self.load_core) > LOAD_CORE_SHARE_MAX:
            reasons.append(f"load core {median(self.load_core):.0%} busy")
        return reasons


Rows = dict[Kind, Row]


async def main() -> int:
    arguments = _arguments()
    async with desks.running_desk(pace_s=PACE_S) as desk:
        targets = await _targets(desk, arguments.litellm)
        sound = True
        for streams in arguments.streams:
            measuring = _measure(desk, targets, streams=streams, rounds=arguments.rounds, seconds=arguments.seconds)
            rows = await asyncio.to_thread(uvloop.run, measuring)  # the client's loop; the desk's is Python's own
            sound = _report(rows, streams=streams) and sound
    return 0 if sound else 1


async def _targets(desk: desks.Desk, litellm: str | None) -> list[Target]:
    targets = [
        Target("direct", desk.stub_port, _openai(desk.stub_port), OPENAI_DELTA),
        await _nginx(desk),
        Target(
            "refdesk",
            desk.assistant_port,
            refdesk_request(desk.assistant_port, desk.key),
            REFDESK_DELTA,
            desks.pid_of("assistant", str(desk.assistant_port)),
        ),
    ]
    if litellm is None:
        print("SKIPPED litellm: give --litellm, the `litellm` program of an environment with litellm[proxy]")
        return targets
    return [*targets, await _litellm(desk, litellm)]


async def _measure(desk: desks.Desk, targets: Sequence[Target], *, streams: int, rounds: int, seconds: float) -> Rows:
    rows: Rows = defaultdict(Row)
    order = [(target, pieces) for target in targets for pieces in _lengths(target.name)]
    for target, pieces in order:
        await _once(desk, target, Row(), streams=streams, pieces=pieces, seconds=WARM_UP_S)
    for number in range(rounds):
        for target, pieces in order if number % 2 == 0 else reversed(order):
            await _once(desk, target, rows[Kind(target.name, pieces)], streams=streams, pieces=pieces, seconds=seconds)
        for target in targets:
            if target.name == "refdesk":
                rows[Kind(target.name, SHORT)].retrieval_us.append(
                    await _retrieval_us(target, desk.key, streams=streams)
                )
    return rows


async def _retrieval_us(target: Target, key: str, *, streams: int) -> float:
    """A search for the passages that a question is answered from, less what any request costs."""
    loop, pace_s = asyncio.get_running_loop(), min(SEARCH_PACE_S_MAX, SHORT * PACE_S / streams)
    _, asker = await loop.create_connection(Asker, "127.0.0.1", target.port)
    live = f"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n\r\n".encode()
    searches = [_search(target.port, key, number) for number in range(SEARCHES)]
    search_us, request_us = [
        await _cpu_us(target, asker, requests, pace_s=pace_s) for requests in (searches, [live] * SEARCHES)
    ]
    asker.transport.close()
    return search_us - request_us


async def _cpu_us(target: Target, asker: Asker, requests: Sequence[bytes], *, pace_s: float) -> float:
    """CPU of the target for one of these requests, which begin ``pace_s`` apart."""
    assert target.pid is not None
    before, loop = cpu_ns(target.pid), asyncio.get_running_loop()
    for request in requests:
        next_at = loop.time() + pace_s
        asker.begin(request)
        await asker.ended
        await asyncio.sleep(next_at - loop.time())
    return (cpu_ns(target.pid) - before) / 1000 / len(requests)


def _search(port: int, key: str, number: int) -> bytes:
    body = json.dumps({"query": _question(number, SHORT), "limit": PASSAGES}).encode()
    return post(port, "/api/search", body, key=key, accept="application/json")


def _lengths(target: str) -> tuple[int, ...]:
    return (SHORT, LONG) if target in ("nginx", "refdesk") else (SHORT,)


async def _once(desk: desks.Desk, target: Target, row: Row, *, streams: int, pieces: int, seconds: float) -> None:
    """One window of steady load."""
    stub = desks.pid_of("stub_llm.py")
    async with load(target, streams=streams, pieces=pieces, pace_s=PACE_S) as running:
        await asyncio.sleep(SETTLE_S)
        before = await _spent(desk, target, stub)
        began = len(running.streams)
        await asyncio.sleep(seconds)
        after = await _spent(desk, target, stub)
    tokens = after.deltas - before.deltas
    row.tokens.append(tokens)
    row.cpu_us_per_token.append((after.target_ns - before.target_ns) / 1000 / max(1, tokens))
    row.client_us_per_token.append((after.client_ns - before.client_ns) / 1000 / max(1, tokens))
    row.load_core.append(after.load_core.share_since(before.load_core))
    row.target_core.append(after.target_core.share_since(before.target_core))
    _note(row, running.streams[began:])


@dataclass(frozen=True)
class _Spent:
    """What everything had used at one moment."""

    deltas: int
    target_ns: int
    client_ns: int
    load_core: CoreTime
    target_core: CoreTime


async def _spent(desk: desks.Desk, target: Target, stub: int) -> _Spent:
    counts = await desk.stub_counts()
    return _Spent(
        deltas=counts["deltas"],
        target_ns=cpu_ns(target.pid) if target.pid else 0,
        client_ns=process_ns(stub) + process_ns(os.getpid()),
        load_core=CoreTime.of(desks.LOAD_CORE),
        target_core=CoreTime.of(desks.TARGET_CORE),
    )


def _note(row: Row, streams: Sequence[Stream]) -> None:
    row.ended += len(streams)
    for stream in streams:
        if stream.wrong:
            row.wrongs.append(stream.wrong)
        elif stream.first_at is not None:
            row.first_s.append(stream.first_at - stream.asked_at)
            row.gaps_s.extend(stream.gaps)


# what is compared


def _openai(port: int, *, key: str = "") -> Request:
    def request(number: int, pieces: int) -> bytes:
        body = {"model": "stub", "stream": True, "messages": [{"role": "user", "content": _question(number, pieces)}]}
        return post(port, "/v1/chat/completions", json.dumps(body).encode(), key=key)

    return request


def refdesk_request(port: int, key: str) -> Request:
    def request(number: int, pieces: int) -> bytes:
        body = {"question": _question(number, pieces), "cache": "bypass", "max_output_tokens": 1024}
        return post(port, "/api/answers", json.dumps(body).encode(), key=key)

    return request


def _question(number: int, pieces: int) -> str:
    return f"Question {number}: what are the rules for {SUBJECTS[number % len(SUBJECTS)]}? Answer in {pieces} pieces."


async def _nginx(desk: desks.Desk) -> Target:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("nginx is the floor of this benchmark: install nginx-light.")
    port = desks.free_port()
    folder = desk.folder / "nginx"
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, stub=desk.stub_port))
    pid = await desk.start("nginx", (program, "-p", str(folder), "-c", str(config)), port=port, health_path="/counts")
    version = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr.strip()
    print(f"nginx: {version}, one worker, buffering off")
    return Target("nginx", port, _openai(port), OPENAI_DELTA, pid)


NGINX = """
daemon off; worker_processes 1; user root; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; tcp_nodelay on; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  upstream stub {{ server 127.0.0.1:{stub}; keepalive 512; }}
  server {{
    listen 127.0.0.1:{port} backlog=2000;
    location / {{
      proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


async def _litellm(desk: desks.Desk, program: str) -> Target:
    port, key = desks.free_port(), f"sk-{secrets.token_hex(24)}"
    config = desk.folder / "litellm.json"
    parameters = {"model": "openai/stub", "api_base": f"http://127.0.0.1:{desk.stub_port}/v1", "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": "stub", "litellm_params": parameters}]}))
    command = (program, "--config", str(config), "--host", "127.0.0.1", "--num_workers", "1", "--port", str(port))
    own = {"LITELLM_MASTER_KEY": key, "LITELLM_LOG": "ERROR"}
    pid = await desk.start("litellm", command, port=port, health_path="/health/liveliness", environment=own)
    python = Path(program).with_name("python")
    version = "import importlib.metadata as m; print(m.version('litellm'))"
    print(
        "litellm:", subprocess.run([python, "-c", version], capture_output=True, text=True, check=True).stdout.strip()
    )
    return Target("litellm", port, _openai(port, key=key), OPENAI_DELTA, pid)


# what is said


def _report(rows: Rows, *, streams: int) -> bool:
    """Prints the table of one number of streams; says whether all of it may be used."""
    direct, floor = rows[Kind("direct", SHORT)], rows[Kind("nginx", SHORT)]
    lines = [_line(kind, row, direct, floor if kind.pieces == SHORT else None) for kind, row in rows.items()]
    print(
        f"\n## {streams} streams, {len(floor.tokens)} rounds, {SHORT} or {LONG} deltas {PACE_S * 1000:.0f} ms apart\n"
    )
    print(table(HEADINGS, lines))
    further = {name: _further(rows, name) for name in ("nginx", "refdesk")}
    ratio = Ratio.of(further["refdesk"], further["nginx"])
    print(
        f"\nper further token: nginx {median(further['nginx']):.1f} µs, refdesk {median(further['refdesk']):.1f} µs, "
        f"refdesk ÷ nginx {ratio}"
    )
    totals, retrievals = rows[Kind("refdesk", SHORT)].cpu_us_per_token, rows[Kind("refdesk", SHORT)].retrieval_us
    without = [total - retrieval / SHORT for total, retrieval in zip(totals, retrievals, strict=True)]
    print(
        f"without retrieval ({median(retrievals) / 1000:.1f} ms a question): refdesk {median(without):.1f} µs a token, "
        f"refdesk ÷ nginx {Ratio.of(without, floor.cpu_us_per_token)}"
    )
    asking = [SHORT * (total - one) / 1000 for total, one in zip(totals, further["refdesk"], strict=True)]
    print(f"per question beside its tokens: refdesk {median(asking):.1f} ms")
    reasons = [f"{kind.target}/{kind.pieces}: {reason}" for kind, row in rows.items() for reason in row.void()]
    if (moved := drift(direct.client_us_per_token)) > DRIFT_MAX:
        reasons.append(f"the direct baseline has drifted by {moved:.0%}")
    for reason in reasons:
        print(f"VOID {reason}")
    return not reasons


HEADINGS = (
    "target", "deltas", "CPU µs/token", "÷ nginx [95 %]", "added TTFT p50 ms", "TTFT p99 ms", "gap p50 / p99 ms",
    "streams", "target core", "load core",
)  # fmt: skip


def _line(kind: Kind, row: Row, direct: Row, floor: Row | None) -> tuple[str, ...]:
    added = quantile(row.first_s, 0.5) - quantile(direct.first_s, 0.5)
    compared = floor is not None and floor is not row and kind.target != "direct"
    return (
        kind.target,
        str(kind.pieces),
        f"{median(row.cpu_us_per_token):.1f}",
        str(Ratio.of(row.cpu_us_per_token, floor.cpu_us_per_token)) if compared and floor else "",
        f"{added * 1000:.2f}",
        f"{quantile(row.first_s, 0.99) * 1000:.1f}",
        f"{quantile(row.gaps_s, 0.5) * 1000:.1f} / {quantile(row.gaps_s, 0.99) * 1000:.1f}",
        str(row.ended),
        f"{median(row.target_core):.0%}",
        f"{median(row.load_core):.0%}",
    )


def _further(rows: Rows, target: str) -> list[float]:
    """µs per token between the short and the long answers, round by round."""
    short, long = (rows[Kind(target, pieces)].cpu_us_per_token for pieces in (SHORT, LONG))
    return [(LONG * b - SHORT * a) / (LONG - SHORT) for a, b in zip(short, long, strict=True)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=lambda text: [int(part) for part in text.split(",")], default=[1, 50, 200])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--litellm")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
