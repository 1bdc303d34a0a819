"""Five times what the model can serve, for a minute: are accepted answers still quick, and refusals early?

    python benchmarks/overload.py [--seconds 60]

Open loop: questions arrive at their own pace, each a different one, whatever becomes of those before. The assistant runs with
its default limits on admission; only those on one principal are lifted, since all questions come from one key.
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from dataclasses import dataclass

import aiohttp

from desk import RAISED, Desk, running_desk
from refdesk.app.embedded.nats import free_port

PIECES, PACE_S = 64, 0.02
CONCURRENT = 16
"""The default of REFDESK_CONCURRENT_ANSWERS_MAX."""
FACTOR = 5
PROBES = 40

_numbers = itertools.count()


@dataclass(frozen=True)
class Outcome:
    """Seconds from the question to the status, and to the first word; ``status`` 0 is a broken answer."""

    status: int
    answered_s: float
    first_word_s: float | None


async def ask(session: aiohttp.ClientSession, url: str) -> Outcome:
    """One question of its own, read to its end."""
    started = time.perf_counter()
    body = {"question": f"What does rule {next(_numbers)} say, in {PIECES} pieces?", "cache": "bypass"}
    headers = {"Accept": "text/event-stream"}
    async with session.post(f"{url}/api/answers", json=body, headers=headers) as response:
        answered_s, first, complete = time.perf_counter() - started, None, False
        async for line in response.content:
            if first is None and line.startswith(b"event: delta"):
                first = time.perf_counter() - started
            complete = complete or line.startswith(b"event: done")
    status = response.status if response.status != 200 or complete else 0
    return Outcome(status, answered_s, first)


async def measure(desk: Desk, *, seconds: float) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in desk.settings.items() if name not in RAISED} | {
        "REFDESK_ANSWERS_KEPT_FREE": "0",
        "REFDESK_CONCURRENT_PER_PRINCIPAL_MAX": "10000",
        "REFDESK_WAITING_PER_PRINCIPAL_MAX": "4000",
        "REFDESK_REQUESTS_PER_MINUTE_MAX": "1000000",
        "REFDESK_TOKENS_PER_MINUTE_MAX": "1000000000",
        "REFDESK_TOKENS_PER_DAY_MAX": "10000000000",
    }
    command = (sys.executable, "-m", "refdesk", "assistant", "--port", str(port))
    await desk.start("overloaded", command, port=port, health_path="/health/ready", environment=environment)
    headers = {"Authorization": f"Bearer {desk.key}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        unloaded = [await ask(session, url) for _ in range(PROBES)]
        capacity = CONCURRENT / (PIECES * PACE_S)
        during = await flood(session, url, rate=FACTOR * capacity, seconds=seconds)
        recovered_s = await recovery(session, url)
    report(unloaded, during, capacity=capacity, seconds=seconds, recovered_s=recovered_s)


async def flood(session: aiohttp.ClientSession, url: str, *, rate: float, seconds: float) -> list[Outcome]:
    """Questions at ``rate`` a second, evenly, for so long; then the running ones end."""
    loop = asyncio.get_running_loop()
    begin, asked = loop.time(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(begin + number / rate - loop.time())
        asked.append(asyncio.create_task(ask(session, url)))
    return await asyncio.gather(*asked)


async def recovery(session: aiohttp.ClientSession, url: str) -> float:
    """Seconds until a burst of as many questions as may be written at a time is taken whole."""
    started = time.perf_counter()
    while any(
        outcome.status != 200 for outcome in await asyncio.gather(*(ask(session, url) for _ in range(CONCURRENT)))
    ):
        pass
    return time.perf_counter() - started


def report(
    unloaded: list[Outcome], during: list[Outcome], *, capacity: float, seconds: float, recovered_s: float
) -> None:
    alone = percentile([outcome.first_word_s or 0.0 for outcome in unloaded], 95)
    accepted = [outcome for outcome in during if outcome.first_word_s is not None]
    refused = [outcome for outcome in during if outcome.status in (429, 503)]
    under = percentile([outcome.first_word_s or 0.0 for outcome in accepted], 95)
    print(f"offered {len(during)} in {seconds:g} s, {FACTOR} times the capacity of {capacity:.1f} a second")
    print(
        f"accepted {len(accepted)}, of the capacity {len(accepted) / (capacity * seconds):.0%}; refused {len(refused)}"
    )
    print(f"neither: {len(during) - len(accepted) - len(refused)}; broken: {sum(o.status == 0 for o in during)}")
    print(f"first word p95: {alone * 1e3:.0f} ms unloaded, {under * 1e3:.0f} ms overloaded: ratio {under / alone:.2f}")
    print(f"refusal p99: {percentile([outcome.answered_s for outcome in refused], 99) * 1e3:.0f} ms")
    print(f"normal again after {recovered_s:.1f} s")


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else float("nan")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    async with running_desk(pace_s=PACE_S) as desk:
        await measure(desk, seconds=arguments.seconds)


if __name__ == "__main__":
    asyncio.run(main())
