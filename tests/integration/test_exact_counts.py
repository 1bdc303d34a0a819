"""Every counter of answers, every row of usage and every cost is what was asked, neither more nor less."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from tests.support.desk import LEAVE, PATIENT, AnswerDesk, Event, Process, own_desk, until
from tests.support.metrics import Samples, of, scraped
from tests.support.scripted_llm import say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import ADMINISTRATORS, Principal

CHIEF = Principal(id="chief", groups=(ADMINISTRATORS,))
INPUT_PRICE, OUTPUT_PRICE = Decimal("0.0000025"), Decimal("0.00001")
ASKERS = 5
REPEATED_EVERY = 5
"""Of the questions, one in so many is asked again, when its answer is there."""
AT_ONCE = 8


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    settings: dict[str, Any] = {"usage_interval_s": 0.2, "llm_prices": "scripted 2.50/10", "similarity_min": None}
    async with own_desk(servers, tmp_path_factory, valkey_number=4, **settings, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.mark.parametrize("count", [30, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
async def test_counters_rows_and_costs_of_answers_are_exact(desk: AnswerDesk, count: int) -> None:
    """By two processes, for several askers; some questions are answered again from what there is."""
    desk.llm.reset()
    desk.llm.plan = [say(usage=(100 + number, 7 + number % 5)) for number in range(count)]
    async with desk.assistants(2) as processes:
        told = await ask_all(processes, count)
        repeated = [stream for name, n, stream in told if n < 0]
        written = [(name, stream[-1].data) for name, n, stream in told if n >= 0]
        expected = {name: sums(done for one, done in written if one == name) for name in {name for name, _ in written}}
        shared = Counter(name for name, n, _ in told if n < 0)
        chief = await processes[0].client(CHIEF)
        await until(lambda: _booked(chief, expected, shared))
        samples = Counter[Any]()
        for process in processes:
            samples.update(await scraped(process, desk))
    reported = [call.reported for call in desk.llm.calls]
    read, wrote = (sum(one[name] for one in reported if one) for name in ("prompt_tokens", "completion_tokens"))
    assert len(written) == len(reported) == count and len(repeated) == count // REPEATED_EVERY
    check_counters(samples, written=count, shared=len(repeated), tokens=(read, wrote))
    sentences = sum(event.name == "sentence" for _, n, stream in told if n >= 0 for event in stream)
    assert sum(of(samples, "refdesk_sentences_total").values()) == sentences


async def ask_all(processes: Sequence[Process], count: int) -> list[tuple[str, int, list[Event]]]:
    """Asker, number of the question (below 0 where it was asked again), events."""
    names = [f"asker-{count}-{n}" for n in range(ASKERS)]
    clients = [{name: await process.client(Principal(id=name)) for name in names} for process in processes]
    places, told = asyncio.Semaphore(AT_ONCE), list[tuple[str, int, list[Event]]]()

    async def ask(number: int) -> None:
        async with places:
            name = names[number % ASKERS]
            question = f"How many days are counted, {count}-{number}?"
            for again in range(2 if number % REPEATED_EVERY == 0 else 1):
                stream = await clients[(number + again) % 2][name].ask(question)
                assert stream[-1].name == "done", stream[-1]
                told.append((name, -1 if again else number, stream))

    await asyncio.gather(*(ask(number) for number in range(count)))
    return told


def sums(ends: Any) -> tuple[int, int, int, float]:
    """Answers, tokens read and written, cost of these ``done`` events."""
    used = [(done["usage"]["input_tokens"], done["usage"]["output_tokens"]) for done in ends]
    read, wrote = (sum(one[side] for one in used) for side in (0, 1))
    return len(used), read, wrote, float(INPUT_PRICE * read + OUTPUT_PRICE * wrote)


async def _booked(chief: Any, expected: dict[str, tuple[int, int, int, float]], shared: Counter[str]) -> bool:
    """Whether each asker's row is what their answers said; raises when it is more."""
    status, _, body = await chief.json("GET", "/api/usage?of=everybody&by=principal")
    assert status == 200, body
    rows = {row["principal_id"]: row for row in body["rows"] if row["principal_id"] in expected}
    for name, (answers, *_) in expected.items():
        assert rows.get(name, {}).get("answers", 0) <= answers
    return {
        name: (row["answers"], row["input_tokens"], row["output_tokens"], row["cost"], row["shared"])
        for name, row in rows.items()
    } == {name: (*one, shared[name]) for name, one in expected.items()}


def check_counters(samples: Samples, *, written: int, shared: int, tokens: tuple[int, int]) -> None:
    """Of all processes together, each of which has begun with nothing."""
    read, wrote = tokens

    def total(name: str) -> float:
        return sum(of(samples, name).values())

    assert of(samples, "refdesk_answers_total", "outcome") == {"stop": written}
    assert of(samples, "refdesk_admission_total", "decision") == {"admitted": written}
    assert of(samples, "refdesk_llm_attempts_total", "outcome") == {"ok": written}
    cache = of(samples, "refdesk_cache_requests_total", "outcome")
    joined = cache.get("wait", 0)  # by a process that has not heard of the log's end yet
    assert (cache["hit"] + joined, total("refdesk_budget_unchecked_total")) == (shared, 0)
    for name in ("time_to_first_token_seconds", "queue_wait_seconds"):
        assert total(f"refdesk_{name}_count") == written, name
    assert of(samples, "refdesk_usage_answers_total", "kind") == {"written": written, "shared": shared}
    assert of(samples, "refdesk_usage_tokens_total", "direction") == {"input": read, "output": wrote}
    cost = float(INPUT_PRICE * read + OUTPUT_PRICE * wrote)
    assert of(samples, "refdesk_usage_cost_total", "currency") == {"USD": pytest.approx(cost, rel=1e-9)}
    for name in ("inflight", "budget_reserved_tokens", "stream_aborts_total", "unexpected_errors_total"):
        assert total(f"refdesk_{name}") == 0, name
