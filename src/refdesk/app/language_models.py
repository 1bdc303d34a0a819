"""The language models that the settings name."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from refdesk.app.proxies import proxy_for
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.http_client import open_http_client
from refdesk.outside.http_proxy import Proxy
from refdesk.outside.llm.addresses import model_address
from refdesk.outside.llm.client import Llm
from refdesk.outside.llm.server import ModelServer
from refdesk.settings.tree import Settings

NOT_ASKED = "has not answered yet."
"""What is said of a model that a start has asked, and that has neither answered nor failed."""


class LanguageModels(msgspec.Struct, frozen=True):
    """A server, and its models in order of preference."""

    server: ModelServer
    models: Sequence[Llm]


def names_of_models(settings: Settings) -> list[str]:
    """Those in REFDESK_LLM_MODEL; raises ConfigurationError when there is none."""
    names = [name.strip() for name in (settings.language_model.model or "").split(",") if name.strip()]
    if not names:
        raise ConfigurationError("REFDESK_LLM_MODEL is not set. Name a model that the server at REFDESK_LLM_URL has.")
    return names


@asynccontextmanager
async def open_language_models(settings: Settings) -> AsyncIterator[LanguageModels | None]:
    """None without REFDESK_LLM_URL. Nothing is asked yet. Raises ConfigurationError for an address that is none."""
    if settings.language_model.url is None:
        yield None
        return
    names = names_of_models(settings)
    address = model_address(settings.language_model.url)
    proxy_url = proxy_for(address.root)
    async with open_http_client(address.root, proxy=Proxy(proxy_url) if proxy_url else None) as client:
        server = ModelServer(client, address, api_key=settings.model_calls.api_key)
        yield LanguageModels(server, [_model(settings, server, name) for name in names])


def _model(settings: Settings, server: ModelServer, name: str) -> Llm:
    return Llm(
        server,
        model=name,
        temperature=settings.language_model.temperature,
        thinking_tokens_max=settings.language_model.thinking_tokens_max,
        clocks=settings.clocks,
    )
