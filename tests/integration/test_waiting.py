"""Why documents wait and how many are ahead, from the tables alone: nothing here remembers anything."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from psycopg import AsyncConnection, sql
from tests.integration.documents_desk import ADMINISTRATOR, ALICE, Desk, open_desk

from refdesk.contracts.access import Scope
from refdesk.contracts.documents import ReadingNote
from refdesk.contracts.events import IndexApplied, IndexFailed, IndexStarted
from refdesk.documents.listing import Selection
from refdesk.documents.store import DocumentStore
from refdesk.documents.waiting import silence_s_max
from refdesk.outside.postgres.database import open_pool

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALL = Scope(readers=(), everything=True)


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


def started(document: Any) -> IndexStarted:
    return IndexStarted(document_id=document["id"], version=document["version"], occurred_at=NOW)


def applied(document: Any, *, title: str | None = None, notes: tuple[ReadingNote, ...] | None = None) -> IndexApplied:
    return IndexApplied(
        document_id=document["id"],
        version=document["version"],
        chunks=1,
        generation="g",
        seconds={},
        title=title,
        notes=notes,
        occurred_at=NOW,
    )


def failed(document: Any, *, attempts: int, final: bool = False) -> IndexFailed:
    return IndexFailed(
        document_id=document["id"],
        version=document["version"],
        reason="The file is locked.",
        code="late",
        attempts=attempts,
        final=final,
        next_try_s=None if final else 60.0,
        occurred_at=NOW,
    )


async def waiting(desk: Desk, document: Any) -> Any:
    return (await desk.call("GET", f"/{document['id']}", by=ADMINISTRATOR)).json["waiting"]


async def published(desk: Desk, *, seconds_ago: float = 0) -> None:
    """The relay has handed every event to the broker, so long ago."""
    await desk.query(
        "UPDATE outbox SET created_at = clock_timestamp() - make_interval(secs => %s), "
        "published_at = clock_timestamp() - make_interval(secs => %s)",
        seconds_ago,
        seconds_ago,
    )


async def test_a_waiting_document_says_how_many_are_ahead(desk: Desk) -> None:
    """The one that waits longest is next; the list says the same as the document; the searchable one says nothing."""
    first, second, third = [await desk.add(f"Number {number}") for number in range(3)]
    places = [(await waiting(desk, document))["ahead"] for document in (first, second, third)]
    assert places == [0, 1, 2]
    listed = {one["id"]: one["waiting"] for one in (await desk.call("GET", "")).json["documents"]}
    assert [listed[document["id"]]["ahead"] for document in (first, second, third)] == places
    assert listed[first["id"]]["since"] >= first["created_at"]
    await desk.store.apply_indexed(applied(first))
    assert await waiting(desk, first) is None
    assert (await waiting(desk, third))["ahead"] == 1


async def test_a_long_queue_is_counted_so_far_and_no_further(desk: Desk) -> None:
    """Beyond that it is "at least": looking costs the same, however many wait."""
    documents = [await desk.add(f"Number {number}") for number in range(4)]
    store = DocumentStore(desk.pool, queue_counted_max=2)
    shown = [await store.read(document["id"], ALL) for document in documents]
    told = [(one.waiting.ahead, one.waiting.ahead_at_least) for one in shown if one and one.waiting]
    assert told == [(0, False), (1, False), (2, True), (2, True)]


async def test_every_read_says_it_in_one_statement(desk: Desk) -> None:
    """A page, a document, what stands under external ids, what is told to event streams: the same words from each."""
    late = await desk.add("Late", external_id="notes/late.md")
    await desk.store.apply_failed(failed(late, attempts=2))
    next_one = await desk.add("Next", external_id="notes/next.md")
    await desk.store.apply_indexed(applied(await desk.add("Done", external_id="notes/done.md")))
    ids = {late["id"], next_one["id"]}
    async with open_pool(desk.database_url, name="test reads") as pool:
        store = DocumentStore(pool)
        page = (await store.listings.page(Selection(), ALL, limit=10)).documents
        each = [await store.read(document.id, ALL) for document in page]
        external = await store.external(after="notes/", below="notes0", owner="alice", count=10)
        told = [change.document for change in await store.changed([document.id for document in page])]
        assert pool.get_stats()["requests_num"] == 1 + len(page) + 1 + 1
    said = {document.id: document.waiting for document in page if document.waiting}
    assert said.keys() == ids
    assert (said[late["id"]].reason, said[late["id"]].attempts, said[late["id"]].ahead) == ("retrying", 2, 0)
    assert (said[next_one["id"]].reason, said[next_one["id"]].ahead) == ("queued", 0)
    for documents in (each, external, told):
        assert {document.id: document.waiting for document in documents if document and document.waiting} == said


async def test_a_document_says_what_is_done_with_it_and_how_long_that_took(desk: Desk) -> None:
    """The step while an indexer is at work on it; the seconds of each step, and the whole wait, once it is searchable."""
    document = await desk.add()
    await desk.store.apply_started(msgspec.structs.replace(started(document), step="embed"))
    shown = (await desk.call("GET", f"/{document['id']}")).json
    assert (shown["waiting"]["reason"], shown["indexing_step"], shown["index_seconds"]) == ("indexing", "embed", None)
    steps = {"fetch": 0.1, "parse": 2.0, "embed": 5.5}
    await desk.store.apply_indexed(msgspec.structs.replace(applied(document), seconds=steps))
    shown = (await desk.call("GET", f"/{document['id']}")).json
    assert shown["indexing_step"] is None
    assert shown["index_seconds"].pop("total") > 0
    assert shown["index_seconds"] == steps
    changed = (await desk.call("PUT", f"/{document['id']}", json={"tags": ["new"]})).json
    assert (changed["state"], changed["index_seconds"]) == ("pending", None)


async def test_times_are_utc_whatever_the_databases_zone(fresh_database: str, tmp_path: Path) -> None:
    """Those of the document, and those of why it waits."""
    async with await AsyncConnection.connect(fresh_database, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        await connection.execute(sql.SQL("ALTER DATABASE {} SET TimeZone = 'Asia/Kolkata'").format(name))
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        document = await desk.add()
        shown = await waiting(desk, document)
        assert document["created_at"].endswith("Z")
        assert shown["since"].endswith("Z")
        assert shown["since"] >= document["created_at"]


async def test_a_document_being_indexed_says_so_while_that_is_said_again(desk: Desk) -> None:
    """An indexer that died stops saying it."""
    before, document = await desk.add("Before"), await desk.add("Long")
    await desk.store.apply_started(started(document))
    shown = await waiting(desk, document)
    assert (shown["reason"], shown["ahead"]) == ("indexing", 0)
    assert (await waiting(desk, before))["reason"] == "queued"
    await desk.query("UPDATE documents SET indexing_until = clock_timestamp() - interval '1 ms'")
    assert (await waiting(desk, document))["reason"] == "queued"
    await desk.store.apply_indexed(applied(document))
    await desk.store.apply_started(started(document))
    assert await waiting(desk, document) is None, "news that come late change nothing"


async def test_a_failed_attempt_says_when_the_next_one_comes(desk: Desk) -> None:
    """Who waits for that is ahead of nobody; given up, it does not wait; an outage is told from a fault."""
    faulty, next_one = await desk.add("Faulty"), await desk.add("Next")
    await desk.store.apply_failed(failed(faulty, attempts=2))
    shown = await waiting(desk, faulty)
    assert (shown["reason"], shown["attempts"]) == ("retrying", 2)
    [(left_s,)] = await desk.query(
        "SELECT extract(epoch FROM %s::timestamptz - clock_timestamp())::float8", shown["next_try_at"]
    )
    assert 0 < left_s <= 60
    assert (await waiting(desk, next_one))["ahead"] == 0
    await desk.store.apply_failed(failed(next_one, attempts=0))
    assert (await waiting(desk, next_one))["reason"] == "part_away"
    await desk.query("UPDATE documents SET next_try_at = clock_timestamp()")
    assert (await waiting(desk, next_one))["reason"] == "queued"
    await desk.store.apply_failed(failed(faulty, attempts=3, final=True))
    assert await waiting(desk, faulty) is None


async def test_what_the_broker_has_not_taken_says_so(desk: Desk) -> None:
    """After the moment that publishing takes."""
    document = await desk.add()
    assert (await waiting(desk, document))["reason"] == "queued"
    await desk.query("UPDATE outbox SET created_at = clock_timestamp() - interval '10 s'")
    assert (await waiting(desk, document))["reason"] == "broker_away"
    await published(desk)
    assert (await waiting(desk, document))["reason"] == "queued"


async def test_silence_in_spite_of_work_means_that_no_indexer_is_there(desk: Desk) -> None:
    """Whatever an indexer says of any document ends that."""
    document, other = await desk.add(), await desk.add("Other")
    await published(desk, seconds_ago=60)
    assert (await waiting(desk, document))["reason"] == "indexer_away"
    await desk.store.apply_failed(failed(other, attempts=1))
    assert (await waiting(desk, document))["reason"] == "queued"
    await desk.query("UPDATE indexer_news SET heard_at = clock_timestamp() - interval '1 minute'")
    assert (await waiting(desk, document))["reason"] == "indexer_away"


async def test_an_indexer_that_gets_no_processor_is_not_called_absent(desk: Desk) -> None:
    """A minute of silence is much on an idle machine, and nothing on one whose processors are all busy."""
    document = await desk.add()
    await published(desk, seconds_ago=60)
    for busy, reason in ((0.0, "indexer_away"), (1.0, "queued")):
        store = DocumentStore(desk.pool, silence_s=lambda busy=busy: silence_s_max(lambda: busy))
        shown = await store.read(document["id"], ALICE.scope)
        assert shown is not None and shown.waiting is not None and shown.waiting.reason == reason
    await published(desk, seconds_ago=600)
    shown = await store.read(document["id"], ALICE.scope)
    assert shown is not None and shown.waiting is not None and shown.waiting.reason == "indexer_away"


async def test_a_document_that_nobody_named_shows_the_title_it_is_cited_by(desk: Desk) -> None:
    """It can be found by it; a given title ends it."""
    document = await desk.add("scan-0815")
    await desk.store.apply_indexed(applied(document, title="Parental leave"))
    [found] = (await desk.call("GET", "?q=parental")).json["documents"]
    assert (found["title"], found["own_title"]) == ("scan-0815", "Parental leave")
    await desk.store.apply_indexed(applied(document))
    replaced = (await desk.call("PUT", f"/{document['id']}", json={"text": "# Parental leave\n\nLonger."})).json
    assert replaced["own_title"] == "Parental leave"
    await desk.store.apply_indexed(applied(replaced, title="scan-0815"))
    assert (await desk.call("GET", f"/{document['id']}")).json["own_title"] is None
    await desk.store.apply_indexed(applied(document, title="Late"))
    named = (await desk.call("PUT", f"/{document['id']}", json={"title": "Leave"})).json
    assert named["own_title"] is None


async def test_a_document_shows_how_the_version_that_is_indexed_was_read(desk: Desk) -> None:
    """Until another one is; a fact that comes twice takes nothing back."""
    document = await desk.add("plan.txt")
    assert document["notes"] == []
    doubt = ReadingNote(code="encoding_doubtful", text="Read as GB18030, 0.70 sure.", attachment="a.txt")
    await desk.store.apply_indexed(applied(document, notes=(doubt,)))
    shown = [{"code": "encoding_doubtful", "text": "Read as GB18030, 0.70 sure.", "attachment": "a.txt"}]
    for path in ("", f"/{document['id']}"):
        found = (await desk.call("GET", path)).json
        assert (found["documents"][0] if "documents" in found else found)["notes"] == shown
    replaced = (await desk.call("PUT", f"/{document['id']}", json={"text": "New."})).json
    assert replaced["notes"] == shown
    await desk.store.apply_indexed(applied(replaced))
    assert (await desk.call("GET", f"/{document['id']}")).json["notes"] == shown
    again = (await desk.call("PUT", f"/{document['id']}", json={"text": "Newer."})).json
    await desk.store.apply_indexed(applied(again, notes=()))
    assert (await desk.call("GET", f"/{document['id']}")).json["notes"] == []
