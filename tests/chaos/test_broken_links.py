"""Every link between services and servers breaks in every way; once it is whole, work goes on without any restart."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.oracle import judge
from tests.chaos.quiet import settled
from tests.chaos.schedule import CUT, WAYS, suffering
from tests.chaos.writers import Record, Tell, Writer
from tests.support.patience import within
from tests.support.running import POLL_S

HEALED_S_MAX = 15.0
SETTLE_S_MAX = 60.0
NOTICED_S = 14.0
"""Longer than a client of NATS takes to give a silent server up."""

Break = tuple[str, str, float]
"""In which way, which link, for how many seconds."""


@pytest.mark.timeout(500)
async def test_every_link_heals_after_every_break(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """Each once, for a moment."""
    breaks = [(way, link, 0.3) for way, link in itertools.product(("reset", "silent"), CUT)]
    await heal(nursery, tmp_path, tell, breaks)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_100_breaks_heal_within_15_seconds(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """Each way and link five times for up to 3 s; and of the silent ones some for so long that they are given up."""
    chosen = random.Random("broken links")
    breaks = [
        (way, link, NOTICED_S if way == "silent" and turn == 0 else chosen.uniform(0.2, 3.0))
        for turn in range(5)
        for way, link in itertools.product(WAYS, CUT)
    ]
    assert len(breaks) == 100
    await heal(nursery, tmp_path, tell, breaks)


async def heal(nursery: Nursery, folder: Path, tell: Tell, breaks: Sequence[Break]) -> None:
    """After each break, a document that is written goes all the way; the oracle looks at the end."""
    async with open_cluster(folder, nursery, indexers=1) as cluster:
        record = Record()
        writer = Writer(cluster, record, name="writer", documents=10, seed="broken links")
        took_s = [await break_once(cluster, writer, broken) for broken in breaks]
        await settled(cluster, within_s=SETTLE_S_MAX)
        verdict = await judge(cluster, record=record)
        slowest_s = max(took_s)
        tell(f"{len(breaks)} breaks, the slowest healed in {slowest_s:.1f} s ({breaks[took_s.index(slowest_s)]})")
        assert not verdict.wrong, str(verdict)
        assert all(member.alive and member.lives == 1 for member in cluster.members.values())


async def break_once(cluster: Cluster, writer: Writer, broken: Break) -> float:
    """Break and mend a link while a write is under way; seconds from the mending until nothing is pending any more."""
    way, link, lasts_s = broken
    clock = asyncio.get_running_loop()
    with suffering(cluster, way, link):
        writing = asyncio.create_task(writer.write())
        await asyncio.sleep(lasts_s)
    healed_at = clock.time()
    try:
        async with within(HEALED_S_MAX):
            await writing
            await writer.write()
            while (await cluster.read("/api/documents/backlog"))["documents_pending"]:
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"{link} was {way} for {lasts_s:.1f} s and did not heal in {HEALED_S_MAX:g} s") from None
    return clock.time() - healed_at
