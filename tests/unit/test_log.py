"""An answer's log in memory: numbered once, the same for every reader, from any point."""

import asyncio
from datetime import UTC, datetime

import pytest

from refdesk.answering.logs.log import ARRIVAL_S, BATCH_BYTES_MAX, BATCH_MAX, AnswerLog, Entry, encode_entry
from refdesk.contracts.answers import (
    Accepted,
    Delta,
    Done,
    Failed,
    FinishReason,
    Queued,
    Sentence,
    Source,
    Sources,
    Timings,
    Usage,
)
from refdesk.contracts.errors import AnswerRewritten, ModelFailed, problem
from refdesk.web.sse import Wait


def done(finish_reason: FinishReason = "stop", *, degraded: bool = False) -> Done:
    return Done(
        finish_reason=finish_reason,
        usage=Usage(3, 2),
        timings=Timings(),
        as_of=datetime(2026, 1, 2, tzinfo=UTC),
        index_lag_seconds=0.5,
        degraded=degraded,
    )


def log_of(*texts: str, ending: Done | Failed | None = None) -> AnswerLog:
    log = AnswerLog("log")
    for text in texts:
        log.append(Delta(text))
    if ending is not None:
        log.append(ending)
    return log


async def read_all(log: AnswerLog, *, after: int = 0, wait: bool = True) -> list[Entry]:
    read: list[Entry] = []
    await log.read("a", read.extend, after=after, wait=wait)
    return read


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        (Accepted("a1", "m", "miss"), 'event: accepted\ndata: {"answer_id":"a1","model":"m","cache":"miss"}'),
        (Queued(2, 1.5), 'event: queued\ndata: {"position":2,"estimated_seconds":1.5}'),
        (
            Sources((Source(n=1, document_id="d", version=2, title="T", passage="P", ordinal=0, stale=False),)),
            'event: sources\ndata: [{"n":1,"document_id":"d","version":2,"title":"T","passage":"P","ordinal":0,"stale":false}]',
        ),
        (Delta("one\ntwo"), 'event: delta\ndata: {"text":"one\\ntwo"}'),
        (
            Sentence("S. [1]", (1,), "supported"),
            'event: sentence\ndata: {"text":"S. [1]","citations":[1],"support":"supported","block":"paragraph"}',
        ),
        (
            done(),
            'event: done\ndata: {"finish_reason":"stop","usage":{"input_tokens":3,"output_tokens":2},"cost":null,"timings":'
            '{"queue":0.0,"embed":0.0,"retrieve":0.0,"first_token":null,"total":0.0},"as_of":"2026-01-02T00:00:00Z",'
            '"index_lag_seconds":0.5,"degraded":false}',
        ),
        (
            Failed(problem(ModelFailed("Broke.")) | {"partial": True}),
            'event: error\ndata: {"type":"model-failed","title":"The language model failed","status":502,"detail":"Broke.",'
            '"retryable":true,"partial":true}',
        ),
    ],
)
def test_an_event_has_one_wire_form(event: Accepted, frame: str) -> None:
    """SSE's fields in their order, JSON without spaces or line breaks."""
    assert encode_entry(7, event).frame().decode() == f"id: 7\n{frame}\n\n"


async def test_entries_are_numbered_from_two() -> None:
    """One is the asker's own ``accepted``."""
    assert [entry.id for entry in await read_all(log_of("a", "b", ending=done()))] == [2, 3, 4]


@pytest.mark.parametrize("after", range(6))
async def test_a_reading_goes_on_after_any_event(after: int) -> None:
    """Zero and one are before the log's first."""
    log = log_of("a", "b", "c", ending=done())
    assert await read_all(log, after=after) == [entry for entry in log.entries if entry.id > after]


async def test_a_reading_beyond_the_end_is_refused() -> None:
    """It does not wait for what will never come, nor end as if it had been told how the answer ends."""
    log = log_of("a", ending=done())
    assert await read_all(log, after=3) == []
    with pytest.raises(AnswerRewritten) as refused:
        await read_all(log, after=4)
    assert refused.value.details == {"last_event_id": 3}


async def test_a_reader_ahead_of_the_log_waits_for_it() -> None:
    """What they have seen is on its way here."""
    log = log_of("a")
    reading = asyncio.create_task(read_all(log, after=4))
    for event in (Delta("b"), Delta("c"), Delta("d"), done()):
        await asyncio.wait([reading], timeout=0.001)
        log.append(event)
    assert await reading == log.entries[-2:]


async def test_each_producer_has_numbers_of_its_own() -> None:
    """Whoever has seen what a dead one wrote is told when the next one begins, and so is who saw that of one in between."""
    log = log_of("a", "b")
    waiting = [asyncio.create_task(read_all(log, after=number)) for number in (3, 5, 1_000_007)]
    await asyncio.wait(waiting, timeout=0.001)
    log.change_producer(2)
    log.append(Delta("c"))
    log.append(done())
    assert [entry.id for entry in log.entries] == [2, 3, 2_000_000, 2_000_001]
    assert await waiting[0] == log.entries[2:]
    for reading in waiting[1:]:
        with pytest.raises(AnswerRewritten):
            await reading
    assert await read_all(log, after=2_000_000) == log.entries[3:]


async def test_numbers_increase_whatever_a_producer_is_told() -> None:
    """A count that was lost begins again."""
    log = log_of("a")
    for _ in range(2):
        log.change_producer(1)
        log.append(Delta("b"))
    assert [entry.id for entry in log.entries] == [2, 1_000_000, 2_000_000]


async def test_readers_get_what_is_appended_while_they_wait() -> None:
    """All of them, all of it, in order."""
    log = log_of("a")
    readings = [asyncio.create_task(read_all(log)) for _ in range(3)]
    for event in (Delta("b"), Delta("c"), done()):
        await asyncio.wait(readings, timeout=0.001)
        log.append(event)
    for reading in readings:
        assert await reading == log.entries


async def test_a_reader_who_keeps_up_is_told_within_the_append() -> None:
    """No task has to wake for a word."""
    log, read = log_of("a"), list[Entry]()
    reading = asyncio.create_task(log.read("a", read.extend))
    await asyncio.wait([reading], timeout=0.001)
    log.append(Delta("b"))
    assert read == log.entries
    log.append(done())
    assert read == log.entries
    await asyncio.wait_for(reading, 5)


async def test_a_reader_who_does_not_keep_up_is_waited_for() -> None:
    """What comes meanwhile is theirs when they are ready, all of it, in order."""
    log, read, ready = log_of("a"), list[Entry](), asyncio.Event()

    async def until_ready() -> None:
        await ready.wait()

    def take(batch: list[Entry]) -> Wait:
        read.extend(batch)
        return until_ready

    reading = asyncio.create_task(log.read("a", take))
    await asyncio.wait([reading], timeout=0.001)
    for event in (Delta("b"), Delta("c"), done()):
        log.append(event)
        await asyncio.wait([reading], timeout=0.001)
    assert read == log.entries[:1]
    ready.set()
    await asyncio.wait_for(reading, 5)
    assert read == log.entries


async def test_what_comes_as_a_reader_is_woken_is_not_missed() -> None:
    """Between the call that wakes them and their turn."""
    log, read = log_of("a"), list[Entry]()
    reading = asyncio.create_task(log.read("b", read.extend))
    await asyncio.wait([reading], timeout=0.001)
    log.stop("a")  # everybody looks whether it is theirs
    for event in (Delta("b"), Delta("c")):
        log.append(event)
    await asyncio.wait([reading], timeout=0.001)
    assert read == log.entries
    log.append(done())
    await asyncio.wait_for(reading, 5)
    assert read == log.entries


async def test_a_reader_who_breaks_breaks_nobody_else() -> None:
    """Neither the writer nor the other readers."""
    log, read = log_of("a"), list[Entry]()

    def take(batch: list[Entry]) -> None:
        if len(log.entries) > 1:
            raise ValueError(batch)

    broken, whole = (asyncio.create_task(log.read("a", each)) for each in (take, read.extend))
    await asyncio.wait([broken, whole], timeout=0.001)
    log.append(Delta("b"))
    log.append(done())
    await asyncio.wait_for(whole, 5)
    assert read == log.entries
    with pytest.raises(ValueError):
        await broken


async def test_what_is_read_at_a_time_is_bounded() -> None:
    """In entries and in bytes, and still whole: a slow reader must not hold a copy of a long answer."""
    texts = ["x" * 3_000_000, *("y" * 30_000 for _ in range(50)), *("z" for _ in range(1000))]
    batches: list[list[Entry]] = []
    await log_of(*texts, ending=done()).read("answer", batches.append)
    for batch in batches:
        assert len(batch) <= BATCH_MAX
        assert len(batch) == 1 or sum(len(entry.data) for entry in batch) <= BATCH_BYTES_MAX
    read = [entry for batch in batches for entry in batch]
    assert [entry.id for entry in read] == list(range(2, len(texts) + 3))
    assert len(batches) < 50


async def test_a_cancelled_reader_leaves_the_others_reading() -> None:
    """They wait on one thing together, and it is not theirs to cancel."""
    log = log_of("a")
    leaving, staying = (asyncio.create_task(read_all(log)) for _ in range(2))
    await asyncio.wait([leaving], timeout=0.001)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert log.readers == {"a": 1}
    log.append(done())
    assert await staying == log.entries
    assert not log.readers


async def test_without_waiting_a_reading_ends_with_what_is_there() -> None:
    """What `GET /api/answers/{id}` shows of a running answer."""
    assert len(await read_all(log_of("a", "b"), wait=False)) == 2


@pytest.mark.parametrize(
    ("ending", "reusable"),
    [
        (done(), True),
        (done("length"), True),
        (done("not_found"), True),
        (done("cancelled"), False),
        (done(degraded=True), False),
        (Failed(problem(ModelFailed())), False),
        (None, False),
    ],
)
async def test_only_a_complete_answer_is_reusable(ending: Done | Failed | None, reusable: bool) -> None:
    """Not a failed, stopped, degraded or running one."""
    assert log_of("a", ending=ending).reusable is reusable


async def test_the_text_is_what_the_deltas_say() -> None:
    """Of a running answer, so far."""
    log = log_of("Thirty", " days")
    log.append(Sentence("Thirty days", (), "unchecked"))
    assert log.text() == "Thirty days"


async def test_an_expected_asker_is_missed_later_than_one_who_has_left() -> None:
    """A process that is busy elsewhere must not stop an answer before its asker has begun to read."""
    log = log_of("one")
    now = asyncio.get_running_loop().time()
    log.expect()
    assert log.idle_since >= now + ARRIVAL_S
    await read_all(log, wait=False)
    assert now <= log.idle_since < now + ARRIVAL_S
