"""The relay: carries committed events from the outbox to the broker.

    write ──(one transaction)──▶ documents + outbox ──claim──▶ publish ──acknowledged──▶ mark published
                                     │                            │
                                     └── NOTIFY wakes the relay   └── refused, unreachable: release, back off

Rows are claimed by their own state under a lease, never by "id greater than the last": ids and times are not in commit
order, so any high-water mark would skip a row that commits late. A crash between the acknowledgement and the mark
publishes the event once more; the broker drops it by its id, or the consumer by its version.

The broker may lose what it acknowledged; that is found and told again (`losses`). What the relay does *not* do: keep order
between documents, or promise order within one when two relays meet. Versions decide.
"""

import asyncio
import contextlib
import logging

import msgspec

from refdesk.contracts.errors import RefdeskError
from refdesk.contracts.events import DOCUMENTS_STREAM
from refdesk.documents.losses import Losses
from refdesk.documents.outbox import Outbox, OutboxEvent
from refdesk.outside import tracing
from refdesk.outside.nats.broker import Broker, Published
from refdesk.outside.postgres.database import listen

logger = logging.getLogger(__name__)

CHANNEL = "refdesk_outbox"


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """``lease_s`` must outlast one batch's publishing; a relay that dies holds its rows that long."""

    batch: int = 100
    lease_s: float = 15.0
    poll_s: float = 1.0
    check_s: float = 5.0
    backoff_s: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0)


class Relay:
    """Run one per process; they share the outbox."""

    def __init__(
        self, outbox: Outbox, *, broker: Broker, database_url: str, settings: RelaySettings | None = None
    ) -> None:
        self._outbox = outbox
        self._broker = broker
        self._database_url = database_url
        self._settings = settings or RelaySettings()
        self._wake = asyncio.Event()
        self._losses = Losses(outbox, broker=broker)
        self._check_due_at = 0.0
        self._failures = 0

    async def run(self) -> None:
        """Publish until cancelled. Neither the broker's nor the database's absence ends it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._publish_forever())

    async def _listen(self) -> None:
        async for _ in listen(self._database_url, CHANNEL):
            self._wake.set()

    async def _publish_forever(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._check_streams_when_due()
                published = await self._publish_batch()
            except Exception as error:  # noqa: BLE001 (the loop's border: whatever went wrong, it is tried again)
                await self._back_off(error)
                continue
            self._failures = 0
            if published == 0:
                await self._wait(self._settings.poll_s)

    async def _wait(self, interval_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval_s):
                await self._wake.wait()

    async def _back_off(self, error: Exception) -> None:
        pauses = self._settings.backoff_s
        if not isinstance(error, RefdeskError):
            logger.error("the relay failed; trying again", exc_info=error)
        elif self._failures == 0:
            logger.warning("the relay cannot publish; changes wait in the outbox: %s", error)
        await asyncio.sleep(pauses[min(self._failures, len(pauses) - 1)])
        self._failures += 1

    async def _publish_batch(self) -> int:
        """Publish one batch; returns how many rows were claimed. Raises the first error after settling the batch."""
        events = await self._outbox.claim(count=self._settings.batch, lease_s=self._settings.lease_s)
        if not events:
            return 0
        batch = _Batch(self._broker, events)
        try:
            await batch.publish()
        finally:
            await asyncio.shield(self._settle(batch))
        if batch.error is not None:
            raise batch.error
        return len(events)

    async def _settle(self, batch: "_Batch") -> None:
        if batch.acknowledged:
            self._losses.notice(batch.acknowledged.values())
            await self._outbox.mark_published(
                list(batch.acknowledged), stream=DOCUMENTS_STREAM, last_sequence=self._losses.seen_sequence
            )
        if batch.unpublished:
            await self._outbox.release(batch.unpublished)

    async def _check_streams_when_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._losses.proven or now >= self._check_due_at:
            await self._losses.look()
            self._check_due_at = now + self._settings.check_s


class _Batch:
    """Claimed events being published: documents side by side, the events of one document one after the other."""

    def __init__(self, broker: Broker, events: list[OutboxEvent]) -> None:
        self._broker = broker
        self._events = events
        self.acknowledged: dict[str, Published] = {}
        self.error: RefdeskError | None = None

    @property
    def unpublished(self) -> list[str]:
        return [event.id for event in self._events if event.id not in self.acknowledged]

    async def publish(self) -> None:
        by_document: dict[str, list[OutboxEvent]] = {}
        for event in self._events:
            by_document.setdefault(event.document_id, []).append(event)
        async with asyncio.TaskGroup() as tasks:
            for events in by_document.values():
                tasks.create_task(self._publish_in_order(events))

    async def _publish_in_order(self, events: list[OutboxEvent]) -> None:
        try:
            for event in events:
                with tracing.sending(tracing.SEND_DOCUMENTS, event.traceparent, stream=DOCUMENTS_STREAM):
                    reply = await self._broker.publish(event.subject, event.payload, message_id=event.id)
                self.acknowledged[event.id] = reply
        except RefdeskError as error:
            self.error = self.error or error
