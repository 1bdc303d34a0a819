"""Rows of usage, costs and history of answers are what was told, though the processes that write them are killed again and again.

In each round one of two processes is killed (SIGKILL) while it writes, and started again; its readers go on at the other one.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from tests.support.desk import LEAVE, PATIENT, AnswerDesk, Client, Event, Process, events, own_desk, text_of, until
from tests.support.metrics import Samples, follow, of, scraped
from tests.support.scripted_llm import ANSWER, say

from refdesk.answering.logs.log import NUMBERS_PER_PRODUCER
from refdesk.answering.quoting.extractive import MODEL_NAME
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import ADMINISTRATORS, Principal

CHIEF = Principal(id="chief", groups=(ADMINISTRATORS,))
INPUT_PRICE, OUTPUT_PRICE = Decimal("0.0000025"), Decimal("0.00001")
ASKERS = [f"asker-{n}" for n in range(5)]
AT_ONCE = 8
REPEATED_EVERY, UNFOUND_EVERY = 5, 7
"""Of the questions, one in so many is asked again at the other process; one in so many is about documents that are not there."""
HELD_EVERY = 4
"""One question in so many is under way at the process that is killed, and asked by somebody else at the other."""
HELD_AT = 4
"""The word before which the model waits."""
SEEN = "Thirty days of leave"
UNAVAILABLE = 503
BOOKED_S_MAX = 90

Rows = dict[tuple[str, str], tuple[int, int, int, int, Decimal]]
"""By asker and model: answers written and shared, tokens read and written, cost."""


@dataclass
class Told:
    """A question in a conversation of its own, and what its asker was told in the end."""

    asker: str
    conversation_id: str
    stream: list[Event] = field(default_factory=list)

    @property
    def is_shared(self) -> bool:
        return bool(self.stream[0].data["cache"] != "miss")

    @property
    def model(self) -> str:
        """Who is booked: quotes, where there was nothing for a model to read."""
        return MODEL_NAME if self.stream[-1].data["finish_reason"] == "not_found" else "scripted"

    @property
    def used(self) -> tuple[int, int]:
        used = self.stream[-1].data["usage"]
        return used["input_tokens"], used["output_tokens"]


@pytest.fixture
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    settings: dict[str, Any] = {"usage_interval_s": 0.2, "llm_prices": "scripted 2.50/10", "similarity_min": None}
    async with own_desk(servers, tmp_path_factory, valkey_number=4, **settings, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("count", "kills"), [(40, 2), pytest.param(500, 10, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
async def test_rows_costs_and_history_are_exact_though_assistants_are_killed(
    desk: AnswerDesk, count: int, kills: int
) -> None:
    """In the second half of the rounds, answers are just coming to their end. Until then, counters are exact, too."""
    async with desk.assistants(2) as processes:
        for name in ASKERS:
            await desk.key_of(Principal(id=name))
        rounds = Rounds(desk, processes, each=count // kills)
        for number in range(kills // 2):
            await rounds.work(number)
        check_counters(await rounds.counted(), rounds.told)
        finishing = 0
        for number in range(kills // 2, kills):
            finishing += await rounds.work(number, finishing=True)
        written = sum(of(await rounds.counted(), "refdesk_answers_total").values())
        assert count - finishing <= written <= count == sum(not one.is_shared for one in rounds.told)
        await until(rounds.nothing_left)
        async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
            await valkey.flushdb()
        assert await rounds.booked()
        await rounds.check_history()


class Rounds:
    """``each``: how many answers are written in a round, whoever follows them."""

    def __init__(self, desk: AnswerDesk, processes: Sequence[Process], *, each: int) -> None:
        self.told: list[Told] = []
        self._desk = desk
        self._processes = processes
        self._each = each
        self._told_last = Counter[Any]()
        self._days = {_today()}
        self._differing: dict[tuple[str, str], Any] = {}

    async def work(self, number: int, *, finishing: bool = False) -> int:
        """How many answers were coming to their end when their process was killed."""
        dying, living = self._processes[number % 2], self._processes[1 - number % 2]
        held_count = self._each // HELD_EVERY
        await self._ask_whole(number, self._each - held_count)
        await self.all_booked()
        readings, gates = await self._hold(number, dying=dying, living=living, count=held_count)
        self._told_last.update(await scraped(dying, self._desk))
        finishing_count = held_count // 2 if finishing else 0
        if finishing:
            ending = [told for told, _ in readings[:finishing_count]]
            for gate in gates[:finishing_count]:
                gate.set()
            await until(lambda: any(told.stream[-1].name == "done" for told in ending))
        await dying.kill()
        await asyncio.gather(*(self._read_on(told, reading, at=living) for told, reading in readings))
        self.told += [told for told, _ in readings]
        await dying.start()
        await self.all_booked()
        return finishing_count

    async def _ask_whole(self, number: int, count: int) -> None:
        """At both processes; some are asked again, by somebody else at the other."""
        places = asyncio.Semaphore(AT_ONCE)
        self._desk.llm.plan = []
        self._desk.llm.default = say(usage=(100 + number, 7 + number % 5))

        async def ask(n: int) -> None:
            fields = {"filters": {"tags": ["nowhere"]}} if n % UNFOUND_EVERY == 0 else {}
            async with places:
                for again in range(2 if n % REPEATED_EVERY == 1 else 1):
                    told = Told(ASKERS[(n + again) % len(ASKERS)], f"whole-{number}-{n}-{again}")
                    client = await self._processes[(n + again) % 2].client(Principal(id=told.asker))
                    await _read(told, client, f"How many days are counted, {number}-{n}?", **fields)
                    assert told.stream[-1].name == "done", told.stream[-1]
                    self.told.append(told)

        await asyncio.gather(*(ask(n) for n in range(count)))

    async def _hold(
        self, number: int, *, dying: Process, living: Process, count: int
    ) -> tuple[list[tuple[Told, asyncio.Task[None]]], list[asyncio.Event]]:
        """Answers that stand still in their midst, then their followers at the other process."""
        llm, gates = self._desk.llm, [asyncio.Event() for _ in range(count)]
        llm.plan = [say(usage=(1000 + n, 20 + n), gate=gate, gate_at=HELD_AT) for n, gate in enumerate(gates)]
        llm.default = say(usage=(2000 + number, 40 + number))  # for what is written again
        readings = []
        for process, offset in ((dying, 0), (living, 1)):
            for n in range(count):
                told = Told(ASKERS[(n + offset) % len(ASKERS)], f"held-{number}-{n}-{offset}")
                client = await process.client(Principal(id=told.asker))
                reading = _read(told, client, f"How many days are held, {number}-{n}?")
                readings.append((told, asyncio.create_task(reading)))
            await until(lambda: all(text_of(told.stream) == SEEN for told, _ in readings[:count]))
        await until(lambda: follow(living, self._desk, count))
        return readings, gates

    async def _read_on(self, told: Told, reading: asyncio.Task[None], *, at: Process) -> None:
        """To the end; where words were lost with their process, from where they were kept.

        An end that was seen and not copied yet, a tenth of a second before a kill, is written again: then the record counts.
        """
        await reading
        client = await at.client(Principal(id=told.asker))
        while told.stream[-1].name != "done":
            rest = await client.rest(told.stream[0].data["answer_id"], after=told.stream[-1].id)
            if rest[0].data.get("type") == "answer-rewritten":
                told.stream = [event for event in told.stream if event.id <= rest[0].data["last_event_id"]]
            else:
                told.stream += rest
        record = await client.rest(told.stream[0].data["answer_id"])
        assert text_of(told.stream) == text_of(record) == ANSWER
        producers = [stream[-1].id // NUMBERS_PER_PRODUCER for stream in (told.stream, record)]
        assert told.stream[-1] == record[-1] or producers[0] < producers[1]
        told.stream = record

    # what is kept

    async def all_booked(self) -> None:
        """Returns when it is so."""
        try:
            await until(self.booked, within_s=BOOKED_S_MAX)
        except TimeoutError:
            raise AssertionError(f"booked, and told: {self._differing}") from None

    async def booked(self) -> bool:
        """Whether every row is what its asker was told; raises when one is more."""
        self._days.add(_today())
        (living, *_) = [process for process in self._processes if process.process.returncode is None]
        chief = await living.client(CHIEF)
        status, _, body = await chief.json("GET", "/api/usage?of=everybody&by=day,principal,model&limit=1000")
        if status == UNAVAILABLE:
            return False
        assert status == 200, body
        assert {row["day"] for row in body["rows"]} <= self._days
        found, expected = _found(body["rows"]), _expected(self.told)
        for key, (written, shared, *_) in found.items():
            assert written <= expected[key][0] and shared <= expected[key][1], key
        self._differing = {key: (found.get(key), row) for key, row in expected.items() if found.get(key) != row}
        return found == expected

    async def nothing_left(self) -> bool:
        """Whether no answer waits to be booked or kept any more."""
        async with Redis.from_url(self._desk.settings.valkey.url or "") as valkey:
            return not await valkey.exists("refdesk:unbooked", "refdesk:unkept")

    async def check_history(self) -> None:
        """Each conversation has its one answer, as it was told, and nobody has others."""
        for asker in ASKERS:
            client = await self._processes[0].client(Principal(id=asker))
            own = [told for told in self.told if told.asker == asker]
            assert await _conversations(client) == {told.conversation_id: 1 for told in own}
            for told in own:
                _, _, conversation = await client.json("GET", f"/api/conversations/{told.conversation_id}")
                (turn,) = conversation["turns"]
                assert (turn["status"], turn["text"]) == ("done", text_of(told.stream)), told.conversation_id
                assert (turn["usage"]["input_tokens"], turn["usage"]["output_tokens"]) == told.used

    async def counted(self) -> Samples:
        """What each process tells now, and what each that was killed had told last."""
        samples = Counter(self._told_last)
        for process in self._processes:
            samples.update(await scraped(process, self._desk))
        return samples


async def _read(told: Told, client: Client, question: str, **fields: Any) -> None:
    """Until the answer's end, or its process's. Where a busy process refuses to begin one, it is asked again."""
    status = UNAVAILABLE
    while status == UNAVAILABLE:
        with contextlib.suppress(aiohttp.ClientError):
            async with client.stream(question, conversation_id=told.conversation_id, **fields) as response:
                status = response.status
                if status != UNAVAILABLE:
                    async for event in events(response):
                        told.stream.append(event)


async def _conversations(client: Client) -> dict[str, int]:
    """How many questions each has."""
    found, cursor = dict[str, int](), ""
    while cursor is not None:
        _, _, page = await client.json("GET", f"/api/conversations?limit=100&cursor={cursor}".removesuffix("&cursor="))
        found |= {one["id"]: one["turns"] for one in page["conversations"]}
        cursor = page.get("next_cursor")
    return found


def check_counters(samples: Samples, told: Sequence[Told]) -> None:
    """Of all processes together, those that were killed included."""
    written = [one for one in told if not one.is_shared]
    ends = Counter(one.stream[-1].data["finish_reason"] for one in written)
    assert of(samples, "refdesk_answers_total", "outcome") == ends
    assert of(samples, "refdesk_admission_total", "decision") == {"admitted": len(written)}
    kinds = {"written": len(written), "shared": len(told) - len(written)}
    assert of(samples, "refdesk_usage_answers_total", "kind") == kinds
    read, wrote = (sum(one.used[side] for one in written) for side in (0, 1))
    assert of(samples, "refdesk_usage_tokens_total", "direction") == {"input": read, "output": wrote}
    cost = float(sum(_cost(one) for one in written))
    assert of(samples, "refdesk_usage_cost_total", "currency") == {"USD": pytest.approx(cost, rel=1e-9)}
    assert not of(samples, "refdesk_stream_aborts_total") and not of(samples, "refdesk_unexpected_errors_total")


def _expected(told: Iterable[Told]) -> Rows:
    rows = Rows()
    for one in told:
        key = one.asker, one.model if not one.is_shared else "scripted"
        own = (0, 1, 0, 0, Decimal()) if one.is_shared else (1, 0, *one.used, _cost(one))
        rows[key] = _added(rows.get(key), own)
    return rows


def _found(rows: Iterable[dict[str, Any]]) -> Rows:
    """Over all days: the test may run past midnight."""
    found = Rows()
    for row in rows:
        key, cost = (row["principal_id"], row["model"]), Decimal(str(row.get("cost", 0)))
        own = row["answers"], row["shared"], row["input_tokens"], row["output_tokens"], cost
        found[key] = _added(found.get(key), own)
    return found


def _added(one: tuple[Any, ...] | None, other: tuple[Any, ...]) -> Any:
    return other if one is None else tuple(a + b for a, b in zip(one, other, strict=True))


def _cost(one: Told) -> Decimal:
    read, written = one.used
    return INPUT_PRICE * read + OUTPUT_PRICE * written if one.model != MODEL_NAME else Decimal()


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
