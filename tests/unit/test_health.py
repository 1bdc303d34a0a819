"""Verdicts on parts: named soon, never by one slow look, and never waited for."""

import asyncio
from collections.abc import Callable

import aiohttp
import pytest
from tests.integration.documents_desk import eventually, running, serving

from refdesk.app import health
from refdesk.app.health import Health, Part, Verdict, health_endpoints
from refdesk.contracts.errors import Unavailable
from refdesk.web.http import create_app

Outcome = str | Exception | asyncio.Event | None


class Scripted:
    """A part whose looks go as the test says; the last outcome stays."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.looks = 0

    async def __call__(self) -> str | None:
        self.looks += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            return None
        return outcome


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"EVERY_S": 0.01, "PATIENCE_S": 0.05, "AGAIN_S": 0.01}.items():
        monkeypatch.setattr(health, name, seconds)


async def verdict(look: Scripted, *, needed: bool = True) -> Verdict:
    return (await Health([Part("database", look, needed)]).verdicts())["database"]


async def test_a_failure_counts_when_it_is_repeated() -> None:
    """One that is not was a hiccup."""
    assert await verdict(Scripted(Unavailable("It is away."), None)) == Verdict("ok")
    assert await verdict(Scripted(Unavailable("It is away."))) == Verdict("unavailable", "It is away.")


async def test_one_slow_look_changes_nothing() -> None:
    """It is waited for a second time, and not begun anew."""
    answered = asyncio.Event()
    look = Scripted(answered)
    asyncio.get_running_loop().call_later(0.07, answered.set)
    assert await verdict(look) == Verdict("ok")
    assert look.looks == 1


class Late:
    """A part that answers only after so many seconds; the last of them stays."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)

    async def __call__(self) -> None:
        await asyncio.sleep(self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0])


@pytest.mark.parametrize(
    ("late", "level"),
    [((0.04, 0.04), "degraded"), ((0.04, 0.0), "ok"), ((0.04, 0.0, 0.04), "ok"), ((0.07,), "degraded")],
)
async def test_a_part_that_is_slow_twice_in_a_row_degrades(
    late: tuple[float, ...], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each look outlasts our patience; and it is well again with its first quick answer."""
    monkeypatch.setattr(health, "SLOW_S", 0.02)
    watch = Health([Part("database", Late(*late))])
    for _ in late if len(late) > 1 else range(2):
        (watched,) = watch._watched
        await watched.look()
    assert watched.verdict.level == level
    assert ("answers slowly" in watched.verdict.why) == (level == "degraded")
    watched.part.look.seconds = [0.0]  # type: ignore[attr-defined]
    await watched.look()
    assert watched.verdict == Verdict("ok")


async def test_a_look_that_hangs_is_named_and_found_again() -> None:
    """Whoever asks is answered; nothing piles up behind it."""
    answered = asyncio.Event()
    look = Scripted(answered, None)
    watch = Health([Part("database", look)])

    async def level() -> str:
        return (await watch.verdicts())["database"].level

    async with running(watch.run):
        await eventually(lambda: _is(level, "unavailable"))
        assert "has not answered" in (await watch.verdicts())["database"].why
        assert look.looks == 1
        answered.set()
        await eventually(lambda: _is(level, "ok"))


async def _is(level: Callable[[], asyncio.Future[str]], wanted: str) -> bool:
    return await level() == wanted


async def test_what_is_not_needed_degrades() -> None:
    """So does a part that says so itself."""
    assert await verdict(Scripted(Unavailable("It is away.")), needed=False) == Verdict("degraded", "It is away.")
    assert await verdict(Scripted("It is nearly full.")) == Verdict("degraded", "It is nearly full.")


async def test_the_cause_is_told_to_operators() -> None:
    """In the words of whoever caused it."""
    error = Unavailable("It does not answer.")
    error.__cause__ = OSError("connection refused")
    assert (await verdict(Scripted(error))).why == "It does not answer. (connection refused)"


async def test_a_bug_in_a_look_is_a_fault_of_its_part() -> None:
    """The other parts are told all the same."""
    watch = Health([Part("broken", Scripted(KeyError("x"))), Part("sound", Scripted(None))])
    assert {name: verdict.level for name, verdict in (await watch.verdicts()).items()} == {
        "broken": "unavailable",
        "sound": "ok",
    }


@pytest.mark.parametrize(
    ("parts", "status", "word"),
    [
        ([("a", None, True)], 200, "ok"),
        ([("a", None, True), ("b", Unavailable("Away."), False)], 200, "degraded"),
        ([("a", Unavailable("Away."), True), ("b", "Slow.", True)], 503, "unavailable"),
    ],
)
async def test_readiness_follows_the_parts_that_are_needed(
    parts: list[tuple[str, Outcome, bool]], status: int, word: str
) -> None:
    """And names all of them when asked; liveness follows none."""
    watch = Health([Part(name, Scripted(outcome), needed) for name, outcome, needed in parts])

    async def nobody(_: object) -> None:
        return None

    app = create_app(health_endpoints(watch), authenticate=nobody)
    async with serving(app) as url, aiohttp.ClientSession(url) as session:
        async with session.get("/health/ready?verbose") as reply:
            body = await reply.json()
            assert (reply.status, body["status"]) == (status, word)
        async with session.get("/health/live") as reply:
            assert reply.status == 200
    assert set(body["parts"]) == {name for name, _, _ in parts}
    ill = {name for name, outcome, _ in parts if outcome is not None}
    assert set(body["unavailable"] + body["degraded"]) == ill
    assert all((body["parts"][name] == "ok") == (name not in ill) for name in body["parts"])
