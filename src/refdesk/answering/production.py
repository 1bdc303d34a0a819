"""Writing one log, from its sources to its ending: wait for the model, write, check each sentence, settle.

Going on with the log of a process that died is the same work: the text is generated again, and as long as it repeats what
readers have already seen, nothing is appended. If it does not repeat it, the answer ends with an error, never with a splice.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from functools import partial

import msgspec

from refdesk.answering.admission import Ticket
from refdesk.answering.evidence.truth import Shown
from refdesk.answering.grounding.checking import Grounding
from refdesk.answering.logs.degradation import degraded, failed
from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import AnswerLog
from refdesk.answering.text.sentences import Cut, SentenceSplitter
from refdesk.answering.writing.writers import Assignment, Verdict, Writer
from refdesk.contracts.access import NOBODY, Scope
from refdesk.contracts.answers import Delta, Done, FinishReason, Queued, Sentence, Sources, Timings, Usage
from refdesk.contracts.errors import ModelFailed, RefdeskError, Unavailable
from refdesk.outside import telemetry, tokens

logger = logging.getLogger(__name__)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a process needs to write a log, its own or one taken over."""

    assignment: Assignment
    fingerprint: str | None
    principal_id: str
    scope: Scope = NOBODY
    checked_at: datetime | None = None
    as_of: datetime
    index_lag_seconds: float
    embed_s: float
    retrieve_s: float
    rewrite_s: float = 0.0
    in_conversation: bool = False
    at_most: Usage = Usage()
    """What was reserved for it."""
    model: str = ""
    """Who is meant to write it."""
    prepared_s: float = 0.0
    """From the question until its log was begun: the whole preparation. Jobs of earlier releases do not have it."""

    def stands_on(self) -> frozenset[Shown]:
        return frozenset(Shown(source.document_id, source.version) for source in self.assignment.sources)


class Writers(msgspec.Struct, frozen=True):
    """``first`` writes; ``fallback`` does when that fails before its first word."""

    first: Writer
    fallback: Writer


CUT_OFF = frozenset({"cancelled", "length"})
"""How answers end in the middle of a sentence: what is left of it says perhaps not what it was to say."""
Cost = Callable[[str, Usage], Decimal | None]
"""What a model's usage costs; None where that is not known."""

Check = Callable[[], Awaitable[None]]
"""Raises the reason why an answer is not to be written after all."""


class Diverged(ModelFailed):
    """The process that wrote this answer died, and the model would now answer otherwise. Ask again."""

    code = "answer-diverged"
    title = "The answer could not be continued"
    retryable = False
    """It says nothing about the model's health."""


class ShuttingDown(Unavailable):
    """The service is restarting. Ask again in a moment."""


class Production:
    """One log being written, by a task of its own, once ``check`` has passed, if there is one.

    ``on_end`` is awaited after the ending is appended, whatever it is.

    Whoever holds the production drops it in ``on_end``, so that it cannot be stopped afterwards.
    """

    def __init__(
        self,
        log: AnswerLog,
        job: Job,
        *,
        journal: Journal,
        writers: Writers,
        ticket: Ticket,
        on_end: Callable[["Production"], Awaitable[None]],
        cost: Cost = lambda *_: None,
        check: Check | None = None,
    ) -> None:
        self.log = log
        self.job = job
        self.usage = Usage()
        self.model = writers.first.model
        """Who writes, or has written."""
        self.is_superseded = False
        """Whether another process writes the log."""
        self.failure: RefdeskError | None = None
        """Why the log ended with an error, if it did."""
        self._append = partial(journal.append, log)
        self._writer = writers.first
        self._fallback = writers.fallback
        self._ticket = ticket
        self._on_end = on_end
        self._cost = cost
        self._check = check
        self._grounding = Grounding(job.assignment.sources, question=job.assignment.question)
        self._splitter = SentenceSplitter()
        self._already_said = log.text()
        self._already_checked = log.count(Sentence.name)
        self._started = time.monotonic() - job.prepared_s
        self._queue_s = 0.0
        self._first_token_s: float | None = None
        self._model_failed: ModelFailed | None = None
        """Why the fallback writes."""
        self._stop_as: type[RefdeskError] | None = None
        self._has_begun = self._is_stopped = False
        self.task = asyncio.create_task(self._run(), name=f"write {log.id}")

    @property
    def cost(self) -> Decimal | None:
        """Of what was used until now, where there is a price."""
        return self._cost(self.model, self.usage)

    def superseded(self) -> None:
        """Ends it at once: another process writes its log."""
        self.is_superseded = True
        self.stop(as_error=ShuttingDown)

    def stop(self, *, as_error: type[RefdeskError] | None = None) -> None:
        """Ends it at once, with this error or as ``cancelled``."""
        self._stop_as, self._is_stopped = as_error, True
        if self._has_begun:  # before its first step, a task that is cancelled ends without a word
            self.task.cancel()

    def wanted_by_also(self, principal_id: str) -> None:
        """Notes that another principal waits for this answer."""
        self._ticket.wanted_by_also(principal_id)

    async def _run(self) -> None:
        self._has_begun = True
        try:
            if self._is_stopped:
                raise asyncio.CancelledError
            if self._check is not None:
                await self._check()
            if not self.log.entries:
                self._append(Sources(self.job.assignment.sources))
            await self._wait_for_turn()
            self._end(await self._write())
        except asyncio.CancelledError:
            self._cut_off()
        except RefdeskError as error:
            self._fail(error)
        except Exception:
            telemetry.unexpected_errors.labels("answer").inc()
            logger.exception("answer log %s failed", self.log.id)
            self._fail(RefdeskError())
        finally:
            self._ticket.leave(wrote=True)
            await self._on_end(self)

    async def _wait_for_turn(self) -> None:
        waiting_since = time.monotonic()
        positions = self._ticket.positions()
        async with aclosing(positions):
            async for position, seconds in positions:
                self._append(Queued(position, seconds))
        self._queue_s = time.monotonic() - waiting_since
        telemetry.queue_wait.observe(self._queue_s)

    async def _write(self) -> Verdict:
        if not self.job.assignment.sources:
            return await self._fallback.write(self.job.assignment, self)
        try:
            return await self._writer.write(self.job.assignment, self)
        except ModelFailed as error:
            if self.begun or self._already_said:
                raise
            logger.warning(
                "%s failed before its first word, %s answers: %s", self._writer.model, self._fallback.model, error
            )
            self._model_failed = error
            return await self._fallback.write(self.job.assignment, self)

    @property
    def age_s(self) -> float:
        """Since its question was asked, or since it was taken over."""
        return time.monotonic() - self._started

    @property
    def begun(self) -> bool:
        return self._first_token_s is not None

    def say(self, text: str) -> None:
        """Appends the writer's next text. It is called by the socket's callback, so possibly once more after a stop."""
        if self._is_stopped:
            return
        if self._first_token_s is None:
            self._first_token_s = time.monotonic() - self._started
            telemetry.time_to_first_token.observe(self._first_token_s)
            self._ticket.began()
        fresh = self._new_part(text) if self._already_said else text
        events: list[Delta | Sentence] = [Delta(fresh)] if fresh else []
        if sentences := self._splitter.feed(text):
            events += self._checked(sentences)
        if events:
            self._append(*events)

    def _new_part(self, text: str) -> str:
        """What of the text its readers have not seen yet."""
        repeated = min(len(text), len(self._already_said))
        if text[:repeated] != self._already_said[:repeated]:
            raise Diverged
        self._already_said = self._already_said[repeated:]
        return text[repeated:]

    def _checked(self, sentences: list[Cut], *, finish_reason: FinishReason = "stop") -> list[Sentence]:
        """As events, those that readers have not seen yet."""
        repeated = sentences[: self._already_checked]
        self._already_checked -= len(repeated)
        if finish_reason == "not_found":
            return [Sentence(text=cut.text, citations=(), support="unchecked") for cut in sentences[len(repeated) :]]
        checked = [self._grounding.check(cut) for cut in sentences][len(repeated) :]
        if finish_reason in CUT_OFF:
            checked = [_without_contradiction(sentence) for sentence in checked]
        for sentence in checked:
            telemetry.labelled(telemetry.sentences, sentence.support).inc()
        return checked

    def _end(self, verdict: Verdict) -> None:
        if self._already_said:
            raise Diverged
        self.usage = verdict.usage
        rest = self._checked(self._splitter.flush(), finish_reason=verdict.finish_reason)
        self._append(*rest, self._done(verdict))

    def _done(self, verdict: Verdict) -> Done:
        job = self.job
        done = Done(
            finish_reason=verdict.finish_reason,
            usage=verdict.usage,
            cost=None if (cost := self.cost) is None else float(cost),
            timings=Timings(
                queue=round(self._queue_s, 4),
                embed=round(job.embed_s, 4),
                retrieve=round(job.retrieve_s, 4),
                rewrite=round(job.rewrite_s, 4) if job.rewrite_s else msgspec.UNSET,
                first_token=None if self._first_token_s is None else round(self._first_token_s, 4),
                total=round(time.monotonic() - self._started, 4),
            ),
            as_of=job.as_of,
            index_lag_seconds=round(job.index_lag_seconds, 3),
            degraded=job.checked_at is not None,
            access_as_of=job.checked_at or msgspec.UNSET,
        )
        return done if self._model_failed is None else degraded(done, self._model_failed)

    def _cut_off(self) -> None:
        """Stopped from outside: by its askers, by the shutdown, or because another process has taken over."""
        if self._stop_as is not None:
            self._fail(self._stop_as())
            return
        self._count_unfinished()
        telemetry.stream_aborts.labels("cancelled").inc()
        rest = self._checked(self._splitter.flush(), finish_reason="cancelled")
        self._append(*rest, self._done(Verdict("cancelled", self.usage)))

    def _fail(self, error: RefdeskError) -> None:
        self._count_unfinished()
        self.failure = error
        telemetry.stream_aborts.labels(error.code).inc()
        partial = self._first_token_s is not None or self.log.count(Delta.name) > 0
        self._append(failed(error, partial=partial))

    def _count_unfinished(self) -> None:
        """Counts the output of an unfinished call, text and thoughts, since the provider bills it."""
        written = self.usage.output_tokens + tokens.output_tokens(self.log.text())
        self.usage = msgspec.structs.replace(self.usage, output_tokens=written)


def _without_contradiction(sentence: Sentence) -> Sentence:
    return msgspec.structs.replace(sentence, support="unchecked") if sentence.support == "contradicted" else sentence
