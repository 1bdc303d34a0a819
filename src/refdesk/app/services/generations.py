"""The generations of the index with their models: which model is wanted, and how each one is opened.

A generation says itself which model it has. Settings only say how to reach a server, with its key, and which model a new
generation is to have; so changing them never changes what is searched.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from psycopg_pool import AsyncConnectionPool

from refdesk.app.services.common import required
from refdesk.contracts.errors import ConfigurationError, InvalidRequest
from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import MIGRATIONS, Engine, Generation, open_generation
from refdesk.index.open_generations import OpenGenerations
from refdesk.index.pgvector.extension import require_vector
from refdesk.index.qdrant.server import open_qdrant
from refdesk.operations.generations import Difference, Model
from refdesk.outside.embedding.fastembed import PREFIX as FASTEMBED
from refdesk.outside.embedding.fastembed import open_fastembed_embedder
from refdesk.outside.embedding.folder import open_folder_embedder
from refdesk.outside.embedding.packaged import Embedder, PackagedEmbedder, Turns, open_packaged_embedder
from refdesk.outside.embedding.prepared import INT8, PACKAGED
from refdesk.outside.embedding.server import open_http_embedder
from refdesk.outside.postgres.database import migrate
from refdesk.settings.tree import PREFIX, Settings

logger = logging.getLogger(__name__)

CHUNKING_VERSION = "4"
"""Raise it when the same documents make another index: chunking, what is indexed of a chunk or of its document, the graph.

`refdesk reindex` refuses to build what is there already; only this tells it that an earlier release's is something else.
"""


@asynccontextmanager
async def _open_engines(pool: AsyncConnectionPool, settings: Settings) -> AsyncIterator[Engines]:
    """What the generations are kept in. Raises ConfigurationError when a Qdrant that the settings name cannot be used."""
    if settings.qdrant.url is None:
        yield Engines(pool)
        return
    async with open_qdrant(settings.qdrant) as qdrant:
        await qdrant.require(wait_s=settings.databases.wait_s)
        yield Engines(pool, qdrant=qdrant)


def configured_engine(settings: Settings) -> Engine:
    """Where the settings say that a new generation is kept."""
    return "pgvector" if settings.qdrant.url is None else "qdrant"


@asynccontextmanager
async def open_generations(
    pool: AsyncConnectionPool, settings: Settings, *, turns: Turns
) -> AsyncIterator[OpenGenerations]:
    """The generations as this process uses them, the active one's model ready; the first one is made when there is none.

    Raises ConfigurationError when the settings cannot open the active one's model or engine, or the database has no usable
    pgvector.
    """
    await require_vector(pool)
    await migrate(pool, MIGRATIONS)

    def open_embedder(generation: Generation) -> AbstractAsyncContextManager[Embedder]:
        return _open_embedder(settings, generation, turns=turns)

    async with (
        _open_engines(pool, settings) as engines,
        OpenGenerations(pool, engines=engines, open_embedder=open_embedder) as generations,
    ):
        if not await generations.record.live():
            first = await choose_model(settings, None)
            await open_generation(
                pool,
                engine=configured_engine(settings),
                model=first.name,
                dimensions=first.dimensions,
                chunking=first.chunking,
                served=first.served,
            )
        await _come_back(generations, engines)
        active = (await generations.refresh()).generation
        _warn_of(difference(settings, active), settings, active)
        yield generations


def difference(settings: Settings, active: Generation) -> Difference | None:
    """How the active generation differs from what this release would make with these settings."""
    if active.chunking != CHUNKING_VERSION:
        return "release"
    if active.engine != configured_engine(settings):
        return "engine"
    return None if _is_configured(settings, active) else "model"


def _warn_of(differs: Difference | None, settings: Settings, active: Generation) -> None:
    match differs:
        case "release":
            logger.warning(
                "An earlier release made the index: `refdesk reindex` makes it as this one does. Until then it stays."
            )
        case "engine":
            logger.warning(
                "The index is in %s, the settings say %s: `refdesk reindex` moves it there. Until then it stays.",
                active.engine,
                configured_engine(settings),
            )
        case "model":
            logger.warning(
                "The index has the model %s, the settings say %s: `refdesk reindex` moves it there. Until then it stays.",
                active.model,
                configured_model(settings),
            )


async def _come_back(generations: OpenGenerations, engines: Engines) -> None:
    """Search the index that was kept, where the active one is in an engine that no setting names any more.

    Raises ConfigurationError when there is none, or it lacks something: nothing is to be lost.
    """
    active, *others = await generations.record.live()
    if engines.has(active):
        return
    kept = next((other for other in others if engines.has(other)), None)
    if kept is None:
        raise ConfigurationError(
            f"The index is in {active.engine}, and no setting says where that is: set REFDESK_QDRANT_URL. To leave it, run "
            "`refdesk reindex --engine pgvector --yes` first."
        )
    if behind := await generations.record.activate(kept.id, with_gaps=True):
        raise ConfigurationError(
            f"The index is in {active.engine}, and no setting says where that is. The one that was kept in {kept.engine} still "
            f"lacks {behind} documents: set REFDESK_QDRANT_URL again until `refdesk reindex` shows that it has them."
        )
    logger.warning("Searching generation %d in %s again: no setting names %s.", kept.id, kept.engine, active.engine)


def _is_configured(settings: Settings, active: Generation) -> bool:
    wanted = configured_model(settings)
    return active.url == _folder_url(wanted) if is_folder(wanted) else active.model == wanted


def configured_model(settings: Settings) -> str:
    """The model that the settings say: the packaged one's name, a folder, or the name of one at the server."""
    if settings.embedding.url is not None:
        return required(settings, "embedding_model")
    name = settings.embedding.model or INT8
    if name in PACKAGED or is_folder(name) or name.startswith(FASTEMBED):
        return name
    raise ConfigurationError(
        f"{PREFIX}EMBEDDING_MODEL={settings.embedding.model} is neither a packaged model ({', '.join(PACKAGED)}) nor the whole "
        f"path of a model's folder, nor {FASTEMBED}NAME. For a model of a server, set {PREFIX}EMBEDDING_URL, too."
    )


def is_folder(model: str) -> bool:
    """Whether a model is named by the folder it is in: by a whole path, since names of models have slashes, too."""
    return Path(model).is_absolute()


async def choose_model(settings: Settings, name: str | None) -> Model:
    """The model to build a generation with: of this name, or the one the settings say.

    Raises InvalidRequest for a name that can be nowhere, Unavailable when the server that has it does not answer.
    """
    name = name or configured_model(settings)
    if name in PACKAGED:
        return Model(name, PackagedEmbedder.dimensions, CHUNKING_VERSION, None)
    if is_folder(name) or name.startswith(FASTEMBED):
        return await _on_this_machine(settings, name)
    if settings.embedding.url is None:
        raise InvalidRequest(
            f"There is no model {name!r}: packaged are {' and '.join(PACKAGED)}; for others, name the folder that has one, or "
            f"set {PREFIX}EMBEDDING_URL to a server that has them.",
            field="model",
        )
    url, window = settings.embedding.url, settings.embedding.tokens_max
    async with open_http_embedder(url, model=name, window=window, api_key=settings.embedding.api_key) as served:
        return Model(name, served.dimensions, CHUNKING_VERSION, (without_secrets(url), window))


async def _on_this_machine(settings: Settings, name: str) -> Model:
    """A model of a folder or of fastembed, tried. Raises InvalidRequest when it cannot be had, naming what is amiss."""
    try:
        if not is_folder(name):
            async with open_fastembed_embedder(name, _fastembed_folder(settings)) as named:
                return Model(named.name, named.dimensions, CHUNKING_VERSION, None)
        async with open_folder_embedder(Path(name)) as found:
            return Model(found.name, found.dimensions, CHUNKING_VERSION, (_folder_url(name), found.tokens_max))
    except ConfigurationError as error:
        raise InvalidRequest(error.message, field="model") from error


def _fastembed_folder(settings: Settings) -> Path:
    return settings.places.model_folders[-1] / "fastembed"


@asynccontextmanager
async def _open_folder(generation: Generation, path: Path, *, turns: Turns) -> AsyncIterator[Embedder]:
    """Raises ConfigurationError when the folder has another model now: its vectors would be of another space."""
    async with open_folder_embedder(path, turns=turns) as embedder:
        if embedder.name != generation.model:
            raise ConfigurationError(
                f"Generation {generation.id} of the index was embedded by {generation.model}; {path} has {embedder.name} now. "
                "Put the old folder back, and reindex with the new one under another path."
            )
        yield embedder


def _folder_url(path: str | Path) -> str:
    return Path(path).resolve().as_uri()


def _folder_of(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _open_embedder(
    settings: Settings, generation: Generation, *, turns: Turns
) -> AbstractAsyncContextManager[Embedder]:
    if generation.model in PACKAGED:
        return open_packaged_embedder(*settings.places.model_folders, name=generation.model, turns=turns)
    if generation.model.startswith(FASTEMBED):
        return open_fastembed_embedder(generation.model, _fastembed_folder(settings), turns=turns)
    folder = _folder_of(generation.url or "")
    if folder is not None:
        return _open_folder(generation, folder, turns=turns)
    url, api_key = _server(settings, generation)
    window = generation.tokens_max or settings.embedding.tokens_max
    return open_http_embedder(
        url, model=generation.model, window=window, dimensions=generation.dimensions, api_key=api_key
    )


def _server(settings: Settings, generation: Generation) -> tuple[str, str | None]:
    """Where a generation's model is served, and with which key: always a server that the settings name.

    One that has moved is found by the model's name.
    """
    now = (settings.embedding.url, settings.embedding.api_key)
    for url, api_key in (now, (settings.embedding.previous_url, settings.embedding.previous_api_key)):
        if url is not None and without_secrets(url) == generation.url:
            return url, api_key
    if now[0] is not None and settings.embedding.model == generation.model:
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
