"""The indexer: takes document events off the bus and sees each one through to an end.

Every event ends in exactly one of these, and only then is it acknowledged:

    applied, or already there     IndexApplied is published
    superseded                    nothing: the newer event speaks
    given up                      a dead letter is stored, IndexFailed(final) is published

Until then it comes back: at once when a process dies, after a pause when an attempt failed. What is published carries a
deterministic message id, so that a repetition of the same event within the broker's window is dropped; later ones are
harmless. A document that is told again, under another event, is answered again: its state waits for that.

An attempt counts only when the document may be at fault. When a part that Refdesk depends on is away (``Unavailable``,
``Overloaded``), the event waits and is tried for as long as that lasts: an outage must not fail documents. ``deliveries_max``
ends even that, for a document that takes the process down each time.

Large documents do not hold up small ones: they step aside and go on in lanes of their own (`lanes`).
"""

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from refdesk.contracts.documents import IndexingStep
from refdesk.contracts.errors import Overloaded, RefdeskError, Unavailable
from refdesk.contracts.events import (
    DOCUMENTS_STREAM,
    INDEXER,
    NEWS_S,
    DocumentChanged,
    DocumentDeleted,
    IndexFailed,
    IndexStarted,
    Received,
    decode,
    encode,
)
from refdesk.indexing.dead_letters import DeadLetters, Fault, Work
from refdesk.indexing.pipeline import Outcome, StepAside
from refdesk.outside import telemetry, tracing
from refdesk.outside.nats.broker import Broker, Consumer, ConsumerSettings, Message

logger = logging.getLogger(__name__)

SOURCE = "/indexer"
UNREADABLE = "unreadable-event"
VERSION_MAX = (1 << 63) - 1  # a bigint
QUIET_S = 1.0
"""Work that ends sooner is not announced: whoever waits hardly sees it, and each announcement costs a write."""
ACK_PENDING_MAX = 4096
"""Of all indexers together. Those aside count, and must not keep small documents from being delivered."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``concurrency`` documents in flight; the n-th pause of ``backoff_s`` follows the n-th failure, the last repeats."""

    concurrency: int = 6
    aside_max: int = 200
    """Documents beside these that are large, or wait for another version of themselves."""
    attempts_max: int = 5
    deliveries_max: int = 1000
    backoff_s: tuple[float, ...] = (1.0, 5.0, 15.0, 60.0)
    outage_pause_s_max: float = 15.0
    ack_wait_s: float = 30.0
    grace_s: float = 10.0
    """How long work in hand may go on after the worker was told to stop."""


class Handles(Protocol):
    """An `Indexing`, or a `LiveIndexing`."""

    async def handle(self, event: DocumentChanged | DocumentDeleted, *, step_aside: StepAside) -> Outcome: ...

    def step_of(self, document_id: str) -> IndexingStep | None: ...


class Runs(Protocol):
    """What has to run for as long as there is work in hand."""

    async def run(self) -> None: ...


class Worker:
    """Consumes ``documents.>``. Run as many processes as you like: they share one durable consumer."""

    def __init__(
        self,
        *,
        broker: Broker,
        indexing: Handles,
        embeddings: Runs,
        dead_letters: DeadLetters,
        settings: WorkerSettings | None = None,
        durable: str = INDEXER,
    ) -> None:
        self._broker = broker
        self._indexing = indexing
        self._embeddings = embeddings
        self._dead_letters = dead_letters
        self._settings = settings or WorkerSettings()
        self._consumer = broker.consumer(
            ConsumerSettings(
                stream=DOCUMENTS_STREAM,
                durable=durable,
                filter_subjects=("documents.>",),
                ack_wait_s=self._settings.ack_wait_s,
                ack_pending_max=ACK_PENDING_MAX,
            )
        )
        self._documents = _OneAtATime()
        self.outcomes: Counter[str] = Counter()
        """Events by how they ended: applied, unchanged, superseded, retried, waiting, given_up."""

    @property
    def consumer(self) -> Consumer:
        """For the backlog: ``await worker.consumer.pending_count()``."""
        return self._consumer

    async def run(self) -> None:
        """Work until cancelled; then finish what is in hand within ``grace_s``, and give back the rest."""
        async with asyncio.TaskGroup() as tasks:
            calls = tasks.create_task(self._embeddings.run())
            try:
                await self._consumer.consume(
                    self.handle,
                    concurrency=self._settings.concurrency,
                    aside_max=self._settings.aside_max,
                    grace_s=self._settings.grace_s,
                )
            finally:
                calls.cancel()

    async def handle(self, message: Message) -> None:
        """See one message through. Raises Unavailable when the broker does not take the verdict: it will return."""
        try:
            received = decode(message.payload)
        except (msgspec.MsgspecError, RecursionError) as error:
            await self._give_up_unreadable(message, reason=f"The payload is not an event of ours: {error}.")
            return
        event = received.event
        if not isinstance(event, DocumentChanged | DocumentDeleted):
            await self._give_up_unreadable(message, reason=f"{event.type} does not belong on this stream.")
            return
        if not 1 <= event.version <= VERSION_MAX or "\x00" in event.document_id:
            await self._give_up_unreadable(message, reason="The event names no possible document version.")
            return
        if self._documents.is_busy(event.document_id):
            message.step_aside()
        async with self._documents.turn(event.document_id):
            with tracing.processing(
                tracing.PROCESS_DOCUMENTS,
                received.traceparent,
                stream=DOCUMENTS_STREAM,
                deliveries=message.deliveries,
            ):
                await self._attempt(message, received, event)

    async def _attempt(self, message: Message, received: Received, event: DocumentChanged | DocumentDeleted) -> None:
        work = Work(
            event_id=received.event_id,
            subject=message.subject,
            payload=message.payload,
            document_id=event.document_id,
            version=event.version,
        )
        try:
            async with self._announced(event):
                outcome = await self._indexing.handle(event, step_aside=message.step_aside)
            await self._conclude(message, work, outcome, received)
        except (Unavailable, Overloaded) as error:
            await self._wait(message, work, error)
        except RefdeskError as error:
            await self._fail(message, work, _fault(error))
        except Exception as error:
            logger.exception("indexing %s failed", work.key)
            reason = (
                f"Something unexpected went wrong ({type(error).__name__}); its dead letter, or the log, says more."
            )
            await self._fail(message, work, _fault(error, reason=reason))

    async def _conclude(self, message: Message, work: Work, outcome: Outcome, received: Received) -> None:
        """Publish the fact, then acknowledge: whoever dies in between leaves the event to be delivered again."""
        fact = outcome.fact
        if fact is not None:
            event_id = f"{work.key}:applied:{fact.generation}:{work.event_id}"
            payload = encode(fact, event_id=event_id, source=SOURCE, traceparent=tracing.current_traceparent())
            await self._broker.publish(fact.subject, payload, message_id=event_id)
        if outcome.kind != "unchanged" or message.deliveries > 1:  # else the first success has forgotten them
            await self._dead_letters.forget(received.event.document_id, received.event.version)
        await message.ack()
        self._count(outcome.kind, work, chunks=fact.chunks if fact else 0, seconds=fact.seconds if fact else {})

    async def _wait(self, message: Message, work: Work, error: RefdeskError) -> None:
        """A part is away: nobody's fault. Try again later, and later again."""
        if message.deliveries >= self._settings.deliveries_max:
            await self._fail(message, work, msgspec.structs.replace(_fault(error), final=True))
            return
        pause_s = self._outage_pause_s(message)
        with suppress(Unavailable):  # only news: the document waits, whether that is known or not
            await self._tell(work, _fault(error), attempts=0, next_try_s=pause_s, turn=f"waiting:{message.deliveries}")
        await message.nak(pause_s)
        self._count("waiting", work, reason=error.message)

    async def _fail(self, message: Message, work: Work, fault: Fault) -> None:
        try:
            failure = await self._dead_letters.record(work, fault, attempts_max=self._settings.attempts_max)
        except Unavailable as error:
            await message.nak(self._outage_pause_s(message))
            self._count("waiting", work, reason=error.message)
            return
        fault = msgspec.structs.replace(fault, final=failure.final)
        pause_s = self._pause_s(failure.attempts)
        await self._tell(work, fault, attempts=failure.attempts, next_try_s=pause_s, turn=f"failed:{failure.attempts}")
        if failure.final:
            await message.term()
        else:
            await message.nak(pause_s)
        self._count("given_up" if failure.final else "retried", work, reason=fault.reason)

    async def _tell(self, work: Work, fault: Fault, *, attempts: int, next_try_s: float, turn: str) -> None:
        """``turn`` tells one such fact about an event from the next, and a repetition from both."""
        if work.document_id is None or work.version is None:
            return
        fact = IndexFailed(
            document_id=work.document_id,
            version=work.version,
            reason=fault.reason,
            code=fault.code,
            attempts=attempts,
            final=fault.final,
            next_try_s=None if fault.final else next_try_s,
            occurred_at=datetime.now(UTC),
        )
        event_id = f"{work.key}:{work.event_id}:{turn}"
        payload = encode(fact, event_id=event_id, source=SOURCE, traceparent=tracing.current_traceparent())
        await self._broker.publish(fact.subject, payload, message_id=event_id)

    @asynccontextmanager
    async def _announced(self, event: DocumentChanged | DocumentDeleted) -> AsyncIterator[None]:
        """Say that an indexer is at work on this, once it has been for a while and until it ends."""
        announcing = asyncio.create_task(self._announce(event))
        try:
            yield
        finally:
            announcing.cancel()
            await asyncio.wait([announcing])

    async def _announce(self, event: DocumentChanged | DocumentDeleted) -> None:
        pause_s = QUIET_S
        while True:
            await asyncio.sleep(pause_s)
            now = datetime.now(UTC)
            step = self._indexing.step_of(event.document_id)
            fact = IndexStarted(document_id=event.document_id, version=event.version, occurred_at=now, step=step)
            event_id = f"{event.document_id}@{event.version}:started:{now.timestamp()}"
            with suppress(RefdeskError):  # only news: the work goes on without it
                payload = encode(fact, event_id=event_id, source=SOURCE, traceparent=tracing.current_traceparent())
                await self._broker.publish(fact.subject, payload, message_id=event_id)
            pause_s = NEWS_S

    async def _give_up_unreadable(self, message: Message, *, reason: str) -> None:
        work = Work(event_id=None, subject=message.subject, payload=message.payload, document_id=None, version=None)
        await self._fail(message, work, Fault(reason=reason, code=UNREADABLE, final=True))

    def _pause_s(self, failures: int) -> float:
        pauses = self._settings.backoff_s
        return pauses[min(failures, len(pauses)) - 1]

    def _outage_pause_s(self, message: Message) -> float:
        return min(self._pause_s(message.deliveries), self._settings.outage_pause_s_max)

    def _count(
        self, outcome: str, work: Work, *, chunks: int = 0, seconds: dict[str, float] | None = None, reason: str = ""
    ) -> None:
        """The one place where an event's end is counted and logged. Never the document's text."""
        self.outcomes[outcome] += 1
        telemetry.events_processed.labels(_kind(work), outcome).inc()
        tracing.note("refdesk.outcome", outcome)
        match outcome:
            case "applied":
                steps = ", ".join(f"{step} {spent:.3f} s" for step, spent in (seconds or {}).items())
                logger.info("indexed %s: %d chunks (%s)", work.key, chunks, steps)
            case "given_up":
                logger.warning("gave up %s: %s", work.key, reason)
            case "retried" | "waiting":
                logger.warning("will try %s again: %s", work.key, reason)
            case _:
                logger.debug("%s %s", outcome, work.key)


def _fault(error: Exception, *, reason: str | None = None) -> Fault:
    """What a dead letter keeps of an error; the log excerpt is its traceback, with what caused it."""
    known = error if isinstance(error, RefdeskError) else RefdeskError(reason)
    return Fault(
        reason=reason or known.message,
        code=known.code,
        final=isinstance(error, RefdeskError) and not error.retryable,
        log="".join(traceback.format_exception(error)),
    )


def _kind(work: Work) -> str:
    """The event's type as a label: one of three, whatever arrives."""
    if work.document_id is None:
        return "unreadable"
    return DocumentDeleted.type if work.subject.endswith(".deleted") else DocumentChanged.type


class _OneAtATime:
    """A turn per document: two versions of one document are never worked on side by side in one process."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    def is_busy(self, document_id: str) -> bool:
        return document_id in self._locks

    @asynccontextmanager
    async def turn(self, document_id: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(document_id, asyncio.Lock())
        self._users[document_id] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[document_id] -= 1
            if self._users[document_id] == 0:
                del self._locks[document_id], self._users[document_id]
