"""A search in Qdrant and its ledger, as of one moment of the ledger.

    terms and their weights ◀─ ledger      both arms ◀─ Qdrant      which of them count ◀─ ledger, the same snapshot
    the score that an arm did not tell, and what the points carry ◀─ Qdrant      ──▶ fusion, as `ranking` says

Qdrant also finds points that do not count: of a version that has been, or is not yet. They are dropped, and where they took the
places of others, more are asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any, NamedTuple

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
from refdesk.index.qdrant.points import of_question, point_id, revision_and_place
from refdesk.index.question_terms import QuestionTerms
from refdesk.index.ranking import FIELD, Candidate, fuse, same_text, weight
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
    """What each arm has found and counts: ids, the best first; the scores that are known; the documents by their revision."""

    near: list[str]
    worded: list[str]
    similarities: dict[str, float]
    words: dict[str, float]
    counted: dict[int, Counted]


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
            sought = await self._sought(connection, question, values)
            arms = await self._arms(connection, sought, values, depth=depth)
            if not with_copies:
                arms = await self._without_copies(arms)
            ranked = fuse(await self._candidates(sought, arms))[: max(question.limit, FIELD)]
            revisions = {counted.key: counted.revision for counted in arms.counted.values()}
            ids = [point_id(revisions[candidate.document_key], candidate.ordinal) for candidate, _ in ranked]
            payloads = await self._collection.payloads(ids)
        return [
            _passage(arms.counted[revisions[candidate.document_key]], payloads[identifier], candidate, score)
            for identifier, (candidate, score) in zip(ids, ranked, strict=True)
            if identifier in payloads
        ]

    async def _sought(self, connection: AsyncConnection, question: Question, values: Access) -> Sought:
        text = storable(question.text)
        asked = await self._question_terms.look(connection, text, values, documents_max=EXACT_DOCUMENTS_MAX)
        weights = {term.text: weight(term, chunks=asked.corpus.chunks) for term in asked.terms if term.chunks}
        exact = asked.documents <= EXACT_DOCUMENTS_MAX and asked.chunks <= EXACT_CHUNKS_MAX
        return Sought(question.vector, of_question(weights), question.scope, question.filters, exact)

    async def _arms(self, connection: AsyncConnection, sought: Sought, values: Access, *, depth: int) -> Arms:
        """The best ``depth`` of each that count, or as many as there are."""
        count = depth + SPARE
        while True:
            found = await self._collection.nearest(sought, count=count)
            counted = await _counted(connection, found, values)
            near, worded = ([each for each in arm if revision_and_place(each[0])[0] in counted] for arm in found)
            short = any(
                len(kept) < depth and len(arm) == count for kept, arm in zip((near, worded), found, strict=True)
            )
            if not short or count >= FOUND_MAX:
                near, worded = near[:depth], worded[:depth]
                return Arms(_ids(near), _ids(worded), dict(near), dict(worded), counted)
            count = min(MORE * count, FOUND_MAX)

    async def _without_copies(self, arms: Arms) -> Arms:
        """The arms with the best one only of each text."""
        carried = await self._collection.payloads([*{*arms.near, *arms.worded}], fields=["text"])
        texts = {identifier: same_text(payload["text"]) for identifier, payload in carried.items()}
        best: dict[str, str] = {}
        for identifier in (one for one in (*arms.near, *arms.worded) if one in texts):
            best.setdefault(texts[identifier], identifier)
        near, worded = (
            list(dict.fromkeys(best[texts[one]] for one in arm if one in texts)) for arm in (arms.near, arms.worded)
        )
        return arms._replace(near=near, worded=worded)

    async def _candidates(self, sought: Sought, arms: Arms) -> tuple[list[Candidate], list[Candidate]]:
        """Each with both of its scores: what the other arm has not told is asked for."""
        found = dict.fromkeys((*arms.near, *arms.worded))
        more = await self._collection.scores(
            sought,
            near=[identifier for identifier in found if identifier not in arms.similarities],
            worded=[identifier for identifier in found if identifier not in arms.words],
        )
        similarities, words = arms.similarities | dict(more[0]), arms.words | dict(more[1])

        def candidate(identifier: str) -> Candidate:
            revision, place = revision_and_place(identifier)
            key = arms.counted[revision].key
            return Candidate(key, place, similarities.get(identifier, 0.0), words.get(identifier, 0.0))

        return (
            sorted(map(candidate, arms.near), key=lambda one: (-one.similarity, *one[:2])),
            sorted(map(candidate, arms.worded), key=lambda one: (-one.words, *one[:2])),
        )


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


def _ids(found: Found) -> list[str]:
    return [identifier for identifier, _ in found]


def _passage(counted: Counted, carried: dict[str, Any], candidate: Candidate, score: float) -> Passage:
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
