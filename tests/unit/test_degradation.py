"""Why the model did not write an answer: one log, two sentences, each reader has theirs."""

from datetime import UTC, datetime

import msgspec
import pytest

from refdesk.answering.logs.degradation import DETAILS, TELL, degraded, failed, seen_by
from refdesk.answering.logs.log import AnswerLog, encode_entry
from refdesk.answering.production import Diverged
from refdesk.contracts.answers import Delta, Done, Timings, Usage
from refdesk.contracts.errors import Expired, ModelFailed
from refdesk.outside.llm.errors import LlmFiltered, LlmKeyRefused, LlmTimeout

DONE = Done(
    finish_reason="stop",
    usage=Usage(1, 2),
    timings=Timings(),
    as_of=datetime(2026, 11, 1, tzinfo=UTC),
    index_lag_seconds=0.0,
)
WORDS = "The server at http://model.example refuses the key (401: key 17 expired)."


@pytest.mark.parametrize(
    ("error", "plain"),
    [
        (LlmKeyRefused(WORDS), f"The language model's server refuses the key. {TELL}"),
        (LlmTimeout(WORDS), "The language model took too long. Ask again in a moment."),
        (ModelFailed(WORDS), "The language model failed. Ask again in a moment."),
    ],
)
def test_administrators_are_told_in_the_servers_words(error: ModelFailed, plain: str) -> None:
    """Others learn what kind of failure it was, and what to do."""
    batch = [encode_entry(2, Delta("Thirty")), encode_entry(3, degraded(DONE, error))]
    for with_details, reason in ((True, WORDS), (False, plain)):
        seen = seen_by(batch, with_details=with_details)
        ending = msgspec.json.decode(seen[-1].data)
        assert (ending["degraded"], ending["degraded_reason"]) == (True, reason)
        assert ending["degraded_type"] == error.code
        assert (
            ending.keys() - {"degraded_reason", "degraded_type"}
            == msgspec.json.decode(encode_entry(3, DONE).data).keys()
        )
        assert ([entry.id for entry in seen], seen[0]) == ([2, 3], batch[0])
    assert b"expired" not in bytes(seen[-1].data)


def test_an_answer_that_breaks_off_says_why_in_the_same_way() -> None:
    """What a server has said is for administrators; our own sentences are for everybody."""
    batch = [encode_entry(3, failed(ModelFailed(WORDS), partial=True))]
    for with_details, detail in ((True, WORDS), (False, "The language model failed. Ask again in a moment.")):
        problem = msgspec.json.decode(seen_by(batch, with_details=with_details)[0].data)
        assert (problem["detail"], problem["partial"], problem["type"]) == (detail, True, "model-failed")
        assert DETAILS not in problem
    for error in (Diverged(), LlmFiltered(), Expired()):
        problem = msgspec.json.decode(
            seen_by([encode_entry(3, failed(error, partial=True))], with_details=False)[0].data
        )
        assert problem["detail"] == error.message


def test_other_endings_are_the_same_for_everybody() -> None:
    """Not even decoded."""
    batch = [encode_entry(3, DONE)]
    assert seen_by(batch, with_details=False) is batch
    assert b"degraded_reason" not in bytes(batch[0].data)


async def test_a_degraded_ending_is_not_used_again() -> None:
    """The next asker asks the model."""
    log = AnswerLog("a")
    log.append(degraded(DONE, LlmTimeout()))
    assert (log.finished, log.reusable) == (True, False)
