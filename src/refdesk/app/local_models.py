"""Model servers that run on this machine, found where they listen by default."""

import asyncio
import re
from collections.abc import Sequence

import msgspec

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.http_client import open_http_client
from refdesk.outside.llm.addresses import model_address
from refdesk.outside.llm.server import ModelServer
from refdesk.settings.tree import Settings

LOOK_S = 1.0
"""How long a port that somebody listens on may take to list its models."""
MODELS_SHOWN = 3
_WRITES_NOTHING = re.compile(r"embed|rerank|bge-|minilm|whisper|tts|clip|\be5-|refdesk", re.IGNORECASE)
"""Names of models that write no answers; Refdesk's own among them, for another desk may listen on such a port."""


class Place(msgspec.Struct, frozen=True):
    """A kind of server, and the port it takes by default."""

    name: str
    port: int


PLACES = (Place("Ollama", 11434), Place("llama.cpp", 8080), Place("vLLM", 8000), Place("LM Studio", 1234))


class LocalServer(msgspec.Struct, frozen=True):
    """A server that was found, and those of its models that write."""

    name: str
    url: str
    models: tuple[str, ...]

    @property
    def shown(self) -> str:
        more = f" and {len(self.models) - MODELS_SHOWN} more" if len(self.models) > MODELS_SHOWN else ""
        return f"{self.name} at {self.url} ({', '.join(self.models[:MODELS_SHOWN])}{more})"


async def find_servers(places: Sequence[Place] = PLACES, *, own_port: int) -> list[LocalServer]:
    """Those that list a model that writes, in the order of the places. Our own port is not looked at."""
    looks = (_look(place) for place in places if place.port != own_port)
    return [found for found in await asyncio.gather(*looks) if found is not None]


async def _look(place: Place) -> LocalServer | None:
    address = model_address(f"http://127.0.0.1:{place.port}/v1")
    try:
        async with asyncio.timeout(LOOK_S), open_http_client(address.root) as client:
            names = await ModelServer(client, address).get_model_names(connect_s=LOOK_S)
    except OSError:  # nobody there, or nobody who speaks HTTP in time
        return None
    models = tuple(name for name in names if not _WRITES_NOTHING.search(name))
    return LocalServer(place.name, address.shown, models) if models else None


async def with_local_model(settings: Settings, *, places: Sequence[Place] = PLACES) -> tuple[Settings, LocalServer]:
    """The settings with the first server found, and with its first model unless they name one.

    Raises ConfigurationError when there is none, or none that has the model they name.
    """
    found = await find_servers(places, own_port=settings.address.port)
    wanted = (settings.language_model.model or "").partition(",")[0].strip()
    server = next((server for server in found if not wanted or wanted in server.models), None)
    if server is None:
        looked = ", ".join(f"{place.name} ({place.port})" for place in places)
        there = f" There is {'; '.join(one.shown for one in found)}." if found else ""
        raise ConfigurationError(
            f"--llm auto found no model server on this machine{f' that has {wanted}' if wanted else ''}; it looked for {looked}."
            f"{there} Start one and give it a model, or give --llm URL."
        )
    model = settings.language_model.model or server.models[0]
    return settings.having(llm_url=server.url, llm_model=model), server
