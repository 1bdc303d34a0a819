"""One log being written: whatever stops it, it ends with a word, and its place and its budget come back."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from redis.asyncio import ConnectionPool

from refdesk.answering.admission import Admission, AdmissionLimits
from refdesk.answering.extractive import Extractor
from refdesk.answering.journal import Journal
from refdesk.answering.log import AnswerLog
from refdesk.answering.writers import Assignment, Quoting
from refdesk.answering.writing import Job, ShuttingDown, Writing
from refdesk.contracts.answers import Done, Failed
from refdesk.contracts.errors import RefdeskError
from refdesk.outside.embedding import Vectors
from refdesk.outside.valkey import Valkey

JOB = Job(
    assignment=Assignment(question="How many days?", sources=(), output_tokens_max=100),
    fingerprint=None,
    principal_id="ann",
    vouched=True,
    as_of=datetime(2026, 1, 1, tzinfo=UTC),
    index_lag_seconds=0.0,
    embed_s=0.0,
    retrieve_s=0.0,
)


async def never(texts: Sequence[str]) -> Vectors:
    """An embedder that nobody should need."""
    raise AssertionError(texts)


class Settled:
    """What is done when a writing has ended."""

    def __init__(self) -> None:
        self.writings: list[Writing] = []

    async def __call__(self, writing: Writing) -> None:
        self.writings.append(writing)


@pytest.mark.parametrize(
    ("as_error", "names"),
    [(None, [Done.name]), (ShuttingDown, [Failed.name])],
    ids=["stopped by its asker", "stopped by a shutdown"],
)
async def test_what_is_stopped_before_it_has_begun_ends_with_a_word(
    as_error: type[RefdeskError] | None, names: list[str]
) -> None:
    """A task that is cancelled before its first step would end without one, and keep its place for ever."""
    journal = Journal(  # which copies nothing here
        Valkey(ConnectionPool.from_url("redis://127.0.0.1:1"), name="test"), retention_s=60, take_over=lambda *_: None
    )
    door = Admission(AdmissionLimits(concurrent_max=1, waiting_max=1, waiting_per_principal_max=1))
    quoting, settled, log = Quoting(Extractor(never)), Settled(), AnswerLog("log")
    writing = Writing(
        log, JOB, journal=journal, writer=quoting, fallback=quoting, ticket=door.enter("ann"), on_end=settled
    )
    writing.stop(as_error=as_error)
    await writing.task
    assert [entry.name for entry in log.entries] == names
    assert settled.writings == [writing]
    assert door.enter("ben").admitted
