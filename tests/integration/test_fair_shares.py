"""One key's many slow questions leave room for everybody else's: at the model, in line, and in the line for searching."""

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.support.desk import LEAVE, AnswerDesk, Client, Event, Here, events, own_desk, text_of, until, wait
from tests.support.scripted_llm import ANSWER, say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.settings.tree import Settings

USUAL = {
    name: Settings().value(name)
    for name in (
        "concurrent_answers_max", "answers_kept_free", "waiting_max", "waiting_per_principal_max",
        "concurrent_per_principal_max", "waiting_principals_max",
    )
}  # fmt: skip
"""The limits of a process as they are without a setting."""

ANSWERS = 1000
FIRST_TOKEN_S = 0.05
"""How long the model takes to begin: what an idle desk's first word is compared with must not be next to nothing."""


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=3) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture
async def here(desk: AnswerDesk) -> AsyncIterator[Here]:
    desk.llm.reset()
    async with desk.assistant_here(**USUAL) as here:
        yield here


class Noise:
    """Somebody who keeps ``count`` different questions under way, whatever becomes of those before."""

    def __init__(self, client: Client, name: str, count: int) -> None:
        self._client = client
        self._name = name
        self.count = count
        self.statuses: Counter[int] = Counter()
        self.answered = 0

    async def ask(self, number: str) -> None:
        """One question; a refusal is waited out, though not for as long as it says."""
        async with self._client.stream(f"What says {self._name} about {number}?", cache="bypass") as response:
            self.statuses[response.status] += 1
            if response.status == 200:
                stream = [event async for event in events(response)]
                self.answered += stream[-1].name == "done"
                return
        await wait(0.5)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        async def keep_on(number: int) -> None:
            for again in itertools.count():
                await self.ask(f"{number}, {again}")

        tasks = [asyncio.create_task(keep_on(number)) for number in range(self.count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_what_one_key_asks_for_leaves_others_a_place(here: Here, desk: AnswerDesk) -> None:
    """40 questions whose answers never end: two more keys are answered meanwhile, and the next is in line, the first in it."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=1)
    noise = Noise(here.client(Principal(id="noisy")), "noisy", 40)
    asking = [asyncio.create_task(noise.ask(str(number))) for number in range(noise.count)]
    await until(lambda: len(desk.llm.calls) == 14 and noise.statuses.total() == 40)
    assert 0 < noise.statuses[200] - len(desk.llm.calls) <= 16  # in line; the rest is refused
    desk.llm.plan = [say()]
    assert text_of(await here.client(Principal(id="second")).ask("And I?", cache="bypass")) == ANSWER
    async with AsyncExitStack() as stack:
        streams = [
            events(await stack.enter_async_context(here.client(Principal(id=name)).stream("And I?", cache="bypass")))
            for name in ("third", "fourth", "fifth")
        ]
        assert [await first_of(stream, "delta", "queued") for stream in streams] == ["delta", "delta", 1]
        gate.set()
    await asyncio.gather(*asking)


async def first_of(stream: AsyncIterator[Event], *names: str) -> object:
    """The first event of one of these names; the position, where it has one."""
    async for event in stream:
        if event.name in names:
            return event.data.get("position", event.name)
    raise AssertionError("the answer has ended")


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_ten_keys_get_equal_shares_however_much_they_ask_for(here: Here, desk: AnswerDesk) -> None:
    """Jain's index over what each was answered: ten keys that keep 2 to 11 questions under way."""
    desk.llm.default = say(gap_s=0.2)
    keys = [Noise(here.client(Principal(id=f"key-{number}")), f"key-{number}", number) for number in range(2, 12)]
    async with AsyncExitStack() as stack:
        for key in keys:
            await stack.enter_async_context(key.going_on())
        await until(lambda: sum(key.answered for key in keys) >= ANSWERS, within_s=500)
    shares = [key.answered for key in keys]
    jain = sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
    print(f"{shares} answers; Jain's index {jain:.3f}")  # noqa: T201
    assert jain >= 0.9


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_the_first_word_comes_as_soon_beside_two_hundred_slow_questions(desk: AnswerDesk) -> None:
    """The 95th percentile of another key's, against an idle desk: twice at most. The desk is a process of its own."""
    desk.llm.reset()
    desk.llm.default = say(first_after_s=FIRST_TOKEN_S, gap_s=1.0)
    async with desk.assistants(1, **USUAL) as (process,):
        quiet = await process.client(Principal(id="quiet"))
        idle = [await first_word_s(quiet, f"How many when idle, {number}?") for number in range(40)]
        noise = Noise(await process.client(Principal(id="noisy")), "noisy", 200)
        async with noise.going_on():
            await until(lambda: noise.statuses.total() > 200)
            beside = [await first_word_s(quiet, f"How many beside it, {number}?") for number in range(40)]
    before, after = (statistics.quantiles(seconds, n=20)[18] for seconds in (idle, beside))
    print(f"first word p95 {before * 1e3:.0f} ms idle, {after * 1e3:.0f} ms beside; {dict(noise.statuses)}")  # noqa: T201
    assert after <= 2 * before


async def first_word_s(client: Client, question: str) -> float:
    """Seconds to the first word; then the asker stops the answer, and its place is free again."""
    asked = time.perf_counter()
    async with client.stream(question, cache="bypass") as response:
        stream = events(response)
        answer_id = (await anext(stream)).data["answer_id"]
        assert await first_of(stream, "delta") == "delta"
        seconds = time.perf_counter() - asked
        assert (await client.json("DELETE", f"/api/answers/{answer_id}"))[0] == 204
        return seconds
