"""A chunk as a point of Qdrant: its id, its two vectors, and what it carries.

The id is the revision and the place of the chunk in it, so that ids are known without asking, and no two writers share one.
The sparse vector has a number for each term of the chunk: BM25's share of it that does not depend on the question,

    tf / (tf + k1 * (1 - b + b * length / MEAN_TERMS))

With the question's vector of weights (`ranking.weight`), the dot product is nearly BM25: a stored number cannot follow the mean
length of the chunks as it moves, so ``MEAN_TERMS`` stands for it. By that Qdrant finds candidates. `words` gets tf back from the
number and from the length, which the point carries, and counts them by the mean as it is. A term is numbered by a hash of 32
bits: of a million terms, a hundred share a number with another one.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from refdesk.index.chunks import Chunk, IndexedDocument
from refdesk.index.ledger.holdings import storable
from refdesk.index.port import Vectors
from refdesk.index.ranking import K1, B, Corpus

MEAN_TERMS = 100
"""Terms of a chunk, about: chunks are cut to the window of an embedding model."""
LENGTH_MAX = 65_535  # as the postings of the other engine have it

_PLACE_BITS = 64
_PLACE_MASK = (1 << _PLACE_BITS) - 1


class Sparse(NamedTuple):
    """A sparse vector: numbers of terms, each once, and what each counts."""

    indices: list[int]
    values: list[float]


class Point(NamedTuple):
    id: str
    vector: Vectors
    sparse: Sparse
    payload: dict[str, Any]


class Carried(NamedTuple):
    """What a point is found with: what it carries, and its words."""

    payload: dict[str, Any]
    words: Sparse


class Terms(NamedTuple):
    """The terms of one chunk with how often it has each; ``length`` is their sum."""

    terms: Sequence[str]
    frequencies: Sequence[int]
    length: int


NO_TERMS = Terms((), (), 0)


def point_id(revision: int, place: int) -> str:
    return str(UUID(int=revision << _PLACE_BITS | place))


def revision_and_place(identifier: str) -> tuple[int, int]:
    number = UUID(identifier).int
    return number >> _PLACE_BITS, number & _PLACE_MASK


def of_chunk(terms: Terms) -> Sparse:
    norm = _stored_norm(terms.length)
    return _sparse((term, tf / (tf + norm)) for term, tf in zip(terms.terms, terms.frequencies, strict=True))


def of_question(weights: Mapping[str, float]) -> Sparse:
    return _sparse(weights.items())


def words(question: Sparse, chunk: Carried, corpus: Corpus) -> float:
    """The BM25 score of a chunk, by the mean length of all chunks as it is now."""
    length = chunk.payload["terms"]
    stored, norm = _stored_norm(length), corpus.floor + corpus.slope * min(length, LENGTH_MAX)
    weights = dict(zip(*question, strict=True))
    score = 0.0
    for number, share in zip(*chunk.words, strict=True):
        if number in weights:
            frequency = stored * share / (1 - share)
            score += weights[number] * frequency / (frequency + norm)
    return score


def _stored_norm(length: int) -> float:
    return K1 * (1 - B) + K1 * B * min(length, LENGTH_MAX) / MEAN_TERMS


def _sparse(values: Iterable[tuple[str, float]]) -> Sparse:
    by_number: dict[int, float] = {}
    for term, value in values:
        number = zlib.crc32(term.encode())
        by_number[number] = by_number.get(number, 0.0) + value
    return Sparse(list(by_number), list(by_number.values()))


class Findable(Protocol):
    """What of a document decides whether a question finds it."""

    @property
    def readers(self) -> Sequence[str]: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def sources(self) -> Sequence[str]: ...
    @property
    def changed_on(self) -> date | None: ...


def found_by(document: Findable) -> dict[str, list[Any]]:
    """What points carry to be found by. A day is its number."""
    return {
        "readers": list(document.readers),
        "tags": list(document.tags),
        "sources": list(document.sources),
        "changed_on": [] if document.changed_on is None else [document.changed_on.toordinal()],
    }


def payload(document: IndexedDocument, chunk: Chunk, *, revision: int, digest: bytes, length: int) -> dict[str, Any]:
    """What a point carries. Title, address and version are the ledger's."""
    return {
        "document_id": document.document_id,
        "revision": revision,
        **found_by(document),
        "terms": length,
        "ordinal": chunk.ordinal,
        "text": storable(chunk.text),
        "heading": chunk.heading and storable(chunk.heading),
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
        "hash": digest.hex(),
    }


def carried_chunk(payload: Mapping[str, Any]) -> Chunk:
    return msgspec.convert(payload, Chunk)
