"""A process that writes an answer dies, perhaps with words that only its own readers have seen; another writes in its place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from redis.asyncio import Redis
from tests.support.desk import ASKER, LEAVE, PATIENT, AnswerDesk, Event, Wire, events, own_desk, raw, text_of, until
from tests.support.metrics import follow
from tests.support.scripted_llm import ANSWER, say

from refdesk.answering.logs.log import AnswerRecord, new_id
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.answers import Accepted

QUESTION = "How many days of paid leave do employees have?"
COPIED, LOST = "Thirty days of", " leave are"
WORDS_BEFORE_DEATH = 5


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=15, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@asynccontextmanager
async def wire_to_valkey(desk: AnswerDesk) -> AsyncIterator[Wire]:
    wire = Wire(desk.settings.valkey.url or "")
    await wire.open()
    try:
        yield wire
    finally:
        await wire.shut()


async def seen_at_a_dying_process(desk: AnswerDesk, valkey: Redis) -> list[Event]:
    """Its reader's events: the words up to `COPIED` are in Valkey, the others nowhere any more."""
    gate, seen = asyncio.Event(), list[Event]()
    desk.llm.plan = [say(ANSWER, gate=gate, gate_at=3, after=WORDS_BEFORE_DEATH, ending="stall")]
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(wire_to_valkey(desk))
        (process,) = await stack.enter_async_context(desk.assistants(1, valkey_url=wire.url))
        client = await process.client()
        async for event in events(await stack.enter_async_context(client.stream(QUESTION, cache="bypass"))):
            seen.append(event)
            if event.name == "delta" and text_of(seen) == COPIED:
                await until(lambda: _copied(valkey, seen[-1].id))
                await wire.shut()
                gate.set()
            if text_of(seen) == COPIED + LOST:
                await process.kill()
                break
    return seen


async def _copied(valkey: Redis, number: int) -> bool:
    return any([await valkey.xrange(key, f"{number}-0", f"{number}-0") for key in await _logs(valkey)])


async def _logs(valkey: Redis) -> set[bytes]:
    return {key async for key in valkey.scan_iter("refdesk:log:*")}


@pytest.mark.parametrize(
    ("nothing_copied", "rewritten"),
    [
        (False, "Thirty days of holidays. [1]"),
        (True, "Whoever is employed has thirty days of leave each year, all of them paid, whatever they do. [1]"),
    ],
    ids=["shorter", "longer"],
)
async def test_what_was_lost_is_not_mistaken_for_what_is_written_in_its_place(
    desk: AnswerDesk, nothing_copied: bool, rewritten: str
) -> None:
    """Whoever saw the lost words is told so, and from which event on to read again; and then has one whole answer."""
    desk.llm.reset()
    desk.llm.default = say(rewritten)
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey, desk.assistant_here() as elsewhere:
        await valkey.flushdb()
        seen = await seen_at_a_dying_process(desk, valkey)
        if nothing_copied:
            await valkey.delete(*await _logs(valkey))
        kept = 1 if nothing_copied else next(event.id for event in seen if text_of(seen[: event.id]) == COPIED)
        client, answer_id = elsewhere.client(), seen[0].data["answer_id"]

        async with client.resume(answer_id, seen[-1].id) as response:
            assert response.status == 200, await response.text()
            frame = await response.text()
        assert frame.startswith("event: error\ndata: "), frame
        status, _, refused = await client.json(
            "GET", f"/api/answers/{answer_id}/events", headers={"Last-Event-ID": str(seen[-1].id)}
        )
        async with client.resume(answer_id, kept) as response:
            rest = [event async for event in events(response)]

    assert msgspec.json.decode(frame.rpartition("data: ")[2]) == refused | {"partial": True}
    assert (status, refused["type"], refused["last_event_id"]) == (409, "answer-rewritten", kept)
    assert (text_of([*seen[:kept], *rest]), rest[-1].name) == (rewritten, "done")
    ids = [event.id for event in [*seen, *rest]]
    assert ids == sorted(set(ids)), "no number has two meanings"


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
    async with desk.assistants(2) as (first, second), Redis.from_url(desk.settings.valkey.url or "") as valkey:
        earlier = await _logs(valkey)
        leading, following = await first.client(), await second.client()
        reading = asyncio.create_task(leading.ask_until_cut(question))
        await desk.llm.called()
        followers = [asyncio.create_task(following.ask(question)) for _ in range(5)]
        await until(lambda: follow(second, desk, 5))
        await until(lambda: _copied_as_far_as(valkey, said, earlier=earlier))
        await first.kill()
        seen = await reading
        streams = await asyncio.gather(*followers)
        assert {text_of(stream) for stream in streams} == {ANSWER}
        assert {stream[-1].name for stream in streams} == {"done"}
        rest = await following.rest(seen[0].data["answer_id"], after=seen[-1].id)
        assert raw(seen[1:]) + raw(rest) == raw(streams[0][1:])
    assert len(desk.llm.calls) == 2


async def test_an_answer_is_never_spliced_of_two(desk: AnswerDesk) -> None:
    """When the model now answers otherwise than its readers have seen, the answer ends with an error."""
    desk.llm.reset()
    desk.llm.plan = [say(gate=asyncio.Event(), gate_at=4), say("Thirty weeks of leave. [1]")]
    async with desk.assistants(2) as (first, second), Redis.from_url(desk.settings.valkey.url or "") as valkey:
        earlier = await _logs(valkey)
        reading = asyncio.create_task((await first.client()).ask_until_cut(QUESTION))
        await desk.llm.called()
        client = await second.client()
        following = asyncio.create_task(client.ask(QUESTION))
        await until(lambda: follow(second, desk, 1))
        await until(lambda: _copied_as_far_as(valkey, "Thirty days of leave", earlier=earlier))
        await first.kill()
        await reading
        stream = await following
    ending = stream[-1]
    assert (text_of(stream), ending.name, ending.data["partial"]) == ("Thirty days of leave", "error", True)
    assert ending.data["type"] == "answer-diverged"


async def test_a_job_that_cannot_be_read_ends_its_answer_and_not_the_process(desk: AnswerDesk) -> None:
    """Another release has written it, perhaps."""
    desk.llm.reset()
    async with desk.assistant_here() as here, Redis.from_url(desk.settings.valkey.url or "") as valkey:
        answer_id, log_id = new_id(), new_id()
        record = AnswerRecord(
            answer_id=answer_id,
            log_id=log_id,
            principal_id=ASKER.id,
            question=QUESTION,
            conversation_id=None,
            accepted=Accepted(answer_id, "scripted", "miss"),
        )
        await valkey.set(f"refdesk:answer:{answer_id}", msgspec.json.encode(record), ex=60)
        await valkey.set(f"refdesk:job:{{{log_id}}}", b'{"of": "another release"}', ex=60)
        ending = (await here.client().rest(answer_id))[-1]
        assert (ending.name, ending.data["type"], ending.data["partial"]) == ("error", "unavailable", False)
        assert (await here.client().ask(QUESTION, cache="bypass"))[-1].name == "done"


async def _copied_as_far_as(valkey: Redis, said: str, *, earlier: set[bytes]) -> bool:
    """Whether a log that is none of the earlier ones is copied as far as its sources and this text."""
    for key in await _logs(valkey) - earlier:
        payloads = [payload for _, fields in await valkey.xrange(key) for payload in fields.values()]
        entries = [entry for payload in payloads for entry in msgspec.json.decode(payload)]
        if entries and said == "".join(data["text"] for _, name, data in entries if name == "delta"):
            return True
    return False
