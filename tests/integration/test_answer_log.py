"""An answer is a log: resumed anywhere, stopped at once, shared by all who ask the same, kept as long as it is true."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import msgspec
import pytest
from redis.asyncio import Redis
from tests.support.desk import (
    ASKER,
    LEAVE,
    AnswerDesk,
    Client,
    Event,
    Here,
    Process,
    Wire,
    events,
    own_desk,
    text_of,
    until,
    wait,
)
from tests.support.scripted_llm import ANSWER, Behaviour, refuse, say

from refdesk.app.embedded.stack import StackUrls
from refdesk.app.settings import Settings
from refdesk.contracts.access import Principal

QUESTION = "How many days of paid leave do employees have?"
OTHER = Principal(id="other")
STOP_S = 1.0
EVENTS = 200
LONG_TEXT = " ".join(f"word{number}" for number in range(2 * EVENTS))
GAP_S = 0.003
"""Words closer together may share a read and then an event."""


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    patient = {"llm_first_token_timeout_s": 60.0, "llm_between_tokens_timeout_s": 60.0}
    async with own_desk(servers, tmp_path_factory, valkey_number=3, **patient) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture(scope="module")
async def processes(desk: AnswerDesk) -> AsyncIterator[list[Process]]:
    async with desk.assistants(2) as processes:
        yield processes


@pytest.fixture
async def pair(processes: list[Process], desk: AnswerDesk) -> tuple[Client, Client]:
    """The same asker at two assistant processes."""
    desk.llm.reset()
    first, second = processes
    return await first.client(), await second.client()


@pytest.fixture(scope="module")
async def assistant_here(desk: AnswerDesk) -> AsyncIterator[Here]:
    async with desk.assistant_here() as here:
        yield here


@pytest.fixture
def here(assistant_here: Here, desk: AnswerDesk) -> Here:
    desk.llm.reset()
    return assistant_here


async def resumed(client: Client, answer_id: str, *, after: int = 0) -> list[Event]:
    async with client.resume(answer_id, after) as response:
        return [event async for event in events(response)]


def raw(stream: list[Event]) -> bytes:
    return b"".join(event.raw for event in stream)


async def beginning(client: Client, count: int, *, question: str = QUESTION) -> list[Event]:
    """The first events of a new answer; then the connection is dropped."""
    seen: list[Event] = []
    async with client.stream(question, cache="bypass") as response:
        async for event in events(response):
            seen.append(event)
            if len(seen) == count:
                response.close()
                break
    return seen


# resuming


async def test_an_answer_is_the_same_from_any_event_on_another_process(
    pair: tuple[Client, Client], desk: AnswerDesk
) -> None:
    """All cuts of 200 events and more, byte by byte, and no second call."""
    first, second = pair
    desk.llm.default = say(LONG_TEXT, gap_s=GAP_S)
    whole = await first.ask(QUESTION, cache="bypass")
    assert len(whole) >= EVENTS
    for index in range(len(whole) + 1):
        rest = await resumed(second, whole[0].data["answer_id"], after=index)
        assert raw(whole[:index]) + raw(rest) == raw(whole)
    assert len(desk.llm.calls) == 1


async def cut_and_resume(pair: tuple[Client, Client], desk: AnswerDesk, index: int) -> None:
    """Cut while the model still writes: it holds its last word back until the reader is at the other process."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(LONG_TEXT, gap_s=GAP_S, gate=gate, gate_at=2 * EVENTS - 1)
    seen = await beginning(pair[0], index)
    answer_id = seen[0].data["answer_id"]
    async with pair[1].resume(answer_id, index) as response:
        gate.set()
        rest = [event async for event in events(response)]
    assert raw(seen) + raw(rest) == raw(await resumed(pair[0], answer_id))
    assert (rest[-1].name, len(desk.llm.calls)) == ("done", 1)


@pytest.mark.parametrize("index", [1, 2, 3, 50, EVENTS])
async def test_a_reader_cut_off_goes_on_at_another_process(
    pair: tuple[Client, Client], desk: AnswerDesk, index: int
) -> None:
    """While the answer is being written."""
    await cut_and_resume(pair, desk, index)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_reader_cut_off_anywhere_goes_on_at_another_process(
    pair: tuple[Client, Client], desk: AnswerDesk
) -> None:
    """At every event of a live answer."""
    for index in range(1, EVENTS + 1):
        await cut_and_resume(pair, desk, index)


async def test_only_its_owner_reads_an_answer(processes: list[Process], desk: AnswerDesk) -> None:
    """On no process does anybody else."""
    answer_id = (await (await processes[0].client()).ask(QUESTION))[0].data["answer_id"]
    for process in processes:
        for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
            status, _, _ = await (await process.client(OTHER)).json(method, f"/api/answers/{answer_id}{path}")
            assert status == 404


async def test_an_answer_that_was_kept_long_enough_is_gone(desk: AnswerDesk) -> None:
    """410, not 404: there was one."""
    desk.llm.reset()
    async with desk.assistant_here(answer_retention_s=1) as here:
        answer_id = (await here.client().ask(QUESTION, cache="bypass"))[0].data["answer_id"]

        async def gone() -> bool:
            status, _, refused = await here.client().json("GET", f"/api/answers/{answer_id}/events")
            assert status in (200, 410)
            return status == 410 and refused["type"] == "expired"

        await until(lambda: _not_streaming(here, answer_id))
        await until(gone)


async def _not_streaming(here: Here, answer_id: str) -> bool:
    async with here.client().resume(answer_id, 0) as response:
        return response.status == 410


async def test_a_log_that_is_gone_is_told_before_the_stream_begins(
    pair: tuple[Client, Client], desk: AnswerDesk
) -> None:
    """An asker's record may outlive the shared log it points at."""
    answer_id = (await pair[0].ask(QUESTION, cache="bypass"))[0].data["answer_id"]
    async with Redis.from_url(desk.settings.valkey_url or "") as valkey:
        await until(lambda: _forgotten(valkey))
    status, _, refused = await pair[1].json("GET", f"/api/answers/{answer_id}/events")
    assert (status, refused["type"]) == (410, "expired")


async def _forgotten(valkey: Redis) -> bool:
    keys = [key async for key in valkey.scan_iter("refdesk:[ljf]*:*")]
    await valkey.delete(*keys)
    return not [key async for key in valkey.scan_iter("refdesk:lease:*")]


# stopping and leaving


@pytest.mark.parametrize("at", [0, 1])
async def test_a_stopped_answer_stops_its_model(pair: tuple[Client, Client], desk: AnswerDesk, at: int) -> None:
    """Within a second, wherever the stop arrives; the reader is told, and the answer is not used again."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=4)
    question = f"How many days of leave are paid, process {at}?"
    async with pair[0].stream(question) as response:
        seen = []
        async for event in events(response):
            seen.append(event)
            if text_of(seen) == "Thirty days of leave" and event.name == "delta":
                status, _, _ = await pair[at].json("DELETE", f"/api/answers/{seen[0].data['answer_id']}")
                assert status == 204
                await asyncio.wait_for(desk.llm.calls[0].closed.wait(), STOP_S)
    ending = seen[-1]
    assert (ending.name, ending.data["finish_reason"]) == ("done", "cancelled")
    assert ending.data["usage"]["output_tokens"] == 4
    assert ending.data["usage"]["input_tokens"] > 0
    gate.set()
    again = await pair[0].ask(question)
    assert (again[0].data["cache"], text_of(again)) == ("miss", ANSWER)


async def test_a_stop_is_the_askers_own(pair: tuple[Client, Client], desk: AnswerDesk) -> None:
    """Whoever else reads the same log reads on; the one who stopped reads no more."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=4)
    question = "How many days of leave does everybody have?"
    staying = asyncio.create_task(pair[0].ask(question))
    await desk.llm.called()
    async with pair[1].stream(question) as response:
        seen = []
        async for event in events(response):
            seen.append(event)
            if len(seen) == 1:
                await pair[1].json("DELETE", f"/api/answers/{event.data['answer_id']}")
    assert seen[0].data["cache"] == "coalesced"
    assert seen[-1].name != "done"
    assert not desk.llm.calls[0].closed.is_set()
    gate.set()
    assert text_of(await staying) == ANSWER


async def test_a_reader_who_comes_back_in_time_finds_the_answer_going_on(here: Here, desk: AnswerDesk) -> None:
    """The model is not called again."""
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=4)
    seen = await beginning(here.client(), 6)
    async with here.client().resume(seen[0].data["answer_id"], seen[-1].id) as response:
        await wait(desk.settings.disconnect_grace_s * 2)
        gate.set()
        rest = [event async for event in events(response)]
    assert text_of([*seen, *rest]) == ANSWER
    assert len(desk.llm.calls) == 1


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
        reading = asyncio.create_task(partial_stream(await leader.client(), question))
        await desk.llm.called()
        clients = [await process.client() for process in others]
        asking = asyncio.create_task(ask_everywhere(clients, 1000, question))
        await until(lambda: _waits(others[0], desk, 334), within_s=120)
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
    name: getattr(Settings(), name) for name in ("concurrent_answers_max", "waiting_max", "waiting_per_principal_max")
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
    assert await metric(processes[1], desk, "refdesk_budget_unchecked_total") == 0


async def metric(process: Process, desk: AnswerDesk, name: str) -> float:
    async with desk.session.get(f"{process.url}/metrics") as response:
        found = re.search(rf"(?m)^{name}(?:{{[^}}]*}})? (\S+)$", await response.text())
    return float(found[1]) if found else 0.0


# the death of a leader


@pytest.mark.parametrize(("gate_at", "said"), [(0, ""), (5, "Thirty days of leave are")])
async def test_followers_of_a_leader_that_is_killed_get_the_whole_answer(
    desk: AnswerDesk, gate_at: int, said: str
) -> None:
    """Two calls at most; whoever read at the dead process goes on elsewhere, byte by byte, from what it had copied."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.plan = [say(gate=gate, gate_at=gate_at)]
    question = f"How many days of leave, with a leader killed at {gate_at}?"
    async with desk.assistants(2) as (first, second), Redis.from_url(desk.settings.valkey_url or "") as valkey:
        earlier = await _logs(valkey)
        leading, following = await first.client(), await second.client()
        reading = asyncio.create_task(partial_stream(leading, question))
        await desk.llm.called()
        followers = [asyncio.create_task(following.ask(question)) for _ in range(5)]
        await until(lambda: _waits(second, desk, 5))
        await until(lambda: _copied(valkey, said, earlier=earlier))
        await first.kill()
        seen = await reading
        streams = await asyncio.gather(*followers)
        assert {text_of(stream) for stream in streams} == {ANSWER}
        assert {stream[-1].name for stream in streams} == {"done"}
        rest = await resumed(following, seen[0].data["answer_id"], after=seen[-1].id)
        assert raw(seen[1:]) + raw(rest) == raw(streams[0][1:])
    assert len(desk.llm.calls) == 2


async def _waits(process: Process, desk: AnswerDesk, count: int) -> bool:
    return await metric(process, desk, "refdesk_singleflight_waiters") == count


async def partial_stream(client: Client, question: str) -> list[Event]:
    """What arrives until the connection breaks."""
    seen: list[Event] = []
    with contextlib.suppress(aiohttp.ClientError):
        async with client.stream(question) as response:
            async for event in events(response):
                seen.append(event)  # noqa: PERF401  what came before the break counts
    return seen


async def test_an_answer_is_never_spliced_of_two(desk: AnswerDesk) -> None:
    """When the model now answers otherwise than its readers have seen, the answer ends with an error."""
    desk.llm.reset()
    desk.llm.plan = [say(gate=asyncio.Event(), gate_at=4), say("Thirty weeks of leave. [1]")]
    async with desk.assistants(2) as (first, second), Redis.from_url(desk.settings.valkey_url or "") as valkey:
        earlier = await _logs(valkey)
        reading = asyncio.create_task(partial_stream(await first.client(), QUESTION))
        await desk.llm.called()
        client = await second.client()
        following = asyncio.create_task(client.ask(QUESTION))
        await until(lambda: _waits(second, desk, 1))
        await until(lambda: _copied(valkey, "Thirty days of leave", earlier=earlier))
        await first.kill()
        await reading
        stream = await following
    assert (text_of(stream), stream[-1].name, stream[-1].data["partial"]) == ("Thirty days of leave", "error", True)


async def _logs(valkey: Redis) -> set[bytes]:
    return {key async for key in valkey.scan_iter("refdesk:log:*")}


async def _copied(valkey: Redis, said: str, *, earlier: set[bytes]) -> bool:
    """Whether a log that is none of the earlier ones is copied as far as its sources and this text."""
    for key in await _logs(valkey) - earlier:
        payloads = [payload for _, fields in await valkey.xrange(key) for payload in fields.values()]
        entries = [entry for payload in payloads for entry in msgspec.json.decode(payload)]
        if entries and said == "".join(data["text"] for _, name, data in entries if name == "delta"):
            return True
    return False


# caching


async def test_a_finished_answer_is_given_again(here: Here, desk: AnswerDesk) -> None:
    """White space and letter case aside; the log is the same, the asker's own event is not."""
    question = "How many days of leave are cached?"
    first = await here.client().ask(question)
    second = await here.client(OTHER).ask(f"  {question.upper()} ")
    assert [stream[0].data["cache"] for stream in (first, second)] == ["miss", "hit"]
    assert raw(first[1:]) == raw(second[1:])
    assert len(desk.llm.calls) == 1
    await resumed(here.client(OTHER), second[0].data["answer_id"])


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


# without Valkey


async def test_answers_flow_without_valkey(desk: AnswerDesk) -> None:
    """Uncoalesced and uncounted, and what cannot be known is said to be unavailable; then all is as it was."""
    desk.llm.reset()
    wire = Wire(desk.settings.valkey_url or "")
    await wire.open()
    async with desk.assistant_here(valkey_url=wire.url) as here:
        client = here.client()
        assert text_of(await client.ask(QUESTION, cache="bypass")) == ANSWER
        await wire.shut()
        streams = await asyncio.gather(*(client.ask(QUESTION) for _ in range(5)))
        assert {text_of(stream) for stream in streams} == {ANSWER}
        answer_id = streams[0][0].data["answer_id"]
        status, headers, refused = await client.json("GET", f"/api/answers/{answer_id}")
        assert (status, refused["type"], int(headers["retry-after"]) >= 1) == (503, "unavailable", True)
        await wire.open()
        resumable = await client.ask(QUESTION, cache="bypass")
        async with desk.assistant_here() as elsewhere:
            assert raw(await resumed(elsewhere.client(), resumable[0].data["answer_id"])) == raw(resumable)
    await wire.shut()


async def test_a_log_cut_off_from_valkey_is_copied_when_it_is_back(desk: AnswerDesk) -> None:
    """Completely, and once."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=3)
    wire = Wire(desk.settings.valkey_url or "")
    await wire.open()
    async with desk.assistant_here(valkey_url=wire.url) as here, AsyncExitStack() as stack:
        asking = asyncio.create_task(here.client().ask(QUESTION, cache="bypass"))
        await desk.llm.called()
        await wait(0.1)
        await wire.shut()
        gate.set()
        stream = await asking
        await wire.open()
        elsewhere = await stack.enter_async_context(desk.assistant_here())
        assert raw(await resumed(elsewhere.client(), stream[0].data["answer_id"])) == raw(stream)
    await wire.shut()


async def test_a_valkey_that_hangs_delays_an_answer_but_does_not_stop_it(desk: AnswerDesk) -> None:
    """Every command has its time."""
    desk.llm.reset()
    wire = Wire(desk.settings.valkey_url or "")
    await wire.open()
    async with desk.assistant_here(valkey_url=wire.url) as here:
        assert text_of(await here.client().ask(QUESTION, cache="bypass")) == ANSWER
        wire.stick()
        assert text_of(await asyncio.wait_for(here.client().ask(QUESTION, cache="bypass"), 30)) == ANSWER
        wire.unstick()
    await wire.shut()


# the end of a process


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.long)])
async def test_a_service_that_is_told_to_end_ends_its_streams_with_words(desk: AnswerDesk, count: int) -> None:
    """Those that can finish do, the others get a terminal event within the grace; the exit code is 0."""
    desk.llm.reset()
    gate = asyncio.Event()
    async with desk.assistants(1) as (process,):
        client = await process.client(ASKER)
        desk.llm.default = say(gate=gate, gate_at=2)
        finishing = [asyncio.create_task(client.ask(f"F{n}?", cache="bypass")) for n in range(count // 2)]
        await desk.llm.called(count // 2)
        desk.llm.default = say(gate=asyncio.Event(), gate_at=2)
        endless = [asyncio.create_task(client.ask(f"E{n}?", cache="bypass")) for n in range(count - count // 2)]
        await desk.llm.called(count)
        process.process.terminate()
        await wait(0.5)
        gate.set()
        for stream in await asyncio.gather(*finishing):
            assert (stream[-1].name, text_of(stream)) == ("done", ANSWER)
        for stream in await asyncio.gather(*endless):
            assert (stream[-1].name, stream[-1].data["partial"]) == ("error", True)
        assert await asyncio.wait_for(process.process.wait(), 20) == 0
