"""The models of the AI side: the language models that answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain, repeat

from refdesk.answering.circuit import Circuit
from refdesk.answering.writers import Generating, Models, Quoting, Writer
from refdesk.app.language_models import LanguageModels, open_language_models
from refdesk.app.settings import Settings
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.tokens import CountTokens, input_tokens


@asynccontextmanager
async def open_writer(
    settings: Settings, *, vocabularies: Sequence[CountTokens], otherwise: Quoting
) -> AsyncIterator[Writer]:
    """REFDESK_LLM_MODEL may list several models in order of preference; without REFDESK_LLM_URL the quotes answer."""
    if settings.llm_url is None:
        yield otherwise
    else:
        async with open_language_models(settings, url=settings.llm_url) as opened:
            yield _models(settings, opened, vocabularies)


def _models(settings: Settings, opened: LanguageModels, vocabularies: Sequence[CountTokens]) -> Models:
    if len(vocabularies) > len(opened.models):
        raise ConfigurationError(
            f"REFDESK_LLM_TOKENIZER names {len(vocabularies)} files for {len(opened.models)} models. Name one for each, in order."
        )
    writers = [
        Generating(
            model,
            context_tokens_max=settings.llm_context_tokens_max,
            passages_read=settings.passages_max,
            count_tokens=count_tokens,
        )
        for model, count_tokens in zip(opened.models, chain(vocabularies, repeat(input_tokens)), strict=False)
    ]
    circuits = [
        Circuit(model.model, failures_max=settings.llm_failures_max, cool_down_s=settings.llm_cool_down_s)
        for model in opened.models
    ]
    return Models(writers, circuits=circuits)
