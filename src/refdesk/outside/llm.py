"""Any language model behind the OpenAI wire format, streamed, on clocks of our own.

Four clocks bound every call: connecting, the first token (counted from the call), the gap between tokens, and the whole. Only
tokens count, seen or thought: comments and empty chunks keep nobody waiting for longer. The SDKs stay off this
path on purpose: they cost ten times the CPU per token (docs/adr/0009) and multiply time-outs by their retries. What
arrives in one network read is handed on as one ``Piece``.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal

import msgspec

from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import ModelFailed
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


class Piece(msgspec.Struct, frozen=True):
    """What one network read brought: the texts of its chunks, and at the end the finish reason and the usage."""

    texts: tuple[str, ...]
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    alive: bool = False
    """Whether there was a token, be it one of the model's thoughts."""
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

    async def stream(self, messages: Sequence[Message], *, output_tokens_max: int) -> AsyncGenerator[Piece, None]:
        """Yields pieces until the model has finished; the last one has ``finish_reason``.

        Closing the iterator closes the connection, which stops the model. Raises LlmTimeout, LlmRefused (the request
        itself is at fault: never retry) or ModelFailed (also when the stream ends without a finish).
        """
        body = {
            "model": self.model,
            "messages": messages,
            "max_tokens": output_tokens_max,
            "temperature": self._temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        started = time.monotonic()
        with (
            closing(await self._open(msgspec.json.encode(body))) as reply,
            _deadline_of(reply, latest=started + self._clocks.total_s) as deadline,
        ):
            deadline.move(started + self._clocks.first_token_s, waiting_for="send its first token")
            finished, rest = False, b""
            try:
                if reply.status != 200:
                    raise _refusal(reply, await reply.read())
                while data := await reply.read():
                    lines, _, rest = (rest + data).rpartition(b"\n")
                    if len(rest) > LINE_BYTES_MAX:
                        raise ModelFailed(
                            "The model sent something that is not an OpenAI stream: a line without an end."
                        )
                    piece, closed = _merge(lines)
                    if piece.finish_reason:
                        finished = True
                        deadline.move(time.monotonic() + LAST_WORDS_S, waiting_for="end")
                    elif piece.alive:
                        deadline.move(time.monotonic() + self._clocks.between_tokens_s, waiting_for="go on")
                    if piece.texts or piece.usage or piece.finish_reason:
                        yield piece
                    if closed:
                        break
            except OSError as error:  # once the model has finished, it may end as it likes
                if not finished:
                    raise self._broken(error, deadline) from error
            if not finished:
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


class _Deadline:
    """Until when a reply may be read; then its reads raise TimeoutError.

    It moves with every token, so moving it costs nothing: the timer looks at it only when it goes off.
    """

    def __init__(self, reply: Reply, *, latest: float) -> None:
        self.waiting_for = ""
        self._reply = reply
        self._latest = latest
        self._at = self._timer_at = latest
        self._timer = self._set_timer()

    def move(self, at: float, *, waiting_for: str) -> None:
        self._at, self.waiting_for = min(at, self._latest), waiting_for
        if self._at < self._timer_at:
            self._timer.cancel()
            self._timer = self._set_timer()

    def cancel(self) -> None:
        self._timer.cancel()

    def _set_timer(self) -> asyncio.TimerHandle:
        self._timer_at = self._at
        return asyncio.get_running_loop().call_later(max(self._at - time.monotonic(), 0), self._look)

    def _look(self) -> None:
        if time.monotonic() < self._at:
            self._timer = self._set_timer()
        else:
            self._reply.fail(TimeoutError())


@contextmanager
def _deadline_of(reply: Reply, *, latest: float) -> Iterator[_Deadline]:
    """Times are those of ``time.monotonic``."""
    deadline = _Deadline(reply, latest=latest)
    try:
        yield deadline
    finally:
        deadline.cancel()


def _merge(lines: bytes) -> tuple[Piece, bool]:
    """All data lines of one read as one piece, and whether ``[DONE]`` was among them."""
    texts: list[str] = []
    finish, usage, model, response_id, alive, closed = None, None, None, None, False, False
    for line in lines.split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            closed = True
            break
        chunk = _decode(data)
        model, response_id = chunk.model or model, chunk.id or response_id
        if chunk.usage is not None:
            usage = Usage(input_tokens=chunk.usage.prompt_tokens, output_tokens=chunk.usage.completion_tokens)
        for choice in chunk.choices:
            delta = choice.delta
            if delta.content:
                texts.append(delta.content)
            alive = alive or bool(delta.content or delta.reasoning_content or delta.reasoning)
            finish = choice.finish_reason or finish
    piece = Piece(
        texts=tuple(texts),
        finish_reason=finish,
        usage=usage,
        model=model,
        alive=alive,
        response_id=response_id if isinstance(response_id, str) else None,
    )
    return piece, closed


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
    return int(text) if text.isascii() and text.isdigit() else None
