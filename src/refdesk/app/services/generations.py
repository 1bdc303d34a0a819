"""The generations of the index with their models: which model is wanted, and how each one is opened.

A generation says itself which model it has. Settings only say how to reach a server, with its key, and which model a new
generation is to have; so changing them never changes what is searched.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import urlsplit

from psycopg_pool import AsyncConnectionPool

from refdesk.app.services.common import required
from refdesk.app.settings import PREFIX, Settings
from refdesk.contracts.errors import ConfigurationError, InvalidRequest
from refdesk.index.extension import require_vector
from refdesk.index.generations import MIGRATIONS, Generation, open_generation
from refdesk.index.opened import OpenGenerations
from refdesk.indexing.generation_routes import Model
from refdesk.outside.embedding import Embedder, PackagedEmbedder, Turns, open_packaged_embedder
from refdesk.outside.embedding_http import open_http_embedder
from refdesk.outside.postgres import migrate
from refdesk.outside.prepared_model import INT8, PACKAGED

logger = logging.getLogger(__name__)

CHUNKING_VERSION = "1"
"""Raise it when chunking changes what it makes of the same document."""


@asynccontextmanager
async def open_generations(
    pool: AsyncConnectionPool, settings: Settings, *, turns: Turns
) -> AsyncIterator[OpenGenerations]:
    """The generations as this process uses them, the active one's model ready; the first one is made when there is none.

    Raises ConfigurationError when the settings cannot open the active one's model, or the database has no usable pgvector.
    """
    await require_vector(pool)
    await migrate(pool, MIGRATIONS)

    def open_embedder(generation: Generation) -> AbstractAsyncContextManager[Embedder]:
        return _open_embedder(settings, generation, turns=turns)

    async with OpenGenerations(pool, open_embedder=open_embedder) as generations:
        if not await generations.record.live():
            first = await choose_model(settings, None)
            await open_generation(
                pool, model=first.name, dimensions=first.dimensions, chunking=first.chunking, served=first.served
            )
        active = (await generations.refresh()).generation
        if (active.model, active.chunking) != (configured_model(settings), CHUNKING_VERSION):
            logger.warning(
                "The index has the model %s, the settings say %s: `refdesk reindex` moves it there. Until then it stays.",
                active.model,
                configured_model(settings),
            )
        yield generations


def configured_model(settings: Settings) -> str:
    """The name of the model that the settings say."""
    return INT8 if settings.embedding_url is None else required(settings, "embedding_model")


async def choose_model(settings: Settings, name: str | None) -> Model:
    """The model to build a generation with: of this name, or the one the settings say.

    Raises InvalidRequest for a name that can be nowhere, Unavailable when the server that has it does not answer.
    """
    name = name or configured_model(settings)
    if name in PACKAGED:
        return Model(name, PackagedEmbedder.dimensions, CHUNKING_VERSION, None)
    if settings.embedding_url is None:
        raise InvalidRequest(
            f"There is no model {name!r}: packaged are {' and '.join(PACKAGED)}; for others, set "
            f"{PREFIX}EMBEDDING_URL to a server that has them.",
            field="model",
        )
    url, window = settings.embedding_url, settings.embedding_tokens_max
    async with open_http_embedder(url, model=name, window=window, api_key=settings.embedding_api_key) as served:
        return Model(name, served.dimensions, CHUNKING_VERSION, (without_secrets(url), window))


def _open_embedder(
    settings: Settings, generation: Generation, *, turns: Turns
) -> AbstractAsyncContextManager[Embedder]:
    if generation.model in PACKAGED:
        return open_packaged_embedder(*settings.model_folders, name=generation.model, turns=turns)
    url, api_key = _server(settings, generation)
    window = generation.tokens_max or settings.embedding_tokens_max
    return open_http_embedder(
        url, model=generation.model, window=window, dimensions=generation.dimensions, api_key=api_key
    )


def _server(settings: Settings, generation: Generation) -> tuple[str, str | None]:
    """Where a generation's model is served, and with which key: always a server that the settings name.

    One that has moved is found by the model's name.
    """
    now = (settings.embedding_url, settings.embedding_api_key)
    for url, api_key in (now, (settings.embedding_previous_url, settings.embedding_previous_api_key)):
        if url is not None and without_secrets(url) == generation.url:
            return url, api_key
    if now[0] is not None and settings.embedding_model == generation.model:
        return now[0], now[1]
    raise ConfigurationError(
        f"Generation {generation.id} of the index was embedded by {generation.model} at {generation.url}, and no setting "
        f"names that server. Set {PREFIX}EMBEDDING_PREVIOUS_URL={generation.url} (and {PREFIX}EMBEDDING_PREVIOUS_API_KEY, "
        "if it asks for a key) until `refdesk reindex` has moved the index to another model."
    )


def without_secrets(url: str) -> str:
    """The URL as it may be kept: no user, no password, no query, no slash at its end."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
