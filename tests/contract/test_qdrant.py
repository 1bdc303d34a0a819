"""What the index in Qdrant does beyond the port: where it may be cut off, what that leaves behind, whose a collection is."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.contract.given import ANYONE, DIMENSIONS, chunks, document, put, question, texts_of, vectors
from tests.support.qdrant import own_qdrant
from tests.support.running import until

from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.index.ledger.generations import Engine, Generation, open_generation
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.index.qdrant import index as writing
from refdesk.index.qdrant.collection import BATCH_POINTS, Collection
from refdesk.index.qdrant.index import QdrantIndex
from refdesk.index.qdrant.points import Point
from refdesk.index.qdrant.server import Qdrant, foreign_collections, open_qdrant
from refdesk.settings.indexing import QdrantSettings


@pytest.fixture
def engine() -> Engine:
    return "qdrant"


@pytest.fixture
async def qdrant() -> AsyncIterator[Qdrant]:
    async with own_qdrant() as qdrant:
        yield qdrant


@pytest.fixture
async def collection(qdrant: Qdrant, generation: Generation) -> Collection:
    collection = Collection(qdrant, generation)
    await collection.ensure()
    return collection


@pytest.fixture
def index(pool: AsyncConnectionPool, collection: Collection, generation: Generation) -> QdrantIndex:
    """One whose old points may be deleted at once."""
    return QdrantIndex(pool, collection, generation, grace_s=0.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody works on is given up at once."""
    monkeypatch.setattr(writing, "GIVE_UP_S", 0.0)


class Crash(BaseException):
    """As a kill would: nothing cleans up."""


async def points_there(collection: Collection, document_id: str = "leave") -> int:
    return sum((await collection.counts([document_id])).values())


MANY = tuple(f"leave {number}" for number in range(BATCH_POINTS + 10))


class TestCrashes:
    async def test_after_the_claim(
        self, index: QdrantIndex, collection: Collection, monkeypatch: pytest.MonkeyPatch, impatient: None
    ) -> None:
        """Nothing is written yet: the old version stays, and the claim is forgotten."""
        await put(index, document(version=1), "old leave")
        await self._crash(index, monkeypatch, after=0)
        assert await texts_of(index) == ["old leave"]
        await index.tidy()
        assert await points_there(collection) == 1
        await self._recovers(index, collection)

    async def test_between_two_batches_of_points(
        self, index: QdrantIndex, collection: Collection, monkeypatch: pytest.MonkeyPatch, impatient: None
    ) -> None:
        """Some points of the new version are there and no search shows them; they are deleted."""
        await put(index, document(version=1), "old leave")
        await self._crash(index, monkeypatch, after=1)
        assert await points_there(collection) == 1 + BATCH_POINTS
        assert await texts_of(index, limit=50) == ["old leave"]
        await index.tidy()
        await index.tidy()
        assert await points_there(collection) == 1
        await self._recovers(index, collection)

    async def test_between_the_last_point_and_the_flip(
        self, index: QdrantIndex, collection: Collection, monkeypatch: pytest.MonkeyPatch, impatient: None
    ) -> None:
        """All points of the new version are there, and they do not count."""
        await put(index, document(version=1), "old leave")
        await self._crash(index, monkeypatch, after=2)
        assert await points_there(collection) == 1 + len(MANY)
        assert await texts_of(index, limit=50) == ["old leave"]
        assert await index.versions(["leave"]) == {"leave": 1}
        await self._recovers(index, collection)

    async def test_between_the_flip_and_the_deletion(self, index: QdrantIndex, collection: Collection) -> None:
        """The new version shows, whole; whoever tidies next deletes the old one."""
        await put(index, document(version=1), *MANY)
        await put(index, document(version=2), "new leave")
        assert await points_there(collection) == 1 + len(MANY)
        assert await texts_of(index, limit=50) == ["new leave"]
        await index.tidy()
        assert await points_there(collection) == 1
        assert await texts_of(index, limit=50) == ["new leave"]

    async def test_a_writer_that_was_given_up_flips_nothing(
        self, index: QdrantIndex, collection: Collection, pool: AsyncConnectionPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may wake up after another process has called it dead."""
        await put(index, document(version=1), "old leave")
        write = Collection.write

        async def give_up_meanwhile(self: Collection, points: Iterable[Point]) -> None:
            await write(self, points)
            async with pool.connection() as connection:
                await connection.execute("UPDATE generation_1.revisions SET past = true")

        monkeypatch.setattr(Collection, "write", give_up_meanwhile)
        with pytest.raises(Unavailable, match="given up"):
            await put(index, document(version=2), "new leave")
        assert await texts_of(index) == ["old leave"]

    async def _crash(self, index: QdrantIndex, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
        """While version 2, of two batches, is written: after so many of them."""
        write, written = Collection.write, 0

        async def crashing(self: Collection, points: Iterable[Point]) -> None:
            nonlocal written
            if written == after:
                raise Crash
            await write(self, points)
            written += 1
            if written == after == 2:
                raise Crash

        with monkeypatch.context() as patched:
            patched.setattr(Collection, "write", crashing)
            with pytest.raises(Crash):
                await put(index, document(version=2), *MANY)

    async def _recovers(self, index: QdrantIndex, collection: Collection) -> None:
        """The same event comes again, and nothing is left but its points."""
        assert await put(index, document(version=2), *MANY)
        assert len(await texts_of(index, limit=50)) == 50
        await index.tidy()
        await index.tidy()
        assert await points_there(collection) == len(MANY)


async def test_a_search_sees_the_moment_it_began(
    index: QdrantIndex, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is applied between the two looks, at the ledger and at Qdrant, is not mixed in and leaves no gap."""
    await put(index, document(version=1), "old leave", "old more")
    nearest = Collection.nearest

    async def after_a_flip(self: Collection, *given: Any, **named: Any) -> Any:
        with monkeypatch.context() as undone:
            undone.setattr(Collection, "nearest", nearest)
            await put(index, document(version=2), "new leave", "new more", seed=2)
        return await nearest(self, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Collection, "nearest", after_a_flip)
        found = await index.search("leave", question(), scope=ANYONE, limit=10)
    assert {(passage.text.split()[0], passage.version) for passage in found} == {("old", 1)}
    assert len(found) == 2
    assert {text.split()[0] for text in await texts_of(index)} == {"new"}


async def test_both_engines_rank_alike(index: QdrantIndex, pool: AsyncConnectionPool) -> None:
    """By the same scores, although the chunks are shorter than the length that is stored with their words."""
    generation = await open_generation(pool, model="test", dimensions=DIMENSIONS, chunking="2")
    other = PgvectorIndex(pool, generation)
    words, chosen = [f"word{number}" for number in range(40)], random.Random(3)
    texts = [" ".join(chosen.choices(words, k=chosen.randint(3, 40))) for _ in range(120)]
    for each in (index, other):
        await put(each, document("a"), *texts[:70], seed=1)
        await put(each, document("b"), *texts[70:], seed=2)
    for query in ("word1", "word2 word3 word3", "word4 word5 word6 word7 unheard", ""):
        scores = [
            {
                (passage.document_id, passage.ordinal): passage.score
                for passage in await each.search(query, question(), scope=ANYONE, limit=40)
            }
            for each in (index, other)
        ]
        assert len(scores[0]) == 40
        assert scores[0] == pytest.approx(scores[1], abs=0.02)


async def test_copies_that_do_not_count_crowd_nothing_out(index: QdrantIndex) -> None:
    """Of a version that has been."""
    near = vectors(200, seed=1, near=question())
    await index.replace(document("moved", 1), chunks(*["leave"] * 200), near)
    await index.replace(document("moved", 2), chunks("leave it"), vectors(1, seed=2))
    await index.replace(document("copies"), chunks(*["leave now"] * 200), near)
    await index.replace(document("other"), chunks(*(f"leave {n}" for n in range(9))), vectors(9, seed=3))
    assert len({*await texts_of(index, limit=11)}) == 11


async def test_what_does_not_count_takes_no_places(index: QdrantIndex) -> None:
    """Of many old points that lie nearer, a search gets as many passages as it asks for."""
    near = vectors(300, seed=1, near=question())
    texts = [f"leave {number}" for number in range(300)]
    await index.replace(document("moved", 1), chunks(*texts), near)
    await index.replace(document("moved", 2), chunks("leave it"), vectors(1, seed=2))
    await index.replace(document("other"), chunks(*texts[:40]), vectors(40, seed=3))
    assert len(await texts_of(index, limit=41)) == 41


@pytest.mark.parametrize("quantization", ["scalar", "binary"])
async def test_compressed_vectors_change_no_similarity(
    qdrant: Qdrant, pool: AsyncConnectionPool, generation: Generation, quantization: str
) -> None:
    """They choose what is compared; the whole vectors tell how near it is."""
    await qdrant.client.delete_collection(Collection(qdrant, generation).name)
    compressed = Qdrant(qdrant.client, msgspec.structs.replace(qdrant.settings, quantization=quantization))
    collection = Collection(compressed, generation)
    await collection.ensure()
    await qdrant.client.update_collection(
        collection.name, optimizers_config=qdrant.models.OptimizersConfigDiff(indexing_threshold=1)
    )
    index = QdrantIndex(pool, collection, generation)
    given = vectors(400, seed=1)
    await index.replace(document(), chunks(*(f"leave {number}" for number in range(400))), given)

    async def is_compressed() -> bool:
        info = await qdrant.client.get_collection(collection.name)
        return bool(info.status == "green" and (info.indexed_vectors_count or 0) > 0)

    await until(is_compressed, what="Qdrant has compressed the vectors")
    found = await index.search("", question(), scope=ANYONE, limit=5)
    expected = given @ question()
    assert [passage.ordinal for passage in found] == list(np.argsort(-expected)[:5])
    assert [passage.similarity for passage in found] == pytest.approx(sorted(expected)[:-6:-1], abs=1e-4)


async def test_points_that_nobody_knows_of_are_found_and_deleted(
    index: QdrantIndex, collection: Collection, pool: AsyncConnectionPool
) -> None:
    """As after a restore of the ledger from a backup."""
    await put(index, document(version=1), "leave")
    await put(index, document(version=2), "two weeks of leave")
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM generation_1.revisions")
    assert [held.whole for held in await index.audit(count=10)] == [True]
    await index.tidy()
    assert await points_there(collection) == 1
    assert await texts_of(index) == ["two weeks of leave"]


async def test_a_lost_collection_is_made_again_and_what_was_in_it_counts_as_damaged(
    index: QdrantIndex, qdrant: Qdrant, collection: Collection
) -> None:
    """A search says so rather than find nothing."""
    await put(index, document(version=1), "leave")
    await qdrant.client.delete_collection(collection.name)
    with pytest.raises(Unavailable, match="lost a collection"):
        await texts_of(index)
    [held] = await index.audit(count=10)
    assert not held.whole
    assert await index.reopen(held, version=0, readers=held.readers)
    assert await put(index, document(version=1), "leave")
    assert await texts_of(index) == ["leave"]


async def test_many_processes_make_a_collection_once(
    qdrant: Qdrant, collection: Collection, generation: Generation
) -> None:
    """Also where one died before it was ready: what it is looked up by is there for all."""
    await qdrant.client.delete_collection(collection.name)
    await asyncio.gather(*(Collection(qdrant, generation).ensure() for _ in range(5)))
    await qdrant.client.delete_payload_index(collection.name, "revision")
    await collection.ensure()
    assert set((await qdrant.client.get_collection(collection.name)).payload_schema) == {
        "readers",
        "tags",
        "sources",
        "changed_on",
        "document_id",
        "revision",
    }


async def test_a_foreign_collection_of_the_same_name_is_not_touched(
    qdrant: Qdrant, collection: Collection, generation: Generation
) -> None:
    """Neither used nor deleted, and named by `refdesk doctor`."""
    assert await foreign_collections(qdrant, {generation.id: generation.token}) == []
    await qdrant.client.delete_collection(collection.name)
    await qdrant.client.create_collection(collection.name, vectors_config={})
    with pytest.raises(ConfigurationError, match="not of this desk"):
        await collection.ensure()
    await collection.drop()
    assert await qdrant.client.collection_exists(collection.name)
    assert await foreign_collections(qdrant, {generation.id: generation.token}) == [collection.name]
    assert await foreign_collections(qdrant, None) == [collection.name]


async def test_a_server_too_old_is_named_with_its_version(qdrant: Qdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with the least that is needed."""

    class Old:
        version = "1.12.4"

    async def old() -> Old:
        return Old()

    monkeypatch.setattr(qdrant.client, "info", old)
    with pytest.raises(ConfigurationError, match=r"Qdrant 1\.12\.4 is too old: Refdesk needs 1\.18\.3 or newer"):
        await qdrant.require(wait_s=0)


async def test_a_server_that_is_away_is_told_in_one_sentence() -> None:
    """At the start, once the wait is over; by every call, as what passes."""
    async with open_qdrant(QdrantSettings(url="http://127.0.0.1:1", timeout_s=1)) as away:
        with pytest.raises(ConfigurationError, match="REFDESK_QDRANT_URL does not answer"):
            await away.require(wait_s=0)
        with pytest.raises(Unavailable):
            await away.look()


async def test_an_address_that_is_none_is_told() -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigurationError, match="REFDESK_QDRANT_URL is not an address"):
        async with open_qdrant(QdrantSettings(url="ftp://qdrant")):
            pass


async def test_many_searches_while_documents_change(index: QdrantIndex) -> None:
    """Tidying all the time: every search finds each document once, whole."""
    await asyncio.gather(*(put(index, document(f"doc{n}"), f"leave {n}", f"more {n}", seed=n) for n in range(5)))
    done = asyncio.Event()

    async def write() -> None:
        for version in range(2, 30):
            name = f"doc{version % 5}"
            await put(index, document(name, version), f"leave v{version}", f"more v{version}", seed=version)
        done.set()

    async def search() -> None:
        while not done.is_set():
            found = await index.search("leave", question(), scope=ANYONE, limit=20)
            assert sorted(passage.document_id for passage in found) == sorted([f"doc{n}" for n in range(5)] * 2)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        for _ in range(2):
            tasks.create_task(search())
