"""Told to every process: this asker wants no more of this answer. Whoever writes it, or reads it for them, hears of it.

Valkey down: only the process that was asked stops.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import msgspec

from refdesk.outside.valkey.client import Valkey, ValkeyError

logger = logging.getLogger(__name__)

CHANNEL = "refdesk:stop"
RETRY_S = 1.0


class Stop(msgspec.Struct, frozen=True):
    """This asker wants no more of this log."""

    log_id: str
    answer_id: str


class Stops:
    """``hear`` is awaited for each that any process has told, this one included. Have ``run`` running."""

    def __init__(self, valkey: Valkey, *, hear: Callable[[Stop], Awaitable[None]]) -> None:
        self._valkey = valkey
        self._hear = hear

    async def tell(self, stop: Stop) -> None:
        try:
            await self._valkey.command("PUBLISH", CHANNEL, msgspec.json.encode(stop))
        except ValkeyError as error:
            logger.debug("other replicas are not told to stop: %s", error)

    async def run(self) -> None:
        """Until cancelled. What cannot be read, as another release may write it, is passed over."""
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
