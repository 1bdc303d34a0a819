"""Who writes an answer: a language model, or the extractor that quotes. Both say text as it comes and return a Verdict.

The output limit is ours: whatever the provider thinks of ``max_tokens``, the text is cut at the limit and the model stopped.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec

from refdesk.answering import prompting
from refdesk.answering.circuit import Circuit
from refdesk.answering.citations import CitationReader
from refdesk.answering.extractive import MODEL_NAME, PASSAGES_READ, Extractor, Quote
from refdesk.answering.follow_ups import FollowUp
from refdesk.contracts.answers import FinishReason, Source, Usage
from refdesk.contracts.errors import ModelFailed
from refdesk.contracts.hidden_characters import CleanStream
from refdesk.outside import telemetry, tokens
from refdesk.outside.llm.client import Llm
from refdesk.outside.llm.errors import LlmOnlyThought, LlmRefused, LlmTimeout, LlmUnknown
from refdesk.outside.llm.parameters import Message
from refdesk.outside.llm.stream import Told, require_answer

logger = logging.getLogger(__name__)

NEW_LINE = "\n"
"""Between quotes: a table row has no stop of its own."""
CLOSEST = "The documents may not answer this. These passages are the closest:"
ATTEMPTS_PER_MODEL = 2
RETRY_DELAY_S = 0.2
PROBE_PAUSE_S, PROBE_PAUSE_S_MAX = 15.0, 600.0
"""Between two questions to a model in trouble, at first and after many."""
NOT_AGAIN = (LlmTimeout, LlmOnlyThought, LlmUnknown)
"""Failures of which the same call to the same model would be another."""
RETRY_AFTER_MAX_S = 2
"""A provider that wants a longer pause is passed over: somebody is waiting for words."""
THINKING_SHARE = 4
"""A model that thinks keeps at least one part in so many of its window to think in."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be answered, from what, within how many output tokens."""

    question: str
    follow_up: FollowUp | None = None
    """Where the question leans on earlier ones: what was asked now, and what was answered before."""
    sources: tuple[Source, ...]
    history: tuple[Message, ...] = ()
    output_tokens_max: int
    fence: str = msgspec.field(default_factory=prompting.new_fence)
    """What the passages stand between in the prompt; whoever takes the answer over builds the same one."""


class Verdict(msgspec.Struct, frozen=True):
    """How the writing ended and what it used."""

    finish_reason: FinishReason
    usage: Usage


class Page(Protocol):
    """What is written on."""

    usage: Usage
    """What the work has cost even if it is stopped now."""

    @property
    def begun(self) -> bool:
        """Whether there is a word on it."""
        ...

    def say(self, text: str) -> None:
        """Readers have it at once."""
        ...


class Writer(Protocol):
    """Raises ModelFailed when it cannot go on; what it has said until then stands. Cancelling it stops the work at once."""

    model: str
    passages_read: int
    """How many passages it makes use of."""

    async def write(self, assignment: Assignment, page: Page) -> Verdict: ...


class Quoting:
    """The extractive writer: no model, no network, verbatim sentences."""

    model = MODEL_NAME
    passages_read = PASSAGES_READ

    def __init__(self, extractor: Extractor, *, certainty_min: float) -> None:
        self._extractor = extractor
        self._certainty_min = certainty_min

    async def write(self, assignment: Assignment, page: Page) -> Verdict:
        found = await self._extractor.find(assignment.question, assignment.sources, follow_up=assignment.follow_up)
        is_certain = found.certainty >= self._certainty_min
        meter = Meter(assignment.output_tokens_max)
        pieces = [_cited(quote) for quote in found.quotes] or [prompting.NOT_FOUND]
        if found.quotes and not is_certain:
            pieces.insert(0, CLOSEST)
        for position, piece in enumerate(pieces):
            allowed = meter.allow([f"{NEW_LINE if position else ''}{piece}"])
            if allowed:
                page.say(allowed)
            if meter.spent:
                break
        if meter.spent:
            finish: FinishReason = "length"
        else:
            finish = "not_found" if not found.quotes else "stop" if is_certain else "closest"
        return Verdict(finish, Usage(tokens.input_tokens(assignment.question), meter.used))


def _cited(quote: Quote) -> str:
    """The quote with its citation; a list has one behind each of its items, and none behind the line that introduces it."""
    lines = quote.text.split("\n")
    return "\n".join(line if line.endswith(":") and len(lines) > 1 else f"{line} [{quote.n}]" for line in lines)


class WindowTooSmall(LlmRefused):
    """No passage fits into the language model's window. Set REFDESK_LLM_CONTEXT_TOKENS_MAX to what the model has."""

    code = "model-window-too-small"
    title = "No passage fits into the language model's window"


class Generating:
    """A language model: one call an attempt, no retry."""

    def __init__(
        self,
        llm: Llm,
        *,
        context_tokens_max: int,
        passages_read: int,
        count_tokens: tokens.CountTokens = tokens.input_tokens,
    ) -> None:
        self.model = llm.model
        self.passages_read = passages_read
        self._llm = llm
        self._context_tokens_max = context_tokens_max
        self._count_tokens = count_tokens

    def chat(self, assignment: Assignment) -> telemetry.Chat:
        """What all attempts at an assignment are told to be part of."""
        return telemetry.Chat(self.model, output_tokens_max=assignment.output_tokens_max, server=self._llm.server)

    async def attempt(self, assignment: Assignment, page: Page, chat: telemetry.Chat) -> Verdict:
        """Writes and raises as a Writer does."""
        history, packed = self._pack(assignment)
        messages = prompting.messages(assignment.question, packed.sources, fence=assignment.fence, history=history)
        page.usage = Usage(packed.tokens, 0)
        citations = CitationReader([source.n for source in packed.sources])
        dictation = _Dictation(page, assignment.output_tokens_max, telemetry.Call(chat), citations)
        with dictation.measured(), _paying(page, dictation.told):
            await self._llm.stream(
                messages,
                output_tokens_max=assignment.output_tokens_max,
                spare_tokens=self._context_tokens_max - assignment.output_tokens_max - packed.tokens,
                take=dictation.take,
                told=dictation.told,
            )
            dictation.finish()
        return dictation.verdict(input_tokens=packed.tokens)

    async def probe(self) -> None:
        """Asks one tiny question. Raises ModelFailed when there is no answer."""
        await self._llm.probe()

    def _pack(self, assignment: Assignment) -> tuple[tuple[Message, ...], prompting.Packed]:
        """What of the history and of the sources fits the model's window."""
        window, count = self._context_tokens_max, self._count_tokens
        for_thoughts = min(self._llm.thinking_tokens_max, window // THINKING_SHARE) if self._llm.thinks else 0
        history = prompting.recent(assignment.history, tokens_max=window // 4, count=count)
        packed = prompting.pack(
            assignment.sources,
            question=assignment.question,
            fence=assignment.fence,
            history=history,
            tokens_max=window - assignment.output_tokens_max - for_thoughts,
            count=count,
        )
        if not packed.sources:
            raise WindowTooSmall(
                f"No passage fits into {self._context_tokens_max} tokens beside the question and an answer of "
                f"{assignment.output_tokens_max} (REFDESK_LLM_CONTEXT_TOKENS_MAX)."
            )
        return history, packed


@contextmanager
def _paying(page: Page, told: Told) -> Iterator[None]:
    """What was thought until a call ends early has been paid for all the same."""
    try:
        yield
    finally:
        page.usage = Usage(page.usage.input_tokens, told.thought_tokens)


class _Dictation:
    """What a model says, written down within the limit: text and no control characters (`contracts.hidden_characters`)."""

    def __init__(self, page: Page, tokens_max: int, call: telemetry.Call, citations: CitationReader) -> None:
        self.told = Told()
        self._page = page
        self._meter = Meter(tokens_max)
        self._call = call
        self._citations = citations
        self._clean = CleanStream()
        self._said: list[str] = []

    def take(self, texts: Sequence[str]) -> bool:
        """Whether there is room for more."""
        allowed = self._meter.allow(texts)
        if allowed:
            self._call.said(len(texts))
            self._say(self._clean.feed(allowed))
        return not self._meter.spent

    def _say(self, text: str) -> None:
        self._said.append(text)
        if spelled := self._citations.read(text):
            self._page.say(spelled)

    @contextmanager
    def measured(self) -> Iterator[None]:
        told = self.told
        with self._call.measured():
            try:
                yield
            finally:
                self._call.ended(
                    told.usage, finish_reason=told.finish_reason, model=told.model, response_id=told.response_id
                )

    def finish(self) -> None:
        """Says what was held back. Raises ModelFailed unless the model has come to an end of its own, or to its limit."""
        self._say(self._clean.flush())
        if rest := self._citations.rest():
            self._page.say(rest)
        telemetry.unknown_citations.inc(self._citations.unknown)
        if not self._meter.spent:
            require_answer(self.told, self._text())

    def verdict(self, *, input_tokens: int) -> Verdict:
        """``input_tokens`` is our own count, for when the provider does not say."""
        usage = self.told.usage or Usage(input_tokens, self._meter.used + self.told.thought_tokens)
        if self._meter.spent or self.told.finish_reason == "length":
            return Verdict("length", usage)
        return Verdict("not_found" if prompting.is_not_found(self._text()) else "stop", usage)

    def _text(self) -> str:
        return "".join(self._said)


class Models:
    """Several models in order of preference, as one writer: the next one is tried before the first word, never after.

    A failed call is repeated once on the same model when that may help; waiting for a silent model once more does not. A model
    that keeps failing is left out for a while (``Circuit``). A request that is refused as such is not tried anywhere else, but
    where a server does not have the model, the next one is.
    """

    def __init__(self, models: Sequence[Generating], *, circuits: Sequence[Circuit]) -> None:
        self.model = models[0].model
        self.passages_read = models[0].passages_read
        self.trouble: dict[str, ModelFailed] = {}
        """Why a model's last call failed, by model; nothing of those that answer."""
        self.answered: set[str] = set()
        """The models that have answered a call of this process."""
        self._models = tuple(zip(models, circuits, strict=True))

    async def write(self, assignment: Assignment, page: Page) -> Verdict:
        failure: ModelFailed | None = None
        for model, circuit in self._models:
            with model.chat(assignment) as chat:
                for _ in range(ATTEMPTS_PER_MODEL):
                    attempt = circuit.attempt()
                    if attempt is None:
                        break
                    try:
                        with attempt:
                            return await self._attempt(model, assignment, page, chat)
                    except ModelFailed as error:
                        failure = error
                        if page.begun or not (error.retryable or isinstance(error, LlmUnknown)):
                            raise
                        if isinstance(error, NOT_AGAIN) or (error.retry_after_s or 0) > RETRY_AFTER_MAX_S:
                            break
                        await asyncio.sleep(error.retry_after_s or RETRY_DELAY_S)
        raise failure or self._left_alone()

    async def _attempt(self, model: Generating, assignment: Assignment, page: Page, chat: telemetry.Chat) -> Verdict:
        with self._noting(model):
            return await model.attempt(assignment, page, chat)

    async def watch(self) -> None:
        """Asks each model one tiny question, and those in trouble again, until the task is cancelled."""
        unasked = [model for model, _ in self._models]
        pause_s = PROBE_PAUSE_S
        while True:
            for model in unasked:
                await self._probe(model)
            unasked = [model for model, _ in self._models if model.model in self.trouble]
            pause_s = min(2 * pause_s, PROBE_PAUSE_S_MAX) if unasked else PROBE_PAUSE_S
            await asyncio.sleep(pause_s)

    async def _probe(self, model: Generating) -> None:
        before = self.trouble.get(model.model)
        try:
            with self._noting(model):
                await model.probe()
        except ModelFailed as error:
            if before is None or before.message != error.message:
                logger.warning("%s does not answer; the documents are quoted instead. %s", model.model, error.message)
        else:
            logger.info("%s answers", model.model)

    @contextmanager
    def _noting(self, model: Generating) -> Iterator[None]:
        """Keeps whether the call was answered. A request that is too long for a window says nothing about the model."""
        try:
            yield
        except WindowTooSmall:
            raise
        except ModelFailed as error:
            self.trouble[model.model] = error
            raise
        self.answered.add(model.model)
        self.trouble.pop(model.model, None)

    def _left_alone(self) -> ModelFailed:
        last = next(iter(self.trouble.values()), None)
        return ModelFailed(
            "Every language model has failed lately and is left alone for a while."
            + (f" The last time: {last.message}" if last else "")
        )


class Meter:
    """Counts output against its limit. A chunk of the provider is at least one token, and so is each word or mark."""

    def __init__(self, tokens_max: int) -> None:
        self.used = 0
        self.spent = False
        self._tokens_max = tokens_max

    def allow(self, texts: Sequence[str]) -> str:
        """The part of the texts that still fits; sets ``spent`` once something had to be cut."""
        allowed = []
        for text in texts:
            need, left = tokens.output_tokens(text) or 1, self._tokens_max - self.used
            if need > left:
                self.spent = True
                if left > 0:
                    allowed.append(tokens.cut(text, left))
                    self.used = self._tokens_max
                break
            allowed.append(text)
            self.used += need
        return "".join(allowed)
