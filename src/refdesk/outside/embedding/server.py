"""Texts to vectors at a distance: any server that speaks OpenAI's ``/v1/embeddings``.

The model's own tokenizer is out of reach, so tokens are estimated on the safe side: four letters make one. Requests go
out a few at once. Nothing is retried here but what a closed connection left unanswered: a failed call raises and ``retryable``
tells what to do about it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import numpy as np

from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.contracts.texts import whole_number
from refdesk.outside import telemetry
from refdesk.outside.embedding.vectors import Encoded, Vectors, unit, without_tokens
from refdesk.outside.unanswered import once_more

TEXTS_PER_REQUEST = 64
REQUESTS_AT_ONCE = 4
RESPONSE_BYTES_MAX = 64 << 20
CONNECT_TIMEOUT_S = 5.0
CHARACTERS_PER_TOKEN_MAX = 16
"""What is looked at of a text that is embedded, per token of the window."""

_PIECE = re.compile(r"\w{1,4}|[^\w\s]")


class HttpEmbedder:
    """Any server with OpenAI's ``/v1/embeddings``. Tokens are estimated on the safe side: four letters make one."""

    provider = telemetry.PROVIDER

    def __init__(self, session: aiohttp.ClientSession, url: str, *, model: str, dimensions: int, window: int) -> None:
        self._session = session
        self._url = url
        self._model = model
        self._turns = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self.name = model
        self.dimensions = dimensions
        self.tokens_max = window
        self.call_texts = TEXTS_PER_REQUEST

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)

        async def fill(start: int) -> None:
            part = [self._cut(text) for text in texts[start : start + TEXTS_PER_REQUEST]]
            async with self._turns:
                vectors[start : start + len(part)] = await self._request(part)

        try:
            async with asyncio.TaskGroup() as group:
                for start in range(0, len(texts), TEXTS_PER_REQUEST):
                    group.create_task(fill(start))
        except* (Unavailable, ConfigurationError) as errors:
            raise _first(errors) from errors
        return vectors

    async def embed_questions(self, texts: Sequence[str]) -> Vectors:
        return await self.embed(texts)

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return without_tokens(await self.embed(texts))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [sum(1 for _ in _PIECE.finditer(text)) for text in texts]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _PIECE.finditer(text)]

    async def _request(self, texts: Sequence[str]) -> Vectors:
        vectors = await request_embeddings(self._session, self._url, model=self._model, texts=texts)
        if vectors.shape != (len(texts), self.dimensions):
            raise ConfigurationError(
                f"{self._model} returned vectors of shape {vectors.shape}; expected {(len(texts), self.dimensions)}. "
                "Set the embedding dimensions to what the model gives, and reindex."
            )
        return vectors

    def _cut(self, text: str) -> str:
        spans = self.token_spans(text[: CHARACTERS_PER_TOKEN_MAX * self.tokens_max])
        return text[: spans[: self.tokens_max][-1][1]] if spans else " "


@asynccontextmanager
async def open_http_embedder(
    url: str,
    *,
    model: str,
    window: int = 512,
    dimensions: int | None = None,
    api_key: str | None = None,
    timeout_s: float = 30.0,
) -> AsyncIterator[HttpEmbedder]:
    """An embedder at ``url`` (the part before ``/embeddings``, such as ``http://host/v1``).

    Asks for ``dimensions`` when they are not known; else the server may come up later.
    ``window`` is how many tokens of a text the model reads. ``timeout_s`` bounds one request.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        address = f"{url.rstrip('/')}/embeddings"
        if dimensions is None:
            dimensions = (await request_embeddings(session, address, model=model, texts=["dimensions"])).shape[1]
        yield HttpEmbedder(session, address, model=model, dimensions=dimensions, window=window)


async def request_embeddings(
    session: aiohttp.ClientSession, url: str, *, model: str, texts: Sequence[str], api_key: str | None = None
) -> Vectors:
    """One request: (len(texts), dimensions) float32, L2-normalised, same order. Translates every error of the wire.

    ``api_key``: where the session does not bring it.
    """
    body = {"model": model, "input": list(texts), "encoding_format": "float"}
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else None

    async def post() -> bytes:
        async with session.post(url, json=body, headers=headers) as response:
            _check_status(response, model)
            return await _read(response)

    try:
        content = await once_more(post)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(
            f"The embedding server does not answer ({type(error).__name__}). It is tried again by itself."
        ) from error
    return _parse(content)


class _Item(msgspec.Struct):
    index: int
    embedding: list[float]


class _Response(msgspec.Struct):
    data: list[_Item]


def _parse(content: bytes) -> Vectors:
    try:
        items = sorted(msgspec.json.decode(content, type=_Response).data, key=lambda item: item.index)
        vectors = np.array([item.embedding for item in items], dtype=np.float32)
    except (msgspec.DecodeError, ValueError) as error:
        raise Unavailable("The embedding server's answer cannot be read. Check that it speaks OpenAI's API.") from error
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise Unavailable("The embedding server's answer holds no usable vectors. Check the model it runs.")
    return unit(vectors)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > RESPONSE_BYTES_MAX:
            raise Unavailable(f"The embedding server's answer is longer than {RESPONSE_BYTES_MAX} bytes.")
    return bytes(content)


def _check_status(response: aiohttp.ClientResponse, model: str) -> None:
    if response.status == 200:
        return
    if response.status in (408, 425, 429) or response.status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise Unavailable(
            f"The embedding server answered {response.status}. It is tried again by itself.",
            retry_after_s=whole_number(wait),
        )
    raise ConfigurationError(
        f"The embedding server refused model {model!r} with status {response.status}. Check its URL, key and model."
    )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
