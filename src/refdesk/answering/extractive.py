"""Answering without a language model: quote the best sentences of the best passages, or say that nothing was found.

A *candidate* is a sentence or a table row of a passage, read together with the place it stands in (title and headings) and
with what it leans on: a row with its table's header, a list item with the line that introduces it. Candidates are first
thinned out by the words they share with the question, rare ones counting more; what is left is embedded and compared with
the question:

    score = similarity + WORDS_WEIGHT * word share

Weak evidence all round means *not found*: a desk that guesses is worse than one that says it does not know.
"""

from collections.abc import Iterator, Sequence
from math import log

import msgspec

from refdesk.answering.grounding import content_words, split_sentences
from refdesk.contracts.answers import Source
from refdesk.index.chunks import HEADING_SEPARATOR, place
from refdesk.outside.embedding import Embedder

MODEL_NAME = "extractive"

PASSAGES_READ = 20
"""Passages searched for sentences; more than a language model reads, since reading is all the work there is."""

# The rest was chosen on the sample questions (docs/adr/0010).
CANDIDATES_MAX = 32
WORDS_WEIGHT = 0.5
OWN_WORDS = 0.6
"""How much of the word share must stand in the sentence itself rather than in its place and context."""
RANK_WEIGHT = 0.3
SCORE_MIN = 0.55
SIMILARITY_MIN = 0.36
NEAR_BEST = 0.75
SENTENCES_MAX = 4


class Candidate(msgspec.Struct, frozen=True):
    """A sentence of a source, and the line it leans on, if any."""

    source: Source
    text: str
    context: str

    def surroundings(self) -> str:
        return f"{place(self.source.title, self.source.heading)}\n{self.context}".strip()

    def embedded(self) -> str:
        return f"{self.surroundings()}\n{self.text}"


class Quote(msgspec.Struct, frozen=True):
    """A sentence as it stands in source ``n``."""

    text: str
    n: int
    score: float
    similarity: float


class Extractor:
    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def quotes(self, question: str, sources: Sequence[Source]) -> list[Quote]:
        """The sentences that answer best, in the order to show them; empty when the evidence is weak."""
        shares = _word_shares(question, [found for source in sources for found in _candidates(source)])
        if not shares:
            return []
        vectors = await self._embedder.embed([question, *(candidate.embedded() for candidate, _ in shares)])
        similarities = (vectors[1:] @ vectors[0]).tolist()
        quotes = [
            Quote(candidate.text, candidate.source.n, similarity + WORDS_WEIGHT * share, similarity)
            for (candidate, share), similarity in zip(shares, similarities, strict=True)
        ]
        return _choose(sorted(quotes, key=lambda quote: -quote.score))


def _candidates(source: Source) -> Iterator[Candidate]:
    """Line by line: prose is cut into sentences; rows lean on their table's first row, items on the line above them."""
    headings = {_plain(heading) for heading in (source.title, *(source.heading or "").split(HEADING_SEPARATOR))}
    lead, header = "", ""
    for line in source.passage.split("\n"):
        text = line.strip()
        if not text:
            lead, header = "", ""
        elif _plain(text) not in headings:
            is_row = not text.endswith((".", "!", "?", ":")) and len(split_sentences(text)) == 1
            for sentence in split_sentences(text):
                if len(content_words(sentence)) > 1:
                    yield Candidate(source, sentence, (header or lead) if is_row else lead)
            header = (header or text) if is_row else ""
            lead = text if text.endswith(":") else lead if is_row else ""


def _plain(line: str) -> str:
    return " ".join(line.strip("# ").casefold().split())


def _word_shares(question: str, candidates: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
    """The most promising candidates, each with its share of the question's words: 0 to 1, rare words weighing more."""
    asked = content_words(question)
    own = [content_words(candidate.text) & asked for candidate in candidates]
    around = [content_words(candidate.surroundings()) & asked for candidate in candidates]
    whole = [mine | theirs for mine, theirs in zip(own, around, strict=True)]
    weights = {word: log(1 + len(candidates) / (0.5 + sum(word in words for words in whole))) for word in asked}
    total = sum(weights.values()) or 1.0

    def share(mine: set[str], every: set[str]) -> float:
        weigh = weights.__getitem__
        return (OWN_WORDS * sum(map(weigh, mine)) + (1 - OWN_WORDS) * sum(map(weigh, every))) / total

    shares = [share(mine, every) for mine, every in zip(own, whole, strict=True)]
    promising: dict[str, tuple[Candidate, float]] = {}
    for candidate, value in sorted(
        zip(candidates, shares, strict=True), key=lambda pair: -(pair[1] + RANK_WEIGHT / (pair[0].source.n + 2))
    ):
        promising.setdefault(candidate.text, (candidate, value))
    return list(promising.values())[:CANDIDATES_MAX]


def _choose(ranked: Sequence[Quote]) -> list[Quote]:
    best = ranked[0]
    if best.score < SCORE_MIN or best.similarity < SIMILARITY_MIN:
        return []
    near = [quote for quote in ranked if quote.score >= NEAR_BEST * best.score]
    return near[:SENTENCES_MAX]
