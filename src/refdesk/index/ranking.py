"""Ranking: the weights of BM25, and one list out of two.

BM25 (Robertson and Zaragoza, 2009), with Lucene's idf, which is never negative:

    score = sum over terms of  weight * tf / (tf + k1 * (1 - b + b * length / mean length))

The database does the sum; here is what it needs to know. A chunk that has every term of the question ever so often
would get the sum of the weights: the score divided by it lies in [0, 1) and means the same for every question. So the
arms are fused as a convex combination of two scores with a known scale (Bruch, Gai and Ingber, TOIS 2023):

    score = SIMILARITY_WEIGHT * similarity + (1 - SIMILARITY_WEIGHT) * BM25 / sum of weights

Fusing by reciprocal ranks was measured, too: it lost on every set, and to the better arm alone on one (docs/adr/0003).
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

K1 = 1.2  # Robertson and Zaragoza 2009; Lucene's default
B = 0.75  # likewise

SIMILARITY_WEIGHT = 0.65  # chosen by benchmarks/retrieval_quality.py


class Candidate(NamedTuple):
    """A chunk that an arm found: where it is, its cosine similarity, its BM25 score (0 when the arm does not know)."""

    document_key: int
    ordinal: int
    similarity: float
    words: float


class Term(msgspec.Struct, frozen=True):
    """A term of a question: how often the question has it, and how many chunks of the index do."""

    text: str
    occurrences: int
    chunks: int


class Corpus(msgspec.Struct, frozen=True):
    """Sizes of the whole index; ``terms`` is the sum of all chunks' lengths in terms."""

    documents: int
    chunks: int
    terms: int

    @property
    def floor(self) -> float:
        """The part of BM25's denominator that is the same for every chunk."""
        return K1 * (1 - B)

    @property
    def slope(self) -> float:
        """What a term more of a chunk's length adds to BM25's denominator."""
        return K1 * B * self.chunks / max(self.terms, 1)


class CommonTerms:
    """How many chunks have each very common term, remembered for a while: such counts are dear and move slowly."""

    def __init__(self, *, terms_max: int = 10_000, remember_s: float = 600.0) -> None:
        self._terms_max = terms_max
        self._remember_s = remember_s
        self._chunks: dict[str, tuple[int, float]] = {}

    def chunks(self, term: str, *, at_least: int) -> int:
        """The remembered count, or the least it can be."""
        return self._chunks.get(term, (at_least, 0.0))[0]

    def missing(self, terms: Iterable[str]) -> list[str]:
        """Those that are not known, or not any more."""
        oldest = time.monotonic() - self._remember_s
        return [term for term in terms if self._chunks.get(term, (0, -math.inf))[1] < oldest]

    def remember(self, counts: Iterable[tuple[str, int]]) -> None:
        """Take in counts made just now; start afresh when there are too many."""
        now = time.monotonic()
        if len(self._chunks) > self._terms_max:
            self._chunks.clear()
        self._chunks.update({term: (chunks, now) for term, chunks in counts})


def weight(term: Term, *, chunks: int) -> float:
    """Lucene's idf, times how often the question has the term. ``chunks`` is the size of the index."""
    others = max(chunks - term.chunks, 0)
    return term.occurrences * math.log1p((others + 0.5) / (term.chunks + 0.5))


def split_by_rarity(terms: Iterable[Term], *, chunks_max: int) -> tuple[list[Term], list[Term]]:
    """The rarest terms, which together occur in at most ``chunks_max`` chunks (one at least), and the others.

    A chunk that has only common terms cannot rank high where a rare one is found: the rare ones choose candidates.
    """
    ordered = sorted((term for term in terms if term.chunks), key=lambda term: (term.chunks, term.text))
    total = 0
    for position, term in enumerate(ordered):
        total += term.chunks
        if position and total > chunks_max:
            return ordered[:position], ordered[position:]
    return ordered, []


def fuse(arms: Sequence[Sequence[Candidate]], *, words_max: float) -> list[tuple[Candidate, float]]:
    """All candidates of the arms with their fused scores, best first. ``words_max`` is the sum of the terms' weights."""
    merged: dict[tuple[int, int], Candidate] = {}
    for candidate in (candidate for arm in arms for candidate in arm):
        place = candidate[:2]
        known = merged.get(place)
        if known is not None and known.words > candidate.words:
            candidate = candidate._replace(words=known.words)
        merged[place] = candidate
    scored = [(candidate, _fused(candidate, words_max)) for candidate in merged.values()]
    return sorted(scored, key=lambda item: (-item[1], item[0][:2]))


def _fused(candidate: Candidate, words_max: float) -> float:
    words = candidate.words / words_max if words_max else 0.0
    return SIMILARITY_WEIGHT * candidate.similarity + (1 - SIMILARITY_WEIGHT) * words
