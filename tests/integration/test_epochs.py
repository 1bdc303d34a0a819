"""The epoch of the documents: another after each change, the same whatever else the database does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from tests.integration.documents_desk import ADMINISTRATOR, Desk, open_desk
from tests.support.desk import LEAVE, AnswerDesk, Process, own_desk, until
from tests.support.metrics import of, scraped

from refdesk.app.embedded.stack import StackUrls

WRITERS, CHANGES = 4, 50


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


async def epoch(desk: Desk) -> str:
    reply = await desk.call("POST", "/standing", by=ADMINISTRATOR, json={"document_ids": []})
    assert reply.status == 200, reply.body
    return str(reply.json["epoch"])


async def test_every_change_has_an_epoch_of_its_own_and_other_work_has_none(desk: Desk, fresh_database: str) -> None:
    """Made, replaced, indexed, closed, deleted; a read and another table's row are no change."""
    epochs = [await epoch(desk)]

    async def changed() -> bool:
        epochs.append(await epoch(desk))
        return epochs[-1] not in epochs[:-1]

    made = (await desk.call("POST", json={"title": "Leave", "text": LEAVE})).json
    assert await changed()
    await desk.call("PUT", f"/{made['id']}", json={"text": LEAVE})
    assert not await changed(), "nothing differs"
    await desk.call("PUT", f"/{made['id']}", json={"text": "Another."})
    assert await changed()
    async with await psycopg.AsyncConnection.connect(fresh_database, autocommit=True) as connection:
        await connection.execute("UPDATE documents SET indexed_version = version")
        assert await changed()
        await connection.execute("UPDATE documents SET indexed_version = version WHERE id = 'none'")
        await connection.execute("CREATE TABLE elsewhere (n int)")
        await connection.execute("INSERT INTO elsewhere VALUES (1)")
        await connection.execute("VACUUM documents, document_changes")
        assert not await changed()
    await desk.call("GET", f"/{made['id']}")
    assert not await changed()
    await desk.call("DELETE", f"/{made['id']}")
    assert await changed()


async def test_no_change_of_many_at_once_is_missed_or_counted_twice(desk: Desk, fresh_database: str) -> None:
    """Also while they are counted together, and one of them commits long after it has begun."""
    made = [(await desk.call("POST", json={"title": str(n), "text": "x"})).json["id"] for n in range(WRITERS + 1)]
    first = int((await epoch(desk)).partition("@")[0])
    seen: set[str] = set()

    async def write(document_id: str) -> None:
        async with await psycopg.AsyncConnection.connect(fresh_database, autocommit=True) as connection:
            for _ in range(CHANGES):
                await connection.execute("UPDATE documents SET attempts = attempts + 1 WHERE id = %s", (document_id,))

    async with await psycopg.AsyncConnection.connect(fresh_database) as late:
        await late.execute("UPDATE documents SET attempts = attempts + 1 WHERE id = %s", (made[-1],))
        await asyncio.gather(*(write(document_id) for document_id in made[:WRITERS]))
        seen.add(await epoch(desk))
        await late.commit()
    seen.add(await epoch(desk))
    await write(made[0])
    seen.add(await epoch(desk))
    assert sorted(int(one.partition("@")[0]) - first for one in seen) == [
        WRITERS * CHANGES,
        WRITERS * CHANGES + 1,
        (WRITERS + 1) * CHANGES + 1,
    ]
    async with await psycopg.AsyncConnection.connect(fresh_database) as connection:
        [[rows]] = await (await connection.execute("SELECT count(*) FROM document_changes")).fetchall()
    assert rows < 3 * 64, "they are counted together in time"


@pytest.fixture(scope="module")
async def answer_desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=14, usage_interval_s=0.1) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


async def test_what_is_booked_and_kept_leaves_the_short_way_open(answer_desk: AnswerDesk) -> None:
    """Asked again, a question is answered without a search, though usage and a conversation were written meanwhile."""
    async with answer_desk.assistants(1) as (process,):
        client = await process.client()
        for number in range(3):
            await client.ask("How many days of leave are due?", conversation_id=f"c{number}")
            await until(lambda: _written(process, answer_desk, 1))
        samples = await scraped(process, answer_desk)
    assert of(samples, "refdesk_cache_requests_total", "layer", "outcome")["exact", "hit"] == 2


async def _written(process: Process, desk: AnswerDesk, count: int) -> bool:
    samples = await scraped(process, desk)
    return of(samples, "refdesk_usage_answers_total", "kind").get("written") == count
