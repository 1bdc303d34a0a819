"""Qdrant as a server: the way to it, whether it can be used, and its errors in our words.

The client library is loaded when a Qdrant is named and not before: it takes a second and 100 MB.
"""

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.settings.indexing import QdrantSettings

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

VERSION_MIN = (1, 18, 3)
"""The one that Refdesk is tested on. Older ones lost the order of filtered operations (qdrant#9575)."""
VERSION_MIN_TEXT = ".".join(map(str, VERSION_MIN))
START_LOOK_S = 0.5
OWNER = "refdesk"
"""Where a collection's metadata say which generation it belongs to, by its token."""
_REFUSED = {401, 403, "UNAUTHENTICATED", "PERMISSION_DENIED"}


class Refused(Unavailable):
    """Qdrant refuses the key. Set REFDESK_QDRANT_API_KEY to one that may read and write."""


class CollectionMissing(Unavailable):
    """Qdrant has lost a collection of the index. It is made again; `refdesk reconcile` fills it."""


class Qdrant:
    """A connection for a process. ``models`` are the types of its library."""

    def __init__(self, client: "AsyncQdrantClient", settings: QdrantSettings) -> None:
        self.client = client
        self.settings = settings
        self.models: Any = import_module("qdrant_client").models

    async def look(self) -> str:
        """Its version. Raises Unavailable when it does not answer or refuses us, ConfigurationError when it is too old."""
        with translated():
            said = (await self.client.info()).version
            await self.client.get_collections()
        if _version(said) < VERSION_MIN:
            raise ConfigurationError(
                f"Qdrant {said} is too old: Refdesk needs {VERSION_MIN_TEXT} or newer. Update the server at "
                "REFDESK_QDRANT_URL."
            )
        return said

    async def look_at_key(self) -> None:
        """Raises Refused when the key may only read, and Unavailable: whoever may delete a collection may make one.

        The collection that is deleted is nobody's.
        """
        with translated():
            await self.client.delete_collection(collection_name(self.settings, "none"))

    async def require(self, *, wait_s: float) -> None:
        """Return once it answers. Raises ConfigurationError with one sentence: at once when it refuses us or is too old."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + wait_s
        while True:
            try:
                await self.look()
                await self.look_at_key()
                return
            except Refused as error:
                raise ConfigurationError(error.message) from error
            except Unavailable as error:
                if clock() >= until_s:
                    raise ConfigurationError(
                        f"The Qdrant of REFDESK_QDRANT_URL does not answer: {_cause(error)}. Start that server, or mend "
                        "REFDESK_QDRANT_URL."
                    ) from error
            await asyncio.sleep(START_LOOK_S)


@asynccontextmanager
async def open_qdrant(settings: QdrantSettings) -> AsyncIterator[Qdrant]:
    """Opens without waiting: a server that comes up later is found. Raises ConfigurationError when the URL is none."""
    client = _client(settings)
    try:
        yield Qdrant(client, settings)
    finally:
        await client.close()


async def foreign_collections(qdrant: Qdrant, tokens: Mapping[int, str] | None) -> list[str]:
    """Names that generations of this desk have, or will have, and that collections of somebody else's are under.

    ``tokens``: of the generations that the ledger knows; None: only what is not of any desk is told.
    """
    beginning = collection_name(qdrant.settings, "")
    with translated():
        names = [found.name for found in (await qdrant.client.get_collections()).collections]
        found = {name: await qdrant.client.get_collection(name) for name in names if name.startswith(beginning)}
    tokens_found = {name: (info.config.metadata or {}).get(OWNER) for name, info in found.items()}
    if tokens is None:
        return sorted(name for name, token in tokens_found.items() if token is None)
    known = {collection_name(qdrant.settings, generation_id): token for generation_id, token in tokens.items()}
    return sorted(name for name, token in tokens_found.items() if token != known.get(name))


def collection_name(settings: QdrantSettings, generation_id: int | str) -> str:
    return f"{settings.prefix}_generation_{generation_id}"


def _client(settings: QdrantSettings) -> "AsyncQdrantClient":
    library = import_module("qdrant_client")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a key goes over HTTP is the operator's choice
        try:
            client: AsyncQdrantClient = library.AsyncQdrantClient(
                url=settings.url,
                api_key=settings.api_key,
                grpc_port=settings.grpc_port or 6334,
                prefer_grpc=settings.grpc_port is not None,
                timeout=max(1, round(settings.timeout_s)),
                check_compatibility=False,
                limits=import_module("httpx").Limits(max_keepalive_connections=32),
            )
        except ValueError as error:
            raise ConfigurationError(
                "REFDESK_QDRANT_URL is not an address. Give one such as http://qdrant:6333."
            ) from error
    return client


@contextmanager
def translated() -> Iterator[None]:
    """The library's errors end here."""
    exhausted = import_module("qdrant_client.common.client_exceptions").QdrantException
    over_http = import_module("qdrant_client.http.exceptions").ApiException
    over_grpc = import_module("grpc").RpcError
    try:
        yield
    except (exhausted, over_http, over_grpc) as error:
        raise _translation(error) from error


def _translation(error: Any) -> Unavailable:
    code = error.code().name if hasattr(error, "code") else getattr(error, "status_code", None)
    if code in _REFUSED:
        return Refused()
    if code in (404, "NOT_FOUND"):
        return CollectionMissing()
    return Unavailable(f"Qdrant does not do its work: {_said(error)}. It is tried again by itself.")


def _said(error: Any) -> str:
    """What the library says, in a line."""
    source = getattr(error, "source", error)
    text = error.details() if hasattr(error, "details") else str(source)
    return (" ".join(str(text or type(source).__name__).split()))[:200].rstrip(".")


def _cause(error: Unavailable) -> str:
    return _said(error.__cause__)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("-")[0].split(".") if part.isdigit())
