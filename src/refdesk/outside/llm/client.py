"""Any language model behind the OpenAI wire format, streamed, on clocks of our own.

Four clocks bound every call: connecting, the first token (counted from the call), the gap between tokens, and the whole. Only
tokens count, seen or thought: comments and empty chunks keep nobody waiting for longer. The SDKs stay off this
path on purpose: they cost ten times the CPU per token (docs/adr/0009) and multiply time-outs by their retries. What
arrives in one network read is handed on at once and as one: no task wakes for it (docs/adr/0018).

Servers differ in what they take and how they answer. What a model has shown of that is kept for the process: which parameters it
takes, whether it streams, whether and how it thinks (docs/adr/0031).
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing

import msgspec

from refdesk.contracts.errors import ModelFailed
from refdesk.outside.http_client import Reply
from refdesk.outside.llm.clocks import Deadline
from refdesk.outside.llm.errors import LlmTimeout
from refdesk.outside.llm.parameters import Message, Parameters
from refdesk.outside.llm.server import OK, Answered, ModelServer, is_whole
from refdesk.outside.llm.stream import OnTexts, Stream, Told, require_answer
from refdesk.outside.llm.thinking import Thinking
from refdesk.settings.models import Clocks

HEADERS = {"Content-Type": "application/json", "Accept": "text/event-stream"}
CHANGES_MAX = 8
"""How many parts of a request a server may refuse, one after the other."""
THINKING_TOKENS_MAX = 4096
WARM_S = 240.0
"""How long after its last token a model counts as loaded; common servers unload one after five minutes."""

PROBE = (
    Message("system", "You are asked once when Refdesk starts, to see that you answer."),
    Message("user", "Reply with the single word: ready"),
)
"""What a model is asked to see that it answers: a whole prompt in small, an instruction and a question."""
PROBE_OUTPUT_TOKENS = 512
"""Room for a model that thinks, without saying so, before its word."""
PROBES_MAX = 2
"""The first may show what the second does otherwise."""


class Llm:
    """One model at one server. ``stream`` does not retry what failed: the caller owns that decision."""

    def __init__(
        self,
        server: ModelServer,
        *,
        model: str,
        temperature: float = 0.0,
        thinking_tokens_max: int = THINKING_TOKENS_MAX,
        clocks: Clocks | None = None,
    ) -> None:
        self.model = model
        self.thinks = False
        """Whether it has been seen to think before it answers."""
        self.thinking_tokens_max = thinking_tokens_max
        self._server = server
        self._temperature = temperature
        self._clocks = clocks or Clocks()
        self._parameters = Parameters()
        self._opens_thinking = False
        """Whether its answers begin with a thought that no mark opens."""
        self._streams = True
        self._warm_until = 0.0

    @property
    def server(self) -> tuple[str, int]:
        """Host and port."""
        return self._server.place

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        output_tokens_max: int,
        spare_tokens: int = 0,
        on_texts: OnTexts,
        told: Told,
    ) -> None:
        """Gives ``on_texts`` the words as they come, until the model has finished or ``on_texts`` wants no more; fills ``told``.

        ``spare_tokens`` are what the model's window has left, to think in. What it thinks is not given to ``on_texts``.
        A request of which the server refuses a part is sent again without that part. Whatever ends the call before closes the
        connection, which stops the model. Raises LlmTimeout, LlmRefused (the request itself is at fault: never retry),
        LlmOnlyThought, ModelFailed (also when the stream ends without a finish), or what ``on_texts`` raises.
        """
        clocks = self._clocks_now()
        deadline = Deadline(clocks)
        limit = output_tokens_max + (min(spare_tokens, self.thinking_tokens_max) if self.thinks else 0)
        reply = await self._open(messages, limit, clocks)
        with closing(reply), deadline.watching(reply):
            self._server.require_answer_form(reply)
            self._streams = not is_whole(reply)
            stream = Stream(
                on_texts,
                told,
                deadline,
                is_whole=not self._streams,
                thinking=Thinking(opened=self._opens_thinking),
                thinking_tokens_max=self.thinking_tokens_max,
            )
            try:
                await self._read(reply, stream, deadline)
            finally:
                has_newly_thought = self._learn(told)
        if has_newly_thought and told.finish_reason == "length" and not stream.has_words:
            raise ModelFailed(f"The model {self.model} thought up to its limit. From now on it has more room.")

    async def probe(self) -> None:
        """Asks one tiny question. Raises as ``stream`` does, and when there is no answer to it."""
        for attempt in range(1, PROBES_MAX + 1):
            said: list[str] = []
            told = Told()

            def on_texts(texts: Sequence[str], said: list[str] = said) -> bool:
                said.extend(texts)
                return True

            try:
                await self.stream(
                    PROBE,
                    output_tokens_max=PROBE_OUTPUT_TOKENS,
                    spare_tokens=self.thinking_tokens_max,
                    on_texts=on_texts,
                    told=told,
                )
                require_answer(told, "".join(said))
            except LlmTimeout:
                raise
            except ModelFailed as error:
                if not error.retryable or attempt == PROBES_MAX:
                    raise
            else:
                return

    def _clocks_now(self) -> Clocks:
        """A model that has not been heard for long may have to be loaded first; one that does not stream says all at once."""
        clocks = self._clocks
        first_token_s = clocks.first_token_s
        if time.monotonic() >= self._warm_until:
            first_token_s = max(first_token_s, clocks.cold_first_token_s)
        if not self._streams:
            first_token_s = clocks.total_s
        return msgspec.structs.replace(clocks, first_token_s=first_token_s)

    def _stay_warm(self) -> None:
        self._warm_until = time.monotonic() + WARM_S

    async def _open(self, messages: Sequence[Message], limit: int, clocks: Clocks) -> Reply:
        """The reply to a request that the server takes."""
        parameters = self._parameters
        for _ in range(CHANGES_MAX):
            body = parameters.body(self.model, messages, output_tokens_max=limit, temperature=self._temperature)
            answered = await self._post(msgspec.json.encode(body), clocks)
            if answered.reply.status == OK:
                self._parameters = parameters
                return answered.reply
            sent = min(limit, parameters.limit_max or limit)
            changed = parameters.without(answered.words, status=answered.reply.status, sent=sent)
            if changed is None:
                break
            parameters = changed
        raise self._server.refusal(answered, model=self.model)

    async def _post(self, body: bytes, clocks: Clocks) -> Answered:
        shown = self._server.shown
        try:
            async with asyncio.timeout(min(clocks.first_token_s, clocks.total_s)):
                return await self._server.post(body, headers=HEADERS, connect_s=clocks.connect_s)
        except TimeoutError as error:
            self._stay_warm()  # its patience for loading is used up
            raise LlmTimeout(
                f"The model at {shown} did not begin to answer within {clocks.first_token_s:g} s."
            ) from error
        except OSError as error:
            raise ModelFailed(
                f"The model at {shown} cannot be reached ({error}). Start it, or mend REFDESK_LLM_URL."
            ) from error

    async def _read(self, reply: Reply, stream: Stream, deadline: Deadline) -> None:
        try:
            await reply.each(stream.on_bytes)
        except OSError as error:  # once the model has finished, it may end as it likes
            if not stream.over:
                raise self._broken(error, deadline) from error
        stream.end()
        if not stream.over:
            raise ModelFailed("The model's stream ended before its answer did.")

    def _broken(self, error: OSError, deadline: Deadline) -> ModelFailed:
        if isinstance(error, TimeoutError):
            return LlmTimeout(f"The model {self.model} did not {deadline.missed}.")
        return ModelFailed(f"The connection to the model broke: {error}.")

    def _learn(self, told: Told) -> bool:
        """Whether it is new that the model thinks."""
        self._stay_warm()
        self._opens_thinking = told.thought_aloud or (self._opens_thinking and bool(told.thought_tokens))
        is_new = bool(told.thought_tokens) and not self.thinks
        self.thinks = self.thinks or is_new or told.thought_aloud
        return is_new
