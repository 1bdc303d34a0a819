"""A document as its service shows it, and the freshness token a writer takes away."""

from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.texts import Number, Text, whole_number

State = Literal["pending", "indexed", "failed"]
WaitingReason = Literal["queued", "indexing", "retrying", "part_away", "broker_away", "indexer_away"]
ReadingNoteCode = Literal[
    "encoding_doubtful", "characters_lost", "attachment_unread", "pages_unread", "values_missing", "more"
]


IndexingStep = Literal["fetch", "parse", "chunk", "embed", "store"]
DocumentVerb = Literal["change", "name"]
"""``change``: replace, delete and index it again. ``name``: give it another external id."""

ID_CHARACTERS_MAX = 64
"""No document's id has more; those that the Document Service gives have 32."""


class FreshnessToken(msgspec.Struct, frozen=True):
    """``<id>@<version>``: give it to a question as ``after`` to be answered not before this write is searchable."""

    document_id: str
    version: int

    def __str__(self) -> str:
        return f"{self.document_id}@{self.version}"

    @classmethod
    def parse(cls, text: str) -> "FreshnessToken":
        """Raises InvalidRequest when the text is not ``<id>@<version>``, or its id is longer than any."""
        document_id, _, digits = text.rpartition("@")
        if len(document_id) > ID_CHARACTERS_MAX:
            raise InvalidRequest(
                f"{text[:100]!r}… is not a freshness token: its id has {len(document_id):,} characters, and no id has more "
                f"than {ID_CHARACTERS_MAX}. Pass one exactly as a write returned it: <id>@<version>.",
                limit=ID_CHARACTERS_MAX,
                actual=len(document_id),
            )
        version = whole_number(digits)
        if not document_id or "\0" in document_id or not version:
            raise InvalidRequest(
                f"{text[:100]!r} is not a freshness token. Pass one exactly as a write returned it: <id>@<version>.",
            )
        return cls(document_id=document_id, version=version)


def title_of(filename: str | None) -> str:
    """The title a document has when nobody gave it one: its filename without the extension."""
    return "" if filename is None else PurePosixPath(filename).stem.strip() or filename


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Why a pending change is not searchable yet.

    ``queued``: its turn will come. ``indexing``: an indexer is at work on it. ``retrying``: ``attempts`` have failed, the
    next comes at ``next_try_at``. ``part_away``: something that the indexer needs does not answer. ``broker_away``: NATS has
    not taken the event. ``indexer_away``: no indexer has been heard of.

    ``ahead`` changes have waited longer; with ``ahead_at_least`` that many or more. ``since`` is when it began to wait.
    """

    reason: WaitingReason
    since: datetime
    ahead: int
    ahead_at_least: bool
    attempts: int
    next_try_at: datetime | None


class ReadingNote(msgspec.Struct, frozen=True, kw_only=True):
    """Something that whoever relies on a document should know about how it was read.

    ``encoding_doubtful``: the text does not say how it is encoded, and the guess is not sure. ``characters_lost``: some could
    not be decoded. ``attachment_unread``: it is named and its text is not there. ``pages_unread``: they hold no text, and none
    was recognised. ``values_missing``: formulas without a stored value. ``more``: there were more notes than are kept.

    ``text`` is a sentence for people; ``attachment`` is the attachment that it is about.
    """

    code: ReadingNoteCode
    text: str
    attachment: str | None = None


class Document(msgspec.Struct, frozen=True, omit_defaults=False):
    """The current version of a document and how far the index has come with it.

    ``version`` counts 1, 2, 3 … per document, bumped by every change of content or metadata and by deletion.
    ``state`` is ``indexed`` when ``indexed_version == version``, ``failed`` when indexing this version gave up
    (``failure`` says why, ``attempts`` how often it was tried), else ``pending``; ``lag_seconds`` is the age of a
    pending change and ``waiting`` says why it waits (absent from the reply to a write). ``own_title`` is the title that a
    document which nobody named gives itself: answers cite it by that. ``notes`` are about how the version that is indexed was
    read. ``index_seconds`` says how long each step took of the version that is searchable, and the ``total`` from the change on;
    ``indexing_step`` is what an indexer is doing now, where it takes long. ``may`` is what whoever asks may do with it.
    """

    id: str
    version: int
    title: str
    media_type: str
    content_sha256: str
    content_bytes: int
    readers: tuple[str, ...]
    tags: tuple[str, ...]
    external_id: str | None
    filename: str | None
    url: str | None
    owner: str
    created_at: datetime
    updated_at: datetime
    state: State
    indexed_version: int | None
    attempts: int
    failure: str | None
    lag_seconds: float | None
    freshness_token: str
    own_title: str | None = None
    notes: tuple[ReadingNote, ...] = ()
    waiting: Waiting | None = None
    index_seconds: dict[str, float] | None = None
    indexing_step: IndexingStep | None = None
    may: tuple[DocumentVerb, ...] | UnsetType = UNSET


class DocumentVersion(msgspec.Struct, frozen=True):
    """One entry of a document's history."""

    version: int
    change: Literal["created", "replaced", "deleted"]
    title: str
    media_type: str
    content_sha256: str
    content_bytes: int
    readers: tuple[str, ...]
    changed_by: str
    occurred_at: datetime


class Page(msgspec.Struct, frozen=True):
    """One page of a listing; ``next_cursor`` is opaque and absent on the last page.

    ``total``: how many there are on all pages, where that was asked.
    """

    documents: list[Document]
    next_cursor: str | None = None
    total: int | UnsetType = UNSET


class ManifestEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What the index should show of one document; a tombstone is ``deleted`` and has no content.

    ``readers`` are those the index filters by: the owner is among them. ``pending_seconds`` is absent unless the document
    is pending.
    """

    document_id: str
    version: int
    deleted: bool
    state: State
    title: str
    media_type: str
    filename: str | None
    url: str | None
    readers: tuple[str, ...]
    tags: tuple[str, ...]
    content_sha256: str
    external_id: str | None = None
    updated_at: datetime | None = None
    changed_seconds_ago: float
    pending_seconds: float | None = None

    @property
    def token(self) -> FreshnessToken:
        return FreshnessToken(document_id=self.document_id, version=self.version)


class Manifest(msgspec.Struct, frozen=True):
    """Every document and tombstone, in the order of ids; ``next_after`` is absent on the last page."""

    entries: list[ManifestEntry]
    next_after: str | None = None


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version of a document as somebody has it."""

    document_id: Text
    version: Number
    content_sha256: Text


class StandingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which documents, and for whom: an asker's scope. ``seen``: versions that the caller has of some of them."""

    document_ids: list[Text]
    readers: list[Text] = []
    everything: bool = False
    seen: list[Seen] = []


class DocumentStanding(msgspec.Struct, frozen=True):
    """The newest committed version of a document; ``known`` is false when the version that was seen was never one of it.

    Deleted and foreign documents are simply absent from the reply.
    """

    document_id: str
    version: int
    title: str = ""
    known: bool = True


class StandingReply(msgspec.Struct, frozen=True):
    """Every change committed before ``as_of`` is searchable; ``index_lag_seconds`` is its age, 0 when none waits.

    ``epoch`` counts the changes of documents: equal epochs, equal documents.
    """

    as_of: datetime
    index_lag_seconds: float
    standings: list[DocumentStanding]
    epoch: str


class ManifestRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which documents; the reply leaves out those that never were."""

    document_ids: list[Text]


class RetellRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which documents to tell again, as ``<id>@<version>``."""

    documents: list[Text]


class Retold(msgspec.Struct, frozen=True):
    """Those told again; the others have a newer version, or never were."""

    documents: list[str]
