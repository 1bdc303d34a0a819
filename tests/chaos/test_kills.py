"""Processes die, freeze and lose each other while four writers work; afterwards nothing is lost and nothing is left over."""

import asyncio
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.oracle import judge
from tests.chaos.quiet import settled
from tests.chaos.schedule import CUT, FROZEN, Fault, Killer, Storm, schedule
from tests.chaos.writers import WORDS, Record, Tell, Writer
from tests.support.qdrant import as_variables, own_qdrant

from refdesk.index.qdrant.server import Qdrant

WRITERS = 4
SEED = os.environ.get("REFDESK_CHAOS_SEED", "")
"""To run a schedule again that a failure has printed."""


SHORT = Storm(
    rounds=1,
    kills={"documents": 3, "indexer-1": 3, "indexer-2": 3, "nats": 2, "postgres": 2},
    others=6,
    changes_mean=6,
    changes_min=100,
    documents_per_writer=12,
    settle_s_max=60.0,
)
LONG = Storm(
    rounds=5,
    kills={
        "documents": 18,
        "indexer-1": 18,
        "indexer-2": 18,
        "nats": 18,
        "postgres": 12,
        "valkey": 8,
        "assistant": 8,
    },
    others=30,
    changes_mean=26,
    changes_min=4000,
    documents_per_writer=250,
    settle_s_max=300.0,
    frozen=(*FROZEN, "valkey", "assistant"),
    cut=(*CUT, "assistant postgres", "assistant nats"),
)


@pytest.mark.timeout(500)
async def test_13_kills_lose_nothing(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """Every kind of process that documents pass through, with freezes and cut links in between."""
    async with open_cluster(tmp_path, nursery) as cluster:
        await survive(cluster, SHORT, tell)


@pytest.mark.timeout(500)
async def test_13_kills_lose_nothing_in_qdrant(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """The same with the index there."""
    async with (
        own_qdrant() as qdrant,
        open_cluster(tmp_path, nursery, settings=as_variables(qdrant.settings)) as cluster,
    ):
        await survive(cluster, SHORT, tell, qdrant=qdrant)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_500_kills_and_20000_changes_lose_nothing(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """The same with Valkey, and with an assistant that is asked all the while."""
    async with open_cluster(tmp_path, nursery, with_assistant=True) as cluster:
        record = await survive(cluster, LONG, tell)
    assert record.changes >= 20_000
    assert record.counts["answered"] > 0


async def survive(cluster: Cluster, storm: Storm, tell: Tell, *, qdrant: Qdrant | None = None) -> Record:
    """Work, kill, settle, judge, round after round; the figures are printed, whatever the verdict."""
    seed = SEED or f"{random.SystemRandom().getrandbits(32):08x}"
    record = Record()
    killer = Killer(cluster, record)
    writers = [
        Writer(cluster, record, name=f"writer-{number}", documents=storm.documents_per_writer, seed=seed)
        for number in range(WRITERS)
    ]
    tell(f"seed {seed}")
    for number in range(storm.rounds):
        faults = schedule(f"{seed} {number}", storm)
        try:
            await _work_and_kill(cluster, killer, writers, faults=faults, changes=storm.changes_min * (number + 1))
        finally:
            tell(f"{killer.kills} kills of {dict(killer.done)}; {record.changes} changes of {dict(record.counts)}")
        await settled(cluster, within_s=storm.settle_s_max)
        tell("settled")
        verdict = await judge(cluster, record=record, qdrant=qdrant)
        tell(f"{verdict.documents} documents and tombstones, {verdict.chunks} chunks, {len(verdict.wrong)} wrong")
        assert not verdict.wrong, f"seed {seed}: {verdict}"
        assert killer.kills == sum(storm.kills.values()) * (number + 1)
    return record


async def _work_and_kill(
    cluster: Cluster, killer: Killer, writers: Sequence[Writer], *, faults: list[Fault], changes: int
) -> None:
    """Until every fault was committed and there are ``changes`` in the record."""
    stop, record = asyncio.Event(), killer.record
    async with asyncio.TaskGroup() as tasks:
        for writer in writers:
            tasks.create_task(writer.run(stop))
        if "assistant" in cluster.members:
            tasks.create_task(ask(cluster, record, stop))
        await killer.run(faults)
        await record.reaches(changes)
        stop.set()


async def ask(cluster: Cluster, record: Record, stop: asyncio.Event) -> None:
    """An answer that comes is a whole one, whoever dies meanwhile."""
    while not stop.is_set():
        question = {"question": f"What does revision {record.changes} say of the {random.choice(WORDS)}?"}
        status, body = await cluster.call("POST", "/api/answers", of="assistant", json=question)
        if status == 200:
            record.counts["answered"] += 1
            if body["finish_reason"] not in ("stop", "length", "not_found"):
                record.violations.append(f"half an answer: {body}")
        elif 0 < status < 500 and status != 429:
            record.violations.append(f"asked, and refused: {status} {body}")
        await asyncio.sleep(0.2)
