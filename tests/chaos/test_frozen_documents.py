"""The Document Service is frozen in the middle of its work: nothing deleted or closed comes back, and answers go on.

Separate processes, stopped by SIGSTOP. The indexer is frozen first, so that the index has everything that is taken away
afterwards; and the Document Service at the moment in which it has acknowledged the last of it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.chaos.cluster import Cluster, open_cluster
from tests.chaos.nursery import Nursery
from tests.chaos.quiet import settled
from tests.chaos.writers import Tell
from tests.support.running import until

WORD = "quokka"
"""In every document and every question."""
SETTLED_S_MAX = 60.0
BACK_S_MAX = 5.0
TRUTH_TIMEOUT_S = 0.5  # the setting's default
KINDS = ("kept", "deleted", "closed", "restricted")

Headers = dict[str, str]


@dataclass
class Town:
    """Documents by what will become of them, and two who ask: anybody, and one of the group ``hr``."""

    cluster: Cluster
    anybody: Headers
    hr: Headers
    ids: dict[str, list[str]] = field(default_factory=dict)

    async def fill(self, *, each: int) -> None:
        self.ids = {kind: [] for kind in KINDS}
        for kind in KINDS:
            for number in range(each):
                text = f"The {WORD} number {number} is {kind} in its place."
                readers = ["hr"] if kind == "restricted" else ["everyone"]
                status, document = await self.cluster.call(
                    "POST", "/api/documents", json={"title": kind, "text": text, "readers": readers}
                )
                assert status == 201, document
                self.ids[kind].append(document["id"])
        await settled(self.cluster, within_s=SETTLED_S_MAX)

    async def take_away(self) -> None:
        """Every one of them acknowledged."""
        for document_id in self.ids["closed"]:
            status, _ = await self.cluster.call("PUT", f"/api/documents/{document_id}", json={"readers": ["hr"]})
            assert status == 200
        for document_id in self.ids["deleted"]:
            assert (await self.cluster.call("DELETE", f"/api/documents/{document_id}"))[0] == 204

    async def found(self, headers: Headers) -> tuple[int, Any]:
        asked = {"query": WORD, "limit": 100}
        return await self.cluster.call("POST", "/api/search", of="assistant", json=asked, headers=headers)

    async def answered(self, headers: Headers) -> tuple[int, Any]:
        asked = {"question": f"Where is the {WORD} kept in its place?", "cache": "bypass"}
        return await self.cluster.call("POST", "/api/answers", of="assistant", json=asked, headers=headers)

    async def passage(self, document_id: str, headers: Headers) -> int:
        return (await self.cluster.call("GET", f"/api/passages/{document_id}", of="assistant", headers=headers))[0]


@pytest.fixture
async def town(nursery: Nursery, tmp_path: Any) -> AsyncIterator[Town]:
    async with open_cluster(tmp_path, nursery, indexers=1, with_assistant=True) as cluster:
        keys = []
        for name, groups in (("anybody", []), ("harriet", ["hr"])):
            status, key = await cluster.call("POST", "/api/keys", json={"name": name, "groups": groups})
            assert status == 201, key
            keys.append({"Authorization": f"Bearer {key['key']}"})
        yield Town(cluster, *keys)


def kinds(town: Town, passages: list[dict[str, Any]]) -> set[str]:
    kind_of = {document_id: kind for kind, ids in town.ids.items() for document_id in ids}
    return {kind_of[passage["document_id"]] for passage in passages}


@pytest.mark.timeout(500)
async def test_a_frozen_document_service_brings_nothing_back(town: Town, tell: Tell) -> None:
    """From searches, answers and passages; and when it goes on, all is as before within seconds."""
    await freeze_and_look(town, rounds=2, each=4, tell=tell)


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_a_frozen_document_service_brings_nothing_back_300_times(town: Town, tell: Tell) -> None:
    """Three hundred deletions and closings."""
    await freeze_and_look(town, rounds=15, each=10, tell=tell)


async def freeze_and_look(town: Town, *, rounds: int, each: int, tell: Tell) -> None:
    members = town.cluster.members
    for number in range(rounds):
        await town.fill(each=each)
        with members["indexer-1"].frozen():
            await town.take_away()
            with members["documents"].frozen():
                await look(town)
            back_s = await seconds_until_back(town)
        tell(f"round {number + 1}: {2 * each} taken away, 0 came back; all as before {back_s:.1f} s after the thaw")
        for document_id in (document_id for ids in town.ids.values() for document_id in ids):
            assert (await town.cluster.call("DELETE", f"/api/documents/{document_id}"))[0] in (204, 404)


async def look(town: Town) -> None:
    """The first question may have to wait for those who froze with events in their hands."""

    async def somebody_vouches() -> bool:
        status, reply = await town.found(town.anybody)
        assert status == 200 or (status, reply["type"]) == (503, "unavailable"), reply
        return status == 200

    await until(somebody_vouches, what="the record vouches", within_s=BACK_S_MAX)
    for headers in (town.anybody, town.hr):
        status, reply = await town.found(headers)
        assert (status, kinds(town, reply["hits"])) == (200, {"kept"}), reply
        assert reply["access_as_of"]
        status, answer = await town.answered(headers)
        assert (status, kinds(town, answer["sources"]), answer["degraded"]) == (200, {"kept"}, True), answer
        assert answer["access_as_of"]
        for kind in ("deleted", "closed", "restricted"):
            assert await town.passage(town.ids[kind][0], headers) in (404, 503)
        assert await town.passage(town.ids["kept"][0], headers) == 200
    began = time.monotonic()
    await asyncio.gather(*(town.found(town.anybody) for _ in range(10)))
    assert time.monotonic() - began < 10 * TRUTH_TIMEOUT_S, "each of them waits for the silent service"


async def seconds_until_back(town: Town) -> float:
    began = time.monotonic()

    async def documents_vouch() -> bool:
        status, reply = await town.found(town.hr)
        return status == 200 and "access_as_of" not in reply

    await until(documents_vouch, what="the Document Service vouches again", within_s=BACK_S_MAX)
    _, reply = await town.found(town.hr)
    assert kinds(town, reply["hits"]) == {"kept", "closed", "restricted"}
    return time.monotonic() - began
