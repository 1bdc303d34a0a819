"""Any language model behind the OpenAI wire format, streamed, on clocks of our own.

Four clocks bound every call: connecting, the first token (counted from the call), the gap between tokens, and the whole. Only
tokens count, seen or thought: comments and empty chunks keep nobody waiting for longer. The SDKs stay off this
path on purpose: they cost ten times the CPU per token (docs/adr/0009) and multiply time-outs by their retries. What
arrives in one network read is handed on at once and as one: no task wakes for it (docs/adr/0018).
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal

import msgspec

from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import ModelFailed
from refdesk.contracts.texts import whole_number
from refdesk.outside.http_client import HttpClient, Reply

Role = Literal["system", "user", "assistant"]

PATH = "/chat/completions"
ERROR_BODY_BYTES_MAX = 2000
LINE_BYTES_MAX = 1 << 20
LAST_WORDS_S = 1.0
"""How long a model that has finished may take to report its usage and close."""


class Message(msgspec.Struct, frozen=True):
    role: Role
    content: str


Take = Callable[[Sequence[str]], bool]
"""Is given the texts of the chunks that one network read has brought, and says whether it wants more."""


class Told(msgspec.Struct):
    """What a model tells beside its words, as far as it has."""

    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds each phase of a call may take."""

    connect_s: float = 3.0
    first_token_s: float = 10.0
    between_tokens_s: float = 10.0
    total_s: float = 120.0


class LlmTimeout(ModelFailed):
    """The language model took too long."""

    code = "model-timeout"
    title = "The language model took too long"
    status = 504


class LlmRefused(ModelFailed):
    """The language model refused the request."""

    code = "model-refused"
    title = "The language model refused the request"
    retryable = False


class LlmFiltered(LlmRefused):
    """The language model's content filter stopped the answer."""

    code = "model-filtered"
    title = "Stopped by the model's content filter"


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    model: str | None = None
    id: object = None
    """Text, where it keeps to the format; not worth an answer where it does not."""
    error: msgspec.Raw | None = None


_decoder = msgspec.json.Decoder(_Chunk)


class Llm:
    """One model at one OpenAI-compatible address. ``stream`` never retries: the caller owns that decision."""

    def __init__(
        self,
        client: HttpClient,
        *,
        model: str,
        api_key: str | None = None,
        temperature: float = 0.0,
        clocks: Clocks | None = None,
    ) -> None:
        self.model = model
        self._client = client
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._temperature = temperature
        self._clocks = clocks or Clocks()

    @property
    def server(self) -> tuple[str, int]:
        """Host and port."""
        return self._client.server

    async def stream(self, messages: Sequence[Message], *, output_tokens_max: int, take: Take, told: Told) -> None:
        """Gives ``take`` the words as they come, until the model has finished or ``take`` wants no more; fills ``told``.

        Whatever ends the call before closes the connection, which stops the model. Raises LlmTimeout, LlmRefused (the request
        itself is at fault: never retry), ModelFailed (also when the stream ends without a finish), or what ``take`` raises.
        """
        body = {
            "model": self.model,
            "messages": messages,
            "max_tokens": output_tokens_max,
            "temperature": self._temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        deadline = _Deadline(self._clocks)
        reply = await self._open(msgspec.json.encode(body))
        with closing(reply), deadline.watching(reply):
            stream = _Stream(take, told, deadline)
            try:
                if reply.status != 200:
                    raise _refusal(reply, await reply.read())
                await reply.each(stream.take)
            except OSError as error:  # once the model has finished, it may end as it likes
                if not stream.over:
                    raise self._broken(error, deadline) from error
            if not stream.over:
                raise ModelFailed("The model's stream ended before its answer did.")

    async def _open(self, body: bytes) -> Reply:
        clocks, url = self._clocks, self._client.url
        try:
            async with asyncio.timeout(min(clocks.first_token_s, clocks.total_s)):
                return await self._client.post(PATH, body, headers=self._headers, connect_s=clocks.connect_s)
        except TimeoutError as error:
            raise LlmTimeout(f"The model at {url} did not begin to answer in time.") from error
        except OSError as error:
            raise ModelFailed(f"The model at {url} cannot be reached: {error}.") from error

    def _broken(self, error: OSError, deadline: "_Deadline") -> ModelFailed:
        if isinstance(error, TimeoutError):
            return LlmTimeout(f"The model {self.model} did not {deadline.waiting_for} in time.")
        return ModelFailed(f"The connection to the model broke: {error}.")


class _Stream:
    """One reply, read by read."""

    def __init__(self, take: Take, told: Told, deadline: "_Deadline") -> None:
        self.over = False
        """Whether the model has finished, or nobody wants more of it."""
        self._take = take
        self._told = told
        self._deadline = deadline
        self._rest: list[bytes] = []
        """Of a line whose end has not come."""
        self._rest_bytes = 0

    def take(self, data: bytes) -> bool:
        """Whether there is more to come."""
        lines = self._lines(data)
        texts: list[str] = []
        closed = False
        for line in lines:
            if line.startswith(b"data:"):
                content = line[5:].strip()
                if content == b"[DONE]":
                    closed = True
                    break
                self._hear(_decode(content), texts)
        if texts and not self._take(texts):
            self.over = closed = True
        return not closed

    def _lines(self, data: bytes) -> list[bytes]:
        """Those that have come to their end. Linear, however small the pieces are."""
        ended, end, rest = data.rpartition(b"\n")
        if not end:
            self._rest.append(rest)
            self._rest_bytes += len(rest)
            if self._rest_bytes > LINE_BYTES_MAX:
                raise ModelFailed("The model sent something that is not an OpenAI stream: a line without an end.")
            return []
        whole = b"".join((*self._rest, ended))
        self._rest, self._rest_bytes = [rest], len(rest)
        return whole.split(b"\n")

    def _hear(self, chunk: "_Chunk", texts: list[str]) -> None:
        """Adds the chunk's words to the texts."""
        if chunk.usage is not None:
            self._told.usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        for choice in chunk.choices:
            delta = choice.delta
            if delta.content:
                texts.append(delta.content)
            if delta.content or delta.reasoning_content or delta.reasoning:
                self._deadline.heard()
            if choice.finish_reason:
                self._finish(choice.finish_reason)
        if self._told.model is None:
            self._told.model = chunk.model
        if self._told.response_id is None and isinstance(chunk.id, str):
            self._told.response_id = chunk.id

    def _finish(self, reason: str) -> None:
        self._told.finish_reason = reason
        self.over = True
        self._deadline.over()


class _Deadline:
    """Until when a reply may be read; then its reads raise TimeoutError.

    It moves with every token, so moving it costs nothing: the timer looks at it only when it goes off.
    """

    def __init__(self, clocks: Clocks) -> None:
        self.waiting_for = "send its first token"
        self._clocks = clocks
        self._moved_at = time.monotonic()
        self._latest = self._moved_at + clocks.total_s
        self._patience_s = clocks.first_token_s
        self._has_begun = False
        self._reply: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watching(self, reply: Reply) -> Iterator[None]:
        self._reply = reply
        self._set_timer()
        try:
            yield
        finally:
            self._stop_timer()

    def heard(self) -> None:
        """There was a token."""
        self._moved_at = time.monotonic()
        if not self._has_begun:
            self._has_begun = True
            self._wait_for("go on", self._clocks.between_tokens_s)

    def over(self) -> None:
        """There will be none any more."""
        self._has_begun = True
        self._wait_for("end", LAST_WORDS_S)

    def _wait_for(self, what: str, patience_s: float) -> None:
        self.waiting_for, self._patience_s, self._moved_at = what, patience_s, time.monotonic()
        self._set_timer()

    def _set_timer(self) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(max(self._left_s(), 0), self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _left_s(self) -> float:
        return min(self._moved_at + self._patience_s, self._latest) - time.monotonic()

    def _look(self) -> None:
        if self._left_s() > 0:
            self._set_timer()
        elif self._reply is not None:
            self._reply.fail(TimeoutError())


def _decode(data: bytes) -> _Chunk:
    try:
        chunk = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ModelFailed("The model sent something that is not an OpenAI chunk.") from error
    if chunk.error is not None:
        raise ModelFailed(f"The model reported: {bytes(chunk.error)[:ERROR_BODY_BYTES_MAX].decode(errors='replace')}")
    return chunk


def _refusal(reply: Reply, body: bytes) -> ModelFailed:
    text = body[:ERROR_BODY_BYTES_MAX].decode(errors="replace")
    message = f"The model answered {reply.status}: {text}"
    if reply.status in (408, 409, 429) or reply.status >= 500:
        return ModelFailed(message, retry_after_s=_retry_after(reply))
    return LlmRefused(message)


def _retry_after(reply: Reply) -> int | None:
    text = reply.headers.get("retry-after", "")
    return whole_number(text)
