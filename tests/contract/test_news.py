"""Whoever waits for a document is woken by the commit that brings it, on the real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.contract.given import document, put
from tests.support.patience import within

from refdesk.index.ledger.news import CHANNEL, IndexNews
from refdesk.index.port import ChunkIndex

WITHIN_S = 20.0


@asynccontextmanager
async def listening(database_url: str) -> AsyncIterator[IndexNews]:
    """News that are connected."""
    news = IndexNews(database_url)
    running = asyncio.create_task(news.run())
    try:
        with news.of(["any"]) as woken:
            await heard(woken)
        yield news
    finally:
        running.cancel()
        await asyncio.wait([running])


async def heard(woken: asyncio.Event) -> None:
    async with within(WITHIN_S):
        await woken.wait()


async def test_a_commit_wakes_those_who_wait_for_its_document(fresh_database: str, index: ChunkIndex) -> None:
    """A change and a removal do, all who wait, and nobody else."""
    async with listening(fresh_database) as news:
        with news.of(["leave", "pay"]) as first, news.of(["leave"]) as second, news.of(["other"]) as third:
            await put(index, document("leave"), "two weeks of leave")
            await heard(first)
            await heard(second)
            first.clear()
            second.clear()
            await index.remove("pay", 1)
            await heard(first)
            assert (second.is_set(), third.is_set()) == (False, False)


async def test_who_looked_before_they_listened_hears_of_what_came_between(
    fresh_database: str, index: ChunkIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while, and of those documents alone."""
    async with listening(fresh_database) as news:
        monkeypatch.setattr("refdesk.index.ledger.news.RECENT_S", 0.0)
        assert not news.recently(["leave", "pay"])  # what came with the connection is old now
        monkeypatch.setattr("refdesk.index.ledger.news.RECENT_S", 60.0)
        with news.of(["leave"]) as woken:
            await put(index, document("leave"), "two weeks of leave")
            await heard(woken)
        assert (news.recently(["leave", "pay"]), news.recently(["pay"])) == (True, False)


async def test_a_lost_connection_wakes_everybody(
    fresh_database: str, index: ChunkIndex, pool: AsyncConnectionPool
) -> None:
    """Something may have been missed; afterwards news come as before."""
    async with listening(fresh_database) as news:
        with news.of(["leave"]) as woken:
            async with await psycopg.AsyncConnection.connect(fresh_database, autocommit=True) as operator:
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
                await operator.execute(ended, [f"refdesk listen {CHANNEL}"])
            await heard(woken)
            woken.clear()
            await put(index, document("leave"), "two weeks of leave")
            await heard(woken)


async def test_nobody_is_remembered_who_does_not_wait_any_more(fresh_database: str) -> None:
    """Also when two waited for the same document."""
    news = IndexNews(fresh_database)
    with news.of(["leave"]):
        with news.of(["leave", "pay"]):
            assert news.waiting == 2
        assert news.waiting == 1
    assert news.waiting == 0
