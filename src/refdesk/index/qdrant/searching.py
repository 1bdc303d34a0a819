"""A search in Qdrant and its ledger, as of one moment of the ledger.

    terms and their weights ◀─ ledger      both arms ◀─ Qdrant      which of them count ◀─ ledger, the same snapshot
    what the points carry, their words and similarities ◀─ Qdrant      ──▶ fusion, as `ranking` says

Qdrant also finds points that do not count: of a version that has been, or is not yet. They are dropped, and where they took the
places of others, more are asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import NamedTuple

from psycopg import AsyncConnection

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.contracts.errors import Unavailable
from refdesk.index.best_passages import best_passages
from refdesk.index.chunks import Passage
from refdesk.index.ledger.holdings import Access, Holdings, access, storable
from refdesk.index.ledger.statements import rows
from refdesk.index.port import Vectors
from refdesk.index.qdrant.collection import Collection, Found, Sought
from refdesk.index.qdrant.points import Carried, of_question, point_id, revision_and_place
from refdesk.index.qdrant.points import words as words_of
from refdesk.index.question_terms import QuestionTerms
from refdesk.index.ranking import FIELD, Candidate, Corpus, fuse, same_text, weight
from refdesk.outside.postgres.database import load_queries

EXACT_DOCUMENTS_MAX = 2_000
EXACT_CHUNKS_MAX = 5_000
"""Up to this many readable chunks, all are compared: about as fast as the graph, and nothing is missed."""
SPARE = 20
"""So many points more than are needed are asked for at first, in place of those that do not count."""
MORE = 4
"""So many times as many are asked for when these were not enough."""
FOUND_MAX = 20_000
SEARCH_S_MAX = 10.0
"""Old points stay longer than that (``index.GRACE_S``)."""

_queries = load_queries(files("refdesk.index.qdrant") / "ledger.sql")


class Counted(NamedTuple):
    """A document that counts: in this revision, within the scope."""

    revision: int
    key: int
    document_id: str
    version: int
    content_sha256: str
    title: str
    url: str | None


class Question(NamedTuple):
    """What one search is for."""

    text: str
    vector: Vectors
    scope: Scope
    filters: Filters
    limit: int


class Arms(NamedTuple):
    """What each arm has found and counts: ids, the best first; what is known of them; the documents by their revision."""

    near: list[str]
    worded: list[str]
    similarities: dict[str, float]
    words: dict[str, float]
    carried: dict[str, Carried]
    counted: dict[int, Counted]

    @property
    def ids(self) -> list[str]:
        """Of both, each once."""
        return list(dict.fromkeys((*self.near, *self.worded)))


class Searching:
    """Searches of one generation."""

    def __init__(self, holdings: Holdings, collection: Collection, *, text_search: str) -> None:
        self._holdings = holdings
        self._collection = collection
        self._question_terms = QuestionTerms(text_search)

    async def search(self, question: Question) -> list[Passage]:
        if not question.scope.everything and not question.scope.readers:
            return []
        return await best_passages(question.text, partial(self._ranked, question), limit=question.limit)

    async def _ranked(self, question: Question, *, depth: int, with_copies: bool) -> list[Passage]:
        """In the order of the fused scores. Each arm brings ``depth`` chunks."""
        values = access(question.scope, question.filters)
        async with in_time(), self._holdings.snapshot(_queries.begin_search) as connection:
            sought, corpus = await self._sought(connection, question, values)
            arms = await self._arms(connection, sought, values, corpus=corpus, depth=depth)
            if not with_copies:
                arms = _without_copies(arms)
            unknown = [identifier for identifier in arms.ids if identifier not in arms.similarities]
            similarities = arms.similarities | await self._collection.similarities(sought.vector, unknown)
        arms = arms._replace(similarities=similarities)
        ranked = fuse(_candidates(arms))[: max(question.limit, FIELD)]
        revisions = {counted.key: counted.revision for counted in arms.counted.values()}
        return [
            _passage(arms, point_id(revisions[candidate.document_key], candidate.ordinal), candidate, score)
            for candidate, score in ranked
        ]

    async def _sought(self, connection: AsyncConnection, question: Question, values: Access) -> tuple[Sought, Corpus]:
        text = storable(question.text)
        asked = await self._question_terms.look(connection, text, values, documents_max=EXACT_DOCUMENTS_MAX)
        weights = {term.text: weight(term, chunks=asked.corpus.chunks) for term in asked.terms if term.chunks}
        exact = asked.documents <= EXACT_DOCUMENTS_MAX and asked.chunks <= EXACT_CHUNKS_MAX
        sought = Sought(question.vector, of_question(weights), question.scope, question.filters, exact)
        return sought, asked.corpus

    async def _arms(
        self, connection: AsyncConnection, sought: Sought, values: Access, *, corpus: Corpus, depth: int
    ) -> Arms:
        """The best ``depth`` of each that count, or as many as there are."""
        count = depth + SPARE
        while True:
            found = await self._collection.nearest(sought, count=count)
            counted = await _counted(connection, found, values)
            near, worded = ([one for one, _ in arm if revision_and_place(one)[0] in counted] for arm in found)
            short = any(
                len(kept) < depth and len(arm) == count for kept, arm in zip((near, worded), found, strict=True)
            )
            if not short or count >= FOUND_MAX:
                break
            count = min(MORE * count, FOUND_MAX)
        carried = await self._collection.carried([*{*near[:depth], *worded}])
        words = {identifier: words_of(sought.words, point, corpus) for identifier, point in carried.items()}
        best = sorted((one for one in worded if one in carried), key=lambda one: -words[one])
        near = [one for one in near[:depth] if one in carried]
        return Arms(near, best[:depth], dict(found[0]), words, carried, counted)


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Raises Unavailable when the points of its snapshot may be deleted before it ends."""
    try:
        async with asyncio.timeout(SEARCH_S_MAX):
            yield
    except TimeoutError as error:
        raise Unavailable(f"A search of the index took more than {SEARCH_S_MAX:g} s. Try again.") from error


async def _counted(connection: AsyncConnection, found: Sequence[Found], values: Access) -> dict[int, Counted]:
    """By revision, the documents of these points that count."""
    revisions = {revision_and_place(identifier)[0] for arm in found for identifier, _ in arm}
    admitted = await rows(connection, _queries.admit, values | {"revisions": list(revisions)})
    return {document[0]: Counted(*document) for document in admitted}


def _without_copies(arms: Arms) -> Arms:
    """The arms with the best one only of each text."""
    texts = {identifier: same_text(arms.carried[identifier].payload["text"]) for identifier in arms.ids}
    best: dict[str, str] = {}
    for identifier in arms.ids:
        best.setdefault(texts[identifier], identifier)
    near, worded = (list(dict.fromkeys(best[texts[one]] for one in arm)) for arm in (arms.near, arms.worded))
    return arms._replace(near=near, worded=worded)


def _candidates(arms: Arms) -> tuple[list[Candidate], list[Candidate]]:
    """Each with both of its scores."""

    def candidate(identifier: str) -> Candidate:
        revision, place = revision_and_place(identifier)
        similarity = arms.similarities.get(identifier, 0.0)
        return Candidate(arms.counted[revision].key, place, similarity, arms.words[identifier])

    return (
        sorted(map(candidate, arms.near), key=lambda one: (-one.similarity, *one[:2])),
        sorted(map(candidate, arms.worded), key=lambda one: (-one.words, *one[:2])),
    )


def _passage(arms: Arms, identifier: str, candidate: Candidate, score: float) -> Passage:
    counted = arms.counted[revision_and_place(identifier)[0]]
    carried = arms.carried[identifier].payload
    return Passage(
        document_id=counted.document_id,
        version=counted.version,
        content_sha256=counted.content_sha256,
        title=counted.title,
        url=counted.url,
        ordinal=carried["ordinal"],
        text=carried["text"],
        heading=carried.get("heading"),
        page=carried.get("page"),
        score=score,
        similarity=candidate.similarity,
    )
