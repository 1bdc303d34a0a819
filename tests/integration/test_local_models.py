"""A model server on this machine is found where its kind listens, and `--llm auto` takes it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp
from tests.integration.documents_desk import serving
from tests.support.patience import within

from refdesk.app.local_models import PLACES, Place, find_servers, with_local_model
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import ConfigurationError
from refdesk.settings.tree import Settings
from refdesk.web.endpoints import Endpoint
from refdesk.web.http import create_app
from refdesk.web.replies import Json

NAMES = [place.name for place in PLACES]


def listing(*models: str) -> Any:
    return {"object": "list", "data": [{"id": model, "object": "model"} for model in models]}


def list_endpoint(reply: Any, *, status: int = 200) -> Endpoint:
    async def handle(request: Request, _: Principal) -> ASGIApp:
        return Json(reply, status_code=status)

    return Endpoint(method="GET", path="/v1/models", action="page.read", handler=handle, summary="")


async def nobody(_: object) -> None:
    return None


@asynccontextmanager
async def playing(replies: dict[str, Any]) -> AsyncIterator[list[Place]]:
    """Each named kind of server lists this; nobody listens for the others."""
    async with AsyncExitStack() as stack:
        places = []
        for name in NAMES:
            if name in replies:
                app = create_app([list_endpoint(replies[name])], authenticate=nobody)
                port = int((await stack.enter_async_context(serving(app))).rpartition(":")[2])
            else:
                unused = stack.enter_context(socket.socket())
                unused.bind(("127.0.0.1", 0))  # and does not listen
                port = unused.getsockname()[1]
            places.append(Place(name, port))
        yield places


@pytest.mark.parametrize("name", NAMES)
async def test_each_kind_of_server_is_found(name: str) -> None:
    """With the models that write; an embedding model does not."""
    async with playing({name: listing("nomic-embed-text:latest", "qwen3:8b", "small")}) as places:
        (found,) = await find_servers(places, own_port=0)
        port = next(place.port for place in places if place.name == name)
        assert (found.name, found.url, found.models) == (name, f"http://127.0.0.1:{port}/v1", ("qwen3:8b", "small"))
        settings, _ = await with_local_model(Settings(), places=places)
        assert (settings.language_model.url, settings.language_model.model) == (found.url, "qwen3:8b")


async def test_the_first_of_several_is_taken_unless_a_model_is_wanted() -> None:
    """Then the one that has it."""
    async with playing({"Ollama": listing("a"), "vLLM": listing("b", "c"), "LM Studio": listing("c")}) as places:
        assert [found.name for found in await find_servers(places, own_port=0)] == ["Ollama", "vLLM", "LM Studio"]
        assert (await with_local_model(Settings(), places=places))[1].name == "Ollama"
        settings, server = await with_local_model(Settings.of(llm_model="c, b"), places=places)
        assert (server.name, settings.language_model.model) == ("vLLM", "c, b")
        with pytest.raises(ConfigurationError, match=r"that has d;.* There is Ollama at"):
            await with_local_model(Settings.of(llm_model="d"), places=places)


async def test_what_is_no_model_server_is_passed_over() -> None:
    """Our own port is not even looked at, and another Refdesk writes no answers for us."""
    replies = {
        "Ollama": listing(),
        "llama.cpp": listing("own"),
        "vLLM": {"detail": "?"},
        "LM Studio": listing("refdesk"),
    }
    async with playing(replies) as places:
        own = next(place.port for place in places if place.name == "llama.cpp")
        assert await find_servers(places, own_port=own) == []
        with pytest.raises(ConfigurationError, match=r"Ollama .*LM Studio"):
            await with_local_model(Settings.of(port=own), places=places)


@pytest.mark.parametrize("answer", [b"", b"220 mail\r\n", b"HTTP/1.1 200 OK\r\n\r\n<html>"])
async def test_whatever_listens_there_holds_nothing_up(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent, or in another language."""
    monkeypatch.setattr("refdesk.app.local_models.LOOK_S", 0.3)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, within(5):
        places = [Place("vLLM", server.sockets[0].getsockname()[1])]
        assert await find_servers(places, own_port=0) == []
