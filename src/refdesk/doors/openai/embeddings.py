"""``POST /v1/embeddings``: vectors of texts, by the model that the index has now.

Vectors of different generations of the index are never comparable, so each reply says which one made it.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.answering.assistant import Assistant
from refdesk.answering.reuse.sharing import Shared, SharedLimits
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import InvalidRequest, TooManyRequests
from refdesk.contracts.texts import Text
from refdesk.doors.openai.rate_limits import rate_limit_headers
from refdesk.doors.openai.requests import MODEL, check_model, read_body_as, refused, without_nul
from refdesk.index.open_generations import Opened, OpenGenerations
from refdesk.outside import telemetry
from refdesk.outside.embedding.packaged import Embedder
from refdesk.outside.embedding.vectors import Vectors
from refdesk.web.endpoints import Endpoint
from refdesk.web.replies import Json, also_in_refusals
from refdesk.web.sse import while_connected

Format = Literal["float", "base64"]


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``input``: a text, or several. Lists of token numbers are refused: they are another model's."""

    model: Text
    input: str | list[str | int | list[int]]
    encoding_format: Format | None = None
    dimensions: int | None = None
    user: Any = None


class Embedding(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingSpace(msgspec.Struct, frozen=True):
    """The generation of the index whose model made the vectors."""

    generation: int


class EmbeddingReply(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str = MODEL
    usage: EmbeddingUsage
    refdesk: EmbeddingSpace


class EmbeddingRoutes:
    """At most ``texts_max`` texts in ``bytes_max`` bytes a call; ``limits`` bound how many calls are worked on."""

    def __init__(
        self,
        assistant: Assistant,
        generations: OpenGenerations,
        *,
        texts_max: int,
        bytes_max: int,
        limits: SharedLimits,
    ) -> None:
        self._assistant = assistant
        self._generations = generations
        self._texts_max = texts_max
        self._bytes_max = bytes_max
        self._calls = Shared[Vectors](limits, kind="embedding")

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path="/v1/embeddings",
                action="texts.embed",
                handler=self.embed,
                summary="Vectors of texts, by the desk's own model",
                request=EmbeddingRequest,
                response=EmbeddingReply,
            )
        ]

    async def embed(self, request: Request, principal: Principal) -> ASGIApp:
        asked = await read_body_as(request, EmbeddingRequest, bytes_max=self._bytes_max)
        check_model(asked.model)
        texts = self._texts(asked)
        await self._count(request, principal, times=len(texts))
        opened = await self._generations.active()
        _check_dimensions(asked.dimensions, opened.embedder)
        counts = await asyncio.to_thread(opened.embedder.count_tokens, texts)
        _check_lengths(counts, opened.embedder)
        work = self._calls.get(object(), lambda: _embedded(opened, texts), principal_id=principal.id)
        vectors = await while_connected(request.receive, work)
        encoded = await asyncio.to_thread(_encoded, vectors, asked.encoding_format)
        reply = EmbeddingReply(
            data=[Embedding(n, vector) for n, vector in enumerate(encoded)],
            usage=EmbeddingUsage(sum(counts), sum(counts)),
            refdesk=EmbeddingSpace(opened.generation.id),
        )
        return Json(reply, headers=rate_limit_headers(await self._assistant.search_pace(principal)))

    async def _count(self, request: Request, principal: Principal, *, times: int) -> None:
        """Raises TooManyRequests."""
        try:
            await self._assistant.count_search(principal, times=times)
        except TooManyRequests:
            also_in_refusals(request.scope, rate_limit_headers(await self._assistant.search_pace(principal)))
            raise

    def _texts(self, asked: EmbeddingRequest) -> list[str]:
        """Raises InvalidRequest for none, too many, empty ones, and numbers of tokens."""
        given = [asked.input] if isinstance(asked.input, str) else asked.input
        texts = [without_nul(text, "input") for text in given if isinstance(text, str)]
        if len(texts) < len(given):
            raise refused(
                "input",
                "Lists of token numbers are another model's, and are not read. Send texts; with LangChain, make "
                "OpenAIEmbeddings with check_embedding_ctx_length=False.",
            )
        if not texts or not all(texts):
            raise InvalidRequest("The input is empty. Send a text, or a list of them.", field="input")
        if len(texts) > self._texts_max:
            raise InvalidRequest(
                f"The input has {len(texts)} texts; the limit is {self._texts_max} (REFDESK_EMBEDDING_TEXTS_MAX). "
                "Send fewer at a time.",
                field="input",
                limit=self._texts_max,
                actual=len(texts),
            )
        return texts


def _check_dimensions(wanted: int | None, embedder: Embedder) -> None:
    if wanted not in (None, embedder.dimensions):
        raise InvalidRequest(
            f"The vectors have {embedder.dimensions} dimensions, and no other number. Leave dimensions away.",
            field="dimensions",
            code="unsupported_value",
        )


def _check_lengths(counts: Sequence[int], embedder: Embedder) -> None:
    longest = max(range(len(counts)), key=counts.__getitem__)
    if counts[longest] > embedder.tokens_max:
        raise InvalidRequest(
            f"Text {longest} of the input has {counts[longest]} tokens; the model reads {embedder.tokens_max}. "
            "Send it in parts.",
            field="input",
            code="context_length_exceeded",
            limit=embedder.tokens_max,
            actual=counts[longest],
        )


async def _embedded(opened: Opened, texts: list[str]) -> Vectors:
    with telemetry.embedding(opened.embedder.name, provider=opened.embedder.provider):
        return await opened.embedder.embed(texts)


def _encoded(vectors: Vectors, encoding: Format | None) -> list[list[float] | str]:
    """``base64`` is that of the vector's float32 numbers, the lowest byte first."""
    if encoding == "base64":
        return [base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode() for vector in vectors]
    return [vector.tolist() for vector in vectors]
