"""One log being written: whatever stops it, it ends with a word, and its place and its budget come back."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from refdesk.answering.admission import Admission
from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import AnswerLog, Entry
from refdesk.answering.production import Job, Production, ShuttingDown, Writers
from refdesk.answering.quoting.extractive import Extractor
from refdesk.answering.quoting.writer import Quoting
from refdesk.answering.writing.writers import Assignment, Draft, Verdict, Writer
from refdesk.contracts.answers import Delta, Done, Failed, Sentence, Sources
from refdesk.contracts.errors import RefdeskError
from refdesk.outside.embedding.vectors import Encoded
from refdesk.outside.valkey.client import Valkey
from refdesk.outside.valkey.servers import OneServer
from refdesk.settings.limits import AdmissionLimits

LIMITS = AdmissionLimits(concurrent_max=1, waiting_max=1, waiting_per_principal_max=1, waiting_principals_max=1)

JOB = Job(
    assignment=Assignment(question="How many days?", sources=(), output_tokens_max=100),
    fingerprint=None,
    principal_id="ann",
    as_of=datetime(2026, 1, 1, tzinfo=UTC),
    index_lag_seconds=0.0,
    embed_s=0.0,
    retrieve_s=0.0,
    prepared_s=0.0,
)


async def never(texts: Sequence[str]) -> list[Encoded]:
    """An embedder that nobody should need."""
    raise AssertionError(texts)


class Settled:
    """What is done when a production has ended."""

    def __init__(self) -> None:
        self.productions: list[Production] = []

    async def __call__(self, production: Production) -> None:
        self.productions.append(production)


class Waiting:
    """A writer who leaves it to the test to say something."""

    model = "waiting"
    passages_read = 1

    def __init__(self) -> None:
        self.draft: Draft | None = None

    async def write(self, assignment: Assignment, draft: Draft) -> Verdict:
        self.draft = draft
        await asyncio.Event().wait()
        raise AssertionError


async def nowhere() -> AbstractConnection:
    """A Valkey that nobody should need."""
    raise AssertionError


def begun(writer: Writer, *, door: Admission | None = None) -> tuple[Production, Settled]:
    """A production of this writer's, and what will have been done at its end."""
    server = OneServer(nowhere, client=Redis(), name="test", timeout_s=1)
    journal = Journal(Valkey(server), retention_s=60)  # which copies nothing here
    door = door or Admission(LIMITS)
    settled = Settled()
    ticket = door.enter("ann")
    return Production(
        AnswerLog("log"), JOB, journal=journal, writers=Writers(writer, writer), ticket=ticket, on_end=settled
    ), settled


@pytest.mark.parametrize(
    ("as_error", "names"),
    [(None, [Done.name]), (ShuttingDown, [Failed.name])],
    ids=["stopped by its asker", "stopped by a shutdown"],
)
async def test_what_is_stopped_before_it_has_begun_ends_with_a_word(
    as_error: type[RefdeskError] | None, names: list[str]
) -> None:
    """A task that is cancelled before its first step would end without one, and keep its place for ever."""
    door = Admission(LIMITS)
    production, settled = begun(Quoting(Extractor(never), certainty_min=0.0), door=door)
    production.stop(as_error=as_error)
    await production.task
    assert [entry.name for entry in production.log.entries] == names
    assert settled.productions == [production]
    assert door.enter("ben").admitted


async def test_a_sentence_leaves_with_the_words_that_end_it() -> None:
    """One write to each reader for what came in one read."""
    writer = Waiting()
    production, _ = begun(writer)
    batches: list[list[str]] = []

    def take(batch: list[Entry]) -> None:
        batches.append([entry.name for entry in batch])

    reading = asyncio.create_task(production.log.read("a", take))
    await asyncio.wait([reading], timeout=0.001)
    assert writer.draft is not None
    writer.draft.say("Thirty days. They")
    assert batches == [[Sources.name], [Delta.name, Sentence.name]]
    production.stop()
    await asyncio.wait_for(reading, 5)
    assert batches[2:] == [[Sentence.name, Done.name]]


async def test_what_comes_after_a_stop_is_not_said() -> None:
    """Bytes may come in between the stop and the end of the task."""
    writer = Waiting()
    production, _ = begun(writer)
    await asyncio.wait([production.task], timeout=0.001)
    assert writer.draft is not None
    writer.draft.say("Thirty days.")
    production.stop()
    writer.draft.say(" They expire.")
    await production.task
    assert production.log.text() == "Thirty days."


@pytest.mark.parametrize("known", [{"prepared_s"}, set()], ids=["earlier", "whole"])
def test_a_job_of_an_earlier_release_can_be_read(known: set[str]) -> None:
    """It did not say how long the answer had been prepared for."""
    job = msgspec.json.decode(msgspec.json.encode(JOB))
    earlier = {name: value for name, value in job.items() if name not in known}
    assert msgspec.json.decode(msgspec.json.encode(earlier), type=Job) == JOB
