"""Whoever reads too slowly is cut, not buffered: on real sockets, while others read on."""

import asyncio
from collections.abc import AsyncIterator

import psutil
import pytest
from tests.support.bare_sockets import ask_by_socket, ask_by_stream, reading_slowly
from tests.support.desk import LEAVE, AnswerDesk, own_desk, text_of, until
from tests.support.scripted_llm import ANSWER, say

from refdesk.app.embedded.stack import StackUrls

QUESTION = "How many days of leave, at length?"
SEND_TIMEOUT_S = 5.0
"""Longer than the quick readers, who share their process with the slow ones, may be held up by a busy machine."""
BYTE_EVERY_S = 0.2
LONG_TEXT = " ".join(f"{number:04}{'x' * 1500}." for number in range(250))
"""With its sentences three quarters of a megabyte: several times what one reader may have on its way."""
READING_OTHERS = 5
GROWTH_BYTES_MAX = 50 * 1024 * 1024


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=13, send_timeout_s=SEND_TIMEOUT_S) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(240)])])
async def test_slow_readers_are_cut_and_cost_nobody_anything(desk: AnswerDesk, count: int) -> None:
    """A byte now and then, or none, over both transports: each is cut; those who read get every word meanwhile."""
    desk.llm.reset()
    async with desk.assistants(1) as (process,):
        client, system = await process.client(), psutil.Process(process.process.pid)
        desk.llm.default = say(LONG_TEXT)
        assert text_of(await client.ask(QUESTION)) == LONG_TEXT
        desk.llm.default = say()
        before = system.memory_info().rss
        asks = [ask_by_stream, ask_by_socket] * (count // 2)
        async with reading_slowly(client, QUESTION, asks, byte_every_s=BYTE_EVERY_S) as ports:
            assert _connected(system) >= ports
            others = await asyncio.gather(*(client.ask(QUESTION) for _ in range(READING_OTHERS)))
            assert {text_of(stream) for stream in others} == {LONG_TEXT}
            assert text_of(await client.ask("And meanwhile?", cache="bypass")) == ANSWER
            during = system.memory_info().rss
            await until(lambda: not _connected(system) & ports, within_s=60)
        grown = max(during, system.memory_info().rss) - before
        print(f"{count} slow readers: {count} cut, memory grown by {grown / 2**20:.1f} MiB")  # noqa: T201
        assert grown < GROWTH_BYTES_MAX


def _connected(system: psutil.Process) -> set[int]:
    """The ports of those whom the process still holds a connection for."""
    return {connection.raddr.port for connection in system.net_connections("tcp") if connection.raddr}
