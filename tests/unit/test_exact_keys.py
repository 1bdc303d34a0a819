"""Under which key an answer is kept for whoever asks the same: another desk answers anew."""

from pathlib import Path

import pytest

from refdesk.answering.reuse.cache import exact_key
from refdesk.app.services.assistant import SHAPING, shape_of
from refdesk.contracts.access import NOBODY
from refdesk.contracts.answers import Question
from refdesk.settings.tree import Settings, settings_by_name

LOCAL = Settings.of(llm_url="http://127.0.0.1:1/v1", llm_model="m")


def key(settings: Settings) -> str:
    return exact_key(Question(question="How many days?"), scope=NOBODY, shape=shape_of(settings), output_tokens_max=100)


@pytest.mark.parametrize(
    "changed",
    [
        {"passages_max": 4},
        {"certainty_min": 0.5},
        {"rerank_url": "http://127.0.0.1:2"},
        {"rerank_passages_max": 10},
        {"llm_model": "n"},
        {"llm_temperature": 0.5},
        {"llm_context_tokens_max": 4096},
        {"follow_up_rewrite_s": 1.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_configuration_answers_anew(changed: dict[str, object]) -> None:
    """What was kept was made otherwise: with fewer passages, say, or in another order."""
    assert key(LOCAL.having(**changed)) != key(LOCAL)


def test_what_shapes_no_answer_changes_no_key() -> None:
    """Limits, time-outs, places of things, and secrets."""
    same = LOCAL.having(
        data_dir=Path("/elsewhere"), llm_total_timeout_s=60.0, requests_per_minute_max=5, llm_api_key="secret"
    )
    assert key(same) == key(LOCAL)


def test_another_release_answers_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may search, rank and prompt otherwise."""
    before = key(LOCAL)
    monkeypatch.setattr("refdesk.app.services.assistant.__version__", "0.0.0")
    assert key(LOCAL) != before


SHAPES_NOTHING = frozenset(
    """
    places address connections databases pools nats streams valkey services client telemetry log_files keys audit provider
    sessions uploads upload_limits page_images feed syncs changes parsing parsers recognition indexing lanes embedding qdrant
    model_calls reranking_calls clocks questions keeping graces conversations gaps chat embedding_calls searches admission
    budgets usage
    """.split()
)


def test_every_group_of_settings_shapes_answers_or_is_known_not_to() -> None:
    """Whoever adds a group must say which: an answer that was kept under other settings must not be given again."""
    assert set(Settings.__struct_fields__) == SHAPES_NOTHING | set(SHAPING)
    assert SHAPES_NOTHING.isdisjoint(SHAPING)


@pytest.mark.parametrize("name", [name for name, one in settings_by_name().items() if one.group in SHAPING])
def test_every_setting_of_a_group_that_shapes_answers_is_in_the_key(name: str) -> None:
    """A new one is so by itself."""
    value = LOCAL.value(name)
    other = value + 1 if isinstance(value, int | float) else f"{value} and another"
    assert key(LOCAL.having(**{name: other})) != key(LOCAL)
