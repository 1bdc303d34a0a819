"""One model call serves all who ask the same: while it runs, and later for as long as its answer is true and theirs to read."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.support.desk import (
    LEAVE,
    PATIENT,
    AnswerDesk,
    Client,
    Event,
    Here,
    Process,
    events,
    own_desk,
    raw,
    text_of,
    until,
)
from tests.support.metrics import follow, total
from tests.support.scripted_llm import ANSWER, Behaviour, refuse, say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.settings.tree import Settings

QUESTION = "How many days of paid leave do employees have?"
OTHER = Principal(id="other")


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=12, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


# one question, one call


async def ask_everywhere(clients: list[Client], count: int, question: str) -> list[list[Event]]:
    return await asyncio.gather(*(clients[number % len(clients)].ask(question) for number in range(count)))


def all_one(streams: list[list[Event]]) -> None:
    """Everybody has the whole answer, the same bytes after their own first event."""
    assert {text_of(stream) for stream in streams} == {ANSWER}
    assert len({raw(stream[1:]) for stream in streams}) == 1
    assert len({stream[0].data["answer_id"] for stream in streams}) == len(streams)


async def test_one_question_of_many_askers_is_one_call(pair: tuple[Client, Client], desk: AnswerDesk) -> None:
    """Over processes."""
    desk.llm.default = say(gap_s=0.05)
    streams = await ask_everywhere(list(pair), 40, "How many days of leave, asked by many?")
    assert len(desk.llm.calls) == 1
    assert [stream[0].data["cache"] for stream in streams].count("miss") == 1
    all_one(streams)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_one_question_of_a_thousand_askers_is_one_call(desk: AnswerDesk) -> None:
    """Over four processes."""
    desk.llm.reset()
    desk.llm.default = say(gap_s=0.1)
    async with desk.assistants(4) as processes:
        clients = [await process.client() for process in processes]
        streams = await ask_everywhere(clients, 1000, "How many days of leave, asked by a thousand?")
    assert len(desk.llm.calls) == 1
    all_one(streams)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_thousand_askers_lose_a_leader_and_nothing_else(desk: AnswerDesk) -> None:
    """Killed while it writes: two calls at most, and all who ask elsewhere get the whole answer."""
    desk.llm.reset()
    desk.llm.plan = [say(gate=asyncio.Event(), gate_at=4)]
    question = "How many days of leave, asked by a thousand with a leader killed?"
    async with desk.assistants(4) as (leader, *others):
        reading = asyncio.create_task((await leader.client()).ask_until_cut(question))
        await desk.llm.called()
        clients = [await process.client() for process in others]
        asking = asyncio.create_task(ask_everywhere(clients, 1000, question))
        await until(lambda: follow(others[0], desk, 334), within_s=120)
        await leader.kill()
        await reading
        all_one(await asking)
    assert len(desk.llm.calls) == 2


@pytest.mark.parametrize("count", [4, pytest.param(200, marks=pytest.mark.long)])
async def test_followers_see_the_words_live(pair: tuple[Client, Client], desk: AnswerDesk, count: int) -> None:
    """Not only the finished answer: on their own process and on another."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=4)
    question = "How many days of leave, followed live?"
    seen: list[list[Event]] = [[] for _ in range(count)]

    async def follow(number: int) -> None:
        async with pair[number % 2].stream(question) as response:
            async for event in events(response):
                seen[number].append(event)

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(follow(number))
        await until(lambda: all(text_of(stream) == "Thirty days of leave" for stream in seen), within_s=60)
        gate.set()
    assert len(desk.llm.calls) == 1


USUAL: dict[str, Any] = {
    name: Settings().value(name) for name in ("concurrent_answers_max", "waiting_max", "waiting_per_principal_max")
}
"""The limits of a process as they are without a setting."""


async def test_equal_questions_take_one_place_however_many(desk: AnswerDesk) -> None:
    """Many times as many as there are places, connections and searches: one call, and nobody is refused."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=4)
    async with desk.assistant_here(**USUAL) as here:
        asking = [asyncio.create_task(here.client().ask("How many days of leave, once more?")) for _ in range(150)]
        await until(lambda: desk.llm.calls or any(task.done() for task in asking))
        gate.set()
        all_one(await asyncio.gather(*asking))
    assert len(desk.llm.calls) == 1


async def ask_differently(clients: list[Client], desk: AnswerDesk, count: int) -> Counter[str]:
    """So many different questions at once; how each ended, while the model says nothing until all but those it has are told."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate)
    outcomes: Counter[str] = Counter()

    async def ask(number: int) -> None:
        async with clients[number % len(clients)].stream(f"What is rule {number} about leave?") as response:
            if response.status == 200:
                outcomes["accepted"] += 1
                assert text_of([event async for event in events(response)]) == ANSWER
                return
            refused = await response.json()
            assert refused["type"] in ("overloaded", "rate-limited"), refused
            assert int(response.headers["retry-after"]) >= 1
            outcomes[refused["type"]] += 1

    asking = [asyncio.create_task(ask(number)) for number in range(count)]
    await until(
        lambda: outcomes.total() == count or any(task.done() and task.exception() for task in asking), within_s=60
    )
    gate.set()
    await asyncio.gather(*asking)
    print(f"{count} different questions at {len(clients)} processes: {dict(outcomes)}")  # noqa: T201
    return outcomes


def some_accepted_the_rest_refused(outcomes: Counter[str], *, processes: int) -> None:
    """A place at the model or in line, or the word that there is none."""
    writing, waiting = USUAL["concurrent_answers_max"], USUAL["waiting_max"]
    assert processes * writing <= outcomes["accepted"] <= processes * (writing + waiting)


async def test_different_questions_at_once_wait_or_are_refused(desk: AnswerDesk) -> None:
    """Many more than there are connections to search with."""
    desk.llm.reset()
    async with desk.assistant_here(**USUAL) as here:
        some_accepted_the_rest_refused(await ask_differently([here.client()], desk, 150), processes=1)


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_thousand_different_questions_at_once_wait_or_are_refused(desk: AnswerDesk) -> None:
    """Over four processes."""
    desk.llm.reset()
    async with desk.assistants(4, **USUAL) as processes:
        clients = [await process.client() for process in processes]
        some_accepted_the_rest_refused(await ask_differently(clients, desk, 1000), processes=4)


async def test_many_followed_answers_leave_the_limits_in_force(processes: list[Process], desk: AnswerDesk) -> None:
    """However many are read elsewhere, their words come live, and budgets are still counted."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=1)
    first, second = [await process.client() for process in processes]
    async with AsyncExitStack() as stack:
        followed = []
        for number in range(80):
            leading = events(await stack.enter_async_context(first.stream(f"Question {number}?", cache="bypass")))
            answer_id = (await anext(leading)).data["answer_id"]
            following = events(await stack.enter_async_context(second.resume(answer_id, 1)))
            assert (await anext(following)).name == "sources"
            followed.append(following)
        await desk.llm.called(80)
        for following in followed:
            assert (await anext(following)).data == {"text": "Thirty"}
        gate.set()
        assert text_of(await second.ask("And one more?", cache="bypass")) == ANSWER
        for following in followed:
            assert "Thirty" + text_of([event async for event in following]) == ANSWER
    assert await total(processes[1], desk, "refdesk_budget_unchecked_total") == 0


# caching


async def test_a_finished_answer_is_given_again(here: Here, desk: AnswerDesk) -> None:
    """White space and letter case aside; the log is the same, the asker's own event is not."""
    question = "How many days of leave are cached?"
    first = await here.client().ask(question)
    second = await here.client(OTHER).ask(f"  {question.upper()} ")
    assert [stream[0].data["cache"] for stream in (first, second)] == ["miss", "hit"]
    assert raw(first[1:]) == raw(second[1:])
    assert len(desk.llm.calls) == 1
    await here.client(OTHER).rest(second[0].data["answer_id"])


@pytest.mark.parametrize(
    "changes", [{"cache": "bypass"}, {"max_output_tokens": 99}, {"filters": {"document_ids": ["nothing"]}}]
)
async def test_another_question_is_another_answer(here: Here, changes: dict[str, object]) -> None:
    """So is one that asks for a new answer, and one with other parameters."""
    await here.client().ask(QUESTION)
    assert (await here.client().ask(QUESTION, **changes))[0].data["cache"] in ("miss", "bypass")


@pytest.mark.parametrize(
    "fault",
    [say(after=3, ending="cut"), refuse(400), Behaviour(status=503), say(after=3, finish_reason="content_filter")],
    ids=["cut", "refused", "down", "filtered"],
)
async def test_what_failed_is_never_given_again(desk: AnswerDesk, fault: Behaviour) -> None:
    """Neither an error nor the quotes that stood in for the model."""
    desk.llm.reset()
    question = f"How many days of leave, after a fault of {fault.status} {fault.finish_reason} {fault.ending}?"
    async with desk.assistant_here() as here:
        desk.llm.default = fault
        failed = await here.client().ask(question)
        assert failed[-1].name == "error" or failed[-1].data["degraded"]
        desk.llm.default = say()
        again = await here.client().ask(question)
    assert (again[0].data["cache"], text_of(again)) == ("miss", ANSWER)


async def change_and_ask(here: Here, desk: AnswerDesk, times: int) -> None:
    desk.llm.default = Behaviour(echo=True)
    text = "The code of the cellar door is {}."
    document_id = await desk.add("Cellar", text.format("unset"))
    for number in range(times):
        changed = await desk.change(document_id, text.format(f"C{number:04}"))
        indexing = asyncio.create_task(desk.put_into_index(changed, text.format(f"C{number:04}")))
        for _ in range(2):
            stream = await here.client().ask(
                "What is the code of the cellar door?", after=[changed["freshness_token"]], max_output_tokens=1000
            )
            assert f"C{number:04}" in text_of(stream)
            assert stream[-1].name == "done"
        await indexing
    await desk.documents.call("DELETE", f"/{document_id}", by=Principal(id="ada", groups=("administrators",)))
    assert "C0" not in text_of(await here.client().ask("What is the code of the cellar door?"))


async def test_a_changed_document_is_never_answered_from_before(here: Here, desk: AnswerDesk) -> None:
    """Change, wait for its freshness token, ask: no old answer, from no cache."""
    await change_and_ask(here, desk, 15)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_document_changed_a_thousand_times_is_never_answered_from_before(here: Here, desk: AnswerDesk) -> None:
    """A thousand pairs."""
    await change_and_ask(here, desk, 1000)


async def test_nobody_is_given_an_answer_from_what_they_may_not_read(here: Here, desk: AnswerDesk) -> None:
    """The same question, documents of each one's own."""
    desk.llm.default = Behaviour(echo=True)
    people = [Principal(id=f"person{number}") for number in range(5)]
    for person in people:
        await desk.add("Locker", f"Your locker has the code {person.id}-canary.", readers=(f"principal:{person.id}",))
    for _ in range(2):
        streams = await asyncio.gather(
            *(here.client(person).ask("What is the code of my locker?", max_output_tokens=1000) for person in people)
        )
        for person, stream in zip(people, streams, strict=True):
            assert set(re.findall(r"\S+-canary", str([event.data for event in stream]))) == {f"{person.id}-canary"}
