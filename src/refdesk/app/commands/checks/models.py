"""The language model, its tokenizer, the server of an embedding model, and the reranker."""

import asyncio
import time
from pathlib import Path
from typing import Any

from refdesk.app.commands.checks.findings import Finding, Findings, call
from refdesk.app.language_models import open_language_models
from refdesk.contracts.errors import ConfigurationError, ModelFailed, Unavailable
from refdesk.outside.llm.client import Llm
from refdesk.outside.llm.errors import LlmKeyRefused, LlmMisplaced, LlmOnlyThought, LlmRefused, LlmTimeout, LlmUnknown
from refdesk.outside.llm.server import ModelServer
from refdesk.outside.model_folder import look_into
from refdesk.outside.reranking.server import open_http_reranker
from refdesk.outside.vocabularies import open_vocabularies
from refdesk.settings.loading import Loaded

LIST_TIMEOUT_S = 2.0
RERANK_TIMEOUT_S = 5.0

MENDS: tuple[tuple[type[ModelFailed], str], ...] = (
    (LlmMisplaced, "Mend REFDESK_LLM_URL."),
    (LlmKeyRefused, "Mend REFDESK_LLM_API_KEY."),
    (LlmUnknown, "Mend REFDESK_LLM_MODEL."),
    (LlmTimeout, "If it is only slow, raise REFDESK_LLM_COLD_FIRST_TOKEN_TIMEOUT_S."),
    (LlmOnlyThought, "Turn its reasoning down, or raise REFDESK_LLM_THINKING_TOKENS_MAX."),
    (LlmRefused, "See what its server says."),
    (ModelFailed, "Start that server, or mend REFDESK_LLM_URL."),
)
"""What to do, by the failure."""


async def check_language_model(loaded: Loaded) -> Findings:
    """Each model is asked one tiny question: a list of models says nothing about whether they answer."""
    try:
        async with open_language_models(loaded.settings) as opened:
            if opened is None:
                yield Finding("ok", "language model", "none: answers are quoted from the documents")
                return
            for model in opened.models:
                name = "language model" if len(opened.models) == 1 else f"language model {model.model}"
                yield await _answer_of(model, opened.server, name=name)
    except ConfigurationError as error:
        yield Finding("FAIL", "language model", error.message)


async def _answer_of(model: Llm, server: ModelServer, *, name: str) -> Finding:
    started = time.monotonic()
    try:
        await model.probe()
    except ModelFailed as error:
        mend = next(mend for kind, mend in MENDS if isinstance(error, kind))
        listed = await _listed(server) if isinstance(error, LlmUnknown) else ""
        return Finding("FAIL", name, error.message, f"{mend}{listed}")
    thinks = ", and thinks before it does" if model.thinks else ""
    return Finding("ok", name, f"{model.model} answers (in {time.monotonic() - started:.1f} s){thinks}")


async def _listed(server: ModelServer) -> str:
    try:
        async with asyncio.timeout(LIST_TIMEOUT_S):
            names = await server.get_model_names(connect_s=LIST_TIMEOUT_S)
    except OSError:
        return ""
    return f" It lists {', '.join(names[:5])}." if names else ""


async def check_tokenizer(loaded: Loaded) -> Findings:
    settings = loaded.settings
    try:
        found = await asyncio.to_thread(open_vocabularies, settings.language_model.tokenizer)
    except ConfigurationError as error:
        yield Finding("FAIL", "tokenizer", error.message)
        return
    if found:
        yield Finding("ok", "tokenizer", f"tokens are counted exactly, by {settings.language_model.tokenizer}")
    elif settings.language_model.url is not None:
        yield Finding("ok", "tokenizer", "none: the tokens of a prompt are estimated, never below the truth")


async def check_embeddings(loaded: Loaded) -> Findings:
    settings = loaded.settings
    if settings.embedding.url is None:
        return
    if not settings.embedding.model:
        yield Finding("FAIL", "embeddings", "REFDESK_EMBEDDING_MODEL is not set", "Name a model that this server has.")
        return
    asked = {"model": settings.embedding.model, "input": ["one word"], "encoding_format": "float"}
    url = f"{settings.embedding.url.rstrip('/')}/embeddings"
    status, reply = await call(url, key=settings.embedding.api_key, json=asked)
    try:
        dimensions = len(reply["data"][0]["embedding"])
    except (KeyError, IndexError, TypeError):
        yield _refused("embeddings", status, reply, setting="EMBEDDING")
    else:
        yield Finding("ok", "embeddings", f"{settings.embedding.model} gives {dimensions} dimensions")


async def check_reranker(loaded: Loaded) -> Findings:
    """A server is asked about one word; of a folder, whether it is whole."""
    settings, name = loaded.settings, "reranker"
    mend = "See docs/howto/quality.md. Until then, passages keep the order of the search."
    try:
        if settings.reranking.url is not None:
            async with open_http_reranker(
                settings.reranking.url,
                model=settings.reranking.model,
                api_key=settings.reranking_calls.api_key,
                timeout_s=RERANK_TIMEOUT_S,
            ) as reranker:
                await reranker.score("one word", ["one word", "another"])
            yield Finding("ok", name, f"{settings.reranking.model or 'the server'} orders passages")
        elif settings.reranking.model is not None:
            found = await asyncio.to_thread(look_into, Path(settings.reranking.model))
            yield Finding("ok", name, f"{found.name}: {found.tokens_max} tokens")
    except Unavailable as error:
        yield Finding("warn", name, error.message, mend)
    except ConfigurationError as error:
        yield Finding("FAIL", name, error.message, mend)


def _refused(name: str, status: int, reply: Any, *, setting: str) -> Finding:
    if status == 0:
        return Finding("FAIL", name, f"does not answer: {reply}", f"Start that server, or mend REFDESK_{setting}_URL.")
    if status in (401, 403):
        return Finding("FAIL", name, f"refuses the key ({status})", f"Mend REFDESK_{setting}_API_KEY.")
    return Finding("FAIL", name, f"answers {status}", f"Mend REFDESK_{setting}_URL or REFDESK_{setting}_MODEL.")
