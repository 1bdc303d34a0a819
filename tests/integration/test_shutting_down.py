"""What is open when a service is told to stop: what waits for news ends at once, and whole; the process follows."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.support.desk import LEAVE, PATIENT, AnswerDesk, own_desk
from tests.support.running import REFDESK, Refdesk, environment, running, until
from tests.support.scripted_llm import say

from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.indexing.priority import Waited, limit

OPERATOR = {"Authorization": "Bearer operator"}
END_S_MAX = 2.0
VIEWS = 20
QUESTIONS = 100


@asynccontextmanager
async def documents(
    home: Path, servers: StackUrls, database: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A Document Service of its own process, ready."""
    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "REFDESK_DOCUMENTS_DATABASE_URL": database,
        "REFDESK_NATS_URL": servers.nats_url,
        "REFDESK_OPERATOR_KEY": "operator",
        "REFDESK_DATA_DIR": str(home),
    }
    process = await asyncio.create_subprocess_exec(
        *(*REFDESK, "documents", "--port", url.rpartition(":")[2]),
        env=environment(home, **settings),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                try:
                    async with session.get(f"{url}/health/ready") as reply:
                        return reply.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await until(ready, what="the Document Service is ready")
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_open_documents_views_do_not_hold_up_the_end(
    tmp_path: Path, servers: StackUrls, fresh_database: str
) -> None:
    """Their feeds have no end of their own: they are ended with whole replies, and the process with them."""
    async with (
        documents(tmp_path, servers, fresh_database) as (process, url),
        AsyncExitStack() as views,
    ):
        session = await views.enter_async_context(aiohttp.ClientSession(headers=OPERATOR))
        feeds = [await views.enter_async_context(session.get(f"{url}/api/documents/events")) for _ in range(VIEWS)]
        assert {feed.status for feed in feeds} == {200}
        process.send_signal(signal.SIGTERM)
        async with limit(END_S_MAX, waited=Waited(process.pid)):
            for feed in feeds:
                await feed.read()  # raises when the reply is cut short
            assert await process.wait() == 0


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_a_desk_with_open_documents_views_soon_ends(tmp_path: Path) -> None:
    """All of `refdesk up`; what it waits for a busy processor, and PostgreSQL for the disk, is not held against it."""
    async with running(tmp_path) as refdesk, AsyncExitStack() as views:
        opened = [refdesk.open("GET", "/api/documents/events") for _ in range(VIEWS)]
        feeds = [await views.enter_async_context(view) for view in opened]
        desk, begin = refdesk.child("desk"), time.monotonic()
        refdesk.process.send_signal(signal.SIGTERM)
        async with limit(END_S_MAX, waited=Waited(desk.pid)):
            for feed in feeds:
                await feed.read()
            await until(lambda: _said(refdesk, "desk has stopped."), what="the desk has stopped")
        desk_s = time.monotonic() - begin
        assert await refdesk.stop() == 0
        print(f"{VIEWS} views open: desk ended after {desk_s:.2f} s, all after {time.monotonic() - begin:.2f} s")  # noqa: T201


async def _said(refdesk: Refdesk, line: str) -> bool:
    return line in refdesk.lines


@pytest.fixture(scope="module")
async def answers(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=5, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


async def test_no_answer_begins_once_the_end_has_begun(answers: AnswerDesk) -> None:
    """What is under way ends with words that say to ask again, what waits in line too, and what comes later is refused so."""
    desk, gate = answers, asyncio.Event()
    desk.llm.reset()
    desk.llm.default = say(gate=gate, gate_at=4)
    async with desk.assistant_here(concurrent_answers_max=1) as here:
        client = here.client(Principal(id="una"))

        async def ask(question: str) -> tuple[str, bool]:
            """Why there is no answer, or none any more."""
            body = {"question": question, "cache": "bypass"}
            _, _, told = await client.json("POST", "/api/answers", json=body)
            problem = told.get("error", told)
            return problem["type"], problem["retryable"]

        asking = [asyncio.create_task(ask(f"Who is still there, {n}?")) for n in range(3)]
        await desk.llm.called()
        await here.close()
        ends = [await ask("Who comes late?"), *await asyncio.gather(*asking)]
    assert ends == [("unavailable", True)] * 4
    assert len(desk.llm.calls) == 1


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_a_desk_without_a_model_ends_under_load_without_a_fault(tmp_path: Path) -> None:
    """Questions that wait for their turn, to search or to be answered, end as others do; nothing fails on the way."""
    many = {
        "REFDESK_REQUESTS_PER_MINUTE_MAX": "100000",
        "REFDESK_TOKENS_PER_MINUTE_MAX": "100000000",
        "REFDESK_CONCURRENT_PER_PRINCIPAL_MAX": "1000",
        "REFDESK_WAITING_PER_PRINCIPAL_MAX": "1000",
    }
    async with running(tmp_path, **many, REFDESK_RETRIEVAL_WAIT_S_MAX="60") as refdesk:
        asking = [asyncio.create_task(_last_word(refdesk, number)) for number in range(QUESTIONS)]
        await until(lambda: _any_done(asking), what="one is answered")
        assert await refdesk.stop() == 0
        ends = Counter(await asyncio.gather(*asking))
        log = (refdesk.data_dir / "logs" / "desk.log").read_text()
    print(dict(ends))  # noqa: T201
    assert "Traceback" not in log and '"level": "error"' not in log
    assert ends["done"] and not ends.keys() - {"done", "unavailable", "overloaded", "cut"}


async def _any_done(tasks: list[asyncio.Task[str]]) -> bool:
    return any(task.done() and task.result() == "done" for task in tasks)


async def _last_word(refdesk: Refdesk, number: int) -> str:
    """How an answer ends: its last event, or the type of its refusal."""
    body, headers = {"question": f"How many days of leave, number {number}?"}, {"Accept": "text/event-stream"}
    try:
        async with refdesk.open("POST", "/api/answers", json=body, headers=headers) as reply:
            text = await reply.text()
    except aiohttp.ClientError:
        return "cut"
    told = json.loads(text if reply.status != 200 else text.strip().rpartition("data: ")[2])
    return str(told.get("type", "done"))
