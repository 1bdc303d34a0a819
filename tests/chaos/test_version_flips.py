"""A search sees one version of a document, whole, at every moment; whoever indexes it is killed meanwhile."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.writers import Tell
from tests.support.embedding_server import by_hash
from tests.support.qdrant import as_variables, own_qdrant
from tests.support.running import until

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.index.chunks import Passage
from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import Engine, Generations
from refdesk.index.port import ChunkIndex
from refdesk.index.qdrant.server import Qdrant
from refdesk.outside.postgres.database import open_pool

EVERYTHING = Scope(readers=(), everything=True)
SECTIONS = 6
LINES_PER_SECTION = 12
SEARCHERS = 2
HITS_MAX = 50
"""More than the document has chunks: a search brings all of them."""
QUESTION = "Which revision is this?"


def text_of(revision: int) -> str:
    """Several chunks, each of which names the revision; none is like one of another revision."""
    return "\n\n".join(
        f"## Section {number}\n\nThis is revision {revision}. " + f"Line {revision} of {number}. " * LINES_PER_SECTION
        for number in range(SECTIONS)
    )


@pytest.fixture(params=get_args(Engine))
async def qdrant(request: pytest.FixtureRequest) -> AsyncIterator[Qdrant | None]:
    """None: the index is in PostgreSQL."""
    if request.param == "pgvector":
        yield None
        return
    async with own_qdrant() as qdrant:
        yield qdrant


@pytest.mark.timeout(500)
async def test_12_flips_show_no_half_version_and_no_gap(
    nursery: Nursery, tmp_path: Path, tell: Tell, qdrant: Qdrant | None
) -> None:
    """Two searchers, and a kill every fourth version."""
    async with open_cluster(tmp_path, nursery, settings=settings_of(qdrant)) as cluster:
        await flip(cluster, tell, flips=12, flips_per_kill=4, qdrant=qdrant)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_1000_flips_show_no_half_version_and_no_gap(
    nursery: Nursery, tmp_path: Path, tell: Tell, qdrant: Qdrant | None
) -> None:
    """The same, in full."""
    async with open_cluster(tmp_path, nursery, settings=settings_of(qdrant)) as cluster:
        await flip(cluster, tell, flips=1000, flips_per_kill=10, qdrant=qdrant)


def settings_of(qdrant: Qdrant | None) -> dict[str, str]:
    return {} if qdrant is None else as_variables(qdrant.settings)


async def flip(cluster: Cluster, tell: Tell, *, flips: int, flips_per_kill: int, qdrant: Qdrant | None) -> None:
    """Search without a pause while a document goes through its versions and its indexers are killed."""
    seen: Counter[str] = Counter()
    stop = asyncio.Event()
    created = await cluster.call("POST", "/api/documents", json={"title": "Flips", "text": text_of(1)})
    document = created[1]
    await shown(cluster, document["id"], version=1)
    async with open_pool(cluster.urls.index_database_url, name="searchers") as pool:
        [active] = await Generations(pool).live()
        index = Engines(pool, qdrant=qdrant).index(active)
        found = await index.passages(document["id"], scope=EVERYTHING)
        chunks = len(found[1]) if found else 0
        async with asyncio.TaskGroup() as tasks:
            for _ in range(SEARCHERS):
                tasks.create_task(search(index, document["id"], chunks=chunks, seen=seen, stop=stop))
            await turn(cluster, document["id"], flips=flips, flips_per_kill=flips_per_kill)
            stop.set()
    lives = sum(member.lives - 1 for member in cluster.indexers)
    tell(f"{flips} flips, {lives} kills, {seen.total()} searches: {dict(seen)}")
    assert chunks >= SECTIONS
    assert seen["whole"] > flips
    assert set(seen) == {"whole"}


async def turn(cluster: Cluster, document_id: str, *, flips: int, flips_per_kill: int) -> None:
    """One version after the other, each shown before the next; now and then an indexer dies just after a write."""
    chosen = random.Random(flips)
    for revision in range(2, flips + 2):
        await cluster.call("PUT", f"/api/documents/{document_id}", json={"text": text_of(revision)})
        if revision % flips_per_kill == 0:
            member = chosen.choice(cluster.indexers)
            await asyncio.sleep(chosen.uniform(0.0, 0.05))  # anywhere between fetching and telling
            await member.kill()
            await member.start()
        await shown(cluster, document_id, version=revision)


async def shown(cluster: Cluster, document_id: str, *, version: int) -> None:
    async def is_shown() -> bool:
        document = await cluster.read(f"/api/documents/{document_id}")
        return bool((document["state"], document["version"]) == ("indexed", version))

    await until(is_shown, what=f"version {version} is indexed")


async def search(index: ChunkIndex, document_id: str, *, chunks: int, seen: Counter[str], stop: asyncio.Event) -> None:
    """Without a pause; every result is counted by what it is."""
    vector = np.array(by_hash(QUESTION), dtype=np.float32)
    filters = Filters(document_ids=(document_id,))
    while not stop.is_set():
        hits = await index.search(QUESTION, vector, scope=EVERYTHING, filters=filters, limit=HITS_MAX)
        seen[kind_of(hits, chunks=chunks)] += 1


def kind_of(hits: list[Passage], *, chunks: int) -> str:
    versions = {hit.version for hit in hits}
    if len(versions) != 1:
        return "mixed" if versions else "empty"
    [version] = versions
    if not all(f"revision {version}." in hit.text for hit in hits):
        return "mislabelled"
    return "whole" if sorted(hit.ordinal for hit in hits) == list(range(chunks)) else "in part"
