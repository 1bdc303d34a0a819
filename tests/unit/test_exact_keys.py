"""Under which key an answer is kept for whoever asks the same: another desk answers anew."""

from pathlib import Path

import msgspec
import pytest

from refdesk.answering.reuse.cache import exact_key
from refdesk.app.services.assistant import shape_of
from refdesk.app.settings import Settings
from refdesk.contracts.access import NOBODY
from refdesk.contracts.answers import Question

LOCAL = Settings(llm_url="http://127.0.0.1:1/v1", llm_model="m")


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
    assert key(msgspec.structs.replace(LOCAL, **changed)) != key(LOCAL)


def test_what_shapes_no_answer_changes_no_key() -> None:
    """Limits, time-outs, places of things, and secrets."""
    same = msgspec.structs.replace(
        LOCAL, data_dir=Path("/elsewhere"), llm_total_timeout_s=60.0, requests_per_minute_max=5, llm_api_key="secret"
    )
    assert key(same) == key(LOCAL)


def test_another_release_answers_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may search, rank and prompt otherwise."""
    before = key(LOCAL)
    monkeypatch.setattr("refdesk.app.services.assistant.__version__", "0.0.0")
    assert key(LOCAL) != before
