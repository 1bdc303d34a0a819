"""A desk goes on answering beside whoever sends it texts that are hard to read, and is soon back when it does freeze."""

import time
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest
from tests.support import heartbeat
from tests.support.desk import wait
from tests.support.heartbeat import Heartbeat
from tests.support.neighbours import NOTE, Neighbour, Sender, neighbours
from tests.support.running import Refdesk, running, until

from refdesk.indexing.priority import waits

SERVICES = ("desk", "indexer")
FREEZING = tuple("<!---->" * count for count in (25, 40))
"""They took an earlier version's expression for comments for ever: each one more doubled the time."""
SHORT, LONG = (1 << 10, 1 << 14), (1 << 12, 1 << 16, 1 << 20)
"""Characters of a neighbour's text."""
P99_S_MAX, P99_S_MAX_BUSY = 0.1, 1.0
"""What is promised, and what tells frozen from busy on any machine."""
BACK_S_MAX = 15.0


@pytest.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refdesk]:
    async with running(tmp_path_factory.mktemp("desk"), "--no-samples") as desk:
        yield desk


@pytest.fixture(scope="module")
async def sender(desk: Refdesk) -> AsyncIterator[Sender]:
    """An ordinary writer."""
    made = await desk.command("keys", "create", "rita", "--json")
    async with aiohttp.ClientSession() as session:
        yield Sender(session, desk.url, {"Authorization": f"Bearer {made.last['key']}"})


def pids(desk: Refdesk) -> list[int]:
    return [desk.child(name).pid for name in SERVICES]


async def send_freezing(sender: Sender) -> None:
    """In each of the places where a text's kind is found out, or its characters are looked through."""
    for text in FREEZING:
        assert await sender.upload(text.encode()) == 201
        document = {"title": "Comments", "text": text}
        assert await sender.json("POST", "/api/documents", {**document, "media_type": "text/plain"}) == 201
        assert await sender.json("POST", "/api/documents", document) == 201
        assert await sender.json("POST", "/api/documents", {**NOTE, "title": text}) == 201
        assert await sender.json("POST", "/api/answers", {"question": text}) == 200


async def try_neighbours(desk: Refdesk, sender: Sender, *, count: int, sizes: tuple[int, ...]) -> Heartbeat:
    """Send all there is; every request has its answer, and no service was started again."""
    before, failed = pids(desk), list[tuple[Neighbour, int]]()
    async with heartbeat.listening(desk.url, process_id=before[0]) as heard:
        await send_freezing(sender)
        for neighbour in neighbours(count, sizes=sizes):
            if (status := await neighbour.send(sender)) >= 500:
                failed.append((neighbour, status))
    print(f"{count} neighbours to {max(sizes):,} characters: {heard}")  # noqa: T201
    assert failed == []
    assert pids(desk) == before
    return heard


async def test_a_freeze_is_heard(desk: Refdesk) -> None:
    """Of a desk that stands still for a moment."""
    frozen_s, process = 0.5, desk.child("desk")
    async with heartbeat.listening(desk.url, process_id=process.pid) as heard:
        process.suspend()
        await wait(frozen_s)
        process.resume()
    assert heard.percentile(1.0) > frozen_s / 2


async def test_nothing_freezes(desk: Refdesk, sender: Sender) -> None:
    """Whatever a writer sends, the desk says meanwhile that it lives."""
    heard = await try_neighbours(desk, sender, count=20, sizes=SHORT)
    assert heard.percentile(0.99) <= P99_S_MAX_BUSY


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_nothing_freezes_beside_200_neighbours(desk: Refdesk, sender: Sender) -> None:
    """The same up to a mebibyte, within what is promised."""
    heard = await try_neighbours(desk, sender, count=200, sizes=LONG)
    assert heard.percentile(0.99) <= P99_S_MAX


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_frozen_desk_is_soon_back(desk: Refdesk, sender: Sender) -> None:
    """With the silence that is allowed by default; what the new one waits for a busy processor is not held against it."""
    frozen = desk.child("desk")
    frozen.suspend()
    begin = time.monotonic()

    async def back() -> bool:
        try:
            return desk.child("desk").pid != frozen.pid and await sender.call("GET", "/health/live") == 200
        except (aiohttp.ClientConnectionError, psutil.NoSuchProcess, FileNotFoundError):
            return False

    await until(back, what="the desk is back")
    pid = desk.child("desk").pid
    took_s, starved_s = time.monotonic() - begin, waits(pid)[pid]
    print(f"back {took_s:.1f} s after it froze, {starved_s:.1f} s of them without a processor")  # noqa: T201
    assert took_s - starved_s <= BACK_S_MAX
