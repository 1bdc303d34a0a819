"""The index keeps its promises on the real PostgreSQL: versions, tombstones, scopes, snapshots, and full results."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.index import halfvec, pgvector
from refdesk.index.chunks import Chunk, IndexedDocument, content_hash
from refdesk.index.generations import MIGRATIONS, open_generation
from refdesk.index.pgvector import CHANNEL, PgvectorIndex, Vectors
from refdesk.index.ranking import Corpus, Term
from refdesk.outside.postgres.database import listen, migrate, open_pool, transaction

DIMENSIONS = 16
EVERYTHING = Scope(readers=(), everything=True)
ANYONE = Scope(readers=("everyone",))


@pytest.fixture
async def pool(fresh_database: str) -> AsyncIterator[AsyncConnectionPool]:
    async with open_pool(fresh_database, name="test index", size_max=8) as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


@pytest.fixture
async def index(pool: AsyncConnectionPool) -> PgvectorIndex:
    generation = await open_generation(pool, model="test", dimensions=DIMENSIONS, chunking="1")
    return PgvectorIndex(pool, generation)


@pytest.fixture
def pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scope is small: the arms for large scopes are under test."""
    monkeypatch.setattr(pgvector, "EXACT_DOCUMENTS_MAX", -1)


def document(
    document_id: str = "leave",
    version: int = 1,
    *,
    readers: Sequence[str] = ("everyone",),
    tags: Sequence[str] = (),
    content_sha256: str = "0" * 64,
) -> IndexedDocument:
    return IndexedDocument(
        document_id=document_id,
        version=version,
        title=f"Title of {document_id}",
        readers=tuple(readers),
        tags=tuple(tags),
        media_type="text/plain",
        content_sha256=content_sha256,
    )


def chunks(*texts: str) -> list[Chunk]:
    return [Chunk(ordinal=n, text=text, start=100 * n, end=100 * n + len(text)) for n, text in enumerate(texts)]


def vectors(count: int, *, seed: int = 0, near: Vectors | None = None) -> Vectors:
    """Random unit vectors; close to ``near`` if given."""
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    rows = rows if near is None else near + 0.1 * rows
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def question() -> Vectors:
    vector: Vectors = vectors(1, seed=999)[0]
    return vector


async def put(index: PgvectorIndex, given: IndexedDocument, *texts: str, seed: int = 0) -> bool:
    return await index.replace(given, chunks(*texts), vectors(len(texts), seed=seed))


async def texts_of(index: PgvectorIndex, query: str = "leave", *, scope: Scope = ANYONE, limit: int = 10) -> list[str]:
    return [passage.text for passage in await index.search(query, question(), scope=scope, limit=limit)]


class TestVersions:
    async def test_only_a_newer_version_is_applied(self, index: PgvectorIndex) -> None:
        """An older version or the same one again changes nothing and says so."""
        assert await put(index, document(version=2), "two weeks of leave")
        assert not await put(index, document(version=2), "again")
        assert not await put(index, document(version=1), "one week of leave")
        assert await texts_of(index) == ["two weeks of leave"]
        assert await put(index, document(version=5), "five weeks of leave")
        assert await texts_of(index) == ["five weeks of leave"]

    async def test_documents_that_were_restored_count_to_a_version_anew(self, index: PgvectorIndex) -> None:
        """The same version with other content takes the place of the one that was lost; it is told by its content."""
        await put(index, document(version=4, content_sha256="lost"), "forty days of leave")
        assert await index.held("leave") == (4, "lost")
        assert await put(index, document(version=4, content_sha256="kept"), "thirty days of leave")
        assert await texts_of(index) == ["thirty days of leave"]
        assert await index.held("leave") == (4, "kept")
        assert await index.held("unknown") is None

    async def test_removed_stays_removed(self, index: PgvectorIndex) -> None:
        """A tombstone outlives whatever comes late, and gives way to a newer version."""
        await put(index, document(version=1), "leave")
        assert await index.remove("leave", 3)
        assert not await index.remove("leave", 3)
        assert not await put(index, document(version=2), "late")
        assert not await put(index, document(version=3), "same")
        assert await texts_of(index, scope=EVERYTHING) == []
        assert await index.versions(["leave", "unknown"]) == {"leave": 3}
        assert await put(index, document(version=4), "back again")
        assert await texts_of(index) == ["back again"]

    async def test_a_tombstone_may_come_before_its_document(self, index: PgvectorIndex) -> None:
        """Deletion overtakes creation: nothing ever shows."""
        assert await index.remove("leave", 2)
        assert not await put(index, document(version=1), "late")
        assert await texts_of(index, scope=EVERYTHING) == []
        assert (await index.statistics()).documents == 0

    async def test_any_order_ends_in_the_newest_state(self, index: PgvectorIndex) -> None:
        """Shuffled and repeated changes of several documents converge on each one's last version; tallies are exact."""
        changes = [(f"doc{n}", version) for n in range(6) for version in range(1, 7)] * 2
        random.Random(7).shuffle(changes)

        async def apply(part: Sequence[tuple[str, int]]) -> None:
            for document_id, version in part:
                if version == 6 and document_id in ("doc0", "doc1"):
                    await index.remove(document_id, version)
                else:
                    texts = [f"leave {document_id} v{version} part {part}" for part in range(version % 3 + 1)]
                    await put(index, document(document_id, version), *texts, seed=version)

        async with asyncio.TaskGroup() as group:
            for start in range(4):
                group.create_task(apply(changes[start::4]))
        expected = {f"leave doc{n} v6 part 0" for n in range(2, 6)}
        assert set(await texts_of(index, limit=50)) == expected
        assert await index.versions([f"doc{n}" for n in range(6)]) == {f"doc{n}": 6 for n in range(6)}
        statistics = await index.statistics()
        assert (statistics.documents, statistics.chunks) == (4, 4)
        assert statistics.terms == 4 * len("titl doc leav doc2 v6 part 0 doc".split())  # the last one of `doc2`

    async def test_one_of_many_processes_wins(self, index: PgvectorIndex) -> None:
        """The same version by ten writers at once is applied once."""
        results = await asyncio.gather(*(put(index, document(), "leave", "more leave") for _ in range(10)))
        assert results.count(True) == 1
        assert (await index.statistics()).chunks == 2

    @pytest.mark.parametrize("few", [True, False], ids=["exact", "graph"])
    async def test_what_is_staged_is_shown_by_no_search(
        self, index: PgvectorIndex, few: bool, request: pytest.FixtureRequest
    ) -> None:
        """Vectors of a coming version take nobody's place, and are used by it; the index does not know it yet."""
        if not few:
            request.getfixturevalue("pruned")
        staged = {
            text: vectors(1, seed=n, near=question())[0] for n, text in enumerate(f"part {n}" for n in range(150))
        }
        texts = list(staged)
        hashes = [content_hash(document("new").title, chunk) for chunk in chunks(*texts)]
        await put(index, document("old"), "leave")
        for name in ("old", "new"):
            assert await index.stage(name, 2, hashes, np.stack(list(staged.values())))
        assert await index.versions(["old", "new"]) == {"old": 1}
        assert await texts_of(index, limit=50) == ["leave"]
        assert set(await index.known_vectors("new")) == set(hashes)
        assert await index.replace(document("new", 2), chunks(*texts), np.stack(list(staged.values())))
        assert len(await texts_of(index, limit=50)) == 50

    async def test_what_was_staged_in_vain_is_deleted(self, index: PgvectorIndex) -> None:
        """By the next version and by removal; a version that is not newer stages nothing."""
        digest = content_hash("another title", chunks("another text")[0])
        assert await index.stage("leave", 1, [digest, digest], vectors(2))
        assert await put(index, document(version=2), "leave")
        assert digest not in await index.known_vectors("leave")
        assert not await index.stage("leave", 2, [digest], vectors(1))
        assert await index.stage("leave", 3, [digest], vectors(1))
        assert await index.remove("leave", 4)
        assert await index.known_vectors("leave") == {}
        assert not await index.stage("leave", 4, [digest], vectors(1))

    async def test_a_document_of_many_chunks_is_written_whole(self, index: PgvectorIndex) -> None:
        """Over several statements: all chunks, all words, in one change."""
        count = pgvector.STATEMENT_CHUNKS_MAX + 200
        assert await put(index, document(), *[f"leave word{n}" for n in range(count)])
        statistics = await index.statistics()
        terms = count * len("titl leav leav word0 word".split()) + (count - 10)  # 0 to 9 are no words of their own
        assert (statistics.chunks, statistics.terms) == (count, terms)
        assert f"leave word{count - 1}" in await texts_of(index, f"word{count - 1}", limit=50)

    async def test_a_search_never_sees_half_a_version(self, index: PgvectorIndex) -> None:
        """While versions flip, each search shows all chunks of exactly one version."""
        await put(index, document(version=1), *[f"leave v1 part {part}" for part in range(5)])
        done = asyncio.Event()

        async def write() -> None:
            for version in range(2, 60):
                parts = [f"leave v{version} part {part}" for part in range(5)]
                assert await put(index, document(version=version), *parts, seed=version)
            done.set()

        async def read() -> int:
            searches = 0
            while not done.is_set():
                found = await index.search("leave", question(), scope=ANYONE, limit=10)
                assert len(found) == 5
                assert len({passage.version for passage in found}) == 1
                assert {passage.text.split()[1] for passage in found} == {f"v{found[0].version}"}
                searches += 1
            return searches

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            readers = [group.create_task(read()) for _ in range(3)]
        assert min(reader.result() for reader in readers) > 3

    async def test_a_failed_write_leaves_the_old_version(self, index: PgvectorIndex) -> None:
        """A wrong input is refused before anything is written, a failing one rolls back."""
        await put(index, document(version=1), "leave")
        with pytest.raises(ValueError, match="shape"):
            await index.replace(document(version=2), chunks("a", "b"), vectors(1))
        with pytest.raises(Exception, match="duplicate"):
            await index.replace(document(version=2), chunks("a")[:1] * 2, vectors(2))
        assert await texts_of(index) == ["leave"]
        assert await index.versions(["leave"]) == {"leave": 1}


class TestAccess:
    async def test_foreign_passages_never_appear(self, index: PgvectorIndex) -> None:
        """Each of 20 readers finds their own canary and nobody else's, near in meaning and equal in words."""
        await _put_canaries(index)
        await _assert_no_foreign_canary(index)

    async def test_nor_in_the_arms_for_large_scopes(self, index: PgvectorIndex, pruned: None) -> None:
        """The same through the graph and the pruned postings."""
        await _put_canaries(index)
        await _assert_no_foreign_canary(index)

    @pytest.mark.parametrize("exact", [True, False])
    async def test_the_canaries_would_sing(
        self, index: PgvectorIndex, pool: AsyncConnectionPool, exact: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the access filter taken out of the database, the test above fails: it does look."""
        if not exact:
            monkeypatch.setattr(pgvector, "EXACT_DOCUMENTS_MAX", -1)
        await _put_canaries(index)
        async with transaction(pool) as connection:
            await connection.execute("SET LOCAL search_path = generation_1, public")
            await connection.execute(
                "CREATE OR REPLACE FUNCTION readable(everything boolean, scope text[], only_ids text[], only_tags text[])"
                " RETURNS SETOF documents LANGUAGE sql STABLE AS 'SELECT d.* FROM documents d'"
            )
        with pytest.raises(AssertionError):
            await _assert_no_foreign_canary(index)

    async def test_no_readers_means_administrators_only(self, index: PgvectorIndex) -> None:
        """Unknown access is no access."""
        await put(index, document(readers=()), "leave")
        assert await texts_of(index) == []
        assert await index.passages("leave", scope=ANYONE) is None
        assert await texts_of(index, scope=EVERYTHING) == ["leave"]

    async def test_other_readers_need_no_other_vectors(self, index: PgvectorIndex, pool: AsyncConnectionPool) -> None:
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

    async def test_filters_narrow_a_search(self, index: PgvectorIndex) -> None:
        """Documents by id, tags all of them, both together, within the scope."""
        await put(index, document("a", tags=["north", "2024"]), "leave a")
        await put(index, document("b", tags=["north"]), "leave b")
        await put(index, document("c", tags=["north", "2024"], readers=["hr"]), "leave c")

        async def found(filters: Filters) -> set[str]:
            passages = await index.search("leave", question(), scope=ANYONE, filters=filters, limit=10)
            return {passage.document_id for passage in passages}

        assert await found(Filters(tags=("north",))) == {"a", "b"}
        assert await found(Filters(tags=("north", "2024"))) == {"a"}
        assert await found(Filters(document_ids=("b", "c"))) == {"b"}
        assert await found(Filters(document_ids=("b",), tags=("2024",))) == set()


class TestSearch:
    @pytest.mark.parametrize("readers_share", [0.5, 0.1, 0.01, 0.001])
    @pytest.mark.parametrize("exact_max", [pgvector.EXACT_CHUNKS_MAX, 3])
    async def test_restricted_readers_get_full_results(
        self, index: PgvectorIndex, readers_share: float, exact_max: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As many passages as asked for, and nearly those of an exact search, at every selectivity, also when what one
        may read lies far from the question and the graph gives up."""
        monkeypatch.setattr(pgvector, "EXACT_CHUNKS_MAX", exact_max)
        monkeypatch.setattr(pgvector, "SCAN_TUPLES_MAX", 200)
        total, per_document = 2_000, 10
        readable = max(1, int(total * readers_share) // per_document)
        given = vectors(total, seed=3)
        given[: readable * per_document] = vectors(readable * per_document, seed=4, near=-question())
        for number in range(total // per_document):
            start = number * per_document
            name = document(f"doc{number}", readers=["hr"] if number < readable else ["others"])
            texts = [f"passage {start + place}" for place in range(per_document)]
            await index.replace(name, chunks(*texts), given[start : start + per_document])
        own = given[: readable * per_document]
        limit = min(10, len(own))
        found = await index.search("unheard", question(), scope=Scope(readers=("hr",)), limit=limit)
        best = {f"passage {place}" for place in np.argsort(-(own @ question()))[:limit]}
        assert len(found) == limit
        assert len(best & {passage.text for passage in found}) >= 0.9 * limit

    @pytest.mark.parametrize("exact", [True, False])
    async def test_a_rare_word_finds_its_passage(
        self, index: PgvectorIndex, exact: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The keyword arm finds a stemmed word that the vectors know nothing of, and reports the similarity."""
        if not exact:
            monkeypatch.setattr(pgvector, "EXACT_DOCUMENTS_MAX", -1)
        nearness = np.where(np.arange(200) == 77, 0.3, 0.4)[:, np.newaxis]
        across = vectors(200, seed=5) - (vectors(200, seed=5) @ question())[:, np.newaxis] * question()
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        given = (nearness * question() + np.sqrt(1 - nearness**2) * across).astype(np.float32)
        for number in range(200):
            text = f"ordinary words {number}" + (" about the flanges" if number == 77 else "")
            await index.replace(document(f"doc{number}"), chunks(text), given[number : number + 1])
        best, *_ = await index.search("Which flange?", question(), scope=ANYONE, limit=5)
        assert best.document_id == "doc77"
        assert best.similarity == pytest.approx(0.3, abs=0.01)
        wordless = await index.search("", question(), scope=ANYONE, limit=5)
        assert "doc77" not in {passage.document_id for passage in wordless}

    async def test_the_keyword_arms_compute_bm25(self, index: PgvectorIndex, monkeypatch: pytest.MonkeyPatch) -> None:
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
        values = pgvector._access(ANYONE, None) | {"vector": halfvec.to_text(question())}
        values |= {"depth": 150, "candidates_max": 400}
        for exact, rare_max in ((True, 20_000), (False, 20_000), (False, 1)):
            async with index._snapshot() as connection:
                access = pgvector._access(ANYONE, None)
                asked = await index._question_terms.look(connection, "flange seals motors", access, documents_max=2000)
                monkeypatch.setattr(pgvector, "RARE_CHUNKS_MAX", rare_max)
                weights = pgvector._weights(asked.terms, asked.corpus)
                assert bool(weights["common_terms"]) == (rare_max == 1)
                _, found = await pgvector._find(connection, values | weights, exact=exact)
                by_place = {(c.document_key, c.ordinal): c.words for c in found}
            first = min(key for key, _ in by_place)
            scores = [by_place.get((first + n // 140, n % 140), 0.0) for n in range(150)]
            if rare_max == 1:
                assert all(a == pytest.approx(b) for a, b in zip(scores, expected, strict=True) if a)
                assert max(scores) == pytest.approx(max(expected))
            else:
                assert scores == pytest.approx(expected)

    async def test_a_question_without_words_is_answered_by_meaning(self, index: PgvectorIndex) -> None:
        """Stop words, emoji or nothing: the vector arm stands alone; nor do NUL characters hurt."""
        await put(index, document(), "leave\0 days")
        for query in ("", "what is it", "🙂", "\0"):
            assert await texts_of(index, query) == ["leave\ufffd days"]

    async def test_an_empty_index_finds_nothing(self, index: PgvectorIndex) -> None:
        """And a document without chunks is searchable by nobody, but known."""
        assert await texts_of(index) == []
        assert await index.replace(document(), [], vectors(0))
        assert await texts_of(index) == []
        assert await index.passages("leave", scope=ANYONE) == (document(), [])

    async def test_a_document_is_read_in_order(self, index: PgvectorIndex) -> None:
        """The reader view gets what was given, whole."""
        given = [
            Chunk(ordinal=n, text=f"part {n}", heading="A › B" if n % 2 else None, page=n or None, start=n, end=n + 1)
            for n in range(70)
        ]
        await index.replace(document(tags=["x"]), given, vectors(70))
        assert await index.passages("leave", scope=ANYONE) == (document(tags=["x"]), given)
        assert await index.passages("unknown", scope=ANYONE) is None

    async def test_unchanged_text_keeps_its_vector(self, index: PgvectorIndex, pool: AsyncConnectionPool) -> None:
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


class TestOperations:
    async def test_a_commit_is_announced(self, index: PgvectorIndex, fresh_database: str) -> None:
        """Whoever waits for a version hears of it, after the commit."""
        async with aclosing(listen(fresh_database, CHANNEL)) as announcements:
            assert await anext(announcements) == ""
            await put(index, document(version=7), "leave")
            assert await anext(announcements) == "leave@7"
            await index.remove("leave", 8)
            assert await anext(announcements) == "leave@8"

    async def test_a_generation_is_created_once(self, pool: AsyncConnectionPool) -> None:
        """Many processes open it at once; another model is another generation, with documents of its own."""
        opened = await asyncio.gather(
            *(open_generation(pool, model="test", dimensions=DIMENSIONS, chunking="1") for _ in range(5))
        )
        assert len(set(opened)) == 1
        other = await open_generation(pool, model="test", dimensions=8, chunking="1")
        await put(PgvectorIndex(pool, opened[0]), document(), "leave")
        assert await PgvectorIndex(pool, other).versions(["leave"]) == {}

    async def test_an_unknown_language_is_refused(self, pool: AsyncConnectionPool) -> None:
        """A text search configuration that PostgreSQL lacks is a mistake in the settings."""
        with pytest.raises(ConfigurationError, match="klingon"):
            await open_generation(pool, model="test", dimensions=8, chunking="1", text_search="klingon")

    async def test_iterative_scans_are_on(self, index: PgvectorIndex) -> None:
        """A misspelt setting would only warn: ask the server itself."""
        async with index._snapshot() as connection:
            await connection.execute("SELECT '[1]'::halfvec")
            await pgvector._prefer_graph(connection)
            cursor = await connection.execute("SELECT current_setting('hnsw.iterative_scan')")
            assert await cursor.fetchone() == ("relaxed_order",)
            cursor = await connection.execute("SELECT current_setting('transaction_isolation')")
            assert await cursor.fetchone() == ("repeatable read",)

    async def test_large_scopes_use_the_graph(self, index: PgvectorIndex) -> None:
        """Left to itself, the planner would rather compare and sort everything; and small ones never do, as it may."""
        await put(index, document(), *(f"leave {number}" for number in range(200)))
        weights = pgvector._weights(
            [Term(text="leave", occurrences=1, chunks=200)], Corpus(documents=1, chunks=200, terms=400)
        )
        values = pgvector._access(ANYONE, None) | weights | {"vector": halfvec.to_text(question()), "depth": 50}
        async with index._snapshot() as connection:
            await pgvector._prefer_graph(connection)
            graph = await pgvector._rows(connection, b"EXPLAIN " + pgvector._queries.near, values)
            exact = await pgvector._rows(connection, b"EXPLAIN " + pgvector._queries.near_exact, values)
        assert "vectors_embedding" in str(graph)
        assert "vectors_embedding" not in str(exact)

    async def test_a_database_that_is_away_is_unavailable(
        self, index: PgvectorIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The driver's errors do not leave the adapter."""
        async with open_pool("postgresql://127.0.0.1:9/none", name="away", size_min=0) as away:
            monkeypatch.setattr(away, "timeout", 0.2)
            with pytest.raises(Unavailable):
                await PgvectorIndex(away, index._generation).versions(["leave"])


async def _put_canaries(index: PgvectorIndex) -> None:
    for number in range(20):
        for place in range(3):
            given = document(f"doc{number}-{place}", readers=[f"principal:{number}"])
            texts = (f"leave rules canary{number}", "leave rules for all")
            await index.replace(given, chunks(*texts), vectors(2, seed=number, near=question()))


async def _assert_no_foreign_canary(index: PgvectorIndex) -> None:
    for number in range(20):
        scope = Scope(readers=("everyone", f"principal:{number}"))
        for query in ("leave rules", f"canary{(number + 1) % 20}"):
            found = await index.search(query, question(), scope=scope, limit=10)
            assert {passage.document_id.split("-")[0] for passage in found} == {f"doc{number}"}
            assert len(found) == 6
        foreign = f"doc{(number + 1) % 20}-0"
        assert await index.passages(foreign, scope=scope) is None
        narrowed = await index.search("leave", question(), scope=scope, filters=Filters((foreign,)), limit=10)
        assert narrowed == []


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
