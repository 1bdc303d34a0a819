"""Stopping an answer in every process: where it is written, and where it is read for the asker who stopped it.

Valkey down: only the process that was asked stops.
"""

import asyncio
import logging
from contextlib import aclosing

import msgspec

from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import AnswerRecord
from refdesk.answering.productions import Productions
from refdesk.outside.valkey.client import Valkey, ValkeyError

logger = logging.getLogger(__name__)

CHANNEL = "refdesk:stop"
RETRY_S = 1.0


class Stop(msgspec.Struct, frozen=True):
    """An asker's stop of the log that answers them."""

    log_id: str
    answer_id: str


class Stops:
    """Have ``run`` running."""

    def __init__(self, valkey: Valkey, *, journal: Journal, productions: Productions) -> None:
        self._valkey = valkey
        self._journal = journal
        self._productions = productions

    async def stop(self, record: AnswerRecord) -> None:
        """Ends this asker's readings. The model stops at once unless another asker still reads."""
        stop = Stop(record.log_id, record.answer_id)
        await self._hear(stop)
        try:
            await self._valkey.command("PUBLISH", CHANNEL, msgspec.json.encode(stop))
        except ValkeyError as error:
            logger.debug("other replicas are not told to stop: %s", error)

    async def _hear(self, stop: Stop) -> None:
        log = self._journal.known(stop.log_id)
        if log is None:
            return
        log.stop(stop.answer_id)
        if self._productions.writes(log.id):
            await self._productions.stop_if_unread(log)
        else:
            await self._journal.tell_presence(log)

    async def run(self) -> None:
        """Receives every stop, this process's own included, until cancelled. What cannot be read is passed over."""
        while True:
            try:
                async with aclosing(self._valkey.messages(CHANNEL)) as messages:
                    async for message in messages:
                        await self._take(message)
            except ValkeyError as error:
                logger.debug("stops from other replicas are not heard: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _take(self, message: bytes) -> None:
        try:
            stop = msgspec.json.decode(message, type=Stop)
        except msgspec.MsgspecError as error:
            logger.warning("a message on %s is no stop: %s", CHANNEL, error)
        else:
            await self._hear(stop)
