"""Limits per principal, on a real Valkey: reserved before, settled after, never raced and never below zero."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from tests.support.desk import LEAVE, PATIENT, VALKEY_PATIENCE_S, AnswerDesk, fresh_valkey, own_desk, text_of, until
from tests.support.scripted_llm import ANSWER, say

from refdesk.answering.usage import budget as budgets
from refdesk.answering.usage.budget import Budget, BudgetLimits, Pace, Reservation, Room
from refdesk.answering.usage.caps import Spender, parse_caps
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import TooManyRequests
from refdesk.outside.valkey.client import Command, Valkey, open_valkey

MINUTE = 60
START = 1_800_000_000.0  # the first second of a minute
LIMITS = BudgetLimits(
    concurrent=5, requests_per_minute=10, searches_per_minute=4, tokens_per_minute=1000, tokens_per_day=3000
)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    url = await fresh_valkey(valkey_url, number=4)
    async with open_valkey(url, name="test-budget", timeout_s=VALKEY_PATIENCE_S) as valkey:
        yield valkey


@pytest.fixture
def budget(valkey: Valkey, clock: Clock) -> Budget:
    return Budget(valkey, LIMITS, clock=clock)


async def refused(budget: Budget, tokens: int, *, principal: str = "ann") -> TooManyRequests:
    with pytest.raises(TooManyRequests) as error:
        await budget.reserve(principal, tokens)
    return error.value


async def test_what_was_not_used_comes_back(budget: Budget) -> None:
    """Settling books what was used; the rest can be reserved again."""
    reservation = await budget.reserve("ann", 900)
    assert (await refused(budget, 200)).details == {"limit": 1000, "actual": 900}
    await budget.settle(reservation, used=100)
    await budget.reserve("ann", 900)
    assert (await refused(budget, 1)).details == {"limit": 1000, "actual": 1000}


async def test_principals_do_not_touch_each_other(budget: Budget) -> None:
    """Each has limits of their own."""
    await budget.reserve("ann", 1000)
    await budget.reserve("ben", 1000)


async def test_a_pace_is_told_in_one_round_trip(valkey: Valkey, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of the minute's questions, and of the cap with the fewest tokens left, whoever's it is."""
    caps = parse_caps("sales tokens_per_day=700, staff tokens_per_day=5000")
    budget = Budget(valkey, msgspec.structs.replace(LIMITS, named=caps), clock=clock)
    ann = Spender("ann", ("sales", "staff", "unnamed"))
    await budget.count_request("ann")
    await budget.settle(await budget.reserve(ann, 100), used=60)
    await budget.reserve(ann, 40)  # set aside
    trips, commands = 0, valkey.commands

    async def counting(asked: Sequence[Command]) -> list[Any]:
        nonlocal trips
        trips += 1
        return await commands(asked)

    monkeypatch.setattr(valkey, "commands", counting)
    pace = await budget.pace(ann)
    assert pace == Pace(requests=Room(10, 9, 60), tokens=Room(700, 600, int(86_400 - START % 86_400)))
    assert trips == 1
    assert await budget.pace(Spender("ben")) == Pace(requests=Room(10, 10, 60), tokens=Room(1000, 1000, 60))


async def test_every_limit_says_when_to_come_back(budget: Budget, clock: Clock) -> None:
    """A place frees soon, a minute ends, a day ends."""
    for _ in range(5):
        await budget.reserve("cyd", 1)
    assert (await refused(budget, 1, principal="cyd")).retry_after_s == 1
    for _ in range(10):
        await budget.count_request("ann")
    clock.now += 20
    with pytest.raises(TooManyRequests) as error:
        await budget.count_request("ann")
    assert (error.value.details, error.value.retry_after_s) == ({"limit": 10, "actual": 10}, 40)
    for _ in range(3):
        clock.now += MINUTE
        await budget.settle(await budget.reserve("ben", 1000), used=1000)
    clock.now += MINUTE
    over = await refused(budget, 1, principal="ben")
    assert over.details == {"limit": 3000, "actual": 3000}
    assert over.retry_after_s == 86400 - int(clock.now) % 86400
    assert "REFDESK_TOKENS_PER_DAY_MAX" in over.message


async def test_searches_are_counted_apart_from_questions(budget: Budget) -> None:
    """Each with the limit and when to come back."""
    for _ in range(4):
        await budget.count_search("ann")
    await budget.count_request("ann")
    await budget.count_search("ben")
    with pytest.raises(TooManyRequests, match="REFDESK_SEARCHES_PER_MINUTE_MAX") as error:
        await budget.count_search("ann")
    assert (error.value.details, error.value.retry_after_s) == ({"limit": 4, "actual": 4}, 60)


async def test_a_refused_question_costs_nothing(budget: Budget) -> None:
    """It can be asked again when there is room."""
    for _ in range(20):
        await refused(budget, 1001)
    for _ in range(5):
        await budget.reserve("ann", 200)


async def test_a_minute_later_a_minute_is_free_again(budget: Budget, clock: Clock) -> None:
    """Used tokens count in the minute and the day in which they were settled."""
    await budget.settle(await budget.reserve("ann", 1000), used=1000)
    await refused(budget, 1)
    clock.now += MINUTE
    await budget.reserve("ann", 1000)


async def test_a_reservation_of_a_process_that_died_returns_by_its_lease(
    budget: Budget, valkey: Valkey, clock: Clock
) -> None:
    """Within two minutes; one that is renewed stays."""
    survivor = Budget(valkey, LIMITS, clock=clock)
    await budget.reserve("ann", 600)
    kept = await survivor.reserve("ann", 400)
    clock.now += budgets.LEASE_S - 1
    await survivor.renew()
    assert (await refused(survivor, 100)).details["actual"] == 1000
    clock.now += 2
    await survivor.reserve("ann", 600)
    assert (await refused(survivor, 1)).details["actual"] == 1000
    await survivor.settle(kept, used=400)
    assert (await refused(survivor, 1)).details["actual"] == 1000


async def test_settling_twice_books_once(budget: Budget) -> None:
    """Whoever settles first."""
    reservation = await budget.reserve("ann", 1000)
    await asyncio.gather(*(budget.settle(reservation, used=300) for _ in range(5)))
    await budget.reserve("ann", 700)
    await refused(budget, 1)


async def test_never_more_is_booked_than_was_reserved(budget: Budget) -> None:
    """Whatever a model says it has used."""
    await budget.settle(await budget.reserve("ann", 100), used=10**9)
    await budget.reserve("ann", 900)


async def test_two_hundred_at_once_get_what_is_there_for_one(valkey: Valkey, clock: Clock) -> None:
    """From four processes' worth of clients; nothing is overspent."""
    limits = BudgetLimits(
        concurrent=1000, requests_per_minute=1000, searches_per_minute=1000, tokens_per_minute=1000, tokens_per_day=1000
    )
    doors = [Budget(valkey, limits, clock=clock) for _ in range(4)]

    async def ask(number: int) -> Reservation | None:
        with suppress(TooManyRequests):
            return await doors[number % 4].reserve("ann", 600)
        return None

    asked = await asyncio.gather(*(ask(number) for number in range(200)))
    assert len([reservation for reservation in asked if reservation]) == 1


async def test_without_valkey_questions_are_let_through_and_counted(clock: Clock) -> None:
    """A budget guards cost, not secrets."""
    async with open_valkey("redis://127.0.0.1:1", name="nobody") as nobody:
        budget = Budget(nobody, LIMITS, clock=clock)
        reservation = await budget.reserve("ann", 10**9)
        assert reservation.id is None
        await budget.settle(reservation, used=1)
        await budget.renew()


class Model(RuleBasedStateMachine):
    """Two processes and a clock against a plain account of who holds and has used what."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.blocking = BlockingRedis.from_url(self.url)
        self.blocking.flushdb()
        self.exits, self.doors = [], []
        for _ in range(2):
            manager = open_valkey(self.url, name="model", timeout_s=VALKEY_PATIENCE_S)
            self.doors.append(Budget(self.runner.run(manager.__aenter__()), LIMITS, clock=self.clock))
            self.exits.append(manager)
        self.open: list[tuple[int, Reservation, float]] = []
        self.used: list[tuple[int, int]] = []
        self.requests: list[int] = []

    def teardown(self) -> None:
        for manager in self.exits:
            self.runner.run(manager.__aexit__(None, None, None))
        self.blocking.close()
        self.runner.close()

    @rule(door=st.integers(0, 1), tokens=st.integers(0, 1200))
    def reserve(self, door: int, tokens: int) -> None:
        self.open = [one for one in self.open if one[2] > self.clock.now]  # only now are lost leases noticed
        minute, day = int(self.clock.now) // 60, int(self.clock.now) // 86400
        held = sum(reservation.tokens for _, reservation, _ in self.open)
        room = (
            len(self.open) < LIMITS.concurrent
            and held + sum(n for at, n in self.used if at == minute) + tokens <= LIMITS.tokens_per_minute
            and held + sum(n for at, n in self.used if at // 1440 == day) + tokens <= LIMITS.tokens_per_day
        )
        try:
            reservation = self.runner.run(self.doors[door].reserve("ann", tokens))
        except TooManyRequests:
            assert not room
        else:
            assert room
            self.open.append((door, reservation, self.clock.now + budgets.LEASE_S))

    @rule(door=st.integers(0, 1))
    def count(self, door: int) -> None:
        minute = int(self.clock.now) // 60
        try:
            self.runner.run(self.doors[door].count_request("ann"))
        except TooManyRequests:
            assert self.requests.count(minute) == LIMITS.requests_per_minute
        else:
            self.requests.append(minute)
            assert self.requests.count(minute) <= LIMITS.requests_per_minute

    @rule(data=st.data(), used=st.integers(0, 1500))
    def settle(self, data: st.DataObject, used: int) -> None:
        if self.open:
            door, reservation, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            self.runner.run(self.doors[door].settle(reservation, used=used))
            self.used.append((int(self.clock.now) // 60, min(used, reservation.tokens)))

    @rule(door=st.integers(0, 1))
    def renew(self, door: int) -> None:
        self.runner.run(self.doors[door].renew())
        until_s = self.clock.now + budgets.LEASE_S
        self.open = [(d, r, until_s if d == door else u) for d, r, u in self.open]

    @rule(seconds=st.sampled_from([1, 30, 60, 121]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def nothing_is_below_zero(self) -> None:
        for key in self.blocking.scan_iter("refdesk:budget:*:tokens:*"):
            assert int(self.blocking.get(key) or 0) >= 0  # type: ignore[arg-type]
        for amount in self.blocking.hvals("refdesk:budget:{ann}:held"):  # type: ignore[union-attr]
            assert int(amount) >= 0


def check_model(url: str, *, examples: int, steps: int) -> None:
    Model.url = url
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Model,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


async def test_an_account_by_hand_agrees_with_every_interleaving(valkey_url: str) -> None:
    """Reserve, settle, renew, and let time pass, from two processes: the same refusals, nothing below zero."""
    url = await fresh_valkey(valkey_url, number=5)
    await asyncio.get_running_loop().run_in_executor(None, lambda: check_model(url, examples=30, steps=30))


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_an_account_by_hand_agrees_with_ten_thousand_interleavings(valkey_url: str) -> None:
    """The same, in large."""
    url = await fresh_valkey(valkey_url, number=5)
    await asyncio.get_running_loop().run_in_executor(None, lambda: check_model(url, examples=1000, steps=50))


@given(st.lists(st.integers(0, 700), min_size=2, max_size=12))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
async def test_concurrent_reservations_never_exceed_the_limit(valkey_url: str, amounts: list[int]) -> None:
    """All at once, over two clients."""
    url = await fresh_valkey(valkey_url, number=6)
    async with (
        open_valkey(url, name="one", timeout_s=VALKEY_PATIENCE_S) as one,
        open_valkey(url, name="two", timeout_s=VALKEY_PATIENCE_S) as two,
    ):
        doors = [Budget(one, LIMITS, clock=Clock()), Budget(two, LIMITS, clock=Clock())]
        tries = (doors[n % 2].reserve("ann", amount) for n, amount in enumerate(amounts))
        results = await asyncio.gather(*tries, return_exceptions=True)
        granted = [result.tokens for result in results if isinstance(result, Reservation)]
        assert sum(granted) <= LIMITS.tokens_per_minute
        assert len(granted) <= LIMITS.concurrent
        assert all(isinstance(result, Reservation | TooManyRequests) for result in results)


# through the API


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=7) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


ONE_ANSWER = 8192 + 512


async def test_many_askers_with_budget_for_one_answer_get_one(desk: AnswerDesk) -> None:
    """200 at once: one answer, 199 refusals that say why and when, and one call of the model."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate)
    patience = {"valkey_timeout_s": VALKEY_PATIENCE_S, "retrieval_wait_s_max": 120.0, **PATIENT}
    async with desk.assistant_here(tokens_per_day_max=ONE_ANSWER, **patience) as here:
        client = here.client(Principal(id="crowd"))

        async def ask(number: int) -> int:
            async with client.stream(f"Question {number}?", cache="bypass") as response:
                if response.status == 429:
                    refusal = await response.json()
                    assert (refusal["type"], refusal["limit"]) == ("rate-limited", ONE_ANSWER)
                    assert int(response.headers["retry-after"]) >= 1
                else:
                    await response.read()
                return int(response.status)

        asking = [asyncio.create_task(ask(number)) for number in range(200)]
        await until(lambda: sum(task.done() for task in asking) == 199, within_s=120)
        gate.set()
        assert sorted(await asyncio.gather(*asking)) == [200] + [429] * 199
    assert len(desk.llm.calls) == 1


async def booked(desk: AnswerDesk, principal: str) -> int:
    """Tokens of today, of somebody who holds nothing any more."""
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
        assert not await valkey.zcard(f"refdesk:budget:{{{principal}}}:open")
        (day,) = [key async for key in valkey.scan_iter(f"refdesk:budget:{{{principal}}}:tokens:d*")]
        return int(await valkey.get(day))


async def settled(desk: AnswerDesk, principal: str) -> bool:
    async with Redis.from_url(desk.settings.valkey.url or "") as valkey:
        return not await valkey.zcard(f"refdesk:budget:{{{principal}}}:open")


async def test_an_answer_books_what_its_model_has_used(desk: AnswerDesk) -> None:
    """And one that is shared books nothing."""
    desk.llm.reset()
    desk.llm.default = say(usage=(123, 45))
    async with desk.assistant_here() as here:
        for _ in range(2):
            assert text_of(await here.client(Principal(id="dora")).ask("How many days are booked?")) == ANSWER
        await until(lambda: settled(desk, "dora"))
        assert await booked(desk, "dora") == 168


@pytest.mark.parametrize("ending", ["cut", "stall"])
async def test_an_answer_that_breaks_off_books_what_it_has_cost(desk: AnswerDesk, ending: str) -> None:
    """Otherwise stopping before the end would be free."""
    desk.llm.reset()
    desk.llm.default = say(after=4, ending=ending)
    principal = Principal(id=f"emil-{ending}")
    async with desk.assistant_here(disconnect_grace_s=0) as here:
        async with here.client(principal).stream("How many days are lost?", cache="bypass") as response:
            await response.content.readuntil(b' leave"')  # the word; in the passage others follow
        await until(lambda: settled(desk, principal.id))
    assert 50 < await booked(desk, principal.id) < 1000


async def test_searches_a_minute_are_counted(desk: AnswerDesk) -> None:
    """And documents that are read as they were indexed."""
    async with desk.assistant_here(searches_per_minute_max=2) as here:
        client = here.client(Principal(id="gus"))
        seen = []
        for _ in range(2):
            for method, path, body in (
                ("POST", "/api/search", {"query": "leave"}),
                ("GET", "/api/passages/none", None),
            ):
                status, headers, _ = await client.json(method, path, json=body)
                seen.append(status)
        assert seen[:2] == [200, 404]
        assert seen[-1] == 429
        assert 1 <= int(headers["retry-after"]) <= 60


async def test_questions_a_minute_are_counted(desk: AnswerDesk) -> None:
    """429 with the limit and the seconds left of the minute."""
    desk.llm.reset()
    async with desk.assistant_here(requests_per_minute_max=2) as here:
        client = here.client(Principal(id="fay"))
        statuses = []
        for _ in range(5):
            status, headers, body = await client.json("POST", "/api/answers", json={"question": "How often?"})
            statuses.append(status)
        assert set(statuses[:2]) == {200}
        assert 429 in statuses
        assert body["limit"] == 2
        assert 1 <= int(headers["retry-after"]) <= 60
