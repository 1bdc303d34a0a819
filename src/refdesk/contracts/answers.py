"""An answer as events: what every reader of an answer sees, whatever the transport.

``Accepted`` belongs to the asker; everything after it belongs to the answer's log and is the same for all its readers.
The wire form (SSE, WebSocket, JSON) is made by the routes from ``name`` and the struct's fields.
"""

from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from refdesk.contracts.texts import NUMBER_MAX, Text

CacheOutcome = Literal["hit", "semantic", "coalesced", "miss", "bypass"]
FinishReason = Literal["stop", "length", "not_found", "closest", "cancelled"]
"""``closest``: what was said are the nearest passages, and perhaps no answer."""
Granularity = Literal["token", "sentence"]
Support = Literal["supported", "unchecked", "contradicted"]
Block = Literal["paragraph", "heading", "list_item", "table_header", "table_row", "code", "quote", "rule"]


class Filters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Narrow a question to some documents; all given filters must match. Empty means no filter.

    A document has all of ``tags``, and lies in one of ``sources``: a folder of its external id (``wiki`` or ``wiki/hr`` of
    ``wiki/hr/leave.md``). It was last changed on the day ``since`` or later, and on ``until`` or before (UTC).
    """

    document_ids: tuple[Text, ...] = ()
    tags: tuple[Text, ...] = ()
    sources: tuple[Text, ...] = ()
    since: date | None = None
    until: date | None = None

    def __post_init__(self) -> None:
        """A folder may be written with a slash at its end."""
        if any(source.endswith("/") for source in self.sources):
            msgspec.structs.force_setattr(self, "sources", tuple(source.rstrip("/") for source in self.sources))


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an asker sends. ``after`` are freshness tokens: answer not before these writes are searchable, waiting at
    most ``wait_seconds``. ``granularity`` is how the stream is cut; the answer is the same."""

    question: Text
    conversation_id: Annotated[Text, Meta(max_length=128)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=NUMBER_MAX)] | None = None
    filters: Filters = Filters()
    after: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()
    wait_seconds: Annotated[float, Meta(ge=0)] | None = None
    granularity: Granularity = "token"
    cache: Literal["use", "bypass"] = "use"


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A passage the answer may cite as ``[n]``. ``url`` opens the passage in the web page (or its original address)."""

    n: int
    document_id: str
    version: int
    title: str
    passage: str
    ordinal: int
    """Position of the passage in its document, from 0."""
    page: int | None = None
    heading: str | None = None
    url: str | None = None
    stale: bool
    """A newer version of the document is on its way into the index."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the model counted them (or as we did, when it does not say)."""

    input_tokens: int = 0
    output_tokens: int = 0


class Timings(msgspec.Struct, frozen=True):
    """Seconds since the question was accepted (``first_token``, ``total``) or spent in a step.

    ``rewrite`` is there where a model was asked to write a follow-up out in full.
    """

    queue: float = 0.0
    embed: float = 0.0
    retrieve: float = 0.0
    rewrite: float | UnsetType = UNSET
    first_token: float | None = None
    total: float = 0.0


class Accepted(msgspec.Struct, frozen=True):
    name: ClassVar[str] = "accepted"

    answer_id: str
    model: str
    cache: CacheOutcome


class Queued(msgspec.Struct, frozen=True):
    name: ClassVar[str] = "queued"

    position: int
    estimated_seconds: float


class Sources(msgspec.Struct, frozen=True):
    """On the wire this event's data is the list itself."""

    name: ClassVar[str] = "sources"

    sources: tuple[Source, ...]


class Delta(msgspec.Struct, frozen=True):
    name: ClassVar[str] = "delta"

    text: str


class Sentence(msgspec.Struct, frozen=True):
    """A whole sentence, after its deltas: the sources it cites, and whether they support it.

    ``unchecked``: nobody can tell without reading; ``contradicted``: the cited passages say otherwise. ``block`` is the kind of
    Markdown block that the sentence belongs to.
    """

    name: ClassVar[str] = "sentence"

    text: str
    citations: tuple[int, ...]
    support: Support
    block: Block = "paragraph"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a complete answer. ``as_of`` is the time up to which every change was searchable.

    ``degraded_reason`` says why the language model did not write it and what to do: to administrators in the server's words;
    ``degraded_type`` is the type of that error.
    ``access_as_of`` is there when the Document Service was silent: access was checked against the record as of then, and only
    documents for everyone were read.
    """

    name: ClassVar[str] = "done"

    finish_reason: FinishReason
    usage: Usage
    cost: float | None = None
    timings: Timings
    as_of: datetime
    index_lag_seconds: float
    degraded: bool = False
    degraded_reason: str | UnsetType = UNSET
    degraded_type: str | UnsetType = UNSET
    access_as_of: datetime | UnsetType = UNSET


class Failed(msgspec.Struct, frozen=True):
    """The end of an answer that could not be completed; on the wire it is ``error`` with problem details."""

    name: ClassVar[str] = "error"

    problem: dict[str, Any]


AnswerEvent = Accepted | Queued | Sources | Delta | Sentence | Done | Failed


class Hit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A search hit: the fields of a source, and its score for administrators only."""

    n: int
    document_id: str
    version: int
    title: str
    passage: str
    ordinal: int
    page: int | None = None
    heading: str | None = None
    url: str | None = None
    stale: bool
    score: float | None = None
