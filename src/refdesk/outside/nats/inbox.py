"""One subscription for a consumer, and the pulls that fill it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from nats.aio.msg import Msg

from refdesk.outside.nats.connection import API, Connection
from refdesk.outside.nats.consumer_settings import ConsumerSettings
from refdesk.outside.nats.messages import Message, give_back
from refdesk.outside.nats.streams import nanoseconds

PULL_EXPIRES_S = 20.0
HEARTBEAT_S = 2.0
SILENCE_S_MAX = 2 * HEARTBEAT_S + 0.5


class Broken(Exception):
    """The inbox is of no more use: open another."""


class Inbox:
    """One subscription with at most one outstanding pull. It dies with the connection it was made on."""

    def __init__(self, connection: Connection, settings: ConsumerSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._address = ""
        self._pulls = 0
        self._wanted = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen for the length of the block; what arrived but was not taken goes back. Raises Unavailable."""
        self._address = self._connection.new_inbox()
        subject = f"{self._address}.*"
        try:
            async with self._connection.subscribed(subject, on_message=self._on_message, on_loss=self.break_off):
                yield
        finally:
            while not self._arrived.empty():
                raw = self._arrived.get_nowait()
                if raw is not None and not self._is_status(raw):
                    await give_back(self._message(raw), delay_s=0.0)

    def break_off(self) -> None:
        """The connection is lost."""
        self._arrived.put_nowait(None)

    async def pull(self, batch: int) -> None:
        """Ask for so many messages."""
        self._pulls += 1
        self._wanted = batch
        body = {
            "batch": batch,
            "expires": nanoseconds(PULL_EXPIRES_S),
            "idle_heartbeat": nanoseconds(HEARTBEAT_S),
        }
        subject = f"{API}.CONSUMER.MSG.NEXT.{self._settings.stream}.{self._settings.durable}"
        await self._connection.send(subject, msgspec.json.encode(body), reply=f"{self._address}.{self._pulls}")

    async def receive(self) -> Message | None:
        """The pull's next message; None at the pull's end. Raises Broken."""
        while self._wanted > 0:
            raw = await self._next()
            if not self._is_status(raw):
                self._wanted -= 1
                return self._message(raw)
            if raw.subject == f"{self._address}.{self._pulls}" and self._ends_pull(raw):
                self._wanted = 0
        return None

    async def _next(self) -> Msg:
        try:
            async with asyncio.timeout(SILENCE_S_MAX):
                raw = await self._arrived.get()
        except TimeoutError:
            raw = await self._what_came_after_all()
        if raw is None:
            raise Broken("connection lost")
        return raw

    async def _what_came_after_all(self) -> Msg | None:
        """This process may have stood still, and not the server: then what it sent comes before its reply.

        Giving the inbox up unread would leave that to the lease. Raises Broken when nothing came, Unavailable.
        """
        await self._connection.api(f"CONSUMER.INFO.{self._settings.stream}.{self._settings.durable}", _Anything)
        if self._arrived.empty():
            raise Broken(f"no heartbeat for {SILENCE_S_MAX} s")
        return self._arrived.get_nowait()

    def _ends_pull(self, raw: Msg) -> bool:
        """Whether a status ends the pull. Raises Broken when it ends the consumer, too."""
        headers = raw.headers or {}
        status, description = headers.get("Status"), headers.get("Description", "")
        if status == "100":  # idle heartbeat
            return False
        if status in ("404", "408"):  # no messages; expired
            return True
        # 409: consumer deleted, leadership change, server shutdown …; 503: nobody serves the consumer
        raise Broken(f"{status} {description}")

    def _is_status(self, raw: Msg) -> bool:
        """Messages arrive under their stream's subject, statuses under the inbox's own."""
        return raw.subject.startswith(self._address)

    def _message(self, raw: Msg) -> Message:
        return Message(raw, connection=self._connection, lease_s=self._settings.lease_s)

    async def _on_message(self, raw: Msg) -> None:
        self._arrived.put_nowait(raw)


class _Anything(msgspec.Struct):
    """A reply of which nothing is read: that it came is all."""
