"""The language models that the settings name, as one writer of answers."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain, repeat

import msgspec

from refdesk.answering.rewriting import Rewriter
from refdesk.answering.writing.circuit import Circuit
from refdesk.answering.writing.generating import Generating
from refdesk.answering.writing.models import Models
from refdesk.app import server
from refdesk.app.health import Fact, Part
from refdesk.app.language_models import NOT_ASKED, LanguageModels, open_language_models
from refdesk.app.services import ai_parts
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.tokens import CountTokens, input_tokens
from refdesk.settings.tree import Settings


class WritingModels(msgspec.Struct, frozen=True):
    """What an assistant has of language models. ``writer`` is None without REFDESK_LLM_URL: then the quotes answer."""

    writer: Models | None = None
    rewriter: Rewriter | None = None
    """Of follow-ups, where that is switched on."""
    background: Sequence[server.Background] = ()
    parts: Sequence[Part] = ()
    facts: Mapping[str, Fact] = {}


@asynccontextmanager
async def open_writing_models(settings: Settings, vocabularies: Sequence[CountTokens]) -> AsyncIterator[WritingModels]:
    """REFDESK_LLM_MODEL may list several models in order of preference."""
    async with open_language_models(settings) as opened:
        if opened is None:
            yield WritingModels()
            return
        writer = _writer(settings, opened, vocabularies)
        seconds = settings.answers.follow_up_rewrite_s
        yield WritingModels(
            writer,
            Rewriter(opened.models[0], seconds_max=seconds) if seconds else None,
            background=[writer.watch],
            parts=[ai_parts.language_model(opened.server, writer.trouble)],
            facts={"language model": partial(_standing, writer)},
        )


async def _standing(models: Models) -> str:
    """Whether the first model answers, as the end of a sentence that begins with it."""
    if (error := models.trouble.get(models.model)) is not None:
        return f"{models.model} does not answer, and the documents are quoted instead. {error.message}"
    return f"{models.model} answers." if models.model in models.answered else NOT_ASKED


def _writer(settings: Settings, opened: LanguageModels, vocabularies: Sequence[CountTokens]) -> Models:
    if len(vocabularies) > len(opened.models):
        raise ConfigurationError(
            f"REFDESK_LLM_TOKENIZER names {len(vocabularies)} files for {len(opened.models)} models. Name one for each, in order."
        )
    writers = [
        Generating(
            model,
            context_tokens_max=settings.language_model.context_tokens_max,
            passages_read=settings.answers.passages_max,
            count_tokens=count_tokens,
        )
        for model, count_tokens in zip(opened.models, chain(vocabularies, repeat(input_tokens)), strict=False)
    ]
    circuits = [
        Circuit(
            model.model, failures_max=settings.model_calls.failures_max, cool_down_s=settings.model_calls.cool_down_s
        )
        for model in opened.models
    ]
    return Models(writers, circuits=circuits)
