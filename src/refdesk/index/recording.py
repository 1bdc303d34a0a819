"""The recorder: writes what documents' events say about access beside the index, and knows whether it has written all.

It has a consumer of its own on the stream and one short statement per event, so that nothing that holds up indexing holds
it up: no backlog, no large document, no failing parser. Every indexer and every assistant runs one. They share a durable
consumer; an event in the hands of a process that froze is another's after ``LEASE_S``.
"""

import asyncio
import logging

import msgspec

from refdesk.contracts.errors import RefdeskError, Unavailable
from refdesk.contracts.events import DOCUMENTS_STREAM, RECORDER, DocumentChanged, DocumentDeleted, decode
from refdesk.index.ledger.standings import Standings
from refdesk.index.open_generations import OpenGenerations
from refdesk.outside.nats.broker import Broker, ConsumerSettings, Message

logger = logging.getLogger(__name__)

LEASE_S = 2.0
"""A tenth of a second is long for one statement."""
CONCURRENCY = 2
RETRY_S = 0.5
VERSION_MAX = (1 << 63) - 1  # a bigint
PRUNE_S = 5.0
CURRENT_S = 0.5
"""How long a question waits for the record to catch up, at most, when it needs it."""
LOOK_S = 0.02


class Recorder:
    """Keeps the record. Have ``run`` running."""

    def __init__(self, broker: Broker, *, standings: Standings, generations: OpenGenerations) -> None:
        self._standings = standings
        self._generations = generations
        self._consumer = broker.consumer(
            ConsumerSettings(
                stream=DOCUMENTS_STREAM, durable=RECORDER, filter_subjects=("documents.>",), ack_wait_s=LEASE_S
            )
        )

    async def run(self) -> None:
        """Until cancelled. Neither the broker's nor the database's absence ends it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._consumer.consume(self.handle, concurrency=CONCURRENCY))
            tasks.create_task(self._prune())

    async def handle(self, message: Message) -> None:
        """Record one event. What is none of ours is the indexer's to report."""
        try:
            event = _event(message)
            if event is None:
                await self._standings.pass_over(message.stream_sequence)
            else:
                await self._standings.note(event, sequence=message.stream_sequence)
        except Unavailable as error:
            logger.warning("a change is not recorded yet: %s", error)
            await message.nak(RETRY_S)
        else:
            await message.ack()

    async def is_current(self, *, within_s: float = CURRENT_S) -> bool:
        """Whether everything on the stream now is in the record, looked at until it is or the time is up."""
        try:
            async with asyncio.timeout(within_s):
                while (await self._consumer.backlog()).total:
                    await asyncio.sleep(LOOK_S)
        except (TimeoutError, Unavailable) as error:
            logger.warning("the record of changes is not known to be current: %r", error)
            return False
        return True

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_S)
            try:
                await self._standings.prune(generation=(await self._generations.active()).generation)
            except RefdeskError as error:
                logger.warning("the record of changes cannot be pruned yet: %s", error)


def _event(message: Message) -> DocumentChanged | DocumentDeleted | None:
    """None for what is none of ours, or names no possible version of a document."""
    try:
        event = decode(message.payload).event
    except (msgspec.MsgspecError, RecursionError):
        return None
    if not isinstance(event, DocumentChanged | DocumentDeleted):
        return None
    return event if 1 <= event.version <= VERSION_MAX and "\x00" not in event.document_id else None
