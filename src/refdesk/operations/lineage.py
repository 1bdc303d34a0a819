"""Noticing that one of the databases was restored from a backup, and putting the index right at once.

    the newest change that the index has heard of ──▶ known to the documents?   no: the documents were restored
    the last event that was acknowledged to NATS  ──▶ recorded in the index?    no: the index was rewound
    documents that have long been in the index    ──▶ known to the documents?   none: they are others

Each side is asked for what the other has seen. So no clock and no number has to be kept in step, and a restore is noticed that
loses one change. Then a pass of the reconciler leaves nothing alone: not what was just changed, is pending or has failed.
Where the documents are others, nothing is touched: a wrong address must not empty the index.

What it does *not* do: keep wrong passages away meanwhile. The gate does that at every look, for it asks the documents whether
they know the version, with its content, that is to be shown.
"""

import asyncio
import logging
from collections import deque

from refdesk.contracts.documents import ManifestEntry
from refdesk.contracts.errors import RefdeskError
from refdesk.contracts.events import DOCUMENTS_STREAM, RECORDER
from refdesk.index.ledger.lineage import Change, Doubt, LineageMemory, Memory
from refdesk.index.open_generations import OpenGenerations
from refdesk.operations.reconcile import Reconcilers
from refdesk.outside import telemetry
from refdesk.outside.document_service import DocumentServiceClient
from refdesk.outside.nats.broker import Broker

logger = logging.getLogger(__name__)

LOOK_S = 5.0
HEARD = 24
"""Changes, one of each look, by which a restore is told that was written to at once: those of two minutes."""
ELDEST = 20
"""Documents by which those of another database are told."""


class Lineage:
    """Have ``run`` running in every indexer; ``reconcilers`` are such as leave nothing alone."""

    def __init__(
        self,
        memory: LineageMemory,
        *,
        broker: Broker,
        generations: OpenGenerations,
        documents: DocumentServiceClient,
        reconcilers: Reconcilers,
        look_s: float = LOOK_S,
    ) -> None:
        self._memory = memory
        self._broker = broker
        self._generations = generations
        self._documents = documents
        self._reconcilers = reconcilers
        self._look_s = look_s
        self._heard = deque[Change](maxlen=HEARD)
        self._notes = 0

    async def run(self) -> None:
        """Until cancelled. The absence of any part ends no more than one look."""
        while True:
            try:
                await self.look()
            except RefdeskError as error:
                logger.debug("cannot compare the past of the index with that of the documents yet: %s", error)
            except Exception:
                logger.exception("comparing the past of the index with that of the documents failed; trying again")
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """One look, and what follows from it. Raises Unavailable when a part does not answer."""
        acknowledged = await self._follow()
        memory = await self._memory.recall()  # afterwards: what was acknowledged before is recorded now
        doubt = memory.doubt if memory.doubt in ("restored", "rewound") else await self._doubt(memory, acknowledged)
        if doubt != memory.doubt:
            await self._memory.doubt(doubt)
            telemetry.lineage_doubts.labels(doubt or "none").inc()
            logger.warning("the index and the documents: %s", doubt or "of one past again")
        if doubt in ("restored", "rewound"):
            await self._mend(acknowledged)

    async def _follow(self) -> int:
        """What the recorder has acknowledged of the stream; 0 before it has begun, and on a stream that is new."""
        state = await self._broker.stream_state(DOCUMENTS_STREAM)
        readers = {reader.name: reader.acknowledged for reader in await self._broker.readers(DOCUMENTS_STREAM)}
        if (await self._memory.recall()).stream_created_at == state.created_at:
            return readers.get(RECORDER, 0)
        await self._memory.begin_stream(state.created_at, recorded=state.last_sequence)
        return 0

    async def _doubt(self, memory: Memory, acknowledged: int) -> Doubt | None:
        active = await self._generations.active()
        eldest = await self._memory.eldest(generation=active.generation, count=ELDEST)
        if memory.newest is not None and memory.newest not in self._heard:
            self._heard.append(memory.newest)
        ids = {*eldest, *(change.document_id for change in self._heard)}
        entries = await self._documents.manifest_of(ids) if ids else {}
        if eldest and entries.keys().isdisjoint(eldest):
            return "foreign"
        if any(_is_lost(change, entries.get(change.document_id)) for change in self._heard):
            return "restored"
        was, self._notes = self._notes, memory.notes
        return "rewound" if acknowledged > memory.recorded or memory.notes < was else None

    async def _mend(self, acknowledged: int) -> None:
        await self._memory.forget_standings()
        for reconciler in await self._reconcilers():
            report = await reconciler.reconcile()
            logger.warning("after a restore, compared %d documents: %s", report.checked, report.found)
        await self._memory.settle(recorded=acknowledged)
        self._heard.clear()


def _is_lost(change: Change, entry: ManifestEntry | None) -> bool:
    """Whether the documents do not know that change. A later one may stand on it, or not: the gate knows, version by version."""
    if entry is None or entry.version < change.version:
        return True
    content = None if entry.deleted else entry.content_sha256
    return entry.version == change.version and content != change.content_sha256
