"""What goes into the index and what comes out of it."""

import hashlib
from datetime import date
from itertools import islice

import msgspec

from refdesk.contracts.documents import ReadingNote


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A passage of a parsed document, cut along its structure. Chunks of a document do not overlap.

    ``start`` and ``end`` are character offsets into the parsed text; ``page`` is 1-based, where the format has pages;
    ``heading`` is the path of headings above it, joined by `` › ``.
    """

    ordinal: int
    text: str
    heading: str | None = None
    page: int | None = None
    start: int
    end: int


HEADING_SEPARATOR = " › "


def place(title: str, heading: str | None) -> str:
    """Where a passage stands, in one line: the title and the path of headings, the title not twice."""
    path = (heading or "").split(HEADING_SEPARATOR)
    return HEADING_SEPARATOR.join(part for part in (title, *(path[1:] if path[0] == title else path)) if part)


def embedded_text(title: str, chunk: Chunk) -> str:
    """What the embedding model reads for a chunk: where it stands, then what it says."""
    return f"{place(title, chunk.heading)}\n{chunk.text}".strip()


def content_hash(title: str, chunk: Chunk) -> bytes:
    """sha256 of the embedded text: equal hashes share a vector."""
    return hashlib.sha256(embedded_text(title, chunk).encode()).digest()


SOURCES_MAX = 64


def sources_of(external_id: str | None) -> tuple[str, ...]:
    """The folders of an external id, the outermost first: ``wiki`` and ``wiki/hr`` of ``wiki/hr/leave.md``.

    What stands before the host of an address is none.
    """
    path = external_id or ""
    ends = (place for place, sign in enumerate(path) if sign == "/" and path[:place].rstrip(":/") == path[:place] != "")
    return tuple(path[:end] for end in islice(ends, SOURCES_MAX))


class IndexedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a document version that its passages carry, and what is to be known of how it was read.

    ``sources`` are the folders that it is in (`sources_of`); ``changed_on`` is the day (UTC) of its last change.
    """

    document_id: str
    version: int
    title: str
    readers: tuple[str, ...]
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    changed_on: date | None = None
    media_type: str
    url: str | None = None
    content_sha256: str
    notes: tuple[ReadingNote, ...] = ()


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk as a search returns it. ``score`` is the fused rank score: comparable within one search only.

    ``similarity`` is the cosine similarity of question and chunk, in [-1, 1].
    """

    document_id: str
    version: int
    content_sha256: str
    title: str
    url: str | None
    ordinal: int
    text: str
    heading: str | None
    page: int | None
    score: float
    similarity: float
