"""A database comes back from yesterday's backup while everything runs: nothing of the lost day is cited, and all heals by itself.

Texts say which time they are of: *past* is in the backup, *future* came after it and was lost, *present* was written after the
restore. An asker asks all the while.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.backups import back_up, empty, restore
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.oracle import judge
from tests.chaos.quiet import settled
from tests.chaos.writers import Tell
from tests.support.running import until

WORD = "quokka"
WRITERS = 8
SETTLED_S_MAX = 60.0
FILLED_S_MAX = 900.0
HEALED_S_MAX = 120.0
NAMED_S_MAX = 30.0


@dataclass
class Town:
    cluster: Cluster
    ids: list[str] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    """Passages that were shown, by the Document Service's word, and should not have been."""
    asked: int = 0

    async def write(self, method: str, path: str, *, expect: tuple[int, ...] = (200, 201, 204), **fields: Any) -> Any:
        """One write, repeated while the Document Service is away."""
        found: Any = None

        async def written() -> bool:
            nonlocal found
            options = {"json": fields} if fields else {}
            status, found = await self.cluster.call(method, f"/api/documents{path}", **options)
            assert status in (0, *expect) or status >= 500, (status, found)
            return status in expect

        await until(written, what=f"{method} {path}")
        return found

    async def add(self, text: str, count: int, *, readers: tuple[str, ...] = ("everyone",)) -> list[str]:
        places = iter(range(count))

        async def add_some() -> list[str]:
            return [(await self._add(f"{text} {place}", readers))["id"] for place in places]

        return [name for names in await asyncio.gather(*(add_some() for _ in range(WRITERS))) for name in names]

    async def _add(self, text: str, readers: tuple[str, ...]) -> Any:
        return await self.write("POST", "", title="Notes", text=f"The {WORD} is of the {text}.", readers=list(readers))

    async def replace(self, document_id: str, text: str) -> None:
        await self.write("PUT", f"/{document_id}", text=f"The {WORD} is of the {text}.")

    async def search(self) -> Any:
        asked = {"query": f"{WORD} of the future", "limit": 100}
        return await self.cluster.call("POST", "/api/search", of="assistant", json=asked)

    @asynccontextmanager
    async def being_asked(self, *, after: asyncio.Event) -> AsyncIterator[None]:
        """Somebody searches all the while. Once ``after`` is set, the future is wrong by the Document Service's word."""

        async def ask() -> None:
            while True:
                is_after = after.is_set()
                status, reply = await self.search()
                if status == 200 and is_after and "access_as_of" not in reply:
                    self.asked += 1
                    self.wrong += [hit for hit in reply["hits"] if "future" in hit["passage"]]

        asking = asyncio.create_task(ask())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    async def whole(self, *, within_s: float) -> float:
        """Seconds until the index is what the documents say, row by row."""
        began = time.monotonic()
        while True:
            await settled(self.cluster, within_s=within_s)
            verdict = await judge(self.cluster)
            if not verdict.wrong:
                return time.monotonic() - began
            assert time.monotonic() - began < within_s, str(verdict)


@pytest.fixture
async def town(nursery: Nursery, tmp_path: Path) -> AsyncIterator[Town]:
    async with open_cluster(tmp_path, nursery, indexers=1, with_assistant=True) as cluster:
        yield Town(cluster)


@pytest.mark.timeout(500)
async def test_yesterdays_documents_are_answered_from_at_once(town: Town, tmp_path: Path, tell: Tell) -> None:
    """Changed, deleted, opened and made since the backup, and written to right after the restore."""
    await restore_documents(town, tmp_path, tell, documents=60)


@pytest.mark.long
@pytest.mark.timeout(3000)
async def test_yesterdays_10000_documents_are_answered_from_at_once(town: Town, tmp_path: Path, tell: Tell) -> None:
    """The promise's figure: whole again within two minutes."""
    await restore_documents(town, tmp_path, tell, documents=10_000)


async def restore_documents(town: Town, folder: Path, tell: Tell, *, documents: int) -> None:
    url = town.cluster.urls.documents_database_url
    ids = await town.add("past", documents)
    hidden = await town.add("past, and hidden", 3, readers=("hr",))
    await settled(town.cluster, within_s=FILLED_S_MAX)
    with town.cluster.members["indexer-1"].frozen():
        await town.replace(ids[0], "past, and pending")
        await back_up(url, folder / "documents.dump")
    changed, deleted = ids[: documents // 4], ids[documents // 4 : documents // 3]
    for document_id in changed:
        await town.replace(document_id, "future")
    await town.replace(changed[1], "future once more")
    for document_id in deleted:
        await town.write("DELETE", f"/{document_id}")
    for document_id in hidden:
        await town.write("PUT", f"/{document_id}", readers=["everyone"])
    await town.add("future", 5)
    await settled(town.cluster, within_s=FILLED_S_MAX)
    restored = asyncio.Event()
    async with town.being_asked(after=restored):
        await restore(url, folder / "documents.dump")
        restored.set()
        restored_at = time.monotonic()
        await town.replace(changed[1], "present")  # at a version that the index has passed
        await town.replace(changed[2], "present")  # at one that it has
        await settled_by_itself(town, within_s=HEALED_S_MAX)
        healed_s = time.monotonic() - restored_at
        await town.whole(within_s=SETTLED_S_MAX)
    tell(
        f"{documents} documents: whole {healed_s:.1f} s after the restore, {town.asked} searches, {len(town.wrong)} wrong"
    )
    assert town.asked
    assert not town.wrong, town.wrong[:3]
    assert healed_s <= HEALED_S_MAX


async def settled_by_itself(town: Town, *, within_s: float) -> None:
    """The index's memory has been put in order, and nothing is pending."""

    async def put_right() -> bool:
        status, metrics = await town.cluster.call("GET", "/metrics", of="indexer-1")
        return status == 200 and b'refdesk_lineage_doubts_total{doubt="restored"} 1.0' in metrics

    await until(put_right, what="the restore is noticed", within_s=within_s)
    await settled(town.cluster, within_s=within_s)


@pytest.mark.timeout(500)
async def test_yesterdays_index_is_brought_up_to_today(town: Town, tmp_path: Path, tell: Tell) -> None:
    """What changed since its backup comes again within a minute, though the broker knows that it was done."""
    url = town.cluster.urls.index_database_url
    ids = await town.add("past", 20)
    await settled(town.cluster, within_s=SETTLED_S_MAX)
    await back_up(url, tmp_path / "index.dump")
    for document_id in ids[:8]:
        await town.replace(document_id, "present")
    for document_id in ids[8:12]:
        await town.write("DELETE", f"/{document_id}")
    await settled(town.cluster, within_s=SETTLED_S_MAX)
    await restore(url, tmp_path / "index.dump")
    restored_at = time.monotonic()

    async def is_whole() -> bool:
        await settled(town.cluster, within_s=SETTLED_S_MAX)
        return not (await judge(town.cluster)).wrong

    await until(is_whole, what="the index is whole", within_s=SETTLED_S_MAX)
    tell(f"the index is whole {time.monotonic() - restored_at:.1f} s after its restore")


@pytest.mark.timeout(500)
async def test_other_documents_do_not_empty_the_index(town: Town, tmp_path: Path) -> None:
    """An empty database by mistake: nothing of the index is shown, readiness says why, and the right one makes all as before."""
    url = town.cluster.urls.documents_database_url
    await town.add("past", 10)
    await settled(town.cluster, within_s=SETTLED_S_MAX)
    await back_up(url, tmp_path / "documents.dump")
    identity = tmp_path / "data" / "content" / "identity"  # as where somebody has taken it over with `adopt-content`
    kept = identity.read_bytes()
    identity.unlink()
    await empty(url)
    await town.cluster.restart("documents")

    async def named() -> bool:
        replies = [
            await town.cluster.call("GET", "/health/ready?verbose", of=name) for name in ("assistant", "indexer-1")
        ]
        return all(status == 503 and "reconcile" in str(reply) for status, reply in replies)

    await until(named, what="readiness names it", within_s=NAMED_S_MAX)
    status, reply = await town.search()
    assert (status, reply["hits"]) == (200, [])
    await restore(url, tmp_path / "documents.dump")
    identity.write_bytes(kept)

    async def as_before() -> bool:
        status, reply = await town.search()
        ready, _ = await town.cluster.call("GET", "/health/ready", of="indexer-1")
        return status == 200 and len(reply["hits"]) == 10 and ready == 200

    await until(as_before, what="all is as before", within_s=NAMED_S_MAX)
