"""Any language model behind the OpenAI wire format, streamed, on clocks of our own.

Four clocks bound every call: connecting, the first token, the gap between tokens, and the whole. The SDKs stay off this
path on purpose: they cost ten times the CPU per token (docs/adr/0009) and multiply time-outs by their retries. What
arrives in one network read is handed on as one ``Piece``.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import aiohttp
import msgspec

from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import ModelFailed

Role = Literal["system", "user", "assistant"]

ERROR_BODY_BYTES_MAX = 2000


class Message(msgspec.Struct, frozen=True):
    role: Role
    content: str


class Piece(msgspec.Struct, frozen=True):
    """What one network read brought: the texts of its chunks, and at the end the finish reason and the usage."""

    texts: tuple[str, ...]
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None


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
    error: msgspec.Raw | None = None


_decoder = msgspec.json.Decoder(_Chunk)


class Llm:
    """One model at one OpenAI-compatible address. ``stream`` never retries: the caller owns that decision."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        model: str,
        api_key: str | None = None,
        temperature: float = 0.0,
        clocks: Clocks | None = None,
    ) -> None:
        self.model = model
        self._session = session
        self._url = url.rstrip("/") + "/chat/completions"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._temperature = temperature
        self._clocks = clocks or Clocks()

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
        async with self._open(msgspec.json.encode(body), started) as response:
            async for piece in self._pieces(response, started):
                yield piece

    @asynccontextmanager
    async def _open(self, body: bytes, started: float) -> AsyncIterator[aiohttp.ClientResponse]:
        clocks = self._clocks
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=clocks.connect_s, connect=clocks.connect_s)
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **self._headers}
        try:
            async with asyncio.timeout(min(clocks.first_token_s, clocks.total_s) + clocks.connect_s):
                response = await self._session.post(self._url, data=body, headers=headers, timeout=timeout)
        except TimeoutError as error:
            raise LlmTimeout(f"The model at {self._url} did not begin to answer in time.") from error
        except aiohttp.ClientError as error:
            raise ModelFailed(f"The model at {self._url} cannot be reached: {error}.") from error
        async with response:
            if response.status != 200:
                raise await _refusal(response)
            yield response

    async def _pieces(self, response: aiohttp.ClientResponse, started: float) -> AsyncIterator[Piece]:
        """Cut the byte stream at line ends and merge what one read brought."""
        clocks, rest, finish, first = self._clocks, b"", None, True
        while True:
            wait_s = clocks.first_token_s if first else clocks.between_tokens_s
            left_s = started + clocks.total_s - time.monotonic()
            data = await self._read(response, min(wait_s, left_s), first=first)
            if not data:
                break
            head, separator, rest = (rest + data).rpartition(b"\n")
            if not separator:
                continue
            piece, closed = _merge(head)
            first = first and not piece.texts
            finish = piece.finish_reason or finish
            if piece.texts or piece.usage or piece.finish_reason:
                yield piece
            if closed:
                break
        if finish is None:
            raise ModelFailed("The model's stream ended before its answer did.")

    async def _read(self, response: aiohttp.ClientResponse, seconds: float, *, first: bool) -> bytes:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                return await response.content.readany()
        except TimeoutError as error:
            what = "send its first token" if first else "go on"
            raise LlmTimeout(f"The model {self.model} did not {what} within {seconds:.1f} s.") from error
        except aiohttp.ClientError as error:
            raise ModelFailed(f"The connection to the model broke: {error}.") from error


def _merge(lines: bytes) -> tuple[Piece, bool]:
    """All data lines of one read as one piece, and whether ``[DONE]`` was among them."""
    texts: list[str] = []
    finish, usage, model, closed = None, None, None, False
    for line in lines.split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            closed = True
            break
        chunk = _decode(data)
        model = chunk.model or model
        if chunk.usage is not None:
            usage = Usage(input_tokens=chunk.usage.prompt_tokens, output_tokens=chunk.usage.completion_tokens)
        for choice in chunk.choices:
            if choice.delta.content:
                texts.append(choice.delta.content)
            finish = choice.finish_reason or finish
    return Piece(texts=tuple(texts), finish_reason=finish, usage=usage, model=model), closed


def _decode(data: bytes) -> _Chunk:
    try:
        chunk = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ModelFailed("The model sent something that is not an OpenAI chunk.") from error
    if chunk.error is not None:
        raise ModelFailed(f"The model reported: {bytes(chunk.error)[:ERROR_BODY_BYTES_MAX].decode(errors='replace')}")
    return chunk


async def _refusal(response: aiohttp.ClientResponse) -> ModelFailed:
    body = (await response.content.read(ERROR_BODY_BYTES_MAX)).decode(errors="replace")
    message = f"The model answered {response.status}: {body}"
    if response.status in (408, 409, 429) or response.status >= 500:
        return ModelFailed(message, retry_after_s=_retry_after(response))
    return LlmRefused(message)


def _retry_after(response: aiohttp.ClientResponse) -> int | None:
    text = response.headers.get("Retry-After", "")
    return int(text) if text.isascii() and text.isdigit() else None
