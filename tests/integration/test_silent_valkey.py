"""A Valkey that takes commands and says nothing: answers go on, after one wait, and everything is as before once it speaks."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.desk import LEAVE, AnswerDesk, Client, Event, Wire, events, own_desk, text_of, until
from tests.support.patience import starved_s
from tests.support.scripted_llm import ANSWER, say
from tests.support.valkey_server import ValkeyServer, started

from refdesk.app.embedded.stack import StackUrls
from refdesk.outside import telemetry

TIMEOUT_S = 1.0
"""Several waits one after the other could not be mistaken for one."""


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=14, valkey_timeout_s=TIMEOUT_S) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture
async def wire(desk: AnswerDesk) -> AsyncIterator[Wire]:
    desk.llm.reset()
    wire = Wire(desk.settings.valkey.url or "")
    await wire.open()
    yield wire
    await wire.shut()


async def timed(client: Client, question: str) -> tuple[float, list[Event]]:
    """Seconds to the first word, and the whole stream."""
    asked, first, stream = time.monotonic(), 0.0, []
    async with client.stream(question, conversation_id="talk") as response:
        async for event in events(response):
            first = first or (time.monotonic() - asked if event.name == "delta" else 0.0)
            stream.append(event)
    return first, stream


def unchecked() -> float:
    (family,) = telemetry.budget_unchecked.collect()
    return next(sample.value for sample in family.samples if sample.name.endswith("_total"))


async def test_a_question_waits_for_it_once_and_the_next_ones_not_at_all(desk: AnswerDesk, wire: Wire) -> None:
    """The wait is in the answer's own timings, each question counts as unchecked once, and a resumption says to try again."""
    async with desk.assistant_here(valkey_url=wire.url) as here:
        client = here.client()
        await timed(client, "How many days, at first?")
        wire.stick()
        before, starved_before_s = unchecked(), starved_s()
        first_s, stream = await timed(client, "How many days, silent?")
        assert text_of(stream) == ANSWER
        timings = stream[-1].data["timings"]
        assert TIMEOUT_S <= first_s < 2 * TIMEOUT_S + starved_s() - starved_before_s
        assert TIMEOUT_S <= timings["first_token"] <= timings["total"] <= first_s + 1
        rest = [await timed(client, f"How many days, still silent, {number}?") for number in range(5)]
        assert [text_of(one) for _, one in rest] == [ANSWER] * 5
        assert sum(seconds for seconds, _ in rest) < 5 * TIMEOUT_S + starved_s() - starved_before_s
        assert unchecked() - before == 6
        answer_id = stream[0].data["answer_id"]
        status, _, problem = await client.json("GET", f"/api/answers/{answer_id}")
        assert (status, problem["type"]) == (503, "unavailable")
        wire.unstick()
        await until(lambda: is_counted(client))


async def is_counted(client: Client) -> bool:
    """Whether budgets are checked."""
    before = unchecked()
    await client.ask("How many days, at last?")
    return unchecked() == before


async def resumed(client: Client, answer_id: str) -> bool:
    async with client.resume(answer_id, 1) as response:
        return response.status == 200


async def test_an_answer_that_is_being_written_when_it_falls_silent_goes_on(desk: AnswerDesk, wire: Wire) -> None:
    """From the log in its own process; the copy follows when Valkey speaks again."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=3)
    async with (
        desk.assistant_here(valkey_url=wire.url) as here,
        here.client().stream("How many days, cut?") as response,
    ):
        seen = []
        async for event in events(response):
            seen.append(event)
            if event.name == "delta" and not gate.is_set():
                wire.stick()
                gate.set()
        assert (text_of(seen), seen[-1].name) == (ANSWER, "done")
        wire.unstick()
        await until(lambda: resumed(here.client(), seen[0].data["answer_id"]))


async def test_a_server_that_is_stopped_and_goes_on_is_used_again(desk: AnswerDesk, tmp_path: Path) -> None:
    """As a paused guest is, or one that swaps."""
    desk.llm.reset()
    server = ValkeyServer(tmp_path)
    async with started(server), desk.assistant_here(valkey_url=server.url) as here:
        assert text_of(await here.client().ask("How many days?")) == ANSWER
        server.signal(signal.SIGSTOP)
        assert text_of(await here.client().ask("How many days, stopped?")) == ANSWER
        server.signal(signal.SIGCONT)

        async def is_hit() -> bool:
            return (await here.client().ask("How many days, going on?"))[0].data["cache"] == "hit"

        await until(is_hit)
