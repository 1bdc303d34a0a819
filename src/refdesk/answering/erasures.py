"""What was said from a deleted document is erased, and the Document Service is told that it is.

    documents.<id>.deleted ─▶ erase answers, feedback … ─▶ again, half a minute later ─▶ not in the index? ─▶ IndexErased

From the deletion on nobody is shown any of it (`withdrawal`, `evidence.gate`); this removes what is withheld. An answer that is
being written ends within seconds of the deletion, so the second time finds what came after the first. All assistants share one
consumer. Copies in the memory of other processes are withheld too, and go with their newer answers.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime

import msgspec

from refdesk.contracts.access import Scope
from refdesk.contracts.errors import Unavailable
from refdesk.contracts.events import DOCUMENTS_STREAM, ERASER, DocumentDeleted, IndexErased, decode, encode
from refdesk.index.open_generations import OpenGenerations
from refdesk.outside import tracing
from refdesk.outside.nats.broker import Broker, ConsumerSettings, Message
from refdesk.outside.valkey.client import ValkeyError

logger = logging.getLogger(__name__)

SOURCE = "refdesk/answering"
AGAIN_S = 30.0
"""Longer than an answer goes on after a document that it stands on was deleted."""
RETRY_S = 5.0
CONCURRENCY = 2
WAITING_MAX = 10_000
"""Deletions that may wait for their second time."""
EVERYTHING = Scope(readers=(), everything=True)

Erase = Callable[[Collection[str]], Awaitable[int]]
"""Remove what a place has of these documents; returns how many things. May be called again. Raises Unavailable or ValkeyError."""


class Erasures:
    """Have ``run`` running. ``places``: by name, where something may have been said from a document."""

    def __init__(
        self,
        broker: Broker,
        *,
        places: Mapping[str, Erase],
        generations: OpenGenerations,
        replicas: int = 0,
    ) -> None:
        self._broker = broker
        self._places = places
        self._generations = generations
        self._removed: OrderedDict[str, Counter[str]] = OrderedDict()
        """What this process has removed of a document so far."""
        self._consumer = broker.consumer(
            ConsumerSettings(
                stream=DOCUMENTS_STREAM,
                durable=ERASER,
                filter_subjects=("documents.*.deleted",),
                ack_pending_max=WAITING_MAX,
                replicas=replicas,
            )
        )

    async def run(self) -> None:
        """Until cancelled. Neither the broker's nor a database's absence ends it."""
        await self._consumer.consume(self.handle, concurrency=CONCURRENCY)

    async def handle(self, message: Message) -> None:
        """Erase what one deletion is about. What is no deletion is the indexer's to report."""
        try:
            received = decode(message.payload)
        except (msgspec.MsgspecError, RecursionError):
            received = None
        if received is None or not isinstance(received.event, DocumentDeleted) or "\x00" in received.event.document_id:
            await message.ack()
            return
        event = received.event
        try:
            await self._erase(event.document_id)
            if message.deliveries < 2:
                await message.nak(AGAIN_S)
                return
            generations = await self._generations_without(event.document_id)
            if generations is None:
                await message.nak(RETRY_S)
                return
            await self._tell(event, generations, event_id=received.event_id)
        except (Unavailable, ValkeyError, TimeoutError) as error:
            logger.warning("not everything of a deleted document is erased yet: %s", error)
            await message.nak(RETRY_S)
        else:
            self._removed.pop(event.document_id, None)
            await message.ack()

    async def _erase(self, document_id: str) -> None:
        counts = self._removed.setdefault(document_id, Counter(dict.fromkeys(self._places, 0)))
        if len(self._removed) > WAITING_MAX:
            self._removed.popitem(last=False)
        for place, erase in self._places.items():
            counts[place] += await erase([document_id])

    async def _generations_without(self, document_id: str) -> tuple[str, ...] | None:
        """The generations of the index, none of which has a passage of it; None while one has."""
        live = await self._generations.within_reach()
        found = await asyncio.gather(
            *(self._generations.index_of(one).passages(document_id, scope=EVERYTHING) for one in live)
        )
        return None if any(one is not None for one in found) else tuple(f"{one.id}" for one in live)

    async def _tell(self, event: DocumentDeleted, generations: tuple[str, ...], *, event_id: str) -> None:
        fact = IndexErased(
            document_id=event.document_id,
            version=event.version,
            places=dict(self._removed.get(event.document_id, {})),
            generations=generations,
            occurred_at=datetime.now(UTC),
        )
        message_id = f"{event.document_id}@{event.version}:erased:{event_id}"
        payload = encode(fact, event_id=message_id, source=SOURCE, traceparent=tracing.current_traceparent())
        await self._broker.publish(fact.subject, payload, message_id=message_id)
