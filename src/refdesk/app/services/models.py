"""The models of the AI side: the language models that answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain, repeat

from refdesk.answering.circuit import Circuit
from refdesk.answering.writers import Generating, Models, Quoting, Writer
from refdesk.app.services.common import required
from refdesk.app.settings import Settings
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.http_client import HttpClient, open_http_client
from refdesk.outside.llm import Clocks, Llm
from refdesk.outside.tokens import CountTokens, input_tokens


@asynccontextmanager
async def open_language_models(
    settings: Settings, *, vocabularies: Sequence[CountTokens], otherwise: Quoting
) -> AsyncIterator[Writer]:
    """REFDESK_LLM_MODEL may list several models in order of preference; without REFDESK_LLM_URL the quotes answer."""
    if settings.llm_url is None:
        yield otherwise
    else:
        async with open_http_client(settings.llm_url) as client:
            yield _models(settings, client, vocabularies)


def _models(settings: Settings, client: HttpClient, vocabularies: Sequence[CountTokens]) -> Models:
    names = [name.strip() for name in required(settings, "llm_model").split(",")]
    if len(vocabularies) > len(names):
        raise ConfigurationError(
            f"REFDESK_LLM_TOKENIZER names {len(vocabularies)} files for {len(names)} models. Name one for each, in order."
        )
    clocks = Clocks(
        connect_s=settings.llm_connect_timeout_s,
        first_token_s=settings.llm_first_token_timeout_s,
        between_tokens_s=settings.llm_between_tokens_timeout_s,
        total_s=settings.llm_total_timeout_s,
    )
    models = [
        Llm(
            client,
            model=name,
            api_key=settings.llm_api_key,
            temperature=settings.llm_temperature,
            clocks=clocks,
        )
        for name in names
    ]
    writers = [
        Generating(
            model,
            context_tokens_max=settings.llm_context_tokens_max,
            passages_read=settings.passages_max,
            count_tokens=count_tokens,
        )
        for model, count_tokens in zip(models, chain(vocabularies, repeat(input_tokens)), strict=False)
    ]
    circuits = [
        Circuit(name, failures_max=settings.llm_failures_max, cool_down_s=settings.llm_cool_down_s) for name in names
    ]
    return Models(writers, circuits=circuits)
