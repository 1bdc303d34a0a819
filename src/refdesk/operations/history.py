"""The history behind the plots: steps of 15 s for an hour, of a minute for a day, of ten minutes for thirty days.

    every 15 s ─▶ figures ─┬▶ 15 s  ─┐
                           ├▶ 1 min ─┼──once a minute, or when somebody looks──▶ one table
                           └▶ 10 min ┘

Each process adds up its own steps and writes them under a name of its own; whoever reads adds the processes together. So there is
no leader, and no replica writes what another one has. A process that ends without a word loses a minute at most. The table has a
bound: rows of a process for each step that is kept, and older ones go.

Written together, since any transaction changes the epoch by which answers are found again (`answering.cache`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, NamedTuple

import msgspec
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.errors import Unavailable
from refdesk.operations.series import PLOTS, SAMPLE_S, Figures, Plot, across, grown, over_time
from refdesk.outside.postgres.database import load_queries, one_statement, transaction

logger = logging.getLogger(__name__)

MIGRATIONS = resources.files("refdesk.operations") / "migrations"

WRITE_INTERVAL_S = 60.0
NOW_S = 3 * SAMPLE_S
"""How old what stands in a table may be to be told as what is."""
KEPT_S = {SAMPLE_S: 3600, 60: 86400, 600: 30 * 86400}
"""How long steps of each length are kept, in seconds."""
RANGES: Mapping[str, tuple[int, int]] = {
    "15m": (900, 15),
    "1h": (3600, 15),
    "6h": (6 * 3600, 60),
    "24h": (86400, 60),
    "7d": (7 * 86400, 600),
    "30d": (30 * 86400, 600),
}
"""What can be looked at, and the steps that it is shown in, both in seconds."""
UNWRITTEN_MAX = 4000
"""Steps kept in memory while the database is away; the oldest go."""
ROWS_MAX = 100_000
PRUNE_INTERVAL_S = 600.0


class ProcessReading(NamedTuple):
    """What the metrics of a process say now. ``key`` is one life of it."""

    name: str
    key: str
    figures: Figures


class Step(NamedTuple):
    length_s: int
    at: int
    key: str


class Point(msgspec.Struct, frozen=True):
    """``values`` by line; None where there was nothing to tell."""

    at: datetime
    values: dict[str, float | None]


Read = Callable[[], Awaitable[list[ProcessReading]]]


class History:
    """Have ``run`` running. ``read`` tells what the metrics say now; ``clock`` gives seconds since 1970."""

    def __init__(self, pool: AsyncConnectionPool, read: Read, *, clock: Callable[[], float] = time.time) -> None:
        self._pool = pool
        self._read = read
        self._clock = clock
        self._queries = load_queries(resources.files("refdesk.operations") / "history.sql")
        self._before: dict[str, Figures] = {}
        self._open: dict[tuple[int, str], tuple[int, list[Figures]]] = {}
        """The steps that are not over, by length and process: their beginning, and the samples in them."""
        self._unwritten: dict[Step, Figures] = {}
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        written_at = pruned_at = self._clock()
        while True:
            await self._next_step()
            await self.sample()
            now = self._clock()
            if now - written_at >= WRITE_INTERVAL_S:
                await self.write()
                written_at = now
            if now - pruned_at >= PRUNE_INTERVAL_S:
                await self.prune()
                pruned_at = now

    async def _next_step(self) -> None:
        """Until a step begins. A sleep may end a little before its time, and a sample would fall into the step before."""
        begins_at = (self._clock() // SAMPLE_S + 1) * SAMPLE_S
        while (left_s := begins_at - self._clock()) > 0:
            await asyncio.sleep(left_s)

    async def sample(self) -> None:
        """Takes one sample of each process. The first of a life is only what the next one is compared with."""
        at = int(self._clock()) // SAMPLE_S * SAMPLE_S
        readings = await self._read()
        for reading in readings:
            before = self._before.get(reading.key)
            if before is not None:
                self._add(reading, grown(before, reading.figures), at=at)
        self._before = {reading.key: reading.figures for reading in readings}
        for step in list(self._unwritten)[:-UNWRITTEN_MAX]:
            del self._unwritten[step]

    def _add(self, reading: ProcessReading, figures: Figures, *, at: int) -> None:
        for length_s in KEPT_S:
            begun = at // length_s * length_s
            place = (length_s, reading.key)
            since, parts = self._open.get(place, (begun, []))
            parts = [*parts, figures] if since == begun else [figures]
            self._open[place] = (begun, parts)
            self._unwritten[Step(length_s, begun, reading.key)] = over_time(parts)

    async def write(self) -> None:
        """Writes what is not written yet; what cannot be written now stays."""
        async with self._writing:
            steps = dict(self._unwritten)
            if not steps:
                return
            values = {
                "steps": [step.length_s for step in steps],
                "times": [datetime.fromtimestamp(step.at, UTC) for step in steps],
                "processes": [step.key for step in steps],
                "figures": [msgspec.json.encode(figures).decode() for figures in steps.values()],
            }
            try:
                async with one_statement(self._pool) as connection:
                    await connection.execute(self._queries.write, values)
            except Unavailable as error:
                logger.debug("%d steps of history are not written yet: %s", len(steps), error)
                return
            for step, figures in steps.items():
                if self._unwritten.get(step) is figures:
                    del self._unwritten[step]

    async def prune(self) -> None:
        now = self._clock()
        live = {key for _, key in self._open if key in self._before}
        self._open = {place: kept for place, kept in self._open.items() if place[1] in live}
        try:
            async with transaction(self._pool) as connection:
                for step_s, kept_s in KEPT_S.items():
                    before = datetime.fromtimestamp(now - kept_s, UTC)
                    await connection.execute(self._queries.prune, {"step_s": step_s, "before": before})
        except Unavailable as error:
            logger.debug("old steps of history are still there: %s", error)

    async def points(self, plot: Plot, *, range_s: int, step_s: int) -> list[Point]:
        """Oldest first, steps without any figure left out. Raises Unavailable."""
        await self.write()
        since = datetime.fromtimestamp(self._clock() - range_s, UTC)
        async with one_statement(self._pool) as connection:
            values = {"plot": plot.name, "step_s": step_s, "since": since, "count": ROWS_MAX}
            cursor = await connection.execute(self._queries.read, values)
            rows: Sequence[tuple[datetime, str, Any]] = await cursor.fetchall()
        by_time: dict[datetime, list[tuple[str, Mapping[str, float]]]] = {}
        for at, key, lines in rows:
            by_time.setdefault(at, []).append((key.partition("@")[0], lines))
        return [Point(at, across(plot, parts)) for at, parts in by_time.items()]

    async def recent(self, *, range_s: int) -> dict[str, dict[str, float | None]]:
        """Of every plot its lines: what was counted lately, and what is. Raises Unavailable."""
        await self.write()
        now = self._clock()
        async with one_statement(self._pool) as connection:
            values = {"step_s": SAMPLE_S, "since": datetime.fromtimestamp(now - range_s, UTC), "count": ROWS_MAX}
            cursor = await connection.execute(self._queries.all, values)
            rows: Sequence[tuple[datetime, str, Figures]] = await cursor.fetchall()
        latest = datetime.fromtimestamp(now - NOW_S, UTC)
        return {plot.name: _lately(plot, rows, latest=latest) for plot in PLOTS}


def _lately(plot: Plot, rows: Sequence[tuple[datetime, str, Figures]], *, latest: datetime) -> dict[str, float | None]:
    by_process: dict[str, list[Figures]] = {}
    for at, key, figures in rows:
        if plot.name in figures and (plot.kind in ("count", "histogram") or at >= latest):
            by_process.setdefault(key, []).append({plot.name: figures[plot.name]})
    if plot.kind not in ("count", "histogram"):
        by_process = {key: parts[-1:] for key, parts in by_process.items()}
    parts = [(key.partition("@")[0], over_time(parts)[plot.name]) for key, parts in by_process.items()]
    return across(plot, parts)
