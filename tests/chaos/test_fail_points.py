"""Every fail-point is reached and died at once; and programs that break a rule do not get past the oracle."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.oracle import Verdict, judge
from tests.chaos.quiet import quiet, settled
from tests.chaos.sabotage import FAIL_POINTS, FailPoint
from tests.chaos.writers import Record, Tell, Writer
from tests.support.running import POLL_S, until

SETTLE_S_MAX = 40.0
SEED = "fail-points"
REPLACE = "index.pgvector.index:PgvectorIndex.replace"


PATIENCE_S = 0.5


class Patient(Writer):
    """Gives the index a moment with each change before the next: a change that is superseded reaches few fail-points."""

    async def write(self) -> None:
        await super().write()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while await self._waits():
                    await asyncio.sleep(POLL_S)

    async def _waits(self) -> bool:
        status, backlog = await self._cluster.call("GET", "/api/documents/backlog")
        return status != 200 or backlog["documents_pending"] > 0


class Poisoner(Patient):
    """Writes documents without any text to read: the indexer gives up every one of them."""

    def _text(self, key: str) -> str:
        self._number += 1
        return "&nbsp;" * self._number


@pytest.fixture(scope="module")
async def shared_cluster(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Nothing that is lost is found by the Document Service: it would be mended, or come in the middle of another test."""
    mutants = {"documents": ["tell nothing again"]}
    async with open_cluster(tmp_path_factory.mktemp("chaos"), nursery, mutants=mutants) as cluster:
        yield cluster


@pytest.fixture
async def cluster(shared_cluster: Cluster) -> Cluster:
    """One indexer only, and nobody sabotaged; nothing noted yet. Judge what you made yourself: others left things."""
    await shared_cluster.members["indexer-2"].stop()
    for name in ("documents", "indexer-1"):
        if not shared_cluster.members[name].alive:
            await shared_cluster.start(name)
    for note in shared_cluster.notes.iterdir():
        note.unlink()
    return shared_cluster


@pytest.mark.timeout(500)
async def test_dying_at_every_fail_point_loses_nothing(cluster: Cluster, tell: Tell) -> None:
    """Each service dies at each of its points in turn, while writers write; then the oracle looks at everything."""
    record, stop = Record(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for kind, name in ((Patient, "writer-0"), (Patient, "writer-1"), (Poisoner, "poison")):
            writer = kind(cluster, record, name=name, documents=8, seed=SEED)
            tasks.create_task(writer.run(stop))
        await asyncio.gather(die_everywhere(cluster, "documents"), die_everywhere(cluster, "indexer-1"))
        stop.set()
    reached = {note.name for note in cluster.notes.iterdir()}
    await settled(cluster, within_s=SETTLE_S_MAX)
    verdict = await judge(cluster, record=record)
    tell(f"{len(reached)} of {len(FAIL_POINTS)} fail-points, {record.changes} changes, {len(verdict.wrong)} wrong")
    assert reached == {point.name for point in FAIL_POINTS}
    assert not verdict.wrong, str(verdict)


async def die_everywhere(cluster: Cluster, name: str) -> None:
    """One life for every fail-point of the service, then a sound one.

    One that ends before it gets there (somebody may have its port just then) is started again, as a supervisor would.
    """
    member = cluster.members[name]
    for point in FAIL_POINTS:
        if name.startswith(point.service):
            await member.stop()
            while not (cluster.notes / point.name).exists():
                cluster.sabotage[name] = (f"kill:{point.name}",)
                await member.start()
                await member.ended()
    await cluster.start(name)


async def test_how_a_version_was_read_outlives_the_indexer(cluster: Cluster) -> None:
    """It dies between the index's commit and the event that says so: the document is still told its title and its notes."""
    await cluster.restart("indexer-1", sabotage=[kill("indexer", "after", REPLACE)])
    mail = (
        "From: a@example.org\nTo: b@example.org\nSubject: Rates of May\nMIME-Version: 1.0\n"
        'Content-Type: multipart/mixed; boundary="x"\n\n--x\nContent-Type: text/plain\n\nThe rates.\n'
        '--x\nContent-Type: application/octet-stream; name="rates.bin"\n\n\x01\x02\x03\x04\n--x--\n'
    )
    form = aiohttp.FormData({"readers": "legal"})
    form.add_field("file", mail.encode(), filename="rates.eml")
    _, document = await cluster.call("PUT", "/api/documents/by-external-id/read", data=form)
    await cluster.members["indexer-1"].ended()
    await cluster.start("indexer-1")
    await quiet(cluster, within_s=SETTLE_S_MAX)
    shown = await cluster.read(f"/api/documents/{document['id']}")
    assert shown["state"] == "indexed"
    assert shown["own_title"] == "Rates of May"
    assert [(note["code"], note["attachment"]) for note in shown["notes"]] == [("attachment_unread", "rates.bin")]


# -- a stale worker


async def test_a_worker_frozen_beyond_its_lease_writes_nothing(cluster: Cluster) -> None:
    """Another has indexed a newer version meanwhile; what the first one wakes up with is refused."""
    verdict = await wake_late(cluster)
    assert not verdict.wrong, str(verdict)


# -- mutants


async def test_acknowledging_before_the_commit_is_found_out(cluster: Cluster) -> None:
    """The worker dies in between, and nobody is given the event again."""
    verdict = await die_over_a_document(
        cluster, "indexer-1", [kill("indexer", "before", REPLACE), "acknowledge before commit"]
    )
    assert [wrong for wrong in verdict.wrong if wrong.endswith("is pending")]


async def test_publishing_outside_the_transaction_is_found_out(cluster: Cluster) -> None:
    """The service dies between the change and its event, which is never told."""
    verdict = await die_over_a_document(
        cluster,
        "documents",
        [kill("documents", "before", "documents.store:DocumentTransaction.post"), "publish outside the transaction"],
    )
    assert [wrong for wrong in verdict.wrong if wrong.endswith("is pending")]


async def test_marking_before_publishing_is_found_out(cluster: Cluster) -> None:
    """The relay dies in between, and believes that the event is told."""
    verdict = await die_over_a_document(
        cluster, "documents", [kill("documents", "before", "outside.nats.broker:Broker.publish"), "mark before publish"]
    )
    assert [wrong for wrong in verdict.wrong if wrong.endswith("is pending")]


async def test_an_index_without_a_version_fence_is_found_out(cluster: Cluster) -> None:
    """The frozen worker overwrites the newer version with its older one."""
    verdict = await wake_late(cluster, "no version fence")
    assert [wrong for wrong in verdict.wrong if wrong.endswith("has the wrong readers")]


def kill(service: str, side: str, function: str) -> str:
    return f"kill:{FailPoint(service, function, side).name}"


async def die_over_a_document(cluster: Cluster, name: str, sabotage: Sequence[str]) -> Verdict:
    """Start the service sabotaged, write a document, let it die, start it soundly; what the oracle says in the end."""
    await cluster.restart(name, sabotage=sabotage)
    key = "-".join(sabotage[-1].split())
    status, _ = await put(cluster, key)
    await cluster.members[name].ended()
    await cluster.start(name)
    document = await found(cluster, key)
    assert status in (0, 201)
    await quiet(cluster, within_s=SETTLE_S_MAX)
    return await judge(cluster, only={document["id"]})


async def wake_late(cluster: Cluster, *mutants: str) -> Verdict:
    """Freeze a worker before it writes version 1, let another index version 2, wake the first; the oracle's word."""
    frozen, thawed = FailPoint("indexer", REPLACE, "before"), FailPoint("indexer", REPLACE, "after")
    await cluster.restart("indexer-1", sabotage=[*mutants, f"freeze:{frozen.name}", f"kill:{thawed.name}"])
    _, document = await put(cluster, f"late-{len(mutants)}")

    async def is_frozen() -> bool:
        return (cluster.notes / frozen.name).exists()

    async def is_newer() -> bool:
        return bool((await cluster.read(f"/api/documents/{document['id']}"))["state"] == "indexed")

    await until(is_frozen, what="the worker freezes")
    await cluster.call("PUT", f"/api/documents/{document['id']}", json={"readers": ["hr"]})
    await cluster.start("indexer-2")
    await until(is_newer, what="the other worker indexes version 2")
    cluster.members["indexer-1"].thaw()
    await cluster.members["indexer-1"].ended()
    return await judge(cluster, only={document["id"]})


async def put(cluster: Cluster, key: str) -> tuple[int, Any]:
    body = {"title": "Notes", "text": f"# {key}\n\nSomething to read.", "readers": ["legal"]}
    return await cluster.call("PUT", f"/api/documents/by-external-id/{key}", json=body)


async def found(cluster: Cluster, key: str) -> Any:
    [document] = (await cluster.read(f"/api/documents/by-external-id?prefix={key[:-1]}"))["documents"]
    return document
