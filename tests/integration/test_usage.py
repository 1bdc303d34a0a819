"""What answers have used is booked once, whatever happens to who writes them, and told to whoever may know."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

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
    Process,
    Wire,
    events,
    own_desk,
    text_of,
    until,
)
from tests.support.metrics import of, scraped
from tests.support.scripted_llm import say

from refdesk.answering.usage.settled import Booking, UsageStore
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import ADMINISTRATORS, Principal
from refdesk.contracts.answers import Usage
from refdesk.outside.postgres.database import open_pool

CHIEF = Principal(id="chief", groups=(ADMINISTRATORS,))
PRICES = "scripted 2.50/10"
INPUT_PRICE, OUTPUT_PRICE = Decimal("0.0000025"), Decimal("0.00001")
ONE_ANSWER = 8192 + 512


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(
        servers, tmp_path_factory, valkey_number=3, usage_interval_s=0.2, llm_prices=PRICES, **PATIENT
    ) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


async def usage(client: Client, query: str = "", *, path: str = "/api/usage") -> Any:
    status, _, body = await client.json("GET", f"{path}?{query}")
    assert status == 200, body
    return body


async def booked(client: Client, *, by: str = "model", of: str = "me") -> list[tuple[str, int, int, int, int]]:
    """(model, written, shared, input tokens, output tokens)"""
    rows = (await usage(client, f"by={by}&of={of}"))["rows"]
    return [(r["model"], r["answers"], r["shared"], r["input_tokens"], r["output_tokens"]) for r in rows]


def cost(read: int, written: int) -> float:
    return float(INPUT_PRICE * read + OUTPUT_PRICE * written)


async def test_an_answer_is_booked_as_its_model_counted_and_a_shared_one_uses_nothing(desk: AnswerDesk) -> None:
    """The stream, the finished record and the row say the same, cost included."""
    desk.llm.reset()
    desk.llm.default = say(usage=(123, 45))
    async with desk.assistant_here() as here:
        client = here.client(Principal(id="ann"))
        for _ in range(3):
            stream = await client.ask("How many days are booked?")
        _, _, record = await client.json("GET", f"/api/answers/{stream[0].data['answer_id']}")
        await until(lambda: _is(client, [("scripted", 1, 2, 123, 45)]))
        (row,) = (await usage(client, "by="))["rows"]
    assert stream[-1].data["cost"] == record["cost"] == row["cost"] == cost(123, 45)


async def test_a_model_without_a_price_has_tokens_and_no_cost(desk: AnswerDesk) -> None:
    """Not a cost of nothing."""
    desk.llm.reset()
    async with desk.assistant_here(llm_prices="another 1/2") as here:
        client = here.client(Principal(id="ben"))
        done = (await client.ask("How many days without a price?", cache="bypass"))[-1].data
        await until(lambda: _is(client, [("scripted", 1, 0, 100, 9)]))
        (row,) = (await usage(client, "by="))["rows"]
    assert done["cost"] is None
    assert "cost" not in row


async def test_an_answer_that_is_stopped_is_booked_with_what_it_says_it_has_used(desk: AnswerDesk) -> None:
    """As the last event of its stream."""
    desk.llm.reset()
    desk.llm.default = say(gate=asyncio.Event(), gate_at=4)
    async with desk.assistant_here() as here:
        client, seen = here.client(Principal(id="cyd")), list[Event]()
        async with client.stream("How many days are stopped?", cache="bypass") as response:
            async for event in events(response):
                seen.append(event)
                if text_of(seen) == "Thirty days of leave":
                    await client.json("DELETE", f"/api/answers/{seen[0].data['answer_id']}")
        done = seen[-1].data
        assert done["finish_reason"] == "cancelled"
        used = done["usage"]
        await until(lambda: _is(client, [("scripted", 1, 0, used["input_tokens"], used["output_tokens"])]))
    assert used["output_tokens"] > 0


async def _is(client: Client, expected: list[tuple[str, int, int, int, int]], *, of: str = "me") -> bool:
    return await booked(client, of=of) == expected


# whatever dies


async def work_through(desk: AnswerDesk, principal: Principal, *, count: int) -> None:
    """So many answers of two processes, half of which are cut off by the death of the first; read to the end at the other."""
    gates = [asyncio.Event() for _ in range(count // 2)]
    desk.llm.plan = [
        *(say(usage=(100 + number, 7 + number % 5)) for number in range(count - len(gates))),
        *(say(gate=gate, gate_at=4) for gate in gates),
    ]
    desk.llm.default = say(usage=(777, 11))
    async with desk.assistants(2) as (first, second), Redis.from_url(desk.settings.valkey.url or "") as valkey:
        await valkey.flushdb()  # logs of other tests are counted otherwise
        dying, living = await first.client(principal), await second.client(principal)
        for number in range(count - len(gates)):
            await (dying if number % 2 else living).ask(f"Whole {number}?", cache="bypass")
        cut = [
            asyncio.create_task(dying.ask_until_cut(f"Cut {number}?", cache="bypass")) for number in range(len(gates))
        ]
        await desk.llm.called(count)
        await until(lambda: _words_copied(valkey, len(gates)))
        await first.kill()
        streams = await asyncio.gather(*cut)
        rests = await asyncio.gather(*(living.rest(s[0].data["answer_id"], after=s[-1].id) for s in streams))
        assert {rest[-1].name for rest in rests} == {"done"}, [rest[-1] for rest in rests]
        told = [call.reported for call in desk.llm.calls if call.completed and call.reported]
        assert len(told) == count
        read, written = (sum(one[name] for one in told) for name in ("prompt_tokens", "completion_tokens"))
        await until(lambda: _is(living, [("scripted", count, 0, read, written)]))
        (row,) = (await usage(living, "by="))["rows"]
        assert row["cost"] == cost(read, written)
        await _settled(second, desk, living)


async def _words_copied(valkey: Redis, count: int) -> bool:
    """Whether so many logs that have not ended are copied up to the word before their gates. (The passage has it, too.)"""
    found = 0
    async for key in valkey.scan_iter("refdesk:log:*"):
        payload = b"".join([value for _, fields in await valkey.xrange(key) for value in fields.values()])
        found += b' leave"' in payload and b'"done"' not in payload
    return found == count


async def _settled(process: Process, desk: AnswerDesk, client: Client) -> None:
    """The metrics of the living process have counted what it has booked, and nothing more is left to be."""
    before = await booked(client)
    samples = of(await scraped(process, desk), "refdesk_usage_answers_total", "kind")
    assert 0 < samples["written"] <= before[0][1]
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
        await until(lambda: _none(valkey))
    assert await booked(client) == before


async def _none(valkey: Redis) -> bool:
    return not await valkey.zcard("refdesk:unbooked")


async def test_with_a_process_killed_the_rows_equal_the_models_own_count(desk: AnswerDesk) -> None:
    """Answers that it had ended, and those that another one takes over."""
    desk.llm.reset()
    await work_through(desk, Principal(id="dora"), count=12)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_with_a_process_killed_the_rows_of_five_hundred_equal_the_models_own_count(desk: AnswerDesk) -> None:
    """The same, in large."""
    desk.llm.reset()
    await work_through(desk, Principal(id="dina"), count=500)


async def test_a_process_that_was_cut_off_does_not_book_what_another_has_taken_over(desk: AnswerDesk) -> None:
    """It wakes to find that its answer is somebody else's by now."""
    desk.llm.reset()
    gate, principal = asyncio.Event(), Principal(id="emil")
    desk.llm.plan = [say(gate=gate, gate_at=4)]
    desk.llm.default = say(usage=(321, 9))
    async with AsyncExitStack() as stack:
        wire = Wire(desk.settings.valkey.url or "")
        await wire.open()
        stack.push_async_callback(wire.shut)
        (frozen,) = await stack.enter_async_context(desk.assistants(1, valkey_url=wire.url))
        here = await stack.enter_async_context(desk.assistant_here())
        valkey = await stack.enter_async_context(Redis.from_url(desk.settings.valkey.url or ""))
        await valkey.flushdb()
        reading = asyncio.create_task((await frozen.client(principal)).ask_until_cut("Who wakes up?", cache="bypass"))
        await until(lambda: _words_copied(valkey, 1))
        wire.stick()
        record = await until(lambda: _record(valkey))
        client = here.client(principal)
        assert (await client.rest(record))[-1].name == "done"
        wire.unstick()
        gate.set()
        await reading
        await until(lambda: _none(valkey))
        await until(lambda: _is(client, [("scripted", 1, 0, 321, 9)]))


async def _record(valkey: Redis) -> str:
    """The answer that is not booked yet."""
    (log,) = [member.decode().removeprefix("log:") for member in await valkey.zrange("refdesk:unbooked", 0, -1)]
    async for key in valkey.scan_iter("refdesk:answer:*"):
        record = msgspec.json.decode(await valkey.get(key))
        if record["log_id"] == log:
            return str(record["answer_id"])
    return ""


async def test_an_answer_is_booked_once_though_many_book_it(desk: AnswerDesk) -> None:
    """At the same time, among others, in any order."""
    day = {"principal_id": "fay", "model": "scripted", "groups": ("b", "a")}
    given = [Booking(id=f"log:fay-{n}", usage=Usage(n, 1), cost=Decimal(n), **day) for n in range(20)]  # type: ignore[arg-type]
    async with open_pool(desk.settings.databases.index_url or "", name="test usage", size_max=4) as pool:
        store = UsageStore(pool)
        batches = [given[n:] + given[:n] for n in range(0, 20, 3)]
        fresh = await asyncio.gather(*(store.book(batch) for batch in batches))
    assert sorted(booking.id for booked in fresh for booking in booked) == sorted(booking.id for booking in given)
    async with desk.assistant_here() as here:
        assert await booked(here.client(Principal(id="fay"))) == [("scripted", 20, 0, 190, 20)]


# caps


@pytest.mark.parametrize(
    ("caps", "limit", "actual"),
    [
        ({"usage_caps": f"sales-1 tokens_per_day={ONE_ANSWER + 100}"}, ONE_ANSWER + 100, 109),
        ({"tokens_per_month_max": ONE_ANSWER + 100}, ONE_ANSWER + 100, 109),
        ({"cost_per_month_max": 0.0257}, 0.0257, cost(100, 9)),
        ({"usage_caps": "sales-4 cost_per_day=0.0257"}, 0.0257, cost(100, 9)),
    ],
    ids=["tokens of a group", "tokens of a month", "cost of a month", "cost of a group"],
)
async def test_a_cap_that_is_reached_is_refused_with_what_is_used_and_when_it_begins_anew(
    desk: AnswerDesk, caps: dict[str, Any], limit: float, actual: float, request: pytest.FixtureRequest
) -> None:
    """Also after Valkey has lost its counts: what is booked is the record."""
    desk.llm.reset()
    number = request.node.callspec.indices["caps"] + 1
    group = f"sales-{number}"
    one = Principal(id=f"gus-{number}", groups=(group,))
    other = Principal(id=f"ida-{number}", groups=(group,)) if "usage_caps" in caps else one
    async with desk.assistant_here(**caps) as here, Redis.from_url(desk.settings.valkey.url or "") as valkey:
        assert (await here.client(one).ask("What is used?", cache="bypass"))[-1].name == "done"
        await until(lambda: _is(here.client(one), [("scripted", 1, 0, 100, 9)]))
        for _ in range(2):
            status, headers, body = await here.client(other).json(
                "POST", "/api/answers", json={"question": "What is left?", "cache": "bypass"}
            )
            assert (status, body["type"], body["limit"], body["actual"]) == (429, "rate-limited", limit, actual)
            assert 1 <= int(headers["retry-after"]) <= 31 * 86400
            left = (await usage(here.client(other)))["left"]
            (reached,) = [one for one in left if one["limit"] == limit]
            assert (reached["used"], reached.get("group", group)) == (actual, group)
            assert reached["left"] == pytest.approx(limit - actual)
            await valkey.flushdb()


# who may know


async def test_only_those_who_run_the_desk_see_everybodys_usage(desk: AnswerDesk) -> None:
    """Others their own, whatever they ask for."""
    desk.llm.reset()
    async with desk.assistant_here() as here:
        for name in ("una", "uwe"):
            await here.client(Principal(id=name, groups=("u1", "u2"))).ask("What do I see?", cache="bypass")
        chief = here.client(CHIEF)
        await until(lambda: _groups_are(chief, {"u1": 2, "u2": 2}))
        rows = (await usage(chief, "of=everybody&by=principal&group=u1"))["rows"]
        assert [row["principal_id"] for row in rows] == ["una", "uwe"]
        una = here.client(Principal(id="una"))
        assert [r["answers"] for r in (await usage(una, "by=&principal=uwe"))["rows"]] == [1]
        status, _, refusal = await una.json("GET", "/api/usage?of=everybody")
        assert (status, refusal["type"], refusal["field"]) == (403, "forbidden", "of")
        status, _, refusal = await una.json("GET", "/api/usage.csv?of=everybody")
        assert status == 403


async def _groups_are(client: Client, expected: dict[str, int]) -> bool:
    rows = (await usage(client, "of=everybody&by=group"))["rows"]
    return {row["group"]: row["answers"] for row in rows if row.get("group", "").startswith("u")} == expected


async def test_pages_and_the_table_have_the_same_rows(desk: AnswerDesk) -> None:
    """No row twice, none left out; and a name is never a formula."""
    bookings = [
        Booking(id=f"log:page-{n}", principal_id=f"p{n:02}", name="=1+1", groups=("paged",), model="scripted")
        for n in range(7)
    ]
    async with open_pool(desk.settings.databases.index_url or "", name="test usage", size_max=1) as pool:
        await UsageStore(pool).book(bookings)
    async with desk.assistant_here() as here:
        chief, query = here.client(CHIEF), "of=everybody&by=principal,day&group=paged"
        rows, cursor = [], ""
        while cursor is not None:
            page = await usage(chief, f"{query}&limit=3&cursor={cursor}")
            rows += page["rows"]
            cursor = page.get("next_cursor")
        async with chief.call("GET", f"/api/usage?{query}", headers={"Accept": "text/csv"}) as response:
            table = list(csv.DictReader(io.StringIO(await response.text())))
            assert "attachment" in response.headers["content-disposition"]
        assert (
            [row["principal_id"] for row in rows]
            == [row["principal_id"] for row in table]
            == [f"p{n:02}" for n in range(7)]
        )
        assert {row["principal"] for row in table} == {"'=1+1"}


@pytest.mark.parametrize(
    "query", ["by=hour", "from=2026-02-30", "from=2026-02-02&to=2026-02-01", "cursor=x", "limit=0"]
)
async def test_what_cannot_be_asked_for_is_refused_by_name(desk: AnswerDesk, query: str) -> None:
    """422 with the field."""
    async with desk.assistant_here() as here:
        status, _, refusal = await here.client(ASKER).json("GET", f"/api/usage?{query}")
    assert (status, refusal["field"]) == (422, query.partition("=")[0])
