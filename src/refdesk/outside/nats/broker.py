"""NATS JetStream behind one small object: both streams, publishing with a confirmed acknowledgement, consumers."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import msgspec

from refdesk.contracts.errors import BrokerFull, Unavailable
from refdesk.contracts.events import READERS
from refdesk.outside.nats.connection import Connection, NoResponder, error_code
from refdesk.outside.nats.consumer import Backlog, Consumer, Handle
from refdesk.outside.nats.consumer_settings import ConsumerSettings
from refdesk.outside.nats.messages import Message
from refdesk.outside.nats.readers import Reader, find_reader, list_readers
from refdesk.outside.nats.streams import Judgement, Streams, StreamState
from refdesk.settings.servers import StreamSettings

__all__ = [
    "Backlog",
    "Broker",
    "Consumer",
    "ConsumerSettings",
    "Handle",
    "Message",
    "Published",
    "StreamState",
]

_FULL = frozenset(
    (
        10077,  # the stream's own limit (err_code, nats-server/server/errors.json)
        10002,  # the account's
        10023,  # the server's: max_file_store, or its disk
        10028,
        10047,
    )
)


class Published(msgspec.Struct, frozen=True):
    """The server's acknowledgement. ``duplicate``: the message id was already there, nothing was added."""

    stream: str
    sequence: int = msgspec.field(name="seq")
    duplicate: bool = False


class Broker:
    """Both streams and their consumers over one watched connection.

    Every operation raises Unavailable when the server cannot be reached or refuses.
    """

    def __init__(self, connection: Connection, streams: StreamSettings) -> None:
        self._connection = connection
        self._settings = streams
        self._streams = Streams(connection, streams)

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str, *, name: str, streams: StreamSettings | None = None, wait_s: float = 5.0
    ) -> AsyncIterator["Broker"]:
        """A broker that stays connected for the length of the block. ``url`` may list servers, separated by commas.

        Waits ``wait_s`` for the first connection, then goes on without it: the server may come later.
        """
        async with Connection.open(url, name=name, wait_s=wait_s) as connection:
            yield cls(connection, streams or StreamSettings())

    @property
    def address(self) -> str:
        """The servers without their credentials."""
        return self._connection.address

    @property
    def connected(self) -> bool:
        return self._connection.connected

    async def wait_connected(self, *, timeout_s: float) -> bool:
        """Whether the connection stands within ``timeout_s``."""
        return await self._connection.wait_connected(timeout_s=timeout_s)

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> Published:
        """Store one message and wait for the acknowledgement. A known ``message_id`` is dropped by the server for the
        length of the duplicate window. A missing stream is created first (a wiped broker heals by itself).

        Raises BrokerFull (nothing was stored), Unavailable (nothing is known of the message then: publish it again) and
        BodyTooLarge.
        """
        named = {**(headers or {}), "Nats-Msg-Id": message_id}
        try:
            return await self._connection.call(subject, payload, Published, headers=named)
        except NoResponder:
            await self.ensure_streams()
        except Unavailable as error:
            if error_code(error) not in _FULL:
                raise
            reason = f"NATS has no room for a message on {subject}: {error.__cause__}."
            mend = "It is tried again by itself; `refdesk doctor` says what fills it."
            raise BrokerFull(f"{reason} {mend}") from error.__cause__
        return await self._connection.call(subject, payload, Published, headers=named)

    async def ensure_streams(self) -> dict[str, StreamState]:
        """Make both streams where they are missing, and what the settings ask for; how they are now, by name.

        Raises ConfigurationError naming the first field that is wrong, and how to mend it.
        """
        return await self._streams.ensure()

    async def stream_state(self, stream: str) -> StreamState:
        return (await self._streams.info(stream)).summary()

    async def stream_created_at(self, stream: str) -> datetime:
        """When the stream was created: a later time than last seen means that its messages were lost."""
        return (await self.stream_state(stream)).created_at

    async def examine_stream(self, stream: str) -> tuple[StreamState, list[Judgement]]:
        """How the stream is, and where that is not exactly what the settings say; nothing is changed."""
        info = await self._streams.info(stream)
        return info.summary(), self._streams.judge(stream, info)

    async def readers(self, stream: str) -> list[Reader]:
        """Every consumer of the stream, whoever made it. Raises Unavailable, also when the server cannot name them all."""
        return await list_readers(self._connection, stream)

    async def reader(self, stream: str) -> Reader | None:
        """The first of the consumers that the stream is there for; None while it has not come. Raises Unavailable."""
        return await find_reader(self._connection, stream, READERS[stream][0])

    async def purge(self, stream: str, *, through: int) -> int:
        """Take the messages up to and with sequence ``through`` out of the stream; how many they were."""
        body = {"seq": through + 1}
        return (await self._connection.api(f"STREAM.PURGE.{stream}", _Purged, body)).purged

    async def ensure_consumer(self, settings: ConsumerSettings) -> "Consumer":
        """The consumer, created or brought to these settings. Raises ConfigurationError where that is impossible."""
        consumer = self.consumer(settings)
        await consumer.ensure()
        return consumer

    def consumer(self, settings: ConsumerSettings) -> "Consumer":
        """The consumer as it should be; nothing is asked of the server yet."""
        replicas = settings.replicas or self._settings.consumer_replicas
        settings = msgspec.structs.replace(settings, replicas=replicas)
        return Consumer(self._connection, settings, ensure_streams=self.ensure_streams)


class _Purged(msgspec.Struct):
    purged: int
