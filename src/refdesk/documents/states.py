"""From the AI side's events to each document's state: applied, failed, or still on its way, and why.

Duplicates and reordering are normal input; the statements apply only what is newer. A reply that cannot be read is
given up, since no redelivery would make it readable.
"""

import logging

import msgspec

from refdesk.contracts.errors import Unavailable
from refdesk.contracts.events import (
    INDEX_STREAM,
    STATES,
    IndexApplied,
    IndexErased,
    IndexFailed,
    IndexStarted,
    Received,
    decode,
)
from refdesk.documents.store import DocumentStore
from refdesk.outside import telemetry, tracing
from refdesk.outside.nats.broker import Broker, ConsumerSettings, Message

logger = logging.getLogger(__name__)

RETRY_S = 1.0

CONSUMER = ConsumerSettings(stream=INDEX_STREAM, durable=STATES, filter_subjects=("index.>",))
"""One durable consumer, shared by all replicas of the Document Service."""


class StateConsumer:
    """Keeps the documents' states. Run one per process; they share the work.

    An event in the hands of a process that died is given to another after ``lease_s``.
    """

    def __init__(self, store: DocumentStore, *, broker: Broker, concurrency: int = 4, lease_s: float = 30.0) -> None:
        self._store = store
        self._broker = broker
        self._concurrency = concurrency
        self._consumer = msgspec.structs.replace(CONSUMER, ack_wait_s=lease_s)

    async def run(self) -> None:
        """Consume until cancelled. Neither the broker's nor the database's absence ends it."""
        await self._broker.consumer(self._consumer).consume(self.handle, concurrency=self._concurrency)

    async def handle(self, message: Message) -> None:
        """Apply one event and settle its message."""
        try:
            received = decode(message.payload)
            with tracing.processing(
                tracing.PROCESS_INDEX, received.traceparent, stream=INDEX_STREAM, deliveries=message.deliveries
            ):
                await self._apply(received)
        except msgspec.MsgspecError as error:
            logger.error("gave up a message on %s that is no event of ours: %s", message.subject, error)
            await message.term()
        except Unavailable as error:
            logger.warning("cannot store a document's state yet: %s", error)
            await message.nak(RETRY_S)
        else:
            await message.ack()

    async def _apply(self, received: Received) -> None:
        match received.event:
            case IndexStarted() as event:
                await self._store.apply_started(event)
            case IndexApplied() as event:
                waited_s = await self._store.apply_indexed(event)
                if waited_s is not None:
                    telemetry.time_to_search.observe(waited_s)
            case IndexFailed() as event:
                await self._store.apply_failed(event)
            case IndexErased() as event:
                await self._store.apply_erased(event)
            case event:
                raise msgspec.ValidationError(f"{event.type} does not belong on this stream")
