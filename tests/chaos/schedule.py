"""What goes wrong, and when: a list that follows from its seed alone, and the hand that carries it out.

The clock is the writers' work: a fault comes after so many more acknowledged changes, so that a slow machine gets the same
schedule, and so many kills make so many changes. (When nothing can be acknowledged for a while, it comes all the same.)
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.cluster import Cluster
from tests.chaos.writers import Record

STALLED_S = 2.0
"""So long without an acknowledgement, and the next fault comes anyway."""
FROZEN = ("documents", "indexer-1", "indexer-2", "nats")
CUT = ("documents postgres", "documents nats", "indexer postgres", "indexer nats", "indexer documents")
WAYS = ("reset", "silent", "late", "narrow")


@dataclass(frozen=True)
class Storm:
    """How much of it in one of its rounds, each of which ends with everything settled and judged."""

    rounds: int
    kills: Mapping[str, int]
    """How often each member dies."""
    others: int
    """So many of ``frozen`` and of ``cut`` come between."""
    changes_mean: int
    """Between two faults."""
    changes_min: int
    """In the whole round."""
    documents_per_writer: int
    settle_s_max: float
    frozen: Sequence[str] = FROZEN
    cut: Sequence[str] = CUT


@dataclass(frozen=True)
class Fault:
    """``changes`` are waited for before it; ``calm`` waits until everybody is up, too."""

    kind: str
    target: str
    lasts_s: float
    changes: int
    calm: bool


def schedule(seed: str, storm: Storm) -> list[Fault]:
    """One round's faults."""
    chosen = random.Random(seed)
    victims = [("kill", name) for name, count in storm.kills.items() for _ in range(count)]
    rest = [
        chosen.choice([("freeze", chosen.choice(storm.frozen)), (chosen.choice(WAYS), chosen.choice(storm.cut))])
        for _ in range(storm.others)
    ]
    order = [*victims, *rest]
    chosen.shuffle(order)
    mean = storm.changes_mean
    return [
        Fault(
            kind=kind,
            target=target,
            lasts_s=round(chosen.uniform(0.0, 0.3) if kind == "kill" else chosen.uniform(0.2, 2.5), 2),
            changes=chosen.randint(mean, mean * 3 // 2),
            calm=chosen.random() < 0.25,
        )
        for kind, target in order
    ]


class Killer:
    """Carries a schedule out. Faults of different targets may overlap."""

    def __init__(self, cluster: Cluster, record: Record) -> None:
        self._cluster = cluster
        self.record = record
        self._busy: dict[str, asyncio.Task[None]] = {}
        self.done: Counter[str] = Counter()

    async def run(self, faults: list[Fault]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                await self._wait(fault)
                self._busy[fault.target] = tasks.create_task(self._commit(fault))

    async def _wait(self, fault: Fault) -> None:
        earlier = (
            self._busy.values() if fault.calm else [self._busy[fault.target]] if fault.target in self._busy else []
        )
        for task in tuple(earlier):
            await asyncio.wait([task])
        goal = self.record.changes + fault.changes
        while self.record.changes < goal:
            before = self.record.changes
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STALLED_S):
                    await self.record.reaches(goal)
            if self.record.changes == before:
                return

    async def _commit(self, fault: Fault) -> None:
        if fault.kind == "kill":
            member = self._cluster.members[fault.target]
            await member.kill()
            await asyncio.sleep(fault.lasts_s)
            self.done[f"kill {fault.target}"] += 1
            await member.come_back()
            return
        with suffering(self._cluster, fault.kind, fault.target):
            await asyncio.sleep(fault.lasts_s)
        self.done[f"{fault.kind} {fault.target}"] += 1

    @property
    def kills(self) -> int:
        return sum(count for what, count in self.done.items() if what.startswith("kill "))


def suffering(cluster: Cluster, kind: str, target: str) -> contextlib.AbstractContextManager[None]:
    """A fault that ends with its block: a member frozen, or a link broken in one of the ``WAYS``."""
    if kind == "freeze":
        return cluster.members[target].frozen()
    link = cluster.links[target]
    match kind:
        case "reset":
            return _breaking(link.reset)
        case "silent":
            return link.silent()
        case "late":
            return link.slow(latency_s=0.2)
        case _:
            return link.slow(bytes_per_s=20_000)


@contextlib.contextmanager
def _breaking(reset: Callable[[], None]) -> Iterator[None]:
    reset()
    yield
