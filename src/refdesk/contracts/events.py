"""What the two services say to each other: CloudEvents 1.0, structured JSON, on NATS JetStream.

Stream ``DOCUMENTS`` carries ``documents.<id>.changed`` and ``documents.<id>.deleted`` from the Document Service;
stream ``INDEX`` carries ``index.<id>.started``, ``applied``, ``failed`` and ``erased`` back. Duplicates and reordering are
normal: ``version`` decides, never arrival.
"""

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from refdesk.contracts.documents import IndexingStep, ReadingNote

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/cloudevents+json"
DOCUMENTS_STREAM = "DOCUMENTS"
INDEX_STREAM = "INDEX"
SUBJECTS = {DOCUMENTS_STREAM: "documents.>", INDEX_STREAM: "index.>"}
INDEXER, RECORDER, STATES, ERASER = "indexer", "standings", "documents", "erasures"
READERS = {DOCUMENTS_STREAM: (INDEXER, RECORDER), INDEX_STREAM: (STATES,)}
"""The durable consumers that each stream is there for. There may be others. What the first has acknowledged was not lost."""
NEWS_S = 5.0
"""An indexer that works on something says so at least this often."""


class DocumentChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A document was created or got a new version (content, metadata or readers)."""

    type: ClassVar[str] = "documents.changed"

    document_id: str
    version: int
    content_sha256: str
    media_type: str
    title: str
    readers: tuple[str, ...]
    tags: tuple[str, ...] = ()
    external_id: str | None = None
    filename: str | None = None
    url: str | None = None
    occurred_at: datetime

    @property
    def subject(self) -> str:
        return f"documents.{self.document_id}.changed"


class DocumentDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """A document is gone; ``version`` is the tombstone's version, above every version it had."""

    type: ClassVar[str] = "documents.deleted"

    document_id: str
    version: int
    occurred_at: datetime

    @property
    def subject(self) -> str:
        return f"documents.{self.document_id}.deleted"


class IndexStarted(msgspec.Struct, frozen=True, kw_only=True):
    """An indexer is at work on this version, and has been for a while; said again every ``NEWS_S`` until it ends.

    ``step`` is what it is doing; None when that is not known.
    """

    type: ClassVar[str] = "index.started"

    document_id: str
    version: int
    occurred_at: datetime
    step: IndexingStep | None = None

    @property
    def subject(self) -> str:
        return f"index.{self.document_id}.started"


class IndexApplied(msgspec.Struct, frozen=True, kw_only=True):
    """The index now shows exactly this version (or, after a deletion, nothing of the document)."""

    type: ClassVar[str] = "index.applied"

    document_id: str
    version: int
    chunks: int
    generation: str
    seconds: dict[str, float]
    """Seconds by step: ``fetch``, ``parse``, ``chunk``, ``embed``, ``store``."""
    title: str | None = None
    """The title by which it is cited; None when that is not known anew."""
    notes: tuple[ReadingNote, ...] | None = None
    """What is to be known about how it was read; None when that is not known anew."""
    occurred_at: datetime

    @property
    def subject(self) -> str:
        return f"index.{self.document_id}.applied"


class IndexFailed(msgspec.Struct, frozen=True, kw_only=True):
    """Indexing this version failed; ``final`` when it was given up, else it will be tried again in ``next_try_s``.

    With 0 ``attempts`` the document is not at fault: a part that the indexer needs is away.
    """

    type: ClassVar[str] = "index.failed"

    document_id: str
    version: int
    reason: str
    code: str
    attempts: int
    final: bool
    next_try_s: float | None = None
    occurred_at: datetime

    @property
    def subject(self) -> str:
        return f"index.{self.document_id}.failed"


class IndexErased(msgspec.Struct, frozen=True, kw_only=True):
    """The AI side has nothing of a deleted document any more; ``places`` says how many things it removed where."""

    type: ClassVar[str] = "index.erased"

    document_id: str
    version: int
    places: dict[str, int]
    """``answers``, ``feedback`` …: what was said from the document."""
    generations: tuple[str, ...]
    """The generations of the index that were looked at, and have no passage of it."""
    occurred_at: datetime

    @property
    def subject(self) -> str:
        return f"index.{self.document_id}.erased"


Event = DocumentChanged | DocumentDeleted | IndexStarted | IndexApplied | IndexFailed | IndexErased

_BY_TYPE: dict[str, type[Event]] = {
    kind.type: kind for kind in (DocumentChanged, DocumentDeleted, IndexStarted, IndexApplied, IndexFailed, IndexErased)
}


class _Envelope(msgspec.Struct, kw_only=True, omit_defaults=True):
    specversion: str = msgspec.field(default=SPEC_VERSION)
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    traceparent: str | None = None
    data: msgspec.Raw


def encode(event: Event, *, event_id: str, source: str, traceparent: str | None = None) -> bytes:
    """The event as a structured-mode CloudEvent. ``event_id`` is also its ``Nats-Msg-Id``."""
    fields: dict[str, Any] = {
        "specversion": SPEC_VERSION,
        "id": event_id,
        "source": source,
        "type": event.type,
        "subject": event.subject,
        "time": event.occurred_at,
        "datacontenttype": "application/json",
        "data": event,
    }
    if traceparent is not None:
        fields["traceparent"] = traceparent
    return msgspec.json.encode(fields)


class Received(msgspec.Struct, frozen=True):
    """A decoded event with what its envelope adds."""

    event_id: str
    event: Event
    traceparent: str | None


def decode(payload: bytes) -> Received:
    """Raises msgspec.ValidationError (a msgspec.MsgspecError) when the payload is not one of our events."""
    envelope = msgspec.json.decode(payload, type=_Envelope)
    kind = _BY_TYPE.get(envelope.type)
    if kind is None:
        raise msgspec.ValidationError(f"unknown event type {envelope.type!r}")
    return Received(
        event_id=envelope.id,
        event=msgspec.json.decode(envelope.data, type=kind),
        traceparent=envelope.traceparent,
    )
