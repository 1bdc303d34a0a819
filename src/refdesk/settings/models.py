"""The models that answers are written and ordered by, and how they are called."""

from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Count, Seconds, Whole, prefixed


class LanguageModel(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("llm_")):
    """The language model.

    Without a URL, answers are quoted from the documents. Another value of any of these answers anew what was answered before.
    """

    url: str | None = None
    """Base URL of an OpenAI-compatible API, such as http://127.0.0.1:11434/v1. `user:password@` and a query are kept; HTTP_PROXY,
    HTTPS_PROXY and NO_PROXY count, save for this machine."""
    model: str | None = None
    """The model's name at that URL; several separated by commas are tried in that order."""
    context_tokens_max: Count = 8192
    """The model's window: prompt, passages and answer together."""
    tokenizer: str | None = None
    """The model's `tokenizer.json`, to count its tokens exactly; several separated by commas, in the order of `llm_model`.
    A model without one is counted by an upper estimate."""
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """0 writes the most likely words; higher varies them."""
    thinking_tokens_max: Whole = 4096
    """How many tokens the model may think before and in an answer, beside the answer's own."""


class ModelCalls(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("llm_")):
    """Calls of the language model."""

    api_key: str | None = None
    """The key that URL asks for, if it does."""
    failures_max: Count = 5
    """After so many failures in a row a model is left alone for a while."""
    cool_down_s: Seconds = 10.0
    """For so long; then one call tries it."""


class Clocks(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("llm_")):
    """How long the language model may take."""

    connect_s: Seconds = msgspec.field(default=3.0, name="llm_connect_timeout_s")
    """How long connecting to the model may take."""
    first_token_s: Seconds = msgspec.field(default=10.0, name="llm_first_token_timeout_s")
    """How long the model may take to begin."""
    cold_first_token_s: Seconds = msgspec.field(default=60.0, name="llm_cold_first_token_timeout_s")
    """The same for a model that was not heard for four minutes, and may have to be loaded first."""
    between_tokens_s: Seconds = msgspec.field(default=10.0, name="llm_between_tokens_timeout_s")
    """How long the model may pause."""
    total_s: Seconds = msgspec.field(default=120.0, name="llm_total_timeout_s")
    """How long a whole answer may take."""


class RerankingModel(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("rerank_")):
    """The reranker.

    Without one, passages keep the order of the search. Another value of any of these answers anew what was answered before.
    """

    url: str | None = None
    """A server that reranks (Cohere, Jina, TEI, vLLM): the address of its `/rerank`, or what stands before that."""
    model: str | None = None
    """The model's name there, if it asks for one. Without a URL, the whole path of a folder with a cross-encoder in ONNX."""
    passages_max: Count = 30
    """How many of the best passages it reads."""


class RerankingCalls(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("rerank_")):
    """Calls of the reranker."""

    api_key: str | None = None
    """The key that server asks for, if it does."""
    timeout_s: Annotated[float, Meta(gt=0)] = 2.0
    """How long a question waits for it; after that, passages keep the order of the search."""
