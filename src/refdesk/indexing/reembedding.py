"""Re-embedding: a generation beside the active one is brought to have what the active one has, and kept so.

    active   a@3  b@1  c@7  d@2 ✗          what it has in a newer version ─▶ the Document Service says what that is now
    beside   a@3  b@1  c@6                 ─▶ parse, chunk, embed with the other model ─▶ replace, if newer

Nothing is remembered but the two generations themselves: whatever ends a process, the next look finds what is still
behind. Any number of indexers work at it: each takes documents at random from the next few hundred, so that they seldom
take the same, and when they do, the second finds it done. A document that this generation cannot hold becomes a *gap*,
with its reason; when a part is away, the work waits, and its generation says so.

What it does not do: apply events. These go to the active generation, which is never kept waiting by the other one.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from refdesk.contracts.documents import ManifestEntry
from refdesk.contracts.errors import Overloaded, RefdeskError, Unavailable
from refdesk.contracts.events import DocumentChanged, DocumentDeleted
from refdesk.index.ledger.generations import Behind, Gap, GenerationMoved, Live
from refdesk.index.open_generations import Opened, OpenGenerations
from refdesk.indexing.active_generation import LiveIndexing
from refdesk.outside import telemetry
from refdesk.outside.document_service import DocumentServiceClient

logger = logging.getLogger(__name__)

WINDOW = 256
"""Documents looked at at a time."""
BATCH = 32
"""Of these, documents that one process takes."""
LOOK_S = 0.5
"""The pause when nothing is behind; longer where looking takes long."""
OUTAGE_PAUSE_S = 5.0
MEASURE_S = 15.0
"""How often the metrics are brought up to date."""
ATTEMPTS_MAX = 3
"""How often a document is tried by one process before it is a gap."""


class Reembedding:
    """``concurrency`` documents at a time."""

    def __init__(
        self,
        generations: OpenGenerations,
        *,
        indexing: LiveIndexing,
        documents: DocumentServiceClient,
        concurrency: int,
    ) -> None:
        self._generations = generations
        self._indexing = indexing
        self._documents = documents
        self._concurrency = concurrency
        self._attempts: Counter[tuple[int, str, int]] = Counter()
        self._after = ""
        self._measured_at = -MEASURE_S

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(await self._look())

    async def _look(self) -> float:
        """One batch, if there is one; returns the seconds to wait before the next look."""
        live: Live | None = None
        try:
            live = await self._generations.record.beside()
            await self._measure(live)
            return LOOK_S if live is None else await self._advance(live)
        except GenerationMoved:
            return 0.0
        except (Unavailable, Overloaded) as error:
            await self._say(live, error.message)
        except RefdeskError as error:
            await self._say(live, error.message)
        except Exception:
            logger.exception("re-embedding failed; trying again")
            await self._say(live, "Something unexpected went wrong; the indexer's log says more.")
        return OUTAGE_PAUSE_S

    async def _measure(self, live: Live | None) -> None:
        """Now and then: it takes a look at every document."""
        if time.monotonic() - self._measured_at < MEASURE_S:
            return
        self._measured_at = time.monotonic()
        telemetry.index_generation.set((await self._generations.active()).generation.id)
        behind = 0 if live is None else await self._generations.record.count_behind(live.id)
        telemetry.index_generation_behind.set(behind)

    async def _advance(self, live: Live) -> float:
        started = time.monotonic()
        window = await self._generations.record.behind(live.id, after=self._after, count=WINDOW)
        looked_s = time.monotonic() - started
        if not window:
            from_the_start, self._after = not self._after, ""
            return max(LOOK_S, 10 * looked_s) if from_the_start else 0.0
        opened = await self._generations.open(live)
        batch = random.sample(window, min(BATCH, len(window)))
        done = await self._build(opened, batch)
        if done:
            await self._say(live, None)
        if len(window) <= BATCH or not done:
            self._after = window[-1].document_id
        return 0.0 if done else LOOK_S

    async def _build(self, opened: Opened, batch: Sequence[Behind]) -> int:
        """How many of them are not behind any more."""
        entries = await self._documents.manifest_of(behind.document_id for behind in batch)
        waiting = iter(batch)

        async def work() -> int:
            return sum([await self._one(opened, behind, entries.get(behind.document_id)) for behind in waiting])

        try:
            async with asyncio.TaskGroup() as tasks:
                working = [tasks.create_task(work()) for _ in range(min(self._concurrency, len(batch)))]
        except* RefdeskError as errors:
            raise _first(errors) from errors
        return sum(task.result() for task in working)

    async def _one(self, opened: Opened, behind: Behind, entry: ManifestEntry | None) -> bool:
        """Raises Unavailable, GenerationMoved."""
        try:
            outcome = await self._indexing.handle_beside(opened, _event(behind, entry))
        except (Unavailable, Overloaded):
            raise
        except Exception as error:
            reason = error.message if isinstance(error, RefdeskError) else f"{type(error).__name__}; see the log."
            if not isinstance(error, RefdeskError):
                logger.exception("embedding %s for generation %d failed", behind.document_id, opened.generation.id)
            return await self._failed(opened, behind, reason, final=not getattr(error, "retryable", True))
        if outcome.kind == "superseded":
            return False
        await self._generations.record.forget_gap(opened.generation.id, behind.document_id)
        if outcome.kind == "applied" and outcome.fact is not None:
            telemetry.reembedded_chunks.inc(outcome.fact.chunks)
        return True

    async def _failed(self, opened: Opened, behind: Behind, reason: str, *, final: bool) -> bool:
        """A gap, for good or after some attempts."""
        place = (opened.generation.id, behind.document_id, behind.version)
        self._attempts[place] += 1
        if not final and self._attempts[place] < ATTEMPTS_MAX:
            return False
        del self._attempts[place]
        logger.warning("generation %d cannot hold %s: %s", opened.generation.id, behind.document_id, reason)
        gap = Gap(behind.document_id, behind.version, reason)
        await self._generations.record.add_gap(opened.generation.id, gap)
        return True

    async def _say(self, live: Live | None, problem: str | None) -> None:
        if problem is not None:
            logger.warning("re-embedding waits: %s", problem)
        if live is None or live.problem == problem:
            return
        try:
            await self._generations.record.say_problem(live.id, problem)
        except Unavailable as error:
            logger.warning("cannot say why re-embedding waits: %s", error)


def _event(behind: Behind, entry: ManifestEntry | None) -> DocumentChanged | DocumentDeleted:
    """What tells of the document as it is now; of one that the Document Service does not know, its removal."""
    now = datetime.now(UTC)
    if entry is None:
        return DocumentDeleted(document_id=behind.document_id, version=behind.version, occurred_at=now)
    if entry.deleted:
        return DocumentDeleted(document_id=entry.document_id, version=entry.version, occurred_at=now)
    return DocumentChanged(
        document_id=entry.document_id,
        version=entry.version,
        content_sha256=entry.content_sha256,
        media_type=entry.media_type,
        title=entry.title,
        readers=entry.readers,
        tags=entry.tags,
        external_id=entry.external_id,
        filename=entry.filename,
        url=entry.url,
        occurred_at=entry.updated_at or now,
    )


def _first(errors: BaseExceptionGroup[RefdeskError]) -> RefdeskError:
    """What counts of several: that the generation has moved, else any."""
    leaves = [error for error in errors.exceptions if isinstance(error, RefdeskError)]
    return next((error for error in leaves if isinstance(error, GenerationMoved)), leaves[0])
