"""The servers that Refdesk uses, and its own services."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Count, Seconds, Whole, prefixed


class Databases(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("database_")):
    """The databases."""

    url: str | None = None
    """A PostgreSQL (with pgvector) for `refdesk up` to use instead of its own."""
    documents_url: str | None = msgspec.field(default=None, name="documents_database_url")
    """The Document Service's database. `refdesk up` sets it."""
    index_url: str | None = msgspec.field(default=None, name="index_database_url")
    """The AI Service's database, with pgvector. `refdesk up` sets it."""
    access_url: str | None = msgspec.field(default=None, name="access_database_url")
    """API keys. Unset with a documents database set: they live there."""
    wait_s: Seconds = 10.0
    """How long a start waits for a database that does not answer yet."""


class Pools(msgspec.Struct, frozen=True, kw_only=True):
    """Connections to PostgreSQL.

    [Operating](../howto/operate.md) has their sum.
    """

    access_connections_max: Count = 2
    """Of one process, to look up keys."""
    audit_connections_max: Count = 2
    """Of one process, to write and read the audit log."""
    documents_read_connections_max: Count = 6
    """Of one Document Service, to read documents."""
    documents_write_connections_max: Count = 6
    """Of one Document Service, to change documents."""
    documents_background_connections_max: Count = 4
    """Of one Document Service, for the outbox, what indexers say, watching, tidying and metrics."""
    assistant_connections_max: Count = 6
    """Of one assistant, for all but searching; searches have `concurrent_retrievals_max`."""
    indexer_connections_max: Count = 8
    """Of one indexer."""


class Nats(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("nats_")):
    """NATS."""

    url: str | None = None
    """NATS with JetStream; several servers separated by commas. Unset: `refdesk up` starts its own."""
    monitoring_url: str | None = None
    """Tells whether NATS writes to disk in time: its monitoring port, such as http://nats:8222, or a user of its system account,
    such as nats://system:password@nats:4222; several separated by commas."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("stream_")):
    """The streams of NATS.

    A full stream refuses new messages, and the publisher keeps them: discarding old ones would drop changes that the index has
    not seen yet.
    """

    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """Servers of a NATS cluster that keep each message: 3 outlives the loss of one of them."""
    storage: Literal["file", "memory"] = "file"
    """Where they keep it. In memory, what is not indexed yet is published again after a restart of NATS."""
    bytes_max: Count = 1 << 30
    """Room of each of the two streams. Messages leave once all readers have acknowledged them. If it is full, changes wait."""
    age_max_s: Seconds = msgspec.field(default=7 * 24 * 3600.0, name="stream_age_s_max")
    """How long a message stays at the most. What was not indexed by then is published again."""
    message_bytes_max: Count = 1 << 20
    """The largest message."""
    duplicate_window_s: Seconds = 120.0
    """How long NATS remembers ids of messages, to take none twice."""
    cluster: str | None = None
    """The NATS cluster that keeps the streams, where there are several."""
    tags: str | None = None
    """Tags of the NATS servers that keep them, separated by commas, such as `region:eu,ssd`."""
    consumer_replicas: Whole = msgspec.field(default=0, name="stream_reader_replicas")
    """Servers that keep how far the readers of a stream are. 0: as many as keep the stream."""
    reader_absent_s_max: Seconds = 24 * 3600.0
    """A foreign consumer that is not used for this long keeps no messages in the streams any more."""


class ValkeyServer(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("valkey_")):
    """Valkey."""

    url: str | None = None
    """Valkey or Redis: `redis://`, `rediss://`, `unix://`, `redis+sentinel://host,host/service`, `redis+cluster://host,host`.
    Unset: `refdesk up` starts its own."""
    timeout_s: Annotated[float, Meta(gt=0)] = 0.5
    """How long a question waits for Valkey before it goes on without it; those after it wait no more until it answers again."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Refdesk's own services."""

    documents_url: str | None = None
    """Where the AI Service reaches the Document Service, such as http://documents:8080."""
    operator_key: str | None = None
    """Shared secret of Refdesk's own services. `refdesk up` makes one."""
    peer_urls: str | None = None
    """Other processes of this desk, whose metrics and health an assistant tells, too, separated by commas:
    `indexer=http://indexer:8080, documents=http://documents:8080`. `refdesk up` names its indexer."""
    silence_seconds_max: Seconds = 8.0
    """How long a service that `refdesk up` has started may give no sign of life before it is started again. What it waits for a
    busy processor is not counted, nor is the time in which the machine sleeps."""
    setting_origins: str | None = None
    """Where the settings come from that were handed on to a service; `refdesk up` says so, for the operations page."""
