"""A message that was delivered, and how it is settled: once, and confirmed by the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime

import msgspec
from nats.aio.msg import Msg

from refdesk.contracts.errors import Unavailable
from refdesk.outside.nats.connection import Connection
from refdesk.outside.nats.streams import nanoseconds


def _nobody_waits() -> None:
    """The ``step_aside`` of a message that no hand was taken for."""


class Message:
    """A delivered message. Settle it once: ``ack``, ``nak`` or ``term``; each waits for the server's confirmation.

    ``deliveries`` counts from 1; ``waiting`` is how many messages the consumer had behind this one.
    Raises Unavailable when the server does not confirm: the message will then be delivered again.
    """

    def __init__(self, raw: Msg, *, connection: Connection, lease_s: float) -> None:
        self._connection = connection
        self._lease_s = lease_s
        self.step_aside: Callable[[], None] = _nobody_waits
        """Work on this message will take long: another one may be taken up meanwhile, while there is room for that."""
        self._reply = raw.reply
        metadata = raw.metadata
        self.subject: str = raw.subject
        self.payload: bytes = raw.data
        self.headers: Mapping[str, str] = raw.headers or {}
        self.deliveries: int = metadata.num_delivered
        self.stream_sequence: int = metadata.sequence.stream
        self.timestamp: datetime = metadata.timestamp
        self.waiting: int = metadata.num_pending
        self.settled = False

    async def ack(self) -> None:
        """Done: never deliver it again."""
        await self._settle(b"+ACK")

    async def nak(self, delay_s: float = 0.0) -> None:
        """Not done: deliver it again, ``delay_s`` from now."""
        delay = msgspec.json.encode({"delay": nanoseconds(delay_s)}) if delay_s > 0 else b""
        await self._settle(b"-NAK " + delay if delay else b"-NAK")

    async def term(self) -> None:
        """Given up: never deliver it again."""
        await self._settle(b"+TERM")

    async def in_progress(self) -> None:
        """Still working: the server waits another ``lease_s``. Not confirmed."""
        await self._connection.send(self._reply, b"+WPI")

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Tell the server every third of ``lease_s`` that the work goes on, as long as the block runs."""
        beat = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.wait([beat])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with contextlib.suppress(Unavailable):
                await self.in_progress()

    async def _settle(self, verdict: bytes) -> None:
        await self._connection.request(self._reply, verdict)
        self.settled = True


async def give_back(message: Message, *, delay_s: float) -> None:
    """Nak a message that nobody settled; unconfirmed, it returns after its ``lease_s`` all the same."""
    if not message.settled:
        with contextlib.suppress(Unavailable):
            await message.nak(delay_s)
