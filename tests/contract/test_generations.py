"""One generation is searched, another may stand beside it, and no change or search ever meets the wrong one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Never

import pytest
from psycopg_pool import AsyncConnectionPool
from tests.contract.given import DIMENSIONS, document, put, texts_of
from tests.support.patience import within

from refdesk.contracts.errors import Conflict, NotFound, Unavailable
from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import MIGRATIONS, Gap, Generation, GenerationMoved, Generations, open_generation
from refdesk.index.open_generations import OpenGenerations
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.operations.generations import GenerationOperations
from refdesk.outside.postgres.database import migrate, open_pool


@pytest.fixture
async def pool(fresh_database: str) -> AsyncIterator[AsyncConnectionPool]:
    async with open_pool(fresh_database, name="test generations", size_max=8) as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


@pytest.fixture
async def first(pool: AsyncConnectionPool) -> Generation:
    return await open_generation(pool, model="old", dimensions=DIMENSIONS, chunking="1")


@pytest.fixture
async def second(pool: AsyncConnectionPool, first: Generation) -> Generation:
    return await Generations(pool).begin(model="new", dimensions=DIMENSIONS, chunking="1")


@pytest.fixture
def record(pool: AsyncConnectionPool) -> Generations:
    return Generations(pool)


class TestStanding:
    async def test_the_first_one_is_active(self, record: Generations, second: Generation) -> None:
        """The next one stands beside it."""
        assert [(live.model, live.active) for live in await record.live()] == [("old", True), ("new", False)]

    async def test_begun_twice_is_one(self, record: Generations, second: Generation) -> None:
        """So an interrupted command can simply be given again; a third one has to wait."""
        again = await record.begin(model="new", dimensions=DIMENSIONS, chunking="1")
        assert again == second
        with pytest.raises(Conflict, match="--drop"):
            await record.begin(model="newest", dimensions=DIMENSIONS, chunking="1")
        with pytest.raises(Conflict, match="already"):
            await record.begin(model="old", dimensions=DIMENSIONS, chunking="1")

    async def test_what_is_behind(self, pool: AsyncConnectionPool, record: Generations, second: Generation) -> None:
        """Whatever the active one has in a newer version, removals too; what it holds and known gaps are left out."""
        active, beside = await _both(pool)
        for document_id in ("a", "b", "c", "d"):
            await put(active, document(document_id, version=2), "leave")
        await put(beside, document("a", version=1), "leave")
        await put(beside, document("b", version=2), "leave")
        await active.remove("c", 3)
        await record.add_gap(second.id, Gap("d", 2, "no text"))
        behind = await record.behind(second.id, count=10)
        assert [(each.document_id, each.version, each.removed) for each in behind] == [("a", 2, False), ("c", 3, True)]
        assert [each.document_id for each in await record.behind(second.id, after=behind[0].document_id, count=10)] == [
            "c"
        ]
        assert await record.count_behind(second.id) == 2
        await put(active, document("d", version=3), "leave")
        assert await record.count_behind(second.id) == 3

    async def test_one_that_no_setting_leads_to_is_shown(self, pool: AsyncConnectionPool, record: Generations) -> None:
        """A desk that left its other engine still lists what was built there, and may discard it."""
        await put(
            PgvectorIndex(pool, await open_generation(pool, model="old", dimensions=DIMENSIONS, chunking="1")),
            document(),
            "leave",
        )
        await record.begin(engine="qdrant", model="old", dimensions=DIMENSIONS, chunking="1")
        async with OpenGenerations(pool, engines=Engines(pool), open_embedder=_nobody) as generations:
            operations = GenerationOperations(
                generations,
                choose_model=_nobody,
                configured_model="old",
                configured_engine="pgvector",
                compare_settings=lambda _: None,
            )
            views = await operations.views()
            assert [(view.engine, view.documents, view.documents_behind) for view in views] == [
                ("pgvector", 1, 0),
                ("qdrant", 0, 1),
            ]
            await operations.drop(views[1].id)
            assert len(await operations.views()) == 1


class TestActivation:
    async def test_not_before_it_has_everything(
        self, pool: AsyncConnectionPool, record: Generations, second: Generation
    ) -> None:
        """It says how much is behind, and changes nothing."""
        active, beside = await _both(pool)
        await put(active, document(version=1), "leave")
        assert await record.activate(second.id) == 1
        assert (await record.live())[0].model == "old"
        await put(beside, document(version=1), "leave")
        assert await record.activate(second.id) == 0
        assert await record.activate(second.id) == 0, "doing it twice is doing it once"
        assert [(live.model, live.active) for live in await record.live()] == [("new", True), ("old", False)]

    async def test_gaps_are_for_people_to_decide(self, record: Generations, second: Generation) -> None:
        """A generation that cannot hold a document is activated only by somebody who says so."""
        await record.add_gap(second.id, Gap("a", 1, "no text"))
        with pytest.raises(Conflict, match="--force"):
            await record.activate(second.id)
        assert await record.activate(second.id, with_gaps=True) == 0

    async def test_everything_notices(
        self, pool: AsyncConnectionPool, record: Generations, first: Generation, second: Generation
    ) -> None:
        """Searches, changes and claims on what was active are refused after the swap, in their own transactions."""
        active, beside = await _both(pool)
        await put(active, document(version=1), "leave")
        await put(beside, document(version=1), "leave")
        (holding,) = (await active.holdings(["leave"])).values()
        await record.activate(second.id)
        for work in (
            texts_of(active),
            active.versions(["leave"]),
            active.epoch(),
            active.remove("leave", 2),
            put(active, document(version=2), "leave"),
            put(beside, document(version=2), "leave"),
            active.holdings(["leave"]),
            active.reopen(holding, version=0, readers=()),
        ):
            with pytest.raises(GenerationMoved):
                await work
        assert await texts_of(PgvectorIndex(pool, second, role="active")) == ["leave"]

    async def test_waits_for_changes_under_way(
        self, pool: AsyncConnectionPool, record: Generations, first: Generation, second: Generation
    ) -> None:
        """A change that has begun is committed first, and then counts as behind: it cannot be lost to the old one."""
        active, _ = await _both(pool)
        async with active._holdings.change() as connection:
            swapping = asyncio.create_task(record.activate(second.id))
            await _until_somebody_waits(pool)
            await connection.execute("INSERT INTO documents (document_id, version) VALUES ('late', 1)")
        assert await swapping == 1

    async def test_gives_up_when_a_change_takes_long(
        self,
        pool: AsyncConnectionPool,
        record: Generations,
        second: Generation,
    ) -> None:
        """Rather than have everybody wait behind it."""
        active, _ = await _both(pool)
        async with active._holdings.change():
            with pytest.raises(Unavailable, match="being changed"):
                await record.activate(second.id)

    async def test_changes_wait_while_it_drains(
        self, pool: AsyncConnectionPool, record: Generations, second: Generation
    ) -> None:
        """Changes to the active one only; what stands beside catches up, and searches go on."""
        active, beside = await _both(pool)
        await put(active, document(version=1), "leave")
        await record.drain()
        assert await record.draining()
        with pytest.raises(GenerationMoved):
            await put(active, document(version=2), "leave")
        assert await texts_of(active) == ["leave"]
        assert await put(beside, document(version=1), "leave")
        await record.stop_draining()
        assert await put(active, document(version=2), "leave")


class TestDropping:
    async def test_never_what_is_searched(self, record: Generations, first: Generation, second: Generation) -> None:
        """And nothing is left of what is dropped."""
        with pytest.raises(Conflict):
            await record.drop(first.id)
        await record.drop(second.id)
        with pytest.raises(NotFound):
            await record.drop(second.id)
        assert [live.model for live in await record.live()] == ["old"]

    async def test_what_was_dropped_is_noticed(
        self, pool: AsyncConnectionPool, record: Generations, second: Generation
    ) -> None:
        """Whoever still works on it is told that it has moved, rather than failing on a missing table."""
        _, beside = await _both(pool)
        await record.drop(second.id)
        for work in (put(beside, document(), "leave"), texts_of(beside)):
            with pytest.raises(GenerationMoved):
                await work


async def _both(pool: AsyncConnectionPool) -> tuple[PgvectorIndex, PgvectorIndex]:
    active, beside = await Generations(pool).live()
    return PgvectorIndex(pool, active, role="active"), PgvectorIndex(pool, beside, role="beside")


async def _until_somebody_waits(pool: AsyncConnectionPool) -> None:
    async with within(10):
        while True:
            async with pool.connection() as connection:
                cursor = await connection.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                if await cursor.fetchone():
                    return


async def _nobody(*_: object) -> Never:
    pytest.fail("no model is wanted")
