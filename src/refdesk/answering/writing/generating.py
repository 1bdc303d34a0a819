"""A language model as a writer: one call an attempt, written down within the limit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from refdesk.answering.text.citations import CitationReader
from refdesk.answering.writing import prompting
from refdesk.answering.writing.writers import Assignment, Draft, Meter, Verdict
from refdesk.contracts.answers import Usage
from refdesk.contracts.hidden_characters import CleanStream
from refdesk.outside import telemetry, tokens
from refdesk.outside.llm.client import Llm
from refdesk.outside.llm.errors import LlmRefused
from refdesk.outside.llm.parameters import Message
from refdesk.outside.llm.stream import Told, require_answer

THINKING_SHARE = 4
"""A model that thinks keeps at least one part in so many of its window to think in."""


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

    async def attempt(self, assignment: Assignment, draft: Draft, chat: telemetry.Chat) -> Verdict:
        """Writes and raises as a Writer does."""
        history, packed = self._pack(assignment)
        messages = prompting.messages(
            assignment.question, packed.sources, fence=assignment.fence, history=history, style=assignment.style
        )
        draft.usage, draft.model = Usage(packed.tokens, 0), self.model
        citations = CitationReader([source.n for source in packed.sources])
        dictation = _Dictation(draft, assignment.output_tokens_max, telemetry.Call(chat), citations)
        with dictation.measured(), _paying(draft, dictation.told):
            await self._llm.stream(
                messages,
                output_tokens_max=assignment.output_tokens_max,
                spare_tokens=self._context_tokens_max - assignment.output_tokens_max - packed.tokens,
                on_texts=dictation.on_texts,
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
            style=assignment.style,
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
def _paying(draft: Draft, told: Told) -> Iterator[None]:
    """What was thought until a call ends early has been paid for all the same."""
    try:
        yield
    finally:
        draft.usage = Usage(draft.usage.input_tokens, told.thought_tokens)


class _Dictation:
    """What a model says, written down within the limit: text and no control characters (`contracts.hidden_characters`)."""

    def __init__(self, draft: Draft, tokens_max: int, call: telemetry.Call, citations: CitationReader) -> None:
        self.told = Told()
        self._draft = draft
        self._meter = Meter(tokens_max)
        self._call = call
        self._citations = citations
        self._clean = CleanStream()
        self._said: list[str] = []

    def on_texts(self, texts: Sequence[str]) -> bool:
        """Whether there is room for more."""
        allowed = self._meter.allow(texts)
        if allowed:
            self._call.said(len(texts))
            self._say(self._clean.feed(allowed))
        return not self._meter.spent

    def _say(self, text: str) -> None:
        self._said.append(text)
        if spelled := self._citations.read(text):
            self._draft.say(spelled)

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
            self._draft.say(rest)
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
