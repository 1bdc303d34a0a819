"""Writing with a model: the output limit, retries before the first word, and honest endings."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.answering import writers
from refdesk.answering.circuit import Circuit
from refdesk.answering.writers import Assignment, Generating, Meter, Models, Verdict
from refdesk.contracts.answers import Source, Usage
from refdesk.contracts.errors import ModelFailed
from refdesk.outside.llm import LlmFiltered, LlmRefused, LlmTimeout, Message, Piece
from refdesk.outside.tokens import output_tokens

SOURCE = Source(n=1, document_id="d", version=1, title="Leave", passage="Thirty days.", ordinal=0, stale=False)


class Puppet:
    """An LLM that says what it is told; an exception in a script is raised."""

    model = "puppet"
    server = ("puppet", 80)

    def __init__(self, *scripts: Sequence[Piece | Exception]) -> None:
        self.scripts = list(scripts)
        self.calls: list[Sequence[Message]] = []
        self.open = 0

    async def stream(self, messages: Sequence[Message], *, output_tokens_max: int) -> AsyncGenerator[Piece, None]:
        self.calls.append(messages)
        self.open += 1
        try:
            for piece in self.scripts.pop(0):
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.open -= 1


def said(*texts: str) -> Piece:
    return Piece(texts)


def finished(reason: str = "stop", usage: Usage | None = None) -> Piece:
    return Piece((), finish_reason=reason, usage=usage)


def assignment(*, output_tokens_max: int = 100, sources: tuple[Source, ...] = (SOURCE,)) -> Assignment:
    return Assignment(question="How many days?", sources=sources, output_tokens_max=output_tokens_max)


def generating(puppet: Puppet, *, context_tokens_max: int = 1000) -> Generating:
    return Generating(puppet, context_tokens_max=context_tokens_max, passages_read=8)  # type: ignore[arg-type]


class Once:
    """A writer that makes one attempt."""

    def __init__(self, model: Generating) -> None:
        self.model, self.passages_read = model.model, model.passages_read
        self._generating = model

    async def write(self, task: Assignment) -> AsyncGenerator[writers.Piece, None]:
        with self._generating.chat(task) as chat:
            attempt = self._generating.attempt(task, chat)
            async with aclosing(attempt):
                async for piece in attempt:
                    yield piece


def once(puppet: Puppet, *, context_tokens_max: int = 1000) -> Once:
    return Once(generating(puppet, context_tokens_max=context_tokens_max))


async def written(writer: writers.Writer, task: Assignment) -> tuple[str, Verdict]:
    pieces = [piece async for piece in writer.write(task)]
    verdict = pieces[-1]
    assert isinstance(verdict, Verdict)
    return "".join(piece for piece in pieces if isinstance(piece, str)), verdict


@given(
    st.lists(st.lists(st.sampled_from(["Thirty", " days", " of leave, all", "…", "\n", " (x)"]), max_size=4)),
    st.integers(1, 12),
)
def test_the_meter_never_lets_a_token_too_many_through(chunks: list[list[str]], limit: int) -> None:
    """However the model's chunks are cut and merged; and it is spent only when something was cut."""
    meter = Meter(limit)
    given_out, offered = "", ""
    for texts in chunks:
        given_out += meter.allow(texts)
        offered += "".join(texts)
        assert meter.used <= limit
        assert output_tokens(given_out) <= limit
        if meter.spent:
            break
    assert meter.spent or given_out == offered
    assert offered.startswith(given_out)


async def test_a_model_that_never_stops_is_cut_at_the_limit() -> None:
    """And its connection is closed."""
    puppet = Puppet([said(" word") for _ in range(50)])
    text, verdict = await written(once(puppet), assignment(output_tokens_max=7))
    assert (text, verdict.finish_reason) == (" word" * 7, "length")
    assert verdict.usage.output_tokens == 7
    assert puppet.open == 0


async def test_an_answer_of_exactly_the_limit_is_complete() -> None:
    """Nothing was cut."""
    puppet = Puppet([said(" word")] * 7 + [finished()])
    text, verdict = await written(once(puppet), assignment(output_tokens_max=7))
    assert (text, verdict.finish_reason) == (" word" * 7, "stop")


async def test_the_models_own_count_is_the_usage() -> None:
    """Ours is an estimate for when it does not say."""
    puppet = Puppet([said("Thirty"), finished(usage=Usage(11, 22))], [said("Thirty"), finished()])
    assert (await written(once(puppet), assignment()))[1].usage == Usage(11, 22)
    estimated = (await written(once(puppet), assignment()))[1].usage
    assert estimated.input_tokens > 11
    assert estimated.output_tokens == 1


async def test_the_cost_of_the_prompt_is_known_before_the_first_word() -> None:
    """A call that is stopped has been paid for all the same."""
    writing = once(Puppet([said("Thirty"), finished()])).write(assignment())
    async with aclosing(writing):
        first = await anext(writing)
    assert isinstance(first, Usage)
    assert first.input_tokens > 0


@pytest.mark.parametrize(
    ("reason", "text", "outcome"),
    [
        ("stop", "Thirty days. [1]", "stop"),
        ("length", "Thirty days", "length"),
        ("stop", "I could not find this in the documents.", "not_found"),
        ("stop", "i could not find this in the documents", "not_found"),
    ],
)
async def test_an_answer_ends_for_one_of_the_known_reasons(reason: str, text: str, outcome: str) -> None:
    """Complete, cut, or nothing found."""
    _, verdict = await written(once(Puppet([said(text), finished(reason)])), assignment())
    assert verdict.finish_reason == outcome


@pytest.mark.parametrize("script", [[finished()], [said(" \n"), finished()], [said("Thirty"), finished("error")]])
async def test_an_ending_without_an_answer_is_a_failure(script: list[Piece]) -> None:
    """Nothing said, or a reason that no complete answer has."""
    with pytest.raises(ModelFailed):
        await written(once(Puppet(script)), assignment())


async def test_a_filtered_answer_is_a_refusal() -> None:
    """Never retried, never complete."""
    with pytest.raises(LlmFiltered):
        await written(once(Puppet([said("Thirty"), finished("content_filter")])), assignment())


async def test_a_window_without_room_for_a_passage_asks_nothing() -> None:
    """A model without passages would invent."""
    puppet = Puppet()
    with pytest.raises(LlmRefused):
        await written(once(puppet, context_tokens_max=150), assignment(output_tokens_max=50))
    assert not puppet.calls


def models(*puppets: Puppet) -> Models:
    circuits = [Circuit("puppet", failures_max=5, cool_down_s=10) for _ in puppets]
    return Models([generating(puppet) for puppet in puppets], circuits=circuits)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "RETRY_DELAY_S", 0)


GOOD = (said("Thirty"), finished())


async def test_a_failed_call_is_repeated_once_on_the_same_model() -> None:
    """Before the first word."""
    puppet = Puppet([ModelFailed()], GOOD)
    assert (await written(models(puppet), assignment()))[0] == "Thirty"
    assert len(puppet.calls) == 2


@pytest.mark.parametrize(
    ("failure", "calls"),
    [(ModelFailed(), 2), (LlmTimeout(), 1), (ModelFailed(retry_after_s=60), 1)],
)
async def test_the_next_model_is_tried_when_one_fails(failure: ModelFailed, calls: int) -> None:
    """A silent one, or one that wants a long pause, is not tried again."""
    first, second = Puppet([failure], [failure]), Puppet(GOOD)
    assert (await written(models(first, second), assignment()))[0] == "Thirty"
    assert (len(first.calls), len(second.calls)) == (calls, 1)


async def test_a_refused_request_is_tried_nowhere_else() -> None:
    """The request itself is at fault."""
    first, second = Puppet([LlmRefused()]), Puppet(GOOD)
    with pytest.raises(LlmRefused):
        await written(models(first, second), assignment())
    assert (len(first.calls), len(second.calls)) == (1, 0)


async def test_nothing_is_tried_again_after_the_first_word() -> None:
    """Readers would see a splice."""
    first, second = Puppet([said("Thirty"), ModelFailed()], GOOD), Puppet(GOOD)
    seen = []
    with pytest.raises(ModelFailed):
        seen = [piece async for piece in models(first, second).write(assignment())]
    assert (len(first.calls), len(second.calls), seen) == (1, 0, [])


async def test_a_model_that_keeps_failing_is_left_alone() -> None:
    """Its circuit opens, and the next model is asked at once."""
    first, second = Puppet(*[[ModelFailed()]] * 5), Puppet(*[GOOD] * 10)
    both = models(first, second)
    for _ in range(10):
        await written(both, assignment())
    assert (len(first.calls), len(second.calls)) == (5, 10)


async def test_closing_the_writer_closes_the_call() -> None:
    """At once, wherever it is."""
    puppet = Puppet([said(" a"), said(" b"), finished()])
    writing = models(puppet).write(assignment())
    async with aclosing(writing):
        while not isinstance(await anext(writing), str):
            pass
        assert puppet.open == 1
    assert puppet.open == 0
