"""Uploads are counted as they were, also where the indexers that work on them are killed."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.quiet import settled
from tests.chaos.writers import Tell
from tests.support.running import until

BLANK = "&nbsp;"
"""Content without any text to read."""
BLANK_EVERY = 25
AT_ONCE = 8
KILLS = 5

Samples = dict[str, float]


@pytest.mark.timeout(300)
async def test_counters_of_a_few_uploads_are_exact(nursery: Nursery, tmp_path: Path) -> None:
    """Nobody is killed: what the indexers count is exact, too."""
    async with open_cluster(tmp_path, nursery, with_assistant=True) as cluster:
        await upload_all(cluster, 50)
        await counted(cluster, 50)
        indexers = [await scraped(cluster, member.name) for member in cluster.indexers]
    ends = {outcome: sum(one.get(f"events {outcome}", 0) for one in indexers) for outcome in ("applied", "given_up")}
    assert ends == {"applied": 48, "given_up": 2}


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_counters_of_500_uploads_are_exact_though_indexers_are_killed(
    nursery: Nursery, tmp_path: Path, tell: Tell
) -> None:
    """By kill -9, again and again; whoever is left, or comes back, goes on."""
    async with open_cluster(tmp_path, nursery, with_assistant=True) as cluster:
        uploading = asyncio.create_task(upload_all(cluster, 500))
        for number in range(KILLS):
            goal = 500 * (number + 1) // (KILLS + 2)
            await until(lambda goal=goal: _stored(cluster, goal), what=f"{goal} are stored")
            member = cluster.indexers[number % 2]
            await member.kill()
            await member.come_back()
        await uploading
        tell(f"{KILLS} kills; {await counted(cluster, 500)}")


async def upload_all(cluster: Cluster, count: int) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def upload(number: int) -> None:
        text = BLANK if number % BLANK_EVERY == 0 else f"# Crate {number}\n\nIt stands in bay {number}."
        async with places:
            body = {"title": f"Crate {number}", "text": text}
            status, told = await cluster.call("POST", "/api/documents", json=body)
            assert status == 201, told

    await asyncio.gather(*(upload(number) for number in range(count)))


async def _stored(cluster: Cluster, count: int) -> bool:
    backlog = await cluster.read("/api/documents/backlog")
    return sum(backlog[f"documents_{state}"] for state in ("pending", "indexed", "failed")) >= count


async def counted(cluster: Cluster, count: int) -> Samples:
    """The figures that outlive indexers, once nothing is pending: each equals what was uploaded."""
    await settled(cluster, within_s=300)
    blank = count // BLANK_EVERY
    samples = await scraped(cluster, "documents")
    letters = await scraped(cluster, "assistant")
    found = {
        "indexed": samples["documents indexed"],
        "failed": samples["documents failed"],
        "pending": samples["documents pending"],
        "made searchable": samples["refdesk_time_to_search_seconds_count"],
        "lag": samples["refdesk_index_lag_seconds"],
        "outbox": samples["refdesk_outbox_pending"],
        "dead letters": letters["refdesk_dlq_size"],
    }
    assert found == {
        "indexed": count - blank,
        "failed": blank,
        "pending": 0,
        "made searchable": count - blank,
        "lag": 0,
        "outbox": 0,
        "dead letters": blank,
    }
    return found


async def scraped(cluster: Cluster, name: str) -> Samples:
    """By metric; documents by state, and events by how they ended."""
    async with aiohttp.ClientSession() as session, session.get(cluster.address("/metrics", of=name)) as reply:
        text = await reply.text()
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name
            if key == "refdesk_documents":
                key = f"documents {sample.labels['state']}"
            elif key == "refdesk_events_processed_total":
                key = f"events {sample.labels['outcome']}"
            found[key] = found.get(key, 0.0) + sample.value
    return found
