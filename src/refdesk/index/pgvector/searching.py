"""A search in PostgreSQL: two arms in one snapshot.

    terms and their weights ──▶ vector arm ──▶ keyword arm (BM25), with the words of what is near ──▶ fusion ──▶ passages

Whoever may read few chunks gets exact arms. Whoever may read many gets the graph and pruned postings, and the exact arm again
should the graph not have brought enough.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, NamedTuple

from psycopg import AsyncConnection, AsyncCursor

from refdesk.index.best_passages import best_passages
from refdesk.index.chunks import Passage
from refdesk.index.ledger.holdings import Access, Holdings, storable
from refdesk.index.ledger.statements import rows as _rows
from refdesk.index.pgvector import halfvec
from refdesk.index.port import Vectors
from refdesk.index.question_terms import QuestionTerms
from refdesk.index.ranking import (
    FIELD,
    Candidate,
    Corpus,
    Term,
    fuse,
    split_by_rarity,
    weight,
)
from refdesk.outside.postgres.database import load_queries

EXACT_DOCUMENTS_MAX = 2_000
EXACT_CHUNKS_MAX = 5_000
"""Up to this many readable chunks, all are compared: about as fast as the graph, and nothing is missed."""

EF_SEARCH = 300
"""How wide the graph is searched: it finds .99 of the ten nearest among 100,000 chunks (docs/adr/0063)."""

SCAN_TUPLES_MAX = 20_000
"""pgvector's own default for an iterative scan; when it ends without enough, the exact arm takes over."""

RARE_CHUNKS_MAX = 10_000
"""Postings from which the keyword arm takes its candidates (docs/adr/0003)."""

CANDIDATES_MAX = 300

Arms = tuple[list[Candidate], list[Candidate]]
"""The nearest chunks and those with the best words, each best first."""

_queries = load_queries(files("refdesk.index.pgvector") / "searching.sql")


class Searching:
    """Searches of one generation; ``text_search`` is its text search configuration."""

    def __init__(self, holdings: Holdings, *, text_search: str) -> None:
        self._holdings = holdings
        self._question_terms = QuestionTerms(text_search)

    async def search(self, text: str, vector: Vectors, values: Access, *, limit: int) -> list[Passage]:
        sought = Sought(text, vector, values, limit)
        return await best_passages(text, partial(self._ranked, sought), limit=limit)

    async def _ranked(self, sought: "Sought", *, depth: int, with_copies: bool) -> list[Passage]:
        """In the order of the fused scores. Each arm brings ``depth`` chunks."""
        async with self._holdings.snapshot(_queries.begin_search) as connection:
            arms = await self.arms(connection, sought.text, sought.vector, sought.values, depth=depth)
            if not with_copies:
                arms = await _without_copies(connection, arms)
            ranked = fuse(arms)[: max(sought.limit, FIELD)]
            found = await _fetch(connection, ranked, sought.values)
        return [_passage(row[1:], *ranked[row[0] - 1]) for row in sorted(await found.fetchall())]

    async def arms(
        self, connection: AsyncConnection, text: str, vector: Vectors, values: Access, *, depth: int
    ) -> Arms:
        """What each arm finds."""
        asked = await self._question_terms.look(connection, storable(text), values, documents_max=EXACT_DOCUMENTS_MAX)
        exact = asked.documents <= EXACT_DOCUMENTS_MAX and asked.chunks <= EXACT_CHUNKS_MAX
        weights = _weights(asked.terms, asked.corpus)
        candidates_max = max(depth, CANDIDATES_MAX if weights["common_terms"] else 0)  # without these, the order stands
        values = (
            values | weights | {"vector": halfvec.to_text(vector), "depth": depth, "candidates_max": candidates_max}
        )
        return await _find(connection, values, exact=exact)


class Sought(NamedTuple):
    """What one search is for."""

    text: str
    vector: Vectors
    values: Access
    limit: int


async def _find(connection: AsyncConnection, values: Mapping[str, Any], *, exact: bool) -> Arms:
    """Both arms, each best first. In a pipeline."""
    near = await _near(connection, values, exact=exact)
    query = _queries.words_exact if exact else _queries.words
    found = await _rows(connection, query, {**values, **_places(near, prefix="near_")})
    words = {(key, ordinal): score for key, ordinal, score, similarity in found if similarity is None}
    nearest = [Candidate(key, ordinal, similarity, words.get((key, ordinal), 0.0)) for key, ordinal, similarity in near]
    worded = [
        Candidate(key, ordinal, similarity, score)
        for key, ordinal, score, similarity in found
        if similarity is not None
    ]
    return nearest, sorted(worded, key=lambda one: (-one.words, one[:2]))


async def _near(connection: AsyncConnection, values: Mapping[str, Any], *, exact: bool) -> list[tuple[Any, ...]]:
    """The nearest chunks; again, exactly, when the graph ended with fewer than were asked for."""
    found = []
    if not exact:
        await _prefer_graph(connection)
        cursor = await connection.execute(_queries.near, values)
        await connection.execute(_queries.prefer_nothing)
        found = await cursor.fetchall()
    return found if len(found) >= values["depth"] else await _rows(connection, _queries.near_exact, values)


async def _prefer_graph(connection: AsyncConnection) -> None:
    """For this transaction, until `prefer_nothing`."""
    values = {"ef_search": EF_SEARCH, "scan_tuples_max": SCAN_TUPLES_MAX}
    await connection.execute(_queries.prefer_graph, values)


async def _without_copies(connection: AsyncConnection, arms: Arms) -> Arms:
    """The arms with the best one only of each text."""
    places = _places([candidate for arm in arms for candidate in arm])
    digests = {(key, ordinal): digest for key, ordinal, digest in await _rows(connection, _queries.digests, places)}
    best: dict[str, Candidate] = {}
    for one in (*arms[0], *arms[1]):
        best.setdefault(digests[one[:2]], one)
    near, worded = (list({best[digests[one[:2]]]: None for one in arm}) for arm in arms)
    return near, worded


async def _fetch(
    connection: AsyncConnection, ranked: Sequence[tuple[Candidate, float]], values: Access
) -> AsyncCursor[tuple[Any, ...]]:
    """Each row begins with its place in ``ranked``, from 1."""
    return await connection.execute(
        _queries.fetch_passages, {**values, **_places([candidate for candidate, _ in ranked])}
    )


def _places(chunks: Sequence[Sequence[Any]], *, prefix: str = "") -> dict[str, str]:
    """Where chunks are, as literals of arrays: the driver takes longer to write lists down than the server to read them."""
    keys, ordinals = (",".join([str(chunk[column]) for chunk in chunks]) for column in (0, 1))
    return {f"{prefix}keys": f"{{{keys}}}", f"{prefix}ordinals": f"{{{ordinals}}}"}


def _weights(terms: Sequence[Term], corpus: Corpus) -> dict[str, Any]:
    rare, common = split_by_rarity(terms, chunks_max=RARE_CHUNKS_MAX)
    return {
        "rare_terms": [term.text for term in rare],
        "rare_weights": [weight(term, chunks=corpus.chunks) for term in rare],
        "common_terms": [term.text for term in common],
        "common_weights": [weight(term, chunks=corpus.chunks) for term in common],
        "floor": corpus.floor,
        "slope": corpus.slope,
    }


def _passage(row: Sequence[Any], candidate: Candidate, score: float) -> Passage:
    document_id, version, content_sha256, title, url, ordinal, text, heading, page = row
    return Passage(
        document_id=document_id,
        version=version,
        content_sha256=content_sha256,
        title=title,
        url=url,
        ordinal=ordinal,
        text=text,
        heading=heading,
        page=page,
        score=score,
        similarity=candidate.similarity,
    )
