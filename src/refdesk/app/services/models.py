"""The language models that the settings name, as one writer of answers."""

from collections.abc import Sequence
from itertools import chain, repeat

from refdesk.answering.circuit import Circuit
from refdesk.answering.writers import Generating, Models
from refdesk.app.language_models import LanguageModels
from refdesk.app.settings import Settings
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.tokens import CountTokens, input_tokens


def writing_models(settings: Settings, opened: LanguageModels, vocabularies: Sequence[CountTokens]) -> Models:
    """REFDESK_LLM_MODEL may list several models in order of preference."""
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
