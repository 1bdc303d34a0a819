"""Ranking: the weights of BM25, and one list out of two.

BM25 (Robertson and Zaragoza, 2009), with Lucene's idf, which is never negative:

    score = sum over terms of  weight * tf / (tf + k1 * (1 - b + b * length / mean length))

The database does the sum; here is what it needs to know.

The arms' candidates are put into one order by how far each stands out among all of them, in standard deviations:

    score = SIMILARITY_WEIGHT * z(similarity) + (1 - SIMILARITY_WEIGHT) * z(BM25)

Both are known of every candidate, whichever arm found it. What stands out counts as ``Z_MAX`` at most, and being far from the
question as ``Z_MIN``: a passage that alone has the word is found although it speaks of something else. Where the question's
vector is zeros, all similarities are equal, and the words alone rank (docs/adr/0064). Of equal scores, the better words go first.

What an answer needs may stand in two documents, of which the question names only one. So a candidate of a document whose title
is named in the first passages gets ``NAMED_BONUS`` more, but stays behind the passage that names it: a second hop. What was
measured, and what else was tried: docs/adr/0003, docs/adr/0021.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from refdesk.index.chunks import Passage

K1 = 1.2  # Robertson and Zaragoza 2009; Lucene's default
B = 0.75  # likewise

SIMILARITY_WEIGHT = 0.55  # chosen by benchmarks/retrieval_quality.py, as what follows
Z_MIN, Z_MAX = -1.0, 4.0
FIELD = 60
"""So many of each arm are compared, and so many passages read for their order."""
NAMING = 3
"""In so many of the first passages titles are looked for."""
NAMED_BONUS = 1.0
"""In standard deviations."""
TITLE_CHARACTERS_MIN = 5
"""A shorter title is named by accident."""


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


def fuse(arms: Sequence[Sequence[Candidate]]) -> list[tuple[Candidate, float]]:
    """All candidates of the arms with their fused scores, best first.

    The first ``FIELD`` of each arm are compared with each other. What comes behind them follows, so that the order of the best
    does not depend on how many are asked for.
    """
    field = sorted({candidate[:2]: candidate for arm in arms for candidate in arm[:FIELD]}.values())
    there = {candidate[:2] for candidate in field}
    behind = {candidate[:2]: candidate for arm in arms for candidate in arm[FIELD:] if candidate[:2] not in there}
    best = _by_score(field, field)
    if not behind:
        return best
    last = min((score for _, score in best), default=0.0)
    return best + [(candidate, min(score, last)) for candidate, score in _by_score(sorted(behind.values()), field)]


def _by_score(candidates: Sequence[Candidate], field: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
    near = standing_out([one.similarity for one in candidates], among=[one.similarity for one in field])
    worded = standing_out([one.words for one in candidates], among=[one.words for one in field])
    scores = SIMILARITY_WEIGHT * near + (1 - SIMILARITY_WEIGHT) * worded
    return sorted(
        zip(candidates, scores.tolist(), strict=True), key=lambda item: (-item[1], -item[0].words, item[0][:2])
    )


def standing_out(values: Sequence[float], *, among: Sequence[float]) -> NDArray[np.float64]:
    """How many standard deviations of the others each lies above their mean, within bounds; 0 where they do not differ.

    (len(values),) float64.
    """
    array, others = np.asarray(values, dtype=np.float64), np.asarray(among, dtype=np.float64)
    spread = others.std() if len(others) else 0.0
    return np.clip((array - others.mean()) / spread, Z_MIN, Z_MAX) if spread > 0 else np.zeros_like(array)


def second_hop(passages: Sequence[Passage]) -> list[Passage]:
    """The passages, which come best first, with those of other documents moved up that the first of them name by their title.

    None comes before the best passage that names it: what answers by itself may name much.
    """
    first, rest = passages[:NAMING], passages[NAMING:FIELD]
    texts = [passage.text.casefold() for passage in first]
    there = {passage.document_id for passage in first}
    titles = {passage.title for passage in rest if passage.document_id not in there}
    naming = {title: _best_naming(title, first, texts) for title in titles}
    behind = {title: score for title, score in naming.items() if score is not None}
    if not behind:
        return list(passages)

    def moved(passage: Passage) -> Passage:
        best = behind.get(passage.title)
        if best is None or passage.document_id in there:
            return passage
        return msgspec.structs.replace(passage, score=min(passage.score + NAMED_BONUS, best))

    return sorted([*first, *map(moved, rest)], key=lambda passage: -passage.score) + list(passages[FIELD:])


def _best_naming(title: str, passages: Sequence[Passage], texts: Sequence[str]) -> float | None:
    """The best score of the passages whose text, in folded case, has the title; None where none has it."""
    return max((one.score for one, text in zip(passages, texts, strict=True) if names(text, title)), default=None)


def distinct(passages: Iterable[Passage], *, count: int) -> list[Passage]:
    """The first so many that differ; what repeats an earlier one word for word only where they do not suffice.

    A copied file tells nothing new.
    """
    seen: set[str] = set()
    first: list[Passage] = []
    copies: list[Passage] = []
    for passage in passages:
        if len(first) == count:
            break
        words = same_text(passage.text)
        (copies if words in seen else first).append(passage)
        seen.add(words)
    return (first + copies)[:count]


def same_text(text: str) -> str:
    """What is equal for equal texts, whatever their spaces and capitals."""
    return " ".join(text.casefold().split())


def is_crowded(passages: Sequence[Passage], *, count: int) -> bool:
    """Whether copies of few texts take the places of others: more than two thirds, or so many that no ``count`` differ."""

    def crowd(texts: int) -> bool:
        return texts < count or 3 * texts < len(passages)

    lengths = len({len(passage.text) for passage in passages})  # no more than texts; mostly it tells enough
    return len(passages) >= count and crowd(lengths) and crowd(len({passage.text for passage in passages}))


def names(text: str, title: str) -> bool:
    """Whether the text, in folded case, has this title as words of its own; what stands in brackets behind it tells it apart."""
    name = title.partition(" (")[0].casefold().strip()
    if len(name) < TITLE_CHARACTERS_MIN:
        return False
    at = text.find(name)
    while at >= 0:
        if not text[at - 1 : at].isalnum() and not text[at + len(name) : at + len(name) + 1].isalnum():
            return True
        at = text.find(name, at + 1)
    return False
