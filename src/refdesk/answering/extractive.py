"""Answering without a language model: quote the best sentences of the best passages, or say that nothing was found.

A *candidate* is a sentence or a table row of a passage, read together with the place it stands in (title and headings) and
with what it leans on: a row with its table's header, a list item with the line that introduces it. Candidates are first
thinned out by the words they share with the question, rare ones counting more; what is left is embedded and compared with
the question:

    score = similarity + WORDS_WEIGHT * word share

Weak evidence all round means *not found*: a desk that guesses is worse than one that says it does not know.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import log

import msgspec

from refdesk.answering.sentences import Words, split_sentences
from refdesk.contracts.answers import Source
from refdesk.index.chunks import HEADING_SEPARATOR, place
from refdesk.outside.embedding import Embed

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

_ITEM = re.compile(r"(?:[-*•]|\d{1,3}[.)])\s")


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
    """``embed`` as an Embedder's; which model it is does not matter, as long as one call is answered by one."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    async def quotes(self, question: str, sources: Sequence[Source]) -> list[Quote]:
        """The sentences that answer best, in the order to show them; empty when the evidence is weak."""
        shares = _word_shares(question, [found for source in sources for found in _candidates(source)])
        if not shares:
            return []
        vectors = await self._embed([question, *(candidate.embedded() for candidate, _ in shares)])
        similarities = (vectors[1:] @ vectors[0]).tolist()
        quotes = [
            Quote(candidate.text, candidate.source.n, similarity + WORDS_WEIGHT * share, similarity)
            for (candidate, share), similarity in zip(shares, similarities, strict=True)
        ]
        return _choose(sorted(quotes, key=lambda quote: -quote.score))


def _candidates(source: Source) -> Iterator[Candidate]:
    """Prose is cut into sentences, rows and list items are taken whole; headings answer nothing and are left out."""
    headings = {_plain(heading) for heading in (source.title, *(source.heading or "").split(HEADING_SEPARATOR))}
    lead = ""
    for is_listed, lines in groupby(_lines(source.passage, headings), key=_is_listed):
        if is_listed:
            yield from _rows(source, list(lines), lead=lead)
        else:
            for sentence in (sentence for line in lines for sentence in split_sentences(line)):
                lead = sentence if sentence.endswith(":") else ""
                yield from _candidate(source, sentence)


def _lines(passage: str, headings: set[str]) -> Iterator[str]:
    return (line.strip() for line in passage.split("\n") if line.strip() and _plain(line) not in headings)


def _is_listed(line: str) -> bool:
    """Whether a line stands on its own: a list item, or a row, which has no stop at its end."""
    return _ITEM.match(line) is not None or not line.endswith((".", "!", "?", ":", "…"))


def _rows(source: Source, lines: list[str], *, lead: str) -> Iterator[Candidate]:
    """Items lean on the line that introduces them; rows also on the first of them when it says what the columns are."""
    has_header = len(lines) > 1 and not _ITEM.match(lines[0]) and not Words.of(lines[0]).numbers
    header = lines[0] if has_header else ""
    for line in lines[has_header:]:
        yield from _candidate(source, line, lead if _ITEM.match(line) else f"{lead}\n{header}".strip())


def _candidate(source: Source, text: str, context: str = "") -> Iterator[Candidate]:
    """A single word, be it numbered, is a heading that the parser did not tell from text: it answers nothing."""
    if len(Words.of(_ITEM.sub("", text, count=1)).content) > 1:
        yield Candidate(source, text, context)


def _plain(line: str) -> str:
    return " ".join(line.strip("# ").casefold().split())


def _word_shares(question: str, candidates: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
    """The most promising candidates, each with its share of the question's words: 0 to 1, rare words weighing more."""
    asked = Words.of(question).content
    own = [Words.of(candidate.text).content & asked for candidate in candidates]
    around = [Words.of(candidate.surroundings()).content & asked for candidate in candidates]
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
