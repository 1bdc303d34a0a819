"""NATS JetStream behind one small object: both streams, publishing with a confirmed acknowledgement, consumers."""

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from refdesk.contracts.errors import Unavailable
from refdesk.contracts.events import DOCUMENTS_STREAM, INDEX_STREAM
from refdesk.outside.jetstream_consumer import (
    STREAM_NOT_FOUND,
    Backlog,
    Consumer,
    ConsumerSettings,
    Handle,
    Info,
    Message,
    StreamInfo,
    nanoseconds,
    verify,
)
from refdesk.outside.nats_connection import Connection, NoResponder, error_code

__all__ = [
    "Backlog",
    "Broker",
    "Consumer",
    "ConsumerSettings",
    "Handle",
    "Message",
    "Published",
    "StreamSettings",
    "StreamState",
]

logger = logging.getLogger(__name__)


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Ceilings of both streams. A full stream refuses new messages (``discard: new``): the publisher keeps them.

    Discarding old messages instead would drop changes that the index has not seen yet.
    """

    bytes_max: int = 1 << 30
    age_max_s: int = 7 * 24 * 3600
    message_bytes_max: int = 1 << 20
    duplicate_window_s: int = 120
    replicas: int = 1


class Published(msgspec.Struct, frozen=True):
    """The server's acknowledgement. ``duplicate``: the message id was already there, nothing was added."""

    stream: str
    sequence: int = msgspec.field(name="seq")
    duplicate: bool = False


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream holds. A ``created_at`` or ``last_sequence`` that went back tells of a lost or older store."""

    created_at: datetime
    messages: int
    first_sequence: int
    last_sequence: int


class Broker:
    """Both streams and their consumers over one watched connection.

    Every operation raises Unavailable when the server cannot be reached or refuses.
    """

    def __init__(self, connection: Connection, streams: StreamSettings) -> None:
        self._connection = connection
        self._settings = streams

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

        Raises Unavailable (nothing is known of the message then: publish it again) and BodyTooLarge.
        """
        named = {**(headers or {}), "Nats-Msg-Id": message_id}
        try:
            return await self._connection.call(subject, payload, Published, headers=named)
        except NoResponder:
            await self.ensure_streams()
        return await self._connection.call(subject, payload, Published, headers=named)

    async def ensure_streams(self) -> None:
        """Create both streams where missing. Raises ConfigurationError naming the first field that differs."""
        for stream, subject in ((DOCUMENTS_STREAM, "documents.>"), (INDEX_STREAM, "index.>")):
            await self._ensure_stream(_stream_config(stream, subject, self._settings))

    async def stream_state(self, stream: str) -> StreamState:
        info = await self._connection.api(f"STREAM.INFO.{stream}", StreamInfo)
        return StreamState(
            created_at=info.created,
            messages=info.state.messages,
            first_sequence=info.state.first_seq,
            last_sequence=info.state.last_seq,
        )

    async def stream_created_at(self, stream: str) -> datetime:
        """When the stream was created: a later time than last seen means that its messages were lost."""
        return (await self.stream_state(stream)).created_at

    async def ensure_consumer(self, settings: ConsumerSettings) -> "Consumer":
        """The consumer, created or brought to these settings. Raises ConfigurationError where that is impossible."""
        consumer = self.consumer(settings)
        await consumer.ensure()
        return consumer

    def consumer(self, settings: ConsumerSettings) -> "Consumer":
        """The consumer as it should be; nothing is asked of the server yet."""
        return Consumer(self._connection, settings, ensure_streams=self.ensure_streams)

    async def _ensure_stream(self, config: dict[str, Any]) -> None:
        name = config["name"]
        try:
            info = await self._connection.api(f"STREAM.INFO.{name}", Info)
        except Unavailable as error:
            if error_code(error) != STREAM_NOT_FOUND:
                raise
            info = await self._connection.api(f"STREAM.CREATE.{name}", Info, config)
            logger.info("created stream %s", name)
        for field in config:
            verify(f"Stream {name}", field, info.config.get(field), config[field])


def _stream_config(name: str, subject: str, settings: StreamSettings) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_bytes": settings.bytes_max,
        "max_age": nanoseconds(settings.age_max_s),
        "max_msg_size": settings.message_bytes_max,
        "num_replicas": settings.replicas,
        "duplicate_window": nanoseconds(settings.duplicate_window_s),
    }
