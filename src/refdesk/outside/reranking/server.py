"""Passages in a better order: the port, and any server with a `/rerank` address (a model on this machine: `folder`).

Two forms of request are in use: ``documents`` (Cohere, Jina, vLLM and most others) and ``texts`` (TEI). Which one a server speaks
is found out by the first request that it does not refuse as not understood, and remembered. Replies are read in the forms of
all of them.

What this does not do: retry, but for what a closed connection left unanswered; or decide what happens without it
(`answering.reranking`).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import msgspec

from refdesk.contracts.errors import Unavailable
from refdesk.outside.unanswered import once_more

RESPONSE_BYTES_MAX = 8 << 20
CONNECT_TIMEOUT_S = 2.0
NOT_UNDERSTOOD = frozenset({400, 415, 422})
LEAST = float("-inf")
"""The score of a passage that the server left out."""


class Reranker(Protocol):
    """Says how well passages answer a question. Scores of one call are compared with each other and with nothing else."""

    @property
    def name(self) -> str: ...

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """One score for each text, in the same order; higher is better. Raises `Unavailable`."""
        ...


class HttpReranker:
    """A server's. See `open_http_reranker`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, model: str | None) -> None:
        self.name = model or "reranker"
        self._session = session
        self._url = url
        self._model = model
        self._forms = ["documents", "texts"]

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        for form in tuple(self._forms):
            status, content = await self._post(self._body(form, question, texts))
            if status < 300:
                self._forms = [form]
                return _scores(content, count=len(texts))
            if status not in NOT_UNDERSTOOD:
                break
        raise Unavailable(f"The reranker at {self._url} answers {status}: {content[:200].decode(errors='replace')}")

    def _body(self, form: str, question: str, texts: Sequence[str]) -> dict[str, Any]:
        if form == "texts":
            return {"query": question, "texts": list(texts), "truncate": True}
        named = {"model": self._model} if self._model else {}
        return {**named, "query": question, "documents": list(texts), "top_n": len(texts)}

    async def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        async def post() -> tuple[int, bytes]:
            async with self._session.post(self._url, json=body) as response:
                content = bytearray()
                async for part in response.content.iter_any():
                    content += part
                    if len(content) > RESPONSE_BYTES_MAX:
                        raise Unavailable(f"The reranker's answer is longer than {RESPONSE_BYTES_MAX} bytes.")
                return response.status, bytes(content)

        try:
            return await once_more(post)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"The reranker at {self._url} does not answer ({type(error).__name__}).") from error


@asynccontextmanager
async def open_http_reranker(
    url: str, *, model: str | None, api_key: str | None, timeout_s: float
) -> AsyncIterator[HttpReranker]:
    """One at ``url``: the address of the call itself, or what stands before `/rerank`. The server may come up later."""
    timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    whole = url.rstrip("/")
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        yield HttpReranker(session, whole if whole.endswith("rerank") else f"{whole}/rerank", model=model)


class _Result(msgspec.Struct):
    """``relevance_score`` with Cohere, Jina and vLLM, ``score`` with TEI."""

    index: int
    relevance_score: float | None = None
    score: float | None = None


class _Results(msgspec.Struct):
    results: list[_Result] | None = None
    data: list[_Result] | None = None


def _scores(content: bytes, *, count: int) -> list[float]:
    """By the places of the texts. Raises Unavailable for what is no ranking of them."""
    try:
        reply = msgspec.json.decode(content, type=_Results | list[_Result])
    except msgspec.DecodeError as error:
        raise Unavailable(f"The reranker's answer cannot be read: {error}") from error
    results = reply if isinstance(reply, list) else reply.results or reply.data or []
    scores = [LEAST] * count
    for one in results:
        score = one.relevance_score if one.relevance_score is not None else one.score
        if score is None or not 0 <= one.index < count:
            raise Unavailable("The reranker's answer has a result without a score, or of a text that was not sent.")
        scores[one.index] = score
    if not results:
        raise Unavailable("The reranker's answer has no results.")
    return scores
