"""What PostgreSQL's own index does beyond the port: its arms, its plans, what a change leaves in place."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.contract.given import ANYONE, DIMENSIONS, chunks, document, put, question, texts_of, vectors
from tests.contract.test_index import assert_no_foreign_canary, put_canaries

from refdesk.contracts.errors import Unavailable
from refdesk.index.chunks import content_hash
from refdesk.index.ledger.generations import Engine, open_generation
from refdesk.index.ledger.holdings import access
from refdesk.index.pgvector import halfvec, searching
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.index.ranking import Corpus, Term
from refdesk.outside.postgres.database import open_pool, transaction


@pytest.fixture
def engine() -> Engine:
    return "pgvector"


@pytest.fixture
async def index(pool: AsyncConnectionPool) -> PgvectorIndex:
    generation = await open_generation(pool, model="test", dimensions=DIMENSIONS, chunking="1")
    return PgvectorIndex(pool, generation)


@pytest.mark.parametrize("exact", [True, False])
async def test_the_canaries_would_sing(
    index: PgvectorIndex, pool: AsyncConnectionPool, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the access filter taken out of the database, the test above fails: it does look."""
    if not exact:
        monkeypatch.setattr(searching, "EXACT_DOCUMENTS_MAX", -1)
    await put_canaries(index)
    async with transaction(pool) as connection:
        await connection.execute("SET LOCAL search_path = generation_1, public")
        await connection.execute(
            "CREATE OR REPLACE FUNCTION readable(everything boolean, scope text[], only_ids text[], only_tags text[],"
            " only_sources text[] DEFAULT NULL, since date DEFAULT NULL, until date DEFAULT NULL)"
            " RETURNS SETOF documents LANGUAGE sql STABLE AS 'SELECT d.* FROM documents d'"
        )
    with pytest.raises(AssertionError):
        await assert_no_foreign_canary(index)


async def test_other_readers_need_no_other_vectors(index: PgvectorIndex, pool: AsyncConnectionPool) -> None:
    """A change of readers alone shows at once, and leaves chunks, vectors and postings untouched."""
    await put(index, document(version=1, readers=["hr"]), "leave", "more leave")
    before = await _row_versions(pool)
    known = await index.known_vectors("leave")
    given = chunks("leave", "more leave")
    reused = np.stack([known[content_hash("Title of leave", chunk)] for chunk in given])
    assert np.allclose(reused, vectors(2), atol=1e-3)
    assert await index.replace(document(version=2, readers=["everyone"]), given, reused)
    assert await _row_versions(pool) == before
    assert len(await texts_of(index)) == 2


async def test_the_keyword_arms_compute_bm25(index: PgvectorIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact, pruned and by hand: the same scores, also across blocks of 64 chunks."""
    words = ["flange", "pump", "valve", "seal", "motor"]
    random_words = random.Random(11)
    texts = [" ".join(random_words.choices(words, weights=[1, 2, 4, 8, 16], k=12)) for _ in range(150)]
    await put(index, document("manual"), *texts[:140])
    await put(index, document("other"), *texts[140:], seed=1)
    expected = _bm25(
        ["flang", "seal", "motor"],
        [f"titl manual {t}" for t in texts[:140]] + [f"titl {t}" for t in texts[140:]],  # "other" is a stop word
    )
    values = access(ANYONE, None) | {"vector": halfvec.to_text(question())}
    values |= {"depth": 150, "candidates_max": 400}
    for exact, rare_max in ((True, 20_000), (False, 20_000), (False, 1)):
        async with index._holdings.snapshot(searching._queries.begin_search) as connection:
            readable = access(ANYONE, None)
            asked = await index._searching._question_terms.look(
                connection, "flange seals motors", readable, documents_max=2000
            )
            monkeypatch.setattr(searching, "RARE_CHUNKS_MAX", rare_max)
            weights = searching._weights(asked.terms, asked.corpus)
            assert bool(weights["common_terms"]) == (rare_max == 1)
            _, found = await searching._find(connection, values | weights, exact=exact)
            by_place = {(c.document_key, c.ordinal): c.words for c in found}
        first = min(key for key, _ in by_place)
        scores = [by_place.get((first + n // 140, n % 140), 0.0) for n in range(150)]
        if rare_max == 1:
            assert all(a == pytest.approx(b) for a, b in zip(scores, expected, strict=True) if a)
            assert max(scores) == pytest.approx(max(expected))
        else:
            assert scores == pytest.approx(expected)


async def test_unchanged_text_keeps_its_vector(index: PgvectorIndex, pool: AsyncConnectionPool) -> None:
    """A paragraph put on top moves the others, but not their places in the graph; repeated text shares one."""
    await put(index, document(version=1), "one", "two", "two")
    before = await _vector_rows(pool)
    assert len(before) == 2
    known = list((await index.known_vectors("leave")).values())
    assert await index.replace(
        document(version=2), chunks("zero", "one", "two"), np.stack([question(), known[0], known[1]])
    )
    assert before < await _vector_rows(pool)
    assert len(await _vector_rows(pool)) == 3


async def test_iterative_scans_are_on(index: PgvectorIndex) -> None:
    """A misspelt setting would only warn: ask the server itself."""
    async with index._holdings.snapshot(searching._queries.begin_search) as connection:
        await connection.execute("SELECT '[1]'::halfvec")
        await searching._prefer_graph(connection)
        cursor = await connection.execute("SELECT current_setting('hnsw.iterative_scan')")
        assert await cursor.fetchone() == ("relaxed_order",)
        cursor = await connection.execute("SELECT current_setting('transaction_isolation')")
        assert await cursor.fetchone() == ("repeatable read",)


async def test_a_new_vector_looks_for_its_neighbours_among_80(index: PgvectorIndex, pool: AsyncConnectionPool) -> None:
    """Among 64, pgvector's own choice, one of a hundred of the nearest is never found."""
    async with transaction(pool) as connection:
        found = await connection.execute(
            "SELECT reloptions FROM pg_class WHERE oid = 'generation_1.vectors_embedding'::regclass"
        )
        assert await found.fetchone() == (["ef_construction=80"],)


async def test_large_scopes_use_the_graph(index: PgvectorIndex) -> None:
    """Left to itself, the planner would rather compare and sort everything; and small ones never do, as it may."""
    await put(index, document(), *(f"leave {number}" for number in range(200)))
    weights = searching._weights(
        [Term(text="leave", occurrences=1, chunks=200)], Corpus(documents=1, chunks=200, terms=400)
    )
    values = access(ANYONE, None) | weights | {"vector": halfvec.to_text(question()), "depth": 50}
    async with index._holdings.snapshot(searching._queries.begin_search) as connection:
        await searching._prefer_graph(connection)
        graph = await searching._rows(connection, b"EXPLAIN " + searching._queries.near, values)
        exact = await searching._rows(connection, b"EXPLAIN " + searching._queries.near_exact, values)
    assert "vectors_embedding" in str(graph)
    assert "vectors_embedding" not in str(exact)


async def test_a_database_that_is_away_is_unavailable(index: PgvectorIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's errors do not leave the adapter."""
    async with open_pool("postgresql://127.0.0.1:9/none", name="away", size_min=0) as away:
        monkeypatch.setattr(away, "timeout", 0.2)
        with pytest.raises(Unavailable):
            await PgvectorIndex(away, index._generation).versions(["leave"])


async def _row_versions(pool: AsyncConnectionPool) -> list[tuple[str, ...]]:
    """Where every row of the content lives: it moves when written."""
    async with transaction(pool) as connection:
        cursor = await connection.execute(
            "SELECT 'c', ctid::text, xmin::text FROM generation_1.chunks"
            " UNION ALL SELECT 'v', ctid::text, xmin::text FROM generation_1.vectors"
            " UNION ALL SELECT 'p', ctid::text, xmin::text FROM generation_1.postings ORDER BY 1, 2"
        )
        return list(await cursor.fetchall())


async def _vector_rows(pool: AsyncConnectionPool) -> set[str]:
    async with transaction(pool) as connection:
        cursor = await connection.execute("SELECT ctid::text || xmin::text FROM generation_1.vectors")
        return {row[0] for row in await cursor.fetchall()}


def _bm25(terms: Sequence[str], texts: Sequence[str]) -> list[float]:
    """Lucene's BM25 of every text, by the book, without its constant factor k1 + 1."""
    words = [[{"flange": "flang", "valve": "valv"}.get(word, word) for word in text.split()] for text in texts]
    mean = sum(map(len, words)) / len(words)
    scores = [0.0] * len(words)
    for term in terms:
        frequency = sum(term in text for text in words)
        idf = np.log(1 + (len(words) - frequency + 0.5) / (frequency + 0.5))
        for place, text in enumerate(words):
            norm = 1.2 * (1 - 0.75 + 0.75 * len(text) / mean)
            scores[place] += idf * text.count(term) / (text.count(term) + norm)
    return scores
