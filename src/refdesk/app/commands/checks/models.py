"""The language model, its tokenizer, and the server of an embedding model."""

import asyncio
from typing import Any

from refdesk.app.commands.checks.findings import Finding, Findings, call
from refdesk.app.settings import Loaded
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.vocabularies import open_vocabularies


async def check_language_model(loaded: Loaded) -> Findings:
    settings = loaded.settings
    if settings.llm_url is None:
        yield Finding("ok", "language model", "none: answers are quoted from the documents")
        return
    if not settings.llm_model:
        yield Finding("FAIL", "language model", "REFDESK_LLM_MODEL is not set", "Name a model that this server has.")
        return
    status, reply = await call(f"{settings.llm_url.rstrip('/')}/models", key=settings.llm_api_key)
    wanted = [name.strip() for name in settings.llm_model.split(",")]
    listed = _model_names(reply)
    missing = [name for name in wanted if name not in listed]
    if status in (404, 405):
        yield Finding("warn", "language model", "the server answers but lists no models", "Ask a question to see.")
    elif status != 200:
        yield _refused("language model", status, reply, setting="LLM")
    elif missing:
        has = f"it lists {', '.join(listed[:5]) or 'none'}"
        yield Finding(
            "warn", "language model", f"the server does not list {', '.join(missing)}; {has}", "See REFDESK_LLM_MODEL."
        )
    else:
        yield Finding("ok", "language model", f"the server has {', '.join(wanted)}")


async def check_tokenizer(loaded: Loaded) -> Findings:
    settings = loaded.settings
    try:
        found = await asyncio.to_thread(open_vocabularies, settings.llm_tokenizer)
    except ConfigurationError as error:
        yield Finding("FAIL", "tokenizer", error.message)
        return
    if found:
        yield Finding("ok", "tokenizer", f"tokens are counted exactly, by {settings.llm_tokenizer}")
    elif settings.llm_url is not None:
        yield Finding("ok", "tokenizer", "none: the tokens of a prompt are estimated, never below the truth")


async def check_embeddings(loaded: Loaded) -> Findings:
    settings = loaded.settings
    if settings.embedding_url is None:
        return
    if not settings.embedding_model:
        yield Finding("FAIL", "embeddings", "REFDESK_EMBEDDING_MODEL is not set", "Name a model that this server has.")
        return
    asked = {"model": settings.embedding_model, "input": ["one word"], "encoding_format": "float"}
    url = f"{settings.embedding_url.rstrip('/')}/embeddings"
    status, reply = await call(url, key=settings.embedding_api_key, json=asked)
    try:
        dimensions = len(reply["data"][0]["embedding"])
    except (KeyError, IndexError, TypeError):
        yield _refused("embeddings", status, reply, setting="EMBEDDING")
    else:
        yield Finding("ok", "embeddings", f"{settings.embedding_model} gives {dimensions} dimensions")


def _model_names(reply: Any) -> list[str]:
    try:
        return [str(model["id"]) for model in reply["data"]]
    except (KeyError, TypeError):
        return []


def _refused(name: str, status: int, reply: Any, *, setting: str) -> Finding:
    if status == 0:
        return Finding("FAIL", name, f"does not answer: {reply}", f"Start that server, or mend REFDESK_{setting}_URL.")
    if status in (401, 403):
        return Finding("FAIL", name, f"refuses the key ({status})", f"Mend REFDESK_{setting}_API_KEY.")
    return Finding("FAIL", name, f"answers {status}", f"Mend REFDESK_{setting}_URL or REFDESK_{setting}_MODEL.")
