"""What the history keeps when turns and conversations are dropped while their answers are about to be kept."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from itertools import count

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.support.databases import own_database
from tests.support.desk import until

from refdesk.answering.conversations.history import DROPPED_MAX, History
from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.log import ID_TIME_DIGITS, AnswerRecord, new_id
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.answers import Accepted
from refdesk.outside.postgres.database import migrate, open_pool

OWNER = "olga"
TALK = "talk"
_milliseconds = count(time.time_ns() // 1_000_000 - 100_000)
Change = Callable[[], Awaitable[object]]


@pytest.fixture(scope="module")
async def url(servers: StackUrls) -> AsyncIterator[str]:
    async with own_database(servers) as url:
        yield url


@pytest.fixture(scope="module")
async def pool(url: str) -> AsyncIterator[AsyncConnectionPool]:
    async with open_pool(url, name="test history", size_max=4) as pool:
        await migrate(pool, resources.files("refdesk.answering.migrations"))
        yield pool


@pytest.fixture
async def history(pool: AsyncConnectionPool) -> History:
    async with pool.connection() as connection:
        await connection.execute("TRUNCATE conversations, kept_answers CASCADE")
    return History(pool, turns_max=500)


def turn(question: str = "How many days?") -> AnswerRecord:
    """Each asked a millisecond after the one before."""
    answer_id = f"{next(_milliseconds):0{ID_TIME_DIGITS}x}{'0' * 20}"
    return AnswerRecord(
        answer_id=answer_id,
        log_id=new_id(),
        principal_id=OWNER,
        question=question,
        conversation_id=TALK,
        accepted=Accepted(answer_id, "model", "miss"),
    )


async def keep(history: History, record: AnswerRecord) -> None:
    await history.keep(record, FinishedAnswer.begun(record))


async def kept(history: History) -> list[str]:
    return [one.answer_id for one in await history.turns(OWNER, TALK, count=500)]


async def drop(history: History, record: AnswerRecord, *later: AnswerRecord) -> bool:
    begun = [one.answer_id for one in (record, *later)]
    return await history.remove_turns(OWNER, TALK, record.answer_id, begun=begun)


async def one_after_the_other(url: str, *changes: Change) -> None:
    """Each waits for the conversation behind the one before it; then they go on."""
    tasks = []
    async with await psycopg.AsyncConnection.connect(url) as holder:
        await holder.execute("SELECT FROM conversations FOR UPDATE")
        for change in changes:
            tasks.append(asyncio.ensure_future(change()))
            await until(lambda: _waiting(url, len(tasks)))
    await asyncio.gather(*tasks)


async def _waiting(url: str, tasks: int) -> bool:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        found = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        row = await found.fetchone()
        return row == (tasks,)


async def test_a_dropped_turn_is_not_kept_later(history: History) -> None:
    """Nor are those after it, kept or begun; what is asked then is, in a conversation named after it."""
    first, second, third = turn("First?"), turn("Second?"), turn("Third?")
    await keep(history, second)
    assert await drop(history, first, second, third)
    for late in (first, second, third):
        await keep(history, late)
    assert await kept(history) == []
    anew = turn("Anew?")
    await keep(history, anew)
    assert await kept(history) == [anew.answer_id]


async def test_a_conversation_begins_with_the_question_in_place_of_a_dropped_one(history: History) -> None:
    """Where nothing of it was kept yet: it is not listed before, and named after what was asked in the end."""
    first = turn("Frist?")
    assert await drop(history, first)
    assert await history.conversations(OWNER, count=10) == []
    await keep(history, first)
    assert await history.conversations(OWNER, count=10) == []
    await keep(history, turn("First?"))
    assert [(one.title, one.turns) for one in await history.conversations(OWNER, count=10)] == [("First?", 1)]


@pytest.mark.parametrize("is_kept_first", [True, False])
async def test_a_turn_is_dropped_while_it_is_being_kept(history: History, url: str, *, is_kept_first: bool) -> None:
    """Whichever of the two gets hold of the conversation first."""
    before, dropped = turn(), turn()
    await keep(history, before)
    changes: list[Change] = [lambda: drop(history, dropped), lambda: keep(history, dropped)]
    await one_after_the_other(url, *(reversed(changes) if is_kept_first else changes))
    assert await kept(history) == [before.answer_id]


@pytest.mark.parametrize("is_kept_first", [True, False])
async def test_a_conversation_is_removed_while_an_answer_is_being_kept(
    history: History, url: str, pool: AsyncConnectionPool, *, is_kept_first: bool
) -> None:
    """Nothing of it stays behind."""
    before, late = turn(), turn()
    await keep(history, before)
    changes: list[Change] = [lambda: history.remove(OWNER, TALK), lambda: keep(history, late)]
    await one_after_the_other(url, *(reversed(changes) if is_kept_first else changes))
    async with pool.connection() as connection:
        assert await (await connection.execute("SELECT answer_id FROM kept_answers")).fetchall() == []


async def test_a_conversation_is_removed_while_its_first_answer_is_being_kept(
    history: History, url: str, pool: AsyncConnectionPool
) -> None:
    """It was not there when the removal began; nothing of it stays behind, and nothing comes later."""
    late = turn()
    async with await psycopg.AsyncConnection.connect(url) as keeping:
        await keeping.execute(
            "INSERT INTO conversations (principal_id, id, title, created_at, updated_at) VALUES (%s, %s, '', now(), now())",
            (OWNER, TALK),
        )
        await keeping.execute(
            "INSERT INTO kept_answers (answer_id, principal_id, conversation_id, asked_at, question, told) "
            "VALUES (%s, %s, %s, now(), '', '[]')",
            (late.answer_id, OWNER, TALK),
        )
        removing = asyncio.create_task(history.remove(OWNER, TALK, is_begun=True))
        await until(lambda: _waiting(url, 1))
    assert await removing
    await keep(history, late)
    async with pool.connection() as connection:
        assert await (await connection.execute("SELECT answer_id FROM kept_answers")).fetchall() == []


async def test_a_turn_that_is_none_drops_nothing(history: History) -> None:
    """Neither of nobody's conversation nor of another's."""
    mine = turn()
    await keep(history, mine)
    assert not await history.remove_turns(OWNER, TALK, new_id(), begun=[])
    assert not await history.remove_turns("otto", TALK, mine.answer_id, begun=[])
    assert await kept(history) == [mine.answer_id]


async def test_the_newest_dropped_turns_are_remembered(history: History, pool: AsyncConnectionPool) -> None:
    """So many that one which is still to be kept is among them; not all for ever."""
    turns = [turn() for _ in range(DROPPED_MAX + 5)]
    for one in turns:
        await keep(history, one)
    assert await drop(history, turns[0])
    await keep(history, turns[-1])
    assert await kept(history) == []
    async with pool.connection() as connection:
        remembered = await (await connection.execute("SELECT cardinality(dropped) FROM conversations")).fetchall()
    assert remembered == [(DROPPED_MAX,)]
