"""A NATS cluster of three under all of Refdesk: nodes are lost while documents are written, and nobody has to do anything."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.oracle import index_tables, judge
from tests.chaos.quiet import settled
from tests.chaos.writers import Record, Tell, Writer
from tests.integration.nats_cluster import NatsCluster, nats_cluster
from tests.support.running import until

from refdesk.contracts.events import DOCUMENTS_STREAM
from refdesk.outside.nats.connection import Connection

WRITERS = 4
RESUMED_S_MAX = 15.0
"""The promise: so long after the loss of a node, indexing goes on."""
SETTLED_S_MAX = 120.0
THREE = {"REFDESK_STREAM_REPLICAS": "3"}
SEED = "nodes"

Lose = Callable[[NatsCluster, str], Awaitable[Callable[[], None]]]


async def ended(nats: NatsCluster, name: str, how: signal.Signals) -> Callable[[], None]:
    await asyncio.to_thread(nats.nodes[name].stop, how)
    return nats.nodes[name].start


async def killed(nats: NatsCluster, name: str) -> Callable[[], None]:
    return await ended(nats, name, signal.SIGKILL)


async def stopped(nats: NatsCluster, name: str) -> Callable[[], None]:
    return await ended(nats, name, signal.SIGTERM)


async def frozen(nats: NatsCluster, name: str) -> Callable[[], None]:
    nats.nodes[name].signal(signal.SIGSTOP)
    return lambda: nats.nodes[name].signal(signal.SIGCONT)


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_nodes_lost_in_every_way_cost_no_document(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """Stopped, killed and frozen, three times each."""
    await lose(nursery, tmp_path, tell, (stopped, killed, frozen) * 3)


async def lose(nursery: Nursery, folder: Path, tell: Tell, ways: tuple[Lose, ...]) -> None:
    """Under load, lose the node that leads the stream of changes in each of these ways; the oracle must be content."""
    async with (
        nats_cluster(folder / "nats") as nats,
        open_cluster(folder, nursery, nats_url=nats.urls, settings=THREE) as cluster,
    ):
        record, stop = Record(), asyncio.Event()
        slowest_s = 0.0
        async with asyncio.TaskGroup() as tasks:
            for number in range(WRITERS):
                writer = Writer(cluster, record, name=f"writer-{number}", documents=10, seed=SEED)
                tasks.create_task(writer.run(stop))
            await record.reaches(50)
            for way in ways:
                async with Connection.open(nats.urls, name="test", wait_s=10.0) as connection:
                    leader = await nats.leader(DOCUMENTS_STREAM, at=connection)
                bring_back = await way(nats, leader)
                resumed_s = await indexing_goes_on(cluster, record)
                slowest_s = max(slowest_s, resumed_s)
                tell(f"{way.__name__}: indexing went on {resumed_s:.1f} s later, {record.changes} changes so far")
                bring_back()
                await record.reaches(record.changes + 50)
                await indexing_goes_on(cluster, record)
            stop.set()
        await settled(cluster, within_s=SETTLED_S_MAX)
        verdict = await judge(cluster, record=record)
        tell(f"{record.changes} changes, {verdict.documents} documents and tombstones, {len(verdict.wrong)} wrong")
        assert not verdict.wrong, str(verdict)
        assert slowest_s <= RESUMED_S_MAX


async def indexing_goes_on(cluster: Cluster, record: Record) -> float:
    """Write a document and wait until the index has it; the seconds that took."""
    began = time.monotonic()
    status, document = await cluster.call(
        "POST", "/api/documents", json={"title": "Afterwards", "text": "After a loss."}
    )
    assert status == 201, document

    async def is_indexed() -> bool:
        async with index_tables(cluster) as connection:
            found = await connection.execute("SELECT 1 FROM documents WHERE document_id = %s", (document["id"],))
            return await found.fetchone() is not None

    await until(is_indexed, what="a new document is indexed", within_s=60.0)
    resumed_s = time.monotonic() - began
    status, found = await cluster.call("DELETE", f"/api/documents/{document['id']}")
    assert status == 204, found
    record.buried[document["id"]] = 2
    return resumed_s
