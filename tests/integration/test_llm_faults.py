"""Every way a model provider fails, through the public API: a bounded, honest outcome each time.

Honest: an answer that is marked complete is complete; one that is cut ends with an error saying that it is partial; one that
the model did not write is marked degraded. What was shown is what is stored, and nothing is shown twice.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.support.desk import LEAVE, AnswerDesk, Client, Event, Here, Process, own_desk, text_of, until, wait
from tests.support.metrics import of, scraped
from tests.support.patience import within
from tests.support.scripted_llm import ANSWER, CONTEXT_LENGTH, Behaviour, Call, ScriptedLlm, refuse, say, scripted_llm

from refdesk.answering.writing.circuit import State
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import ModelFailed
from refdesk.outside.http_client import open_http_client
from refdesk.outside.llm.addresses import model_address
from refdesk.outside.llm.client import Llm
from refdesk.outside.llm.errors import LlmTimeout
from refdesk.outside.llm.parameters import Message
from refdesk.outside.llm.server import ModelServer
from refdesk.outside.llm.stream import Told
from refdesk.settings.models import Clocks
from refdesk.settings.tree import Settings

QUESTION = "How many days of paid leave do employees have?"
OUTCOME_S = 15.0
FIRST_TOKEN_S = 2.0
BETWEEN_TOKENS_S = 1.0
LONG = " ".join(f"word{number}" for number in range(60)) + ". [1]"


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    clocks = {
        "llm_first_token_timeout_s": FIRST_TOKEN_S,
        "llm_cold_first_token_timeout_s": FIRST_TOKEN_S,
        "llm_between_tokens_timeout_s": BETWEEN_TOKENS_S,
    }
    async with own_desk(servers, tmp_path_factory, valkey_number=2, llm_model="first, second", **clocks) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture
async def here(desk: AnswerDesk) -> AsyncIterator[Here]:
    """An assistant whose circuits are closed."""
    desk.llm.reset()
    async with desk.assistant_here() as here:
        yield here


async def outcome(here: Here, *, question: str = QUESTION) -> list[Event]:
    """The whole stream, honest whatever it is."""
    client = here.client()
    async with within(OUTCOME_S):
        stream = await client.ask(question, cache="bypass")
    shown, ending = text_of(stream), stream[-1]
    _, _, stored = await client.json("GET", f"/api/answers/{stream[0].data['answer_id']}")
    assert stored["text"] == shown
    if ending.name == "done":
        assert stored["status"] == "done"
        complete = shown in (ANSWER, LONG)
        assert complete != ending.data["degraded"]
    else:
        assert (ending.name, stored["status"]) == ("error", "failed")
        assert ending.data["partial"] is bool(shown)
        assert ANSWER.startswith(shown) or LONG.startswith(shown)
    return stream


def models(llm: ScriptedLlm) -> list[str]:
    return [call.body["model"] for call in llm.calls]


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        (refuse(429, retry_after="1"), ["first", "first"]),
        (refuse(429), ["first", "first"]),
        (refuse(429, retry_after="60"), ["first", "second"]),
        (refuse(500), ["first", "first"]),
        (refuse(408), ["first", "first"]),
        (Behaviour(hang_up=True), ["first", "first"]),
        (Behaviour(silent=True), ["first", "second"]),
        (say(first_after_s=60), ["first", "second"]),
        (say(headers_after_s=60), ["first", "second"]),
        (say(first_after_s=60, comment_every_s=0.3), ["first", "second"]),
        (say(after=0, ending="cut"), ["first", "first"]),
        (say(after=0, ending="reset"), ["first", "first"]),
        (say(after=0, ending="stall"), ["first", "second"]),
        (say(after=0, ending="malformed"), ["first", "first"]),
        (say(after=0, ending="error"), ["first", "first"]),
        (say(after=0, ending="no_finish"), ["first", "first"]),
        (say(after=0, ending="finish"), ["first", "first"]),
        (Behaviour(status=200, words=(), ending="no_done"), ["first", "first"]),
    ],
    ids=[
        "429-retry-after", "429", "429-long-pause", "500-once", "408", "reset-at-once", "silence", "no-first-token",
        "no-headers", "only-comments", "cut-before-words", "reset-before-words", "stall-before-words",
        "malformed-before-words", "error-before-words", "empty-body", "empty-answer", "empty-answer-no-done",
    ],
)  # fmt: skip
async def test_a_fault_before_the_first_word_is_never_seen(
    here: Here, desk: AnswerDesk, fault: Behaviour, asked: list[str]
) -> None:
    """The call is repeated once where that may help, or the next model writes the answer."""
    desk.llm.plan = [fault]
    stream = await outcome(here)
    assert (stream[-1].name, text_of(stream)) == ("done", ANSWER)
    assert models(desk.llm) == asked


@pytest.mark.parametrize(
    "fault",
    [
        say(after=4, ending="cut"),
        say(after=4, ending="reset"),
        say(after=4, ending="stall"),
        say(after=4, ending="malformed"),
        say(after=4, ending="error"),
        say(after=4, ending="no_finish"),
        say(after=4, finish_reason="content_filter"),
        say(after=4, finish_reason="error"),
    ],
    ids=["cut", "reset", "stall", "malformed", "error", "no-finish", "content-filter", "finish-error"],
)
async def test_a_fault_after_the_first_word_ends_the_answer(here: Here, desk: AnswerDesk, fault: Behaviour) -> None:
    """With an error that says it is partial; never a restart, never a splice, never complete."""
    desk.llm.plan = [fault]
    stream = await outcome(here)
    assert stream[-1].name == "error"
    assert text_of(stream) == "Thirty days of leave"
    assert len(desk.llm.calls) == 1
    async with within(1):
        await desk.llm.calls[0].closed.wait()


@pytest.mark.parametrize("ending", ["no_done", "hold_open"])
async def test_a_finished_answer_needs_no_farewell(here: Here, desk: AnswerDesk, ending: Any) -> None:
    """The finish reason is the end; what should follow it is not waited for long."""
    desk.llm.plan = [say(ending=ending)]
    stream = await outcome(here)
    assert (stream[-1].name, text_of(stream)) == ("done", ANSWER)
    assert len(desk.llm.calls) == 1


@pytest.mark.parametrize("fault", [CONTEXT_LENGTH, refuse(400), refuse(401), refuse(404), refuse(422)])
async def test_a_refused_request_is_made_once(here: Here, desk: AnswerDesk, fault: Behaviour) -> None:
    """Then the passages are quoted, and the answer says that it is degraded."""
    desk.llm.plan = [fault]
    stream = await outcome(here)
    assert stream[-1].data["degraded"]
    assert "thirty days of paid leave" in text_of(stream)
    assert len(desk.llm.calls) == 1


async def test_a_degraded_answer_says_why(here: Here, desk: AnswerDesk) -> None:
    """To administrators in the server's words, to others in plain ones; while the model is left alone, too."""
    administrator = here.client(Principal(id="admin", groups=("administrators",)))
    desk.llm.default = refuse(401, message="key 17 has expired")
    for client, words in (
        (administrator, "key 17 has expired"),
        (here.client(), "refuses the key. Tell an administrator"),
    ):
        done = (await client.ask(QUESTION, cache="bypass"))[-1].data
        assert done["degraded"]
        assert words in done["degraded_reason"]
        answer = (await client.json("POST", "/api/answers", json={"question": QUESTION, "cache": "bypass"}))[2]
        assert answer["degraded_reason"] == done["degraded_reason"]
    assert "expired" not in answer["degraded_reason"]
    desk.llm.default = refuse(503, message="out of memory")
    for _ in range(4):
        reason = (await administrator.ask(QUESTION, cache="bypass"))[-1].data["degraded_reason"]
        assert "out of memory" in reason
    assert "left alone" in reason
    desk.llm.default = say()


async def test_a_starting_assistant_asks_the_model_one_question(desk: AnswerDesk, caplog: Any) -> None:
    """In the background: it is there at once, and says why the model does not answer; the next answer is not kept waiting."""
    desk.llm.reset()
    desk.llm.probe = refuse(401, message="key 17 has expired")
    async with desk.assistant_here() as here:
        await until(lambda: "key 17 has expired" in caplog.text)
        assert text_of(await outcome(here)) == ANSWER
    assert models(desk.llm) == ["first"]
    assert len(desk.llm.probes) >= 1
    assert desk.llm.probes[0].body["messages"][0]["role"] == "system"


async def test_a_filter_before_the_first_word_is_a_refusal(here: Here, desk: AnswerDesk) -> None:
    """One call, then quotes."""
    desk.llm.plan = [say(after=0, finish_reason="content_filter")]
    assert (await outcome(here))[-1].data["degraded"]
    assert len(desk.llm.calls) == 1


async def test_a_model_that_is_down_is_replaced_by_quotes(here: Here, desk: AnswerDesk) -> None:
    """503 for long: each model twice, then the answer is quoted; soon nobody waits for the models any more."""
    desk.llm.default = refuse(503)
    for _ in range(4):
        assert (await outcome(here))[-1].data["degraded"]
    assert models(desk.llm) == ["first", "first", "second", "second"] * 2 + ["first", "second"]


async def test_slow_words_within_the_clocks_are_waited_for(here: Here, desk: AnswerDesk) -> None:
    """Slow is not failed."""
    desk.llm.plan = [say(first_after_s=FIRST_TOKEN_S / 3, gap_s=BETWEEN_TOKENS_S / 10)]
    assert text_of(await outcome(here)) == ANSWER
    assert len(desk.llm.calls) == 1


async def test_a_flapping_model_answers_every_question(here: Here, desk: AnswerDesk) -> None:
    """Failed, well, failed, well: nobody sees it."""
    desk.llm.plan = [refuse(500), say(), Behaviour(hang_up=True), say(), refuse(503), say(), say(after=0, ending="cut")]
    for _ in range(4):
        assert text_of(await outcome(here)) == ANSWER
    assert len(desk.llm.calls) == 8


@pytest.mark.parametrize("usage", [(0, 0), (10**9, 10**9), None])
async def test_a_wrong_usage_harms_nobody(here: Here, desk: AnswerDesk, usage: tuple[int, int] | None) -> None:
    """It is shown as the model reports it, or estimated when it does not; what is booked stays within what was reserved."""
    desk.llm.default = say(usage=usage)
    for _ in range(2):
        used = (await outcome(here))[-1].data["usage"]
        if usage is None:
            assert used["output_tokens"] == 11
            assert used["input_tokens"] > 50
        else:
            assert (used["input_tokens"], used["output_tokens"]) == usage


async def cut_at(here: Here, desk: AnswerDesk, token: int) -> None:
    desk.llm.reset()
    desk.llm.plan, desk.llm.default = [say(LONG, after=token, ending="cut")], say(LONG)
    stream = await outcome(here)
    if token == 0:
        assert (stream[-1].name, text_of(stream), len(desk.llm.calls)) == ("done", LONG, 2)
    else:
        shown = "".join(say(LONG).words[:token])
        assert (stream[-1].name, text_of(stream), len(desk.llm.calls)) == ("error", shown, 1)


@pytest.mark.parametrize("token", [0, 1, 2, 30, 60])
async def test_an_answer_cut_at_a_token_is_retried_or_ended(here: Here, desk: AnswerDesk, token: int) -> None:
    """Retried at none, ended after any; the prefix shown is the prefix stored, and no token comes twice."""
    await cut_at(here, desk, token)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_an_answer_cut_at_every_token_is_retried_or_ended(desk: AnswerDesk) -> None:
    """The same for 0 to 60."""
    for token in range(61):
        async with desk.assistant_here() as here:
            await cut_at(here, desk, token)


# an outage

PROBES_MIN = 3
ASKERS = 3
BACK_S_MAX = 30.0
PAUSE_S = 0.05
REFUSING_S = 0.2
"""How long a call during the outage takes to fail: long enough for every asker to come meanwhile."""


class Outage:
    """A model goes down under a process that people ask, and comes back."""

    def __init__(self, desk: AnswerDesk, process: Process, client: Client) -> None:
        self._desk, self._process, self._client = desk, process, client
        self._calls_before = 0
        self.degraded: list[bool] = []
        """Of each answer asked and given while the model was down."""

    @property
    def probes(self) -> list[Call]:
        """The calls since the model is left alone."""
        return self._desk.llm.calls[self._calls_before :]

    async def begin(self) -> None:
        """Until the circuit is open."""
        self._desk.llm.default = replace(refuse(503), headers_after_s=REFUSING_S)
        while await self._state() is not State.OPEN:
            await self._ask()
        self._calls_before = len(self._desk.llm.calls)

    async def last(self, is_over: Callable[[], bool]) -> None:
        """People ask until it is over."""

        async def ask() -> None:
            while not is_over():
                self.degraded.append(await self._ask())
                await wait(PAUSE_S)

        await asyncio.gather(*(ask() for _ in range(ASKERS)))

    async def end(self) -> float:
        """Seconds until the model writes again."""
        self._desk.llm.default, began = say(), time.monotonic()
        while await self._ask():
            await wait(PAUSE_S)
        assert await self._state() is State.CLOSED
        return time.monotonic() - began

    async def _ask(self) -> bool:
        """Whether the answer is degraded; it is whole in any case."""
        stream = await self._client.ask(QUESTION, cache="bypass")
        assert stream[-1].name == "done"
        degraded = bool(stream[-1].data["degraded"])
        assert (text_of(stream) == ANSWER) is not degraded
        return degraded

    async def _state(self) -> State:
        shown = of(await scraped(self._process, self._desk), "refdesk_llm_circuit_state", "model")
        return State(int(shown.get("scripted", 0)))


async def through_an_outage(desk: AnswerDesk, *, cool_down_s: float, lasts_s: float) -> float:
    """What was promised of it, with one answer that was begun before it and comes only after the first probe.

    Seconds until the model wrote again.
    """
    desk.llm.reset()
    gate = asyncio.Event()
    desk.llm.plan = [say(gate=gate)]
    changes = {"llm_model": "scripted", "llm_first_token_timeout_s": 60.0, "llm_cool_down_s": cool_down_s}
    async with desk.assistants(1, **changes) as (process,):
        client = await process.client()
        early = asyncio.create_task(client.ask(QUESTION, cache="bypass"))
        await desk.llm.called()
        outage = Outage(desk, process, client)
        await outage.begin()
        over_at = time.monotonic() + lasts_s

        def is_over() -> bool:
            if outage.probes:
                gate.set()
            return early.done() and len(outage.probes) >= PROBES_MIN and time.monotonic() >= over_at

        await outage.last(is_over)
        began = [call.opened_at for call in outage.probes]
        back_s = await outage.end()
        assert text_of(await early) == ANSWER
    assert all(outage.degraded)
    assert all(later - earlier >= cool_down_s for earlier, later in itertools.pairwise(began)), "one probe at a time"
    print(  # noqa: T201
        f"{sum(outage.degraded)} of {len(outage.degraded)} answers from quotes in {lasts_s:g} s and more, {len(began)} probes, "
        f"never two at a time; the model wrote again after {back_s:.1f} s"
    )
    return back_s


async def test_an_outage_is_answered_with_quotes_and_tried_by_one_call_at_a_time(desk: AnswerDesk) -> None:
    """Also after an answer from before it has come; when the model is back, it writes again."""
    await through_an_outage(desk, cool_down_s=0.3, lasts_s=0.0)


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_an_outage_of_a_minute_is_answered_with_quotes(desk: AnswerDesk) -> None:
    """The same with the settings as they are."""
    back_s = await through_an_outage(desk, cool_down_s=Settings().model_calls.cool_down_s, lasts_s=60.0)
    assert back_s <= BACK_S_MAX


# the four clocks, on the client itself

QUICK = Clocks(connect_s=0.5, first_token_s=1.0, cold_first_token_s=0.0, between_tokens_s=0.8, total_s=2.0)


@pytest.fixture
async def llm() -> AsyncIterator[ScriptedLlm]:
    async with scripted_llm() as llm:
        yield llm


async def timed(url: str, clocks: Clocks = QUICK) -> tuple[float, Exception | None, str]:
    """Seconds until the call ended, its error, its text."""
    started, said, error = time.monotonic(), list[str](), None

    def on_texts(texts: Sequence[str]) -> bool:
        said.extend(texts)
        return True

    address = model_address(url)
    async with open_http_client(address.root) as client:
        llm = Llm(ModelServer(client, address), model="m", clocks=clocks)
        try:
            await llm.stream([Message("user", "Q?")], output_tokens_max=50, on_texts=on_texts, told=Told())
        except ModelFailed as failure:
            error = failure
    return time.monotonic() - started, error, "".join(said)


@pytest.mark.parametrize(
    ("behaviour", "limit_s"),
    [
        (Behaviour(silent=True), QUICK.first_token_s),
        (say(headers_after_s=60), QUICK.first_token_s),
        (say(first_after_s=60), QUICK.first_token_s),
        (say(headers_after_s=0.8, first_after_s=60), QUICK.first_token_s),
        (say(first_after_s=60, comment_every_s=0.1), QUICK.first_token_s),
        (say(after=2, ending="stall"), QUICK.between_tokens_s),
        (say(gap_s=60, comment_every_s=0.1), QUICK.between_tokens_s),
        (say(gap_s=0.3), QUICK.total_s),
    ],
    ids=["silence", "headers", "first-token", "first-token-after-headers", "comments", "stall", "gap", "total"],
)
async def test_a_clock_cuts_at_its_limit(llm: ScriptedLlm, behaviour: Behaviour, limit_s: float) -> None:
    """Within half a second, and the connection is closed."""
    llm.default = behaviour
    async with within(limit_s + 0.5):
        seconds, error, _ = await timed(llm.url)
    assert isinstance(error, LlmTimeout)
    assert seconds >= limit_s - 0.1
    async with within(1):
        await llm.calls[0].closed.wait()


async def test_the_connect_clock_cuts_at_its_limit() -> None:
    """On an address where nobody takes the connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        crowd = [socket.socket() for _ in range(4)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(address)
        seconds, error, _ = await timed(f"http://127.0.0.1:{address[1]}/v1")
        for one in crowd:
            one.close()
    assert isinstance(error, LlmTimeout)
    assert QUICK.connect_s - 0.1 <= seconds <= QUICK.connect_s + 0.5


async def test_nobody_there_is_known_at_once() -> None:
    """A refused connection needs no clock."""
    seconds, error, _ = await timed("http://127.0.0.1:1/v1")
    assert isinstance(error, ModelFailed)
    assert seconds < QUICK.connect_s


@pytest.mark.long
@pytest.mark.parametrize("share", [0.9, 1.1])
@pytest.mark.parametrize("clock", ["first_token_s", "between_tokens_s", "total_s"])
async def test_a_clock_lets_through_what_stays_below_it(llm: ScriptedLlm, clock: str, share: float) -> None:
    """Ten percent below its limit the answer is whole; ten percent above it is cut."""
    limits: dict[str, float] = {"first_token_s": 60.0, "between_tokens_s": 60.0, "total_s": 60.0} | {clock: 3.0}
    gap = 3.0 * share if clock == "between_tokens_s" else 3.0 * share / 8 if clock == "total_s" else 0.0
    llm.default = say(gap_s=gap, first_after_s=3.0 * share if clock == "first_token_s" else 0.0)
    seconds, error, text = await timed(llm.url, Clocks(cold_first_token_s=0.0, **limits))
    if share < 1:
        assert (error, text) == (None, ANSWER)
    else:
        assert isinstance(error, LlmTimeout)
        assert abs(seconds - limits[clock]) <= 0.5
