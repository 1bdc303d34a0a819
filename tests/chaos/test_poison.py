"""Documents that cannot be indexed are given up once each, while the writer of their letters is killed; the others go on."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.oracle import index_tables
from tests.chaos.quiet import settled
from tests.chaos.writers import Tell

SENDERS = 4
SETTLE_S_MAX = 120.0
POISON = ("&nbsp;", "<!-- nothing to see -->", "&#8203;&#8203;")
"""Markdown without any text to read."""
PACE_PER_S = 20.0
"""Well below what two indexers do, so that a delay is the poison's doing and not the queue's."""


@dataclass(frozen=True)
class Delays:
    """From a document's commit to its being searchable, by the clock of the one PostgreSQL, in seconds."""

    p50_s: float
    p99_s: float


@pytest.mark.timeout(500)
async def test_poison_among_good_documents_is_given_up_once(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """12 among 120, with two kills."""
    async with open_cluster(tmp_path, nursery) as cluster:
        await send(cluster, tell, good=120, poison=12, kills=2, pace_per_s=0.0)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_200_poison_among_2000_delay_nobody(nursery: Nursery, tmp_path: Path, tell: Tell) -> None:
    """Against the same 2,000 without: the p99 of their delay stays below twice that. Kills come in a third round."""
    async with open_cluster(tmp_path, nursery) as cluster:
        alone = await send(cluster, tell, good=2000, poison=0, kills=0, pace_per_s=PACE_PER_S)
        among = await send(cluster, tell, good=2000, poison=200, kills=0, pace_per_s=PACE_PER_S)
        await send(cluster, tell, good=2000, poison=200, kills=10, pace_per_s=0.0)
    tell(f"p99 {among.p99_s / alone.p99_s:.2f} times that without poison")
    assert among.p99_s < 2 * alone.p99_s


async def send(cluster: Cluster, tell: Tell, *, good: int, poison: int, kills: int, pace_per_s: float) -> Delays:
    """Send both in a random order; check both ends; the good ones' delays. ``pace_per_s`` 0: as fast as it goes."""
    order = [True] * good + [False] * poison
    random.Random(good + poison).shuffle(order)
    sent: dict[bool, list[str]] = {True: [], False: []}
    waiting = iter(enumerate(order))
    began = asyncio.get_running_loop().time()
    killed_at = [len(order) * (number + 1) // (kills + 1) for number in range(kills)]

    async def sender() -> None:
        for number, is_good in waiting:
            if pace_per_s:
                await asyncio.sleep(max(0.0, began + number / pace_per_s - asyncio.get_running_loop().time()))
            sent[is_good].append(await create(cluster, number, is_good=is_good))
            if number in killed_at:
                member = cluster.indexers[number % len(cluster.indexers)]
                await member.kill()
                await member.start()

    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    await settled(cluster, within_s=SETTLE_S_MAX)
    letters, indexed, delays = await outcome(cluster, good=sent[True], poison=sent[False])
    tell(
        f"{good} good, {poison} poison, {kills} kills: {indexed} indexed, {letters} dead letters, "
        f"delay p50 {delays.p50_s * 1000:.0f} ms, p99 {delays.p99_s * 1000:.0f} ms"
    )
    assert (indexed, letters) == (good, poison)
    return delays


async def create(cluster: Cluster, number: int, *, is_good: bool) -> str:
    text = f"# Note {number}\n\nThe crate {number} holds rope and tar." if is_good else POISON[number % len(POISON)]
    status, document = await cluster.call("POST", "/api/documents", json={"title": f"Note {number}", "text": text})
    assert status == 201, document
    return str(document["id"])


async def outcome(cluster: Cluster, *, good: Sequence[str], poison: Sequence[str]) -> tuple[int, int, Delays]:
    """Dead letters of these (no document has two, no good one has any), good documents indexed, and their delays."""
    async with await psycopg.AsyncConnection.connect(cluster.urls.documents_database_url) as documents:
        rows = await documents.execute(
            "SELECT id, state, updated_at FROM documents WHERE id = ANY(%s)", [[*good, *poison]]
        )
        found = {document_id: (state, at) for document_id, state, at in await rows.fetchall()}
    async with index_tables(cluster) as index:
        rows = await index.execute(
            "SELECT document_id, final FROM public.dead_letters WHERE document_id = ANY(%s)", [[*good, *poison]]
        )
        letters = await rows.fetchall()
        rows = await index.execute(
            "SELECT document_id, applied_at FROM documents WHERE document_id = ANY(%s)", [list(good)]
        )
        applied = dict(await rows.fetchall())
    assert sorted(document_id for document_id, _ in letters) == sorted(poison)
    assert all(final for _, final in letters)
    assert {found[document_id][0] for document_id in poison} <= {"failed"}
    seconds = sorted((applied[document_id] - found[document_id][1]).total_seconds() for document_id in good)
    indexed = sum(found[document_id][0] == "indexed" for document_id in good)
    return len(letters), indexed, Delays(seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100])
