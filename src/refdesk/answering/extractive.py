"""Answering without a language model: quote the best sentences of the best passages, or say that nothing was found.

Each sentence of each passage is read together with the place it stands in (title and headings), embedded, and compared with
the question; the share of the question's own content words that it contains counts too. Weak evidence all round means *not
found*: a desk that guesses is worse than one that says it does not know.
"""

from collections.abc import Sequence

import msgspec

from refdesk.answering.grounding import content_words, split_sentences
from refdesk.contracts.answers import Source
from refdesk.outside.embedding import Embedder

MODEL_NAME = "extractive"

CANDIDATES_MAX = 160
"""Sentences weighed per answer: eight passages of about twenty."""

# The next four were chosen on the sample questions and on clapnq_dev (docs/adr/0008).
WORDS_WEIGHT = 0.35
SCORE_MIN = 0.62
SIMILARITY_MIN = 0.42
NEAR_BEST = 0.82

SENTENCES_MAX = 4


class Quote(msgspec.Struct, frozen=True):
    """A sentence as it stands in source ``n``; ``score`` is similarity plus weighted word share."""

    text: str
    n: int
    score: float
    similarity: float


class Extractor:
    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def quotes(self, question: str, sources: Sequence[Source]) -> list[Quote]:
        """The sentences that answer best, in the order to show them; empty when the evidence is weak."""
        candidates = _candidates(sources)
        if not candidates:
            return []
        texts = [question, *(f"{_place(source)}\n{text}" for source, text in candidates)]
        vectors = await self._embedder.embed(texts)
        similarities = vectors[1:] @ vectors[0]
        asked = content_words(question)
        ranked = sorted(
            (
                _quote(asked, source, text, float(similarity))
                for (source, text), similarity in zip(candidates, similarities, strict=True)
            ),
            key=lambda quote: -quote.score,
        )
        return _choose(ranked)


def _candidates(sources: Sequence[Source]) -> list[tuple[Source, str]]:
    found: list[tuple[Source, str]] = []
    seen: set[str] = set()
    for source in sources:
        for sentence in split_sentences(source.passage):
            if sentence not in seen and len(content_words(sentence)) >= 2:
                seen.add(sentence)
                found.append((source, sentence))
    return found[:CANDIDATES_MAX]


def _place(source: Source) -> str:
    return " › ".join(part for part in (source.title, source.heading) if part)


def _quote(asked: set[str], source: Source, text: str, similarity: float) -> Quote:
    known = content_words(f"{_place(source)} {text}")
    share = len(asked & known) / len(asked) if asked else 0.0
    return Quote(text=text, n=source.n, score=similarity + WORDS_WEIGHT * share, similarity=similarity)


def _choose(ranked: Sequence[Quote]) -> list[Quote]:
    best = ranked[0]
    if best.score < SCORE_MIN or best.similarity < SIMILARITY_MIN:
        return []
    near = [quote for quote in ranked if quote.score >= NEAR_BEST * best.score]
    return near[:SENTENCES_MAX]
