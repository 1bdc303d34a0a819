"""The promises of `refdesk.index.port.ChunkIndex`, on each engine: versions, tombstones, scopes, snapshots, full results."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from datetime import date
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.contract.given import ANYONE, DIMENSIONS, EVERYTHING, chunks, document, put, question, texts_of, vectors

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.contracts.documents import ReadingNote
from refdesk.contracts.errors import ConfigurationError, DocumentRejected
from refdesk.index.chunks import Chunk, content_hash
from refdesk.index.engines import Engines
from refdesk.index.ledger.generations import Engine, Generation, open_generation
from refdesk.index.ledger.news import CHANNEL
from refdesk.index.pgvector import searching as pgvector_searching
from refdesk.index.port import CHUNKS_PER_DOCUMENT_MAX, ChunkIndex
from refdesk.index.qdrant import searching as qdrant_searching
from refdesk.outside.postgres.database import listen

HOSTILE_TEXTS = [
    "'; DROP TABLE documents; --",
    '{"must": [{"key": "readers"}]}',
    "a\0b",
    "naïve Ünïcödé ﬁ",
    "職工養老保険 人工知能",
    "مرحبا بالعالم",
    "👩‍👩‍👧‍👦 🏳️‍🌈",
    "\u202e\u200b\ufeff\x1b[31m",
    "%s %(name)s \\ \\x00 $1",
    "x" * 5_000,
]


class TestVersions:
    async def test_only_a_newer_version_is_applied(self, index: ChunkIndex) -> None:
        """An older version or the same one again changes nothing and says so."""
        assert await put(index, document(version=2), "two weeks of leave")
        assert not await put(index, document(version=2), "again")
        assert not await put(index, document(version=1), "one week of leave")
        assert await texts_of(index) == ["two weeks of leave"]
        assert await put(index, document(version=5), "five weeks of leave")
        assert await texts_of(index) == ["five weeks of leave"]

    async def test_documents_that_were_restored_count_to_a_version_anew(self, index: ChunkIndex) -> None:
        """The same version with other content takes the place of the one that was lost; it is told by its content."""
        await put(index, document(version=4, content_sha256="lost"), "forty days of leave")
        held = await index.held("leave")
        assert held is not None and held[:2] == (4, "lost")
        assert await put(index, document(version=4, content_sha256="kept"), "thirty days of leave")
        assert await texts_of(index) == ["thirty days of leave"]
        held = await index.held("leave")
        assert held is not None and held[:2] == (4, "kept")
        assert await index.held("unknown") is None

    async def test_a_version_keeps_how_it_was_read(self, index: ChunkIndex) -> None:
        """Title and notes go with the version: whoever tells of it again tells those, and a tombstone has none."""
        doubt = ReadingNote(code="encoding_doubtful", text="Read as GB18030, 0.70 sure.\0", attachment="价目.txt")
        await put(index, msgspec.structs.replace(document(version=1), notes=(doubt,)), "leave")
        kept = (msgspec.structs.replace(doubt, text="Read as GB18030, 0.70 sure.\ufffd"),)
        assert await index.held("leave") == (1, "0" * 64, "Title of leave", kept)
        await put(index, msgspec.structs.replace(document(version=2, readers=["hr"]), notes=(doubt,)), "leave")
        assert await index.held("leave") == (2, "0" * 64, "Title of leave", kept)
        await put(index, document(version=3), "leave", "and more")
        assert await index.held("leave") == (3, "0" * 64, "Title of leave", ())
        await index.remove("leave", 4)
        assert await index.held("leave") == (4, "", "", ())

    async def test_removed_stays_removed(self, index: ChunkIndex) -> None:
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

    async def test_a_tombstone_may_come_before_its_document(self, index: ChunkIndex) -> None:
        """Deletion overtakes creation: nothing ever shows."""
        assert await index.remove("leave", 2)
        assert not await put(index, document(version=1), "late")
        assert await texts_of(index, scope=EVERYTHING) == []
        assert (await index.sizes()).documents == 0

    async def test_any_order_ends_in_the_newest_state(self, index: ChunkIndex) -> None:
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
        statistics = await index.sizes()
        assert (statistics.documents, statistics.chunks) == (4, 4)
        assert statistics.terms == 4 * len("titl doc leav doc2 v6 part 0 doc".split())  # the last one of `doc2`

    async def test_one_of_many_processes_wins(self, index: ChunkIndex) -> None:
        """The same version by ten writers at once is applied once."""
        results = await asyncio.gather(*(put(index, document(), "leave", "more leave") for _ in range(10)))
        assert results.count(True) == 1
        assert (await index.sizes()).chunks == 2

    @pytest.mark.parametrize("few", [True, False], ids=["exact", "graph"])
    async def test_what_is_staged_is_shown_by_no_search(
        self, index: ChunkIndex, few: bool, request: pytest.FixtureRequest
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

    async def test_what_was_staged_in_vain_is_deleted(self, index: ChunkIndex) -> None:
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

    async def test_a_document_of_many_chunks_is_written_whole(self, index: ChunkIndex) -> None:
        """Over several statements: all chunks, all words, in one change."""
        count = 1_224
        assert await put(index, document(), *[f"leave word{n}" for n in range(count)])
        statistics = await index.sizes()
        terms = count * len("titl leav leav word0 word".split()) + (count - 10)  # 0 to 9 are no words of their own
        assert (statistics.chunks, statistics.terms) == (count, terms)
        assert f"leave word{count - 1}" in await texts_of(index, f"word{count - 1}", limit=50)

    async def test_a_search_never_sees_half_a_version(self, index: ChunkIndex) -> None:
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

    async def test_a_failed_write_leaves_the_old_version(self, index: ChunkIndex) -> None:
        """A wrong input is refused before anything is written, a failing one rolls back."""
        await put(index, document(version=1), "leave")
        with pytest.raises(ValueError, match="shape"):
            await index.replace(document(version=2), chunks("a", "b"), vectors(1))
        with pytest.raises(ValueError, match="ordinal"):
            await index.replace(document(version=2), chunks("a")[:1] * 2, vectors(2))
        assert await texts_of(index) == ["leave"]
        assert await index.versions(["leave"]) == {"leave": 1}

    async def test_a_document_of_too_many_chunks_is_refused_with_the_limit(self, index: ChunkIndex) -> None:
        """Before anything is written."""
        count = CHUNKS_PER_DOCUMENT_MAX + 1
        one = chunks("leave")[0]
        with pytest.raises(DocumentRejected, match="100001 passages; the limit is 100000"):
            await index.replace(document(), [one] * count, np.zeros((count, DIMENSIONS), dtype=np.float32))
        assert await index.versions(["leave"]) == {}

    @pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
    async def test_any_text_comes_back_as_it_was_given(self, index: ChunkIndex, text: str) -> None:
        """Quotes, other scripts, emoji, control characters; of NUL alone another character is made."""
        given = [Chunk(ordinal=0, text=text, heading=text, start=0, end=len(text))]
        kept = text.replace("\0", "\ufffd")
        assert await index.replace(document(kept, tags=[kept]), given, vectors(1))
        found = await index.search(text, question(), scope=ANYONE, filters=Filters((kept,), (kept,)), limit=5)
        assert [(passage.text, passage.heading) for passage in found] == [(kept, kept)]
        read = await index.passages(kept, scope=ANYONE)
        assert read is not None
        assert [chunk.text for chunk in read[1]] == [kept]


class TestAccess:
    async def test_foreign_passages_never_appear(self, index: ChunkIndex) -> None:
        """Each of 20 readers finds their own canary and nobody else's, near in meaning and equal in words."""
        await put_canaries(index)
        await assert_no_foreign_canary(index)

    async def test_nor_in_the_arms_for_large_scopes(self, index: ChunkIndex, pruned: None) -> None:
        """The same through the graph and the pruned postings."""
        await put_canaries(index)
        await assert_no_foreign_canary(index)

    async def test_no_readers_means_administrators_only(self, index: ChunkIndex) -> None:
        """Unknown access is no access."""
        await put(index, document(readers=()), "leave")
        assert await texts_of(index) == []
        assert await index.passages("leave", scope=ANYONE) is None
        assert await texts_of(index, scope=EVERYTHING) == ["leave"]

    async def test_the_same_chunks_for_other_readers(self, index: ChunkIndex) -> None:
        """A change of readers alone shows at once: whoever gains it finds it, whoever loses it does not; vectors stay."""
        await put(index, document(version=1, readers=["hr"], tags=["old"]), "leave", "more leave")
        known = await index.known_vectors("leave")
        given = chunks("leave", "more leave")
        reused = np.stack([known[content_hash("Title of leave", chunk)] for chunk in given])
        assert np.allclose(reused, vectors(2), atol=1e-3)
        assert await index.replace(document(version=2, readers=["everyone"], tags=["new"]), given, reused)
        assert len(await texts_of(index)) == 2
        assert await texts_of(index, scope=Scope(readers=("hr",))) == []
        tagged = [
            len(await index.search("leave", question(), scope=ANYONE, filters=Filters(tags=(tag,)), limit=5))
            for tag in ("old", "new")
        ]
        assert tagged == [0, 2]
        assert await index.passages("leave", scope=ANYONE) == (
            document(version=2, readers=["everyone"], tags=["new"]),
            given,
        )

    async def test_filters_narrow_a_search(self, index: ChunkIndex) -> None:
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

    @pytest.mark.parametrize("few", [True, False], ids=["exact", "graph"])
    async def test_a_question_to_one_source_or_to_some_days_finds_nothing_else(
        self, index: ChunkIndex, few: bool, request: pytest.FixtureRequest
    ) -> None:
        """A source is a folder, whole or deeper; days count from the first to the last; also together."""
        if not few:
            request.getfixturevalue("pruned")
        for name, external_id, day in (
            ("a", "wiki/hr/leave.md", date(2026, 1, 31)),
            ("b", "wiki/it/leave.md", date(2026, 2, 1)),
            ("c", "wiki.old/leave.md", date(2026, 2, 28)),
            ("d", None, None),
        ):
            await put(index, document(name, external_id=external_id, changed_on=day), f"leave {name}")

        async def found(**filters: Any) -> str:
            passages = await index.search("leave", question(), scope=ANYONE, filters=Filters(**filters), limit=9)
            return "".join(sorted(passage.document_id for passage in passages))

        assert await found(sources=("wiki",)) == await found(sources=("wiki/",)) == "ab"
        assert await found(sources=("wiki/hr",)) == "a"
        assert await found(sources=("wiki/hr", "wiki.old")) == "ac"
        assert await found(sources=("wik",)) == await found(sources=("wiki/hr/leave.md",)) == ""
        assert await found(since=date(2026, 2, 1)) == "bc"
        assert await found(until=date(2026, 2, 1)) == "ab"
        assert await found(since=date(2026, 2, 1), until=date(2026, 2, 1)) == "b"
        assert await found(sources=("wiki",), since=date(2026, 2, 1), until=date.max) == "b"
        assert await found() == "abcd"

    async def test_a_document_that_moves_is_found_where_it_is_now(self, index: ChunkIndex) -> None:
        """Its text is the same; its folder, its day and its tags are not."""
        before = document("a", external_id="old/leave.md", changed_on=date(2026, 1, 1), tags=["x"])
        after = document("a", 2, external_id="new/leave.md", changed_on=date(2026, 2, 1), tags=["y"])
        for given in (before, after):
            await put(index, given, "leave")

        async def found(**filters: Any) -> bool:
            return bool(await index.search("leave", question(), scope=ANYONE, filters=Filters(**filters), limit=9))

        assert await found(sources=("new",), since=date(2026, 2, 1), tags=("y",))
        assert not await found(sources=("old",))
        assert not await found(until=date(2026, 1, 31))
        kept = await index.passages("a", scope=ANYONE)
        assert kept is not None and kept[0] == after


class TestSearch:
    @pytest.mark.parametrize("readers_share", [0.5, 0.1, 0.01, 0.001])
    @pytest.mark.parametrize("exact_max", [pgvector_searching.EXACT_CHUNKS_MAX, 3])
    async def test_restricted_readers_get_full_results(
        self, index: ChunkIndex, readers_share: float, exact_max: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As many passages as asked for, and nearly those of an exact search, at every selectivity, also when what one
        may read lies far from the question and the graph gives up."""
        for module in (pgvector_searching, qdrant_searching):
            monkeypatch.setattr(module, "EXACT_CHUNKS_MAX", exact_max)
        monkeypatch.setattr(pgvector_searching, "SCAN_TUPLES_MAX", 200)
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
        self, index: ChunkIndex, exact: bool, request: pytest.FixtureRequest
    ) -> None:
        """The keyword arm finds a stemmed word that the vectors know nothing of, and reports the similarity."""
        if not exact:
            request.getfixturevalue("pruned")
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

    @pytest.mark.parametrize("exact", [True, False])
    async def test_a_vector_of_zeros_leaves_the_order_to_the_words(
        self, index: ChunkIndex, exact: bool, request: pytest.FixtureRequest
    ) -> None:
        """As a model gives for a question that it cannot read."""
        if not exact:
            request.getfixturevalue("pruned")
        for number in range(200):
            text = "ordinary words" + " about the flange" * (number == 77) + " and a flange of a pump" * (number == 33)
            await put(index, document(f"doc{number}"), f"{text} {number}", seed=number)
        nothing = np.zeros_like(question())
        found = await index.search("Which pump has a flange?", nothing, scope=ANYONE, limit=5)
        assert [passage.document_id for passage in found[:2]] == ["doc33", "doc77"]
        assert len(found) == 5

    @pytest.mark.parametrize("exact", [True, False])
    async def test_hundreds_of_copies_crowd_nothing_out(
        self, index: ChunkIndex, exact: bool, request: pytest.FixtureRequest
    ) -> None:
        """One of them is shown, then what differs: also where both arms are full of copies, under titles of their own."""
        if not exact:
            request.getfixturevalue("pruned")
        for number in range(200):
            await index.replace(document(f"copy{number}"), chunks("leave leave rules"), question()[np.newaxis])
        others = [f"leave in ordinary words {number} of many more that are in it" for number in range(9)]
        await put(index, document("other"), *others, seed=4)
        found = await texts_of(index, "leave rules", limit=10)
        assert found[0] == "leave leave rules"
        assert sorted(found[1:]) == others

    async def test_a_question_without_words_is_answered_by_meaning(self, index: ChunkIndex) -> None:
        """Stop words, emoji or nothing: the vector arm stands alone; nor do NUL characters hurt."""
        await put(index, document(), "leave\0 days")
        for query in ("", "what is it", "🙂", "\0"):
            assert await texts_of(index, query) == ["leave\ufffd days"]

    async def test_an_empty_index_finds_nothing(self, index: ChunkIndex) -> None:
        """And a document without chunks is searchable by nobody, but known."""
        assert await texts_of(index) == []
        assert await index.replace(document(), [], vectors(0))
        assert await texts_of(index) == []
        assert await index.passages("leave", scope=ANYONE) == (document(), [])

    async def test_a_document_is_read_in_order(self, index: ChunkIndex) -> None:
        """The reader view gets what was given, whole."""
        given = [
            Chunk(ordinal=n, text=f"part {n}", heading="A › B" if n % 2 else None, page=n or None, start=n, end=n + 1)
            for n in range(70)
        ]
        await index.replace(document(tags=["x"]), given, vectors(70))
        assert await index.passages("leave", scope=ANYONE) == (document(tags=["x"]), given)
        assert await index.passages("unknown", scope=ANYONE) is None


class TestAudit:
    async def test_every_document_is_held_once_in_the_order_of_ids(self, index: ChunkIndex) -> None:
        """Page by page; tombstones too, and not what is only staged."""
        for name in ("c", "a", "b"):
            await put(index, document(name, readers=["hr"], tags=[name]), f"leave {name}", "more")
        await index.remove("b", 2)
        await index.stage("staged", 1, [content_hash("t", chunks("x")[0])], vectors(1))
        first = await index.audit(count=2)
        rest = await index.audit(after=first[-1].document_id, count=2)
        assert [(held.document_id, held.version, held.removed, held.whole) for held in first + rest] == [
            ("a", 1, False, True),
            ("b", 2, True, True),
            ("c", 1, False, True),
        ]
        assert (first[0].readers, first[0].tags, first[0].content_sha256) == (["hr"], ["a"], "0" * 64)
        assert await index.holdings(["c", "staged", "unknown"]) == {"c": rest[0]}

    async def test_what_is_reopened_may_be_applied_again(self, index: ChunkIndex) -> None:
        """It stays searchable for those whom the change of readers leaves in; only as it was seen."""
        await put(index, document(version=3, readers=["hr", "everyone"]), "leave")
        (seen,) = await index.audit(count=5)
        assert await index.reopen(seen, version=2, readers=["hr"])
        assert not await index.reopen(seen, version=1, readers=["hr"])
        assert await texts_of(index) == []
        assert await texts_of(index, scope=Scope(readers=("hr",))) == ["leave"]
        assert await put(index, document(version=3), "leave")
        assert await texts_of(index) == ["leave"]

    async def test_what_is_not_whole_leaves_the_search_until_it_is_applied_again(self, index: ChunkIndex) -> None:
        """Nothing is lost of the sizes either."""
        await put(index, document(version=3), "leave", "more leave")
        (seen,) = await index.audit(count=5)
        assert await index.reopen(msgspec.structs.replace(seen, whole=False), version=2, readers=["everyone"])
        assert await texts_of(index) == []
        (held,) = await index.audit(count=5)
        assert not held.whole
        assert await put(index, document(version=3), "leave", "more leave")
        (held,) = await index.audit(count=5)
        assert held.whole
        assert len(await texts_of(index)) == 2
        assert (await index.sizes()).chunks == 2

    async def test_samples_are_of_different_documents(self, index: ChunkIndex) -> None:
        """Each with a text of its own."""
        for name in ("a", "b", "c"):
            await put(index, document(name), f"{name} one", f"{name} two")
        await index.remove("c", 2)
        drawn = dict(await index.sample(5))
        assert set(drawn) == {"a", "b"}
        assert all(text.startswith(name) for name, text in drawn.items())


class TestEpoch:
    async def test_it_names_the_state_of_the_index_whatever_else_is_written(
        self, index: ChunkIndex, fresh_database: str
    ) -> None:
        """Every change has another; other work in the same database has none."""
        epochs = [await index.epoch()]

        async def changed() -> bool:
            epochs.append(await index.epoch())
            return epochs[-1] not in epochs[:-1]

        await put(index, document(), "leave")
        assert await changed()
        await put(index, document(version=2, readers=("hr",)), "leave")
        assert await changed(), "other readers"
        assert not await put(index, document(version=2), "leave")
        assert not await changed(), "nothing newer"
        seen = (await index.audit(count=10))[0]
        assert await index.reopen(seen, version=1, readers=["everyone"])
        assert await changed()
        await index.remove("leave", 3)
        assert await changed()
        async with await psycopg.AsyncConnection.connect(fresh_database, autocommit=True) as connection:
            await connection.execute("CREATE TABLE elsewhere (n int)")
            await connection.execute("INSERT INTO elsewhere VALUES (1)")
        assert not await changed()


class TestOperations:
    async def test_a_commit_is_announced(self, index: ChunkIndex, fresh_database: str) -> None:
        """Whoever waits for a version hears of it, after the commit."""
        async with aclosing(listen(fresh_database, CHANNEL)) as announcements:
            assert await anext(announcements) == ""
            await put(index, document(version=7), "leave")
            assert await anext(announcements) == "leave@7"
            await index.remove("leave", 8)
            assert await anext(announcements) == "leave@8"

    async def test_a_generation_is_created_once(
        self, pool: AsyncConnectionPool, engine: Engine, engines: Engines, index: ChunkIndex, generation: Generation
    ) -> None:
        """Many processes open it at once; another model is another generation, with documents of its own."""

        async def open_it(dimensions: int) -> Generation:
            opened = await open_generation(pool, engine=engine, model="test", dimensions=dimensions, chunking="1")
            await engines.prepare(opened)
            return opened

        assert set(await asyncio.gather(*(open_it(DIMENSIONS) for _ in range(5)))) == {generation}
        other = engines.index(await open_it(8))
        await put(index, document(), "leave")
        assert await other.versions(["leave"]) == {}
        assert await other.search("leave", question()[:8], scope=ANYONE, limit=5) == []

    async def test_an_unknown_language_is_refused(self, pool: AsyncConnectionPool) -> None:
        """A text search configuration that PostgreSQL lacks is a mistake in the settings."""
        with pytest.raises(ConfigurationError, match="klingon"):
            await open_generation(pool, model="test", dimensions=8, chunking="1", text_search="klingon")


async def put_canaries(index: ChunkIndex) -> None:
    for number in range(20):
        for place in range(3):
            given = document(f"doc{number}-{place}", readers=[f"principal:{number}"])
            texts = (f"leave rules canary{number}", "leave rules for all")
            await index.replace(given, chunks(*texts), vectors(2, seed=number, near=question()))


async def assert_no_foreign_canary(index: ChunkIndex) -> None:
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
