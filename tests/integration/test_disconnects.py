"""Whoever leaves stops the model: on every transport, at every point of an answer's life, politely or not."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlsplit

import pytest
from tests.support.bare_sockets import socket_handshake, socket_question, stream_request
from tests.support.desk import LEAVE, PATIENT, AnswerDesk, Client, Here, own_desk, until, wait
from tests.support.patience import within
from tests.support.scripted_llm import Call, say

from refdesk.app.embedded.stack import StackUrls

CLOSED_S = 1.0
"""The promise, held against the clock in the long form only."""
FORGOTTEN_S = 20.0
AT_ONCE = 10

Transport = Literal["stream", "socket", "json"]
Point = Literal["before retrieval", "before the first token", "mid-stream"]

MATRIX: list[tuple[Transport, Point]] = [
    ("stream", "before retrieval"),
    ("stream", "before the first token"),
    ("stream", "mid-stream"),
    ("socket", "before retrieval"),
    ("socket", "before the first token"),
    ("socket", "mid-stream"),
    ("json", "before retrieval"),
    ("json", "before the first token"),
]


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=14, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


async def asked(
    client: Client, transport: Transport, question: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which the question has been sent."""
    address = urlsplit(client.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    match transport:
        case "stream":
            writer.write(stream_request(client, question))
        case "json":
            writer.write(stream_request(client, question, accept="application/json"))
        case "socket":
            writer.write(socket_handshake(client))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(socket_question(question))
    return reader, writer


async def vanish(client: Client, desk: AnswerDesk, transport: Transport, point: Point, *, number: int) -> float:
    """Leaves at that point, every second time with a reset; seconds until the call was closed, 0 if none was made."""
    question = f"How many days of leave, asked as number {number}?"
    reader, writer = await asked(client, transport, question)
    call = None
    if point != "before retrieval":
        call = await until(lambda: _call(desk, question))
    if point == "mid-stream":
        await reader.readuntil(b' leave"')  # the last word before the gate; question and passage go on behind it
    if number % 2:
        writer.transport.abort()
    else:
        writer.close()
    left_at = asyncio.get_running_loop().time()
    if call is None:
        await wait(CLOSED_S)  # it may come to a call all the same
        call = _call(desk, question)
    if call is None:
        return 0.0
    async with within(FORGOTTEN_S):
        await call.closed.wait()
    assert call.closed_at is not None, "the whole answer was written for nobody"
    return max(call.closed_at - max(left_at, call.opened_at), 0.0)


def _call(desk: AnswerDesk, question: str) -> Call | None:
    return next((call for call in desk.llm.calls if question in call.prompt), None)


async def all_vanish(here: Here, desk: AnswerDesk, transport: Transport, point: Point, *, count: int) -> list[float]:
    """So many readers, a few at a time; nothing keeps running for any of them."""
    desk.llm.reset()
    desk.llm.default = say(gate=asyncio.Event(), gate_at=4 if point == "mid-stream" else 0)
    before = await _tasks_at_rest()
    closed: list[float] = []
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        closed += await asyncio.gather(*(vanish(here.client(), desk, transport, point, number=n) for n in numbers))
    assert desk.llm.open_calls == 0
    await until(lambda: len(asyncio.all_tasks()) <= before)
    print(  # noqa: T201
        f"{transport}, {point}: {count} left, {len(desk.llm.calls)} calls closed after {max(closed):.2f} s at most"
    )
    return closed


async def _tasks_at_rest() -> int:
    """How many tasks run when nothing is asked."""
    await wait(CLOSED_S)
    return len(asyncio.all_tasks())


@pytest.mark.parametrize(("transport", "point"), MATRIX)
async def test_readers_who_vanish_stop_their_models(
    here: Here, desk: AnswerDesk, transport: Transport, point: Point
) -> None:
    """And leave no task behind."""
    closed = await all_vanish(here, desk, transport, point, count=6)
    assert len(desk.llm.calls) == 6 or point == "before retrieval"
    assert len(closed) == 6


@pytest.mark.long
@pytest.mark.parametrize(("transport", "point"), MATRIX)
async def test_a_hundred_readers_who_vanish_stop_their_models_within_a_second(
    here: Here, desk: AnswerDesk, transport: Transport, point: Point
) -> None:
    """The full count at each point of each transport."""
    closed = await all_vanish(here, desk, transport, point, count=100)
    assert max(closed) <= CLOSED_S
