"""NATS loses everything it had while documents are being written; the outbox tells it again, and nobody has to do anything."""

import asyncio
import time
from pathlib import Path

import pytest
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.oracle import judge
from tests.chaos.quiet import settled
from tests.chaos.writers import Record, Tell, Writer

WRITERS = 4
HEALED_S_MAX = 60.0
FILLED_S_MAX = 600.0
SEED = "wiped"


@pytest.mark.timeout(500)
async def test_a_wiped_nats_costs_no_document(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """A hundred documents, and writes before, during and after."""
    async with open_cluster(tmp_path, nursery) as cluster:
        await wipe(cluster, tell, documents=100, changes=100)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_wiped_nats_costs_none_of_10000_documents(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """The promise's figure: the oracle is content within 60 s."""
    async with open_cluster(tmp_path, nursery) as cluster:
        await wipe(cluster, tell, documents=10_000, changes=500)


async def wipe(cluster: Cluster, tell: Tell, *, documents: int, changes: int) -> None:
    """Fill; take the store away in the middle of ``changes`` more; the oracle must be content in time."""
    record, stop = Record(), asyncio.Event()
    writers = [
        Writer(cluster, record, name=f"writer-{number}", documents=documents // WRITERS, seed=SEED)
        for number in range(WRITERS)
    ]
    await asyncio.gather(*(writer.fill() for writer in writers))
    await settled(cluster, within_s=FILLED_S_MAX)
    tell(f"{record.changes} documents are there")
    async with asyncio.TaskGroup() as tasks:
        for writer in writers:
            tasks.create_task(writer.run(stop))
        await record.reaches(record.changes + changes)
        wiped_at = time.monotonic()
        await cluster.wipe_nats()
        await record.reaches(record.changes + changes)
        stop.set()
    await settled(cluster, within_s=HEALED_S_MAX)
    settled_at = time.monotonic()
    verdict = await judge(cluster, record=record)
    tell(
        f"settled {settled_at - wiped_at:.1f} s after the wipe, judged in {time.monotonic() - settled_at:.1f} s: "
        f"{verdict.documents} documents and tombstones, {len(verdict.wrong)} wrong"
    )
    assert not verdict.wrong, str(verdict)
    assert settled_at - wiped_at <= HEALED_S_MAX
