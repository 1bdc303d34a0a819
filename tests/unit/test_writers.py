"""Writing with a model: the output limit, retries before the first word, and honest endings."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.answering.production import Diverged
from refdesk.answering.writing import writers
from refdesk.answering.writing.circuit import Circuit
from refdesk.answering.writing.generating import Generating
from refdesk.answering.writing.models import Models
from refdesk.answering.writing.writers import Assignment, Meter, Verdict, Writer
from refdesk.contracts.answers import Source, Usage
from refdesk.contracts.errors import ModelFailed
from refdesk.outside.llm.errors import LlmFiltered, LlmOnlyThought, LlmRefused, LlmTimeout, LlmUnknown
from refdesk.outside.llm.parameters import Message
from refdesk.outside.llm.stream import OnTexts, Told
from refdesk.outside.tokens import output_tokens

SOURCE = Source(n=1, document_id="d", version=1, title="Leave", passage="Thirty days.", ordinal=0, stale=False)


class Piece(msgspec.Struct):
    """What a model says in one go, and what it tells beside that."""

    texts: tuple[str, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    thought_tokens: int = 0


class Puppet:
    """An LLM that says what it is told; an exception in a script is raised, None is a pause without an end."""

    model = "puppet"
    server = ("puppet", 80)
    thinks = False
    thinking_tokens_max = 100

    def __init__(self, *scripts: Sequence[Piece | Exception | None]) -> None:
        self.scripts = list(scripts)
        self.calls: list[Sequence[Message]] = []
        self.open = self.spare_tokens = 0

    async def stream(
        self, messages: Sequence[Message], *, output_tokens_max: int, spare_tokens: int, on_texts: OnTexts, told: Told
    ) -> None:
        self.calls.append(messages)
        self.spare_tokens = spare_tokens
        self.open += 1
        try:
            for piece in self.scripts.pop(0):
                if isinstance(piece, Exception):
                    raise piece
                if piece is None:
                    await asyncio.Event().wait()
                    continue
                told.finish_reason, told.usage = piece.finish_reason, piece.usage
                told.thought_tokens += piece.thought_tokens
                if piece.texts and not on_texts(piece.texts):
                    return
        finally:
            self.open -= 1


class Draft:
    """What has been written, and whether anything has."""

    def __init__(self) -> None:
        self.usage = Usage()
        self.model = ""
        self.text = ""
        self.has_words = asyncio.Event()

    @property
    def begun(self) -> bool:
        return self.has_words.is_set()

    def say(self, text: str) -> None:
        self.text += text
        self.has_words.set()


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

    async def write(self, task: Assignment, draft: writers.Draft) -> Verdict:
        with self._generating.chat(task) as chat:
            return await self._generating.attempt(task, draft, chat)


def once(puppet: Puppet, *, context_tokens_max: int = 1000) -> Once:
    return Once(generating(puppet, context_tokens_max=context_tokens_max))


async def written(writer: Writer, task: Assignment) -> tuple[str, Verdict]:
    draft = Draft()
    verdict = await writer.write(task, draft)
    return draft.text, verdict


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


async def test_what_is_thought_is_paid_for() -> None:
    """It counts in the usage, not towards the limit; of a call that fails, too."""
    puppet = Puppet(
        [Piece(thought_tokens=200), said(" word"), said(" more"), finished()], [Piece(thought_tokens=30), ModelFailed()]
    )
    text, verdict = await written(once(puppet), assignment(output_tokens_max=2))
    assert (text, verdict.finish_reason, verdict.usage.output_tokens) == (" word more", "stop", 202)
    draft = Draft()
    with pytest.raises(ModelFailed):
        await once(puppet).write(assignment(), draft)
    assert draft.usage.output_tokens == 30


async def test_a_model_that_thinks_has_room_for_it() -> None:
    """What the window has left, and a share of it that passages do not take."""
    puppet = Puppet(GOOD, GOOD)
    for thinks, spare_min in ((False, 0), (True, 250)):
        puppet.thinks, puppet.thinking_tokens_max = thinks, 10_000
        await written(once(puppet, context_tokens_max=1000), assignment(output_tokens_max=100))
        assert puppet.spare_tokens >= spare_min


async def test_the_cost_of_the_prompt_is_known_before_the_first_word() -> None:
    """A call that is stopped has been paid for all the same."""
    draft = Draft()
    with pytest.raises(ModelFailed):
        await once(Puppet([ModelFailed()])).write(assignment(), draft)
    assert draft.usage.input_tokens > 0
    assert not draft.begun


@pytest.mark.parametrize(
    ("reason", "text", "outcome"),
    [
        ("stop", "Thirty days. [1]", "stop"),
        ("length", "Thirty days", "length"),
        ("stop", "I could not find this in the documents.", "not_found"),
        ("stop", "i could not find this in the documents", "not_found"),
        ("stop", "**I could not find this in the documents.**\n", "not_found"),
        ("stop", "> I could not find this in the documents. [1]", "not_found"),
        ("stop", "I could not find this in the documents, but in [1]", "stop"),
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
    monkeypatch.setattr("refdesk.answering.writing.models.RETRY_DELAY_S", 0)


GOOD = (said("Thirty"), finished())


async def test_a_failed_call_is_repeated_once_on_the_same_model() -> None:
    """Before the first word."""
    puppet = Puppet([ModelFailed()], GOOD)
    assert (await written(models(puppet), assignment()))[0] == "Thirty"
    assert len(puppet.calls) == 2


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (ModelFailed(), 2),
        (LlmTimeout(), 1),
        (LlmOnlyThought(), 1),
        (LlmUnknown(), 1),
        (ModelFailed(retry_after_s=60), 1),
    ],
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
    draft = Draft()
    with pytest.raises(ModelFailed):
        await models(first, second).write(assignment(), draft)
    assert (len(first.calls), len(second.calls), draft.text) == (1, 0, "Thirty")


async def test_a_model_that_keeps_failing_is_left_alone() -> None:
    """Its circuit opens, and the next model is asked at once."""
    first, second = Puppet(*[[ModelFailed()]] * 5), Puppet(*[GOOD] * 10)
    both = models(first, second)
    for _ in range(10):
        await written(both, assignment())
    assert (len(first.calls), len(second.calls)) == (5, 10)


async def test_what_the_page_refuses_is_not_the_models_failure() -> None:
    """As when a taken-over answer would go on otherwise: the call ends, nothing is tried again, the circuit stays closed."""

    class Torn(Draft):
        def say(self, text: str) -> None:
            super().say(text)
            raise Diverged

    puppet = Puppet(*[[said("Thirty"), finished()]] * 6)
    both = models(puppet)
    for _ in range(6):
        with pytest.raises(Diverged):
            await both.write(assignment(), Torn())
    assert (len(puppet.calls), puppet.open) == (6, 0)


async def test_cancelling_the_writer_closes_the_call() -> None:
    """At once, wherever it is."""
    puppet, draft = Puppet([said(" a"), None, finished()]), Draft()
    writing = asyncio.create_task(models(puppet).write(assignment(), draft))
    await asyncio.wait_for(draft.has_words.wait(), 5)
    assert puppet.open == 1
    writing.cancel()
    await asyncio.wait([writing])
    assert (puppet.open, draft.text) == (0, " a")
