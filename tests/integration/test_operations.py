"""How the desk does, as an operator sees it: parts, figures, history."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from tests.support.desk import ASKER, LEAVE, PATIENT, AnswerDesk, Client, Process, own_desk, until
from tests.support.metrics import of, scraped
from tests.support.scripted_llm import say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import ADMINISTRATORS, Principal
from refdesk.operations.history import KEPT_S, MIGRATIONS, History, ProcessReading
from refdesk.operations.overview import Metric
from refdesk.operations.series import BY_NAME, PLOTS, Figures
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.outside.postgres.pool import Pool

CHIEF = Principal(id="chief", groups=(ADMINISTRATORS,))
SECRET = "a secret that nobody is shown"
NOON = 1_800_014_400


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=2, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


async def overview(client: Client) -> Any:
    status, _, body = await client.json("GET", "/api/operations")
    assert status == 200, body
    return body


async def test_an_operator_sees_parts_and_who_waits_and_no_words_of_anybody(desk: AnswerDesk) -> None:
    """A peer that does not answer is named as the culprit; askers see nothing of it."""
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.default = say(gate=gate)
    async with desk.assistants(1, peer_urls="indexer=http://127.0.0.1:1", llm_api_key=SECRET) as (process,):
        chief, asker = await process.client(CHIEF), await process.client(ASKER)
        asking = asyncio.create_task(asker.ask("What is nobody's business?", cache="bypass"))
        await desk.llm.called()
        seen = await overview(chief)
        settings = await chief.json("GET", "/api/operations/settings")
        refused = [(await asker.json("GET", f"/api/operations{path}"))[0] for path in ("", "/history", "/settings")]
        gate.set()
        await asking
        samples = await scraped(process, desk)
    assert {part["name"]: part["level"] for part in seen["parts"]} | {"Valkey": "ok", "indexer": "unavailable"} == {
        part["name"]: part["level"] for part in seen["parts"]
    }
    assert (seen["status"], seen["culprits"]) == ("unavailable", ["indexer"])
    assert [(one["principal_id"], one["state"]) for one in seen["slow"]] == [(ASKER.id, "waiting")]
    assert "business" not in str(seen)
    assert refused == [403, 403, 403]
    values = {one["name"]: one for one in settings[2]["settings"]}
    assert SECRET not in str(settings[2])
    assert values["REFDESK_LLM_API_KEY"]["origin"] == "environment"
    assert of(samples, "refdesk_peer_up", "process") == {}
    assert ("refdesk_peer_up", (("process", "indexer"),)) in samples


async def test_metrics_and_health_of_a_peer_are_told_at_the_desks_door(desk: AnswerDesk) -> None:
    """Each under the peer's name."""
    async with desk.assistants(1) as (peer,), desk.assistants(1, peer_urls=f"other={peer.url}") as (process,):
        await (await peer.client(ASKER)).ask("Who counts this?", cache="bypass")
        samples = await scraped(process, desk)
        seen = await overview(await process.client(CHIEF))
    assert of(samples, "refdesk_answers_total", "process") == {"other": 1}
    assert {part["process"] for part in seen["parts"]} == {"assistant", "other"}
    assert seen["status"] == "ok"


@pytest.mark.long
async def test_the_figures_of_now_equal_what_was_done(desk: AnswerDesk) -> None:
    """As the model has counted it; and the history has the same."""
    desk.llm.reset()
    desk.llm.default = say(usage=(50, 7))
    async with desk.assistants(1, usage_interval_s=0.2, llm_prices="scripted 2/10") as (process,):
        client, chief = await process.client(Principal(id="zoe")), await process.client(CHIEF)
        await until(lambda: _sampled(chief))
        for number in range(3):
            await client.ask(f"How many days, number {number}?", cache="bypass")
        await until(lambda: _tokens(chief, {"input": 150, "output": 21}))
        seen = {plot["metric"]: plot for plot in (await overview(chief))["plots"]}
        _, _, history = await chief.json("GET", "/api/operations/history?metric=tokens&range=15m")
    assert seen["answers"]["now"] == {"stop": 3}
    assert seen["cost"]["now"] == {"USD": pytest.approx(3 * (50 * 2 + 7 * 10) / 1e6)}
    assert seen["first_token"]["now"]["p50"] > 0
    assert seen["memory"]["now"]["assistant"] > 1e6
    assert sum(point["values"].get("input", 0) for point in history["points"]) == 150
    assert (history["step_seconds"], history["range_seconds"]) == (15, 900)


async def _sampled(chief: Client) -> bool:
    plots = (await overview(chief))["plots"]
    return any(plot["metric"] == "memory" and plot["now"] for plot in plots)


async def _tokens(chief: Client, expected: dict[str, float]) -> bool:
    return any(p["metric"] == "tokens" and p["now"] == expected for p in (await overview(chief))["plots"])


# the history's table


class Clock:
    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


class Told:
    """A process whose counter the test turns."""

    def __init__(self, name: str, *, life: int = 1) -> None:
        self.key, self.name = f"{name}@{life}", name
        self.input = 0.0
        self.lag = 0.0

    async def __call__(self) -> list[ProcessReading]:
        figures: Figures = {"tokens": {"input": self.input}, "index_lag": {"index_lag": self.lag}}
        return [ProcessReading(self.name, self.key, figures)]


@pytest.fixture
async def pool(fresh_database: str) -> AsyncIterator[Pool]:
    async with open_pool(fresh_database, name="test history", size_max=2) as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


async def work(history: History, told: Told, clock: Clock, *, steps: int, grows: float = 1.0) -> None:
    for _ in range(steps):
        await history.sample()
        clock.now += 15
        told.input += grows


async def inputs(history: History, *, range_s: int, step_s: int) -> list[float | None]:
    points = await history.points(BY_NAME["tokens"], range_s=range_s, step_s=step_s)
    return [point.values["input"] for point in points]


async def test_every_resolution_adds_up_to_the_same(pool: Pool) -> None:
    """What is counted in a quarter of an hour is there in steps of 15 s, of a minute and of ten."""
    clock, told = Clock(), Told("desk")
    history = History(pool, told, clock=clock)
    await work(history, told, clock, steps=61)
    assert await inputs(history, range_s=3600, step_s=15) == [1.0] * 60
    assert sum(filter(None, await inputs(history, range_s=3600, step_s=60))) == 60
    assert sum(filter(None, await inputs(history, range_s=3600, step_s=600))) == 60


async def test_replicas_are_added_up_and_a_restart_loses_nothing_that_was_written(pool: Pool) -> None:
    """Each writes under a name of its own."""
    clock, told = Clock(), Told("desk")
    history = History(pool, told, clock=clock)
    await work(history, told, clock, steps=5)
    await history.write()
    again, other = Told("desk", life=2), Told("desk", life=3)
    again.input = other.input = 1000.0
    lives = [History(pool, one, clock=clock) for one in (again, other)]
    for one in lives:
        await one.sample()
    clock.now += 15
    again.input += 10
    other.input += 100
    for one in lives:
        await one.sample()
        await one.write()
    assert await inputs(history, range_s=3600, step_s=15) == [1.0, 1.0, 1.0, 1.0, 110.0]


async def test_a_sleep_that_ends_early_puts_no_sample_into_the_step_before(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step has its own."""
    clock, told, sleep = Clock(), Told("desk"), asyncio.sleep

    async def early(seconds: float) -> None:
        clock.now += max(seconds - 0.001, 0.0005)
        await sleep(0)

    history = History(pool, told, clock=clock)
    for _ in range(5):
        monkeypatch.setattr("refdesk.operations.history.asyncio.sleep", early)
        await history._next_step()
        monkeypatch.undo()
        await history.sample()
        told.input += 1
    assert await inputs(history, range_s=3600, step_s=15) == [1.0] * 4


async def test_the_table_has_a_bound(pool: Pool, fresh_database: str) -> None:
    """Steps are kept as long as their length allows, whatever a clock says."""
    clock, told = Clock(), Told("desk")
    history = History(pool, told, clock=clock)
    for _ in range(40):
        await work(history, told, clock, steps=2)
        await history.write()
        clock.now += 3600
    await history.prune()
    async with await psycopg.AsyncConnection.connect(fresh_database) as connection:
        cursor = await connection.execute(
            "SELECT step_s, extract(epoch FROM min(at))::float8 FROM operations_samples GROUP BY 1"
        )
        oldest = {step_s: clock.now - at for step_s, at in await cursor.fetchall()}
    assert all(age <= KEPT_S[step_s] for step_s, age in oldest.items())
    assert 600 in oldest


def test_every_plot_can_be_asked_for() -> None:
    """By its name."""
    assert {plot.name for plot in PLOTS} == set(Metric.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("query", ["metric=secrets", "range=1y"])
async def test_what_is_no_plot_is_refused_by_name(processes: list[Process], query: str) -> None:
    """422 with the field."""
    client = await processes[0].client(CHIEF)
    status, _, refusal = await client.json("GET", f"/api/operations/history?{query}")
    assert (status, refusal["field"]) == (422, query.partition("=")[0])
