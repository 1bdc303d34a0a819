"""An answer is a log: resumed anywhere, stopped at once, there without Valkey, ended with words when its process ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest
from redis.asyncio import Redis
from tests.support.desk import (
    ASKER,
    LEAVE,
    PATIENT,
    AnswerDesk,
    Client,
    Event,
    Here,
    Process,
    Wire,
    events,
    own_desk,
    raw,
    text_of,
    until,
    wait,
)
from tests.support.patience import within
from tests.support.scripted_llm import ANSWER, say

from refdesk.answering.logs import journal
from refdesk.answering.stops import CHANNEL
from refdesk.app.embedded.stack import StackUrls
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
    async with own_desk(servers, tmp_path_factory, valkey_number=3, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


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
        rest = await second.rest(whole[0].data["answer_id"], after=index)
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
    assert raw(seen) + raw(rest) == raw(await pair[0].rest(answer_id))
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


async def test_an_ending_is_copied_at_once(
    pair: tuple[Client, Client], desk: AnswerDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever saw the end of an answer finds the same one elsewhere, although words are copied now and then."""
    for pause in ("FLUSH_INTERVAL_S", "TICK_S"):
        monkeypatch.setattr(journal, pause, 3600.0)
    async with desk.assistant_here() as here:
        whole = await here.client().ask(QUESTION, cache="bypass")
        rest = await pair[1].rest(whole[0].data["answer_id"], after=1)
    assert raw(rest) == raw(whole[1:])
    assert len(desk.llm.calls) == 1


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
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
        earlier = await _logs(valkey)
        answer_id = (await pair[0].ask(QUESTION, cache="bypass"))[0].data["answer_id"]
        await until(lambda: _copied_to_its_end(valkey, earlier=earlier))
        await valkey.delete(*[key async for key in valkey.scan_iter("refdesk:[ljf]*:*")])
    status, _, refused = await pair[1].json("GET", f"/api/answers/{answer_id}/events")
    assert (status, refused["type"]) == (410, "expired")


async def _logs(valkey: Redis) -> set[bytes]:
    return {key async for key in valkey.scan_iter("refdesk:log:*")}


async def _copied_to_its_end(valkey: Redis, *, earlier: set[bytes]) -> bool:
    """Whether a log that is none of the earlier ones is there as a whole."""
    for key in await _logs(valkey) - earlier:
        [(_, newest)] = await valkey.xrevrange(key, count=1)
        if msgspec.json.decode(newest[b"e"])[-1][1] == "done":
            return True
    return False


# stopping and leaving


@pytest.mark.parametrize("at", [0, 1])
async def test_a_stopped_answer_stops_its_model(pair: tuple[Client, Client], desk: AnswerDesk, at: int) -> None:
    """Within a second, wherever the stop arrives; the reader is told, and the answer is not used again.

    A message that no release of ours has written ends no process.
    """
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
        assert await valkey.publish(CHANNEL, b"{") >= 2
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
                async with within(STOP_S):
                    await desk.llm.calls[0].closed.wait()
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
        await wait(desk.settings.graces.single_s * 2)
        gate.set()
        rest = [event async for event in events(response)]
    assert text_of([*seen, *rest]) == ANSWER
    assert len(desk.llm.calls) == 1


# without Valkey


async def test_answers_flow_without_valkey(desk: AnswerDesk) -> None:
    """Uncoalesced and uncounted, and what cannot be known is said to be unavailable; then all is as it was."""
    desk.llm.reset()
    wire = Wire(desk.settings.valkey.url or "")
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
        async with desk.assistant_here() as elsewhere:
            await until(lambda: _is_kept(client, elsewhere.client()))  # it is tried again in the background
            resumable = await client.ask(QUESTION, cache="bypass")
            assert raw(await elsewhere.client().rest(resumable[0].data["answer_id"])) == raw(resumable)
    await wire.shut()


async def _is_kept(client: Client, elsewhere: Client) -> bool:
    """Whether an answer that is given now can be read at another process."""
    answered = await client.ask(QUESTION, cache="bypass")
    status, _, _ = await elsewhere.json("GET", f"/api/answers/{answered[0].data['answer_id']}")
    return status == 200


async def test_a_log_cut_off_from_valkey_is_copied_when_it_is_back(desk: AnswerDesk) -> None:
    """Completely, and once."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=3)
    wire = Wire(desk.settings.valkey.url or "")
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
        assert raw(await elsewhere.client().rest(stream[0].data["answer_id"])) == raw(stream)
    await wire.shut()


async def test_a_valkey_that_hangs_delays_an_answer_but_does_not_stop_it(desk: AnswerDesk) -> None:
    """Every command has its time."""
    desk.llm.reset()
    wire = Wire(desk.settings.valkey.url or "")
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


async def test_who_follows_an_answer_of_another_process_is_sent_there_at_once(desk: AnswerDesk) -> None:
    """Our own stream just ends, and can be resumed; OpenAI's format knows no such thing, and says that it may be asked again."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate, gate_at=2)
    question = "Which days of leave expire, and when?"
    chat = {"model": "refdesk", "messages": [{"role": "user", "content": question}], "stream": True}
    async with desk.assistants(2) as (first, second):
        there, here = await first.client(ASKER), await second.client(ASKER)
        writing = asyncio.create_task(there.ask(question))
        await desk.llm.called()
        async with (
            here.stream(question) as own,
            here.call("POST", "/v1/chat/completions", json=chat) as completion,
            within(15),
        ):
            await own.content.readuntil(b"event: delta\n")
            await completion.content.readuntil(b'"content":"Thirty')
            second.process.terminate()
            ended, cut = await asyncio.gather(own.read(), completion.read())
        gate.set()
        assert text_of(await writing) == ANSWER
    assert b"event: done" not in ended and b"event: error" not in ended
    assert msgspec.json.decode(cut.rpartition(b"data: ")[2])["error"]["code"] == "unavailable"
    assert len(desk.llm.calls) == 1
