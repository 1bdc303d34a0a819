"""What the AI Service stands on beside `parts`: Valkey, the Document Service, models on servers.

Looks that cost somebody something are made less often.
"""

import asyncio
import time
from collections.abc import Mapping

import aiohttp

from refdesk.answering.evidence.reranking import Reranking
from refdesk.app.health import Part
from refdesk.contracts.documents import StandingRequest
from refdesk.contracts.errors import ModelFailed, ReadOnly, Unavailable
from refdesk.index.ledger.lineage import LineageMemory
from refdesk.index.open_generations import OpenGenerations
from refdesk.outside.document_service import DocumentServiceClient
from refdesk.outside.embedding.server import request_embeddings
from refdesk.outside.llm.server import ModelServer
from refdesk.outside.valkey import errors as valkey_errors
from refdesk.outside.valkey.client import Valkey, ValkeyError
from refdesk.settings.tree import Settings

CALL_S = 2.0
MODEL_EVERY_S = 3.0
EVICTIONS_REMEMBERED_S = 20.0


def valkey(client: Valkey) -> Part:
    """The client of the answers: there is one judgement of Valkey in a process.

    Answers go on without it: nothing is reused across processes then, and nothing counts towards budgets.
    """
    return Part("Valkey", _ValkeyLook(client), needed=False)


def lineage(memory: LineageMemory) -> Part:
    """Whether the documents are those that the index was built from."""

    async def look() -> None:
        await memory.require_kin()

    return Part("documents of this index", look)


def qdrant(generations: OpenGenerations, settings: Settings) -> list[Part]:
    """Where the settings name one: without it, nothing is found and nothing is indexed."""
    return [] if settings.qdrant.url is None else [Part("Qdrant", generations.look)]


class _ValkeyLook:
    """Evictions are counted by each server for itself, and a counter that was never seen before is no eviction."""

    def __init__(self, client: Valkey) -> None:
        self._client = client
        self._evicted: dict[str, int] = {}
        self._evicted_at = float("-inf")

    async def __call__(self) -> str | None:
        try:
            await self._client.command("SET", "refdesk:health", "1", "EX", "60")
            if self._client.state.state != "up":
                raise Unavailable(f"Valkey is not well yet: {self._client.state.reason}")
            evicted = await self._counters()
        except ValkeyError as error:
            raise _refusal_of_valkey(error) from error
        if any(count > self._evicted.get(server, count) for server, count in evicted.items()):
            self._evicted_at = time.monotonic()
        self._evicted = evicted
        if time.monotonic() - self._evicted_at < EVICTIONS_REMEMBERED_S:
            return "Valkey is full and throws away answers and budgets. Give it more memory (maxmemory)."
        return None

    async def _counters(self) -> dict[str, int]:
        """Of each server how many keys it has evicted; nothing where this user may not ask."""
        try:
            said = await self._client.everywhere("INFO", "stats")
        except valkey_errors.NotAllowed:
            return {}
        return {server: _number(stats, b"evicted_keys:") for server, stats in said.items()}


def _refusal_of_valkey(error: ValkeyError) -> Unavailable:
    match error:
        case valkey_errors.ReadOnly():
            return ReadOnly("Valkey takes no writes: it is a replica.")
        case valkey_errors.Full() | valkey_errors.Unsaved():
            return ReadOnly("Valkey takes no writes: it is full, or cannot save.")
        case valkey_errors.Loading():
            return Unavailable("Valkey is still loading its data.")
        case valkey_errors.Refusal():
            return Unavailable(f"Valkey refuses: {type(error).__doc__}")
        case _:
            return Unavailable("Valkey does not answer.")


def _number(info: bytes, name: bytes) -> int:
    found = next((line for line in info.splitlines() if line.startswith(name)), name + b"0")
    return int(found[len(name) :])


def document_service(documents: DocumentServiceClient, *, needed: bool) -> Part:
    """Asked for the standing of no documents: its door, its keys and its database take part."""

    async def look() -> None:
        await documents.standing(StandingRequest(document_ids=[]), timeout_s=CALL_S)

    return Part("Document Service", look, needed)


def embedding_model(session: aiohttp.ClientSession, settings: Settings) -> list[Part]:
    """That of a server which the settings name: one word is embedded. The packaged one is part of the process."""
    url, model = settings.embedding.url, settings.embedding.model
    if url is None or model is None:
        return []
    address = f"{url.rstrip('/')}/embeddings"

    async def look() -> str | None:
        await request_embeddings(session, address, model=model, texts=["word"], api_key=settings.embedding.api_key)
        return None

    return [Part("embedding model", look, every_s=MODEL_EVERY_S)]


def reranker(reranking: Reranking | None) -> list[Part]:
    """As its last use went, or a try of its own after a while. Without it, passages keep the order of the search."""
    return [] if reranking is None else [Part("reranker", reranking.check, needed=False)]


def language_model(server: ModelServer, trouble: Mapping[str, ModelFailed]) -> Part:
    """Its server is asked what it has: a word of it would cost. ``trouble`` is how the last calls failed, by model.

    Without it, answers are quoted.
    """

    async def look() -> str | None:
        for model, error in trouble.items():
            return f"{model} does not answer. {error.message}"
        try:
            async with asyncio.timeout(CALL_S):
                status, _ = await server.get_models(connect_s=CALL_S)
        except TimeoutError as error:
            raise Unavailable(
                f"The language model's server at {server.shown} has not answered in {CALL_S:g} s."
            ) from error
        except OSError as error:
            raise Unavailable(f"The language model's server at {server.shown} cannot be reached.") from error
        if status in (401, 403):
            raise Unavailable(f"The language model's server refuses the key ({status}).")
        if status >= 500:
            raise Unavailable(f"The language model's server answers {status}.")
        return None

    return Part("language model", look, needed=False, every_s=MODEL_EVERY_S)
