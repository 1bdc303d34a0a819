"""The reconciler against an index that was corrupted by hand: all is found, all is mended, nothing twice."""

import random
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from prometheus_client import REGISTRY
from tests.integration.documents_desk import ALICE, eventually
from tests.support.pipeline import OPERATOR_KEY, Pipeline

from refdesk.contracts.access import Scope
from refdesk.contracts.errors import InvalidRequest
from refdesk.index.ledger.lineage import LineageMemory
from refdesk.operations.reconcile import AT_ONCE, Kind, Patience, Reconciler, Report, Schedule
from refdesk.outside.document_service import open_document_service

COUNT = 300
SHARE = 3
"""One per cent of them, for each kind of corruption."""
EVERYBODY = Scope(readers=("everyone",))


async def fill(pipeline: Pipeline, count: int, **fields: Any) -> list[str]:
    """Documents that are searchable."""
    made = [await pipeline.documents.add(f"Page {number}", readers=["hr"], **fields) for number in range(count)]
    await pipeline.settled()
    return [document["id"] for document in made]


async def forget(pipeline: Pipeline, document_id: str) -> None:
    """Delete everything the index has of a document, its row too."""
    for table in ("chunks", "vectors", "postings"):
        await pipeline.corrupt(
            f"DELETE FROM {table} WHERE document_key = (SELECT key FROM documents WHERE document_id = %s)", document_id
        )
    assert await pipeline.corrupt("DELETE FROM documents WHERE document_id = %s", document_id) == 1


async def set_aside(pipeline: Pipeline, document_id: str, /, **columns: Any) -> None:
    """Change a document's row in the index."""
    for name, value in columns.items():
        assert await pipeline.corrupt(f"UPDATE documents SET {name} = %s WHERE document_id = %s", value, document_id)


async def plant_orphan(pipeline: Pipeline, like: str, name: str) -> None:
    """A searchable document that the Document Service never had."""
    columns = "title, readers, tags, media_type, url, content_sha256, chunks, terms, version, removed"
    await pipeline.corrupt(
        f"INSERT INTO documents (document_id, {columns}) SELECT %s, {columns} FROM documents WHERE document_id = %s",
        name,
        like,
    )
    for table, rest in (
        ("chunks", "ordinal, hash, text, heading, page, start_offset, end_offset"),
        ("vectors", "hash, embedding"),
        ("postings", "block, term, entries"),
    ):
        await pipeline.corrupt(
            f"INSERT INTO {table} (document_key, {rest}) SELECT (SELECT key FROM documents WHERE document_id = %s), "
            f"{rest} FROM {table} WHERE document_key = (SELECT key FROM documents WHERE document_id = %s)",
            name,
            like,
        )


def found(report: Report) -> dict[str, int]:
    return {kind: count for kind, count in report.found.items() if count}


async def assert_sound(pipeline: Pipeline, *document_ids: str) -> None:
    """Each is searchable at the version the Document Service has, for its readers, with all its chunks; nothing differs."""
    await pipeline.settled()
    holdings = await pipeline.index.holdings(document_ids)
    for document_id in document_ids:
        document, holding = await pipeline.document(document_id), holdings[document_id]
        assert (document["state"], holding.removed, holding.whole) == ("indexed", False, True)
        assert holding.version == document["version"]
        assert set(holding.readers) == {*document["readers"], f"principal:{document['owner']}"}
        assert await pipeline.index.passages(document_id, scope=Scope(readers=("hr",))) is not None
    assert found(await pipeline.reconciler.reconcile()) == {}


@pytest.mark.timeout(300)
async def test_every_corruption_is_found_and_mended_in_one_pass(pipeline: Pipeline) -> None:
    """1 % deleted, 1 % orphans, 1 % with other readers, 1 % without their chunks: 100 % found, 100 % mended, then 0."""
    ids = await fill(pipeline, COUNT)
    chosen = random.Random(13).sample(ids, 4 * SHARE)
    deleted, opened, damaged, models = (chosen[n * SHARE : (n + 1) * SHARE] for n in range(4))
    for document_id in deleted:
        await forget(pipeline, document_id)
    for document_id in opened:
        await set_aside(pipeline, document_id, readers=["everyone"])
        assert await pipeline.index.passages(document_id, scope=EVERYBODY) is not None
    for document_id in damaged:
        await pipeline.corrupt(
            "DELETE FROM chunks WHERE document_key = (SELECT key FROM documents WHERE document_id = %s)", document_id
        )
    orphans = [f"orphan-{number}" for number in range(SHARE)]
    for orphan, like in zip(orphans, models, strict=True):
        await plant_orphan(pipeline, like, orphan)
    expected = {"missing": SHARE, "orphaned": SHARE, "wrong_readers": SHARE, "damaged": SHARE}

    seen = await pipeline.reconciler.reconcile(dry_run=True)
    assert (seen.checked, found(seen), seen.repaired) == (COUNT + SHARE, expected, 0)
    report = await pipeline.reconciler.reconcile()
    assert (report.checked, found(report), report.repaired) == (COUNT + SHARE, expected, 4 * SHARE)
    for document_id in opened:
        assert await pipeline.index.passages(document_id, scope=EVERYBODY) is None, "at once, not when it is applied"
    for orphan in orphans:
        assert await pipeline.index.passages(orphan, scope=Scope((), everything=True)) is None
    await assert_sound(pipeline, *ids)
    corpus = await pipeline.index.sizes()
    assert corpus.documents == COUNT, "what is told twice is counted once"


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("wrong_version", {"version": 0}),
        ("wrong_version", {"version": 0, "readers": ["everyone"]}),
        ("wrong_version", {"version": 7}),
        ("damaged", {"content_sha256": "another"}),
        ("damaged", {"tags": ["other"]}),
        ("missing", {"removed": True, "readers": []}),
        ("missing", {"removed": True, "version": 9}),
    ],
)
async def test_a_row_that_is_wrong_is_put_right(pipeline: Pipeline, kind: Kind, columns: dict[str, Any]) -> None:
    """Also where the index claims to have this version, or a later one, already. Its readers are right at once."""
    [document_id] = await fill(pipeline, 1)
    await set_aside(pipeline, document_id, **columns)
    report = await pipeline.reconciler.reconcile()
    assert await pipeline.index.passages(document_id, scope=EVERYBODY) is None
    ahead = columns.get("version", 0) > 1
    assert found(report) == {"wrong_version" if ahead else kind: 1}
    await assert_sound(pipeline, document_id)


@pytest.mark.parametrize("table", ["vectors", "postings"])
async def test_chunks_without_a_part_are_found(pipeline: Pipeline, table: str) -> None:
    """They would be found by one arm of the search only."""
    [document_id] = await fill(pipeline, 1)
    await pipeline.corrupt(f"DELETE FROM {table}")
    assert found(await pipeline.reconciler.reconcile()) == {"damaged": 1}
    await assert_sound(pipeline, document_id)


async def test_a_deleted_document_that_is_still_searchable_is_removed(pipeline: Pipeline) -> None:
    """Though the index may claim to be further than its tombstone."""
    back, ahead = await fill(pipeline, 2)
    for document_id in (back, ahead):
        await plant_orphan(pipeline, document_id, f"copy-{document_id}")
        await pipeline.documents.call("DELETE", f"/{document_id}")
    await pipeline.settled()
    for document_id, version in ((back, 1), (ahead, 2)):
        await forget(pipeline, document_id)
        await set_aside(pipeline, f"copy-{document_id}", version=version, document_id=document_id)
        assert await pipeline.index.passages(document_id, scope=Scope((), everything=True)) is not None
    report = await pipeline.reconciler.reconcile()
    assert (found(report), report.repaired) == ({"orphaned": 2}, 2)
    for document_id in (back, ahead):
        assert await pipeline.index.passages(document_id, scope=Scope((), everything=True)) is None
    assert found(await pipeline.reconciler.reconcile()) == {}


async def test_what_is_on_its_way_or_has_failed_is_no_drift(pipeline: Pipeline) -> None:
    """Pending, given up, just changed: others see to these."""
    [fresh] = await fill(pipeline, 1)
    await pipeline.documents.add("Blank", text="&nbsp;")

    async def given_up() -> bool:
        return await pipeline.letters.count() == 1

    await eventually(given_up)
    await forget(pipeline, fresh)
    await pipeline.documents.add("Pending")
    async with open_document_service(
        pipeline.documents.url, operator_key=OPERATOR_KEY, content_bytes_max=1 << 20
    ) as documents:
        careful = Reconciler(index=pipeline.index, documents=documents, patience=Patience(3600.0))
        assert found(await careful.reconcile()) == {}


async def test_after_a_restore_a_document_that_failed_is_announced_again(pipeline: Pipeline) -> None:
    """The index shows its version for everyone; the one that closes it was given up, and only its event says so."""
    closed = await pipeline.documents.add("Closed", readers=["everyone"])
    await pipeline.settled()
    form = FormData({"readers": "hr"})
    form.add_field("file", b"%PDF-1.4 nothing", filename="closed.pdf", content_type="application/pdf")
    await pipeline.documents.call("PUT", f"/{closed['id']}", by=ALICE, data=form)

    async def given_up() -> bool:
        return (await pipeline.document(closed["id"]))["state"] == "failed"

    await eventually(given_up)
    assert found(await pipeline.reconciler.reconcile()) == {}
    announced = await newest_event(pipeline, closed["id"])
    async with open_document_service(
        pipeline.documents.url, operator_key=OPERATOR_KEY, content_bytes_max=1 << 20
    ) as documents:
        after_restore = Reconciler(index=pipeline.index, documents=documents, patience=AT_ONCE)
        report = await after_restore.reconcile()
    assert (found(report), report.repaired) == ({"wrong_version": 1}, 1)
    assert await newest_event(pipeline, closed["id"]) > announced


async def newest_event(pipeline: Pipeline, document_id: str) -> str:
    """Ids sort by time."""
    [(event_id,)] = await pipeline.documents.query("SELECT max(id) FROM outbox WHERE document_id = %s", document_id)
    return str(event_id)


async def test_a_document_that_waits_without_end_is_told_again(pipeline: Pipeline) -> None:
    """Its event was lost on the way there, or the answer on the way back."""
    lost, unconfirmed = await fill(pipeline, 2)
    await forget(pipeline, lost)
    await pipeline.documents.query(
        "UPDATE documents SET indexed_version = NULL, pending_since = now() - interval '1 hour'"
    )
    assert found(await pipeline.reconciler.reconcile()) == {"missing": 1, "unconfirmed": 1}
    await assert_sound(pipeline, lost, unconfirmed)


async def test_one_pass_is_made_per_interval_by_whoever_comes_first(pipeline: Pipeline) -> None:
    """Across processes and restarts; the last pass's drift is a metric."""
    [document_id] = await fill(pipeline, 1)
    await set_aside(pipeline, document_id, readers=["everyone"])
    schedules = [
        Schedule(pipeline.pool, pipeline.reconcilers, memory=LineageMemory(pipeline.pool), interval_s=3600.0)
        for _ in range(3)
    ]
    reports = [await schedule.pass_when_due() for schedule in schedules]
    assert [report and found(report) for report in reports] == [{"wrong_readers": 1}, None, None]
    assert REGISTRY.get_sample_value("refdesk_index_drift_documents", {"kind": "wrong_readers"}) == 1.0
    await assert_sound(pipeline, document_id)
    again = await Schedule(
        pipeline.pool, pipeline.reconcilers, memory=LineageMemory(pipeline.pool), interval_s=0.0
    ).pass_when_due()
    assert again is not None and found(again) == {}
    assert REGISTRY.get_sample_value("refdesk_index_drift_documents", {"kind": "wrong_readers"}) == 0.0


async def test_a_clock_that_was_set_back_holds_up_no_pass(pipeline: Pipeline) -> None:
    """The last pass began, by that clock, in three days: the next one begins now, and counts from now."""
    schedule = Schedule(pipeline.pool, pipeline.reconcilers, memory=LineageMemory(pipeline.pool), interval_s=3600.0)
    assert await schedule.pass_when_due() is not None
    async with pipeline.pool.connection() as connection:
        await connection.execute("UPDATE reconciliation SET begun_at = clock_timestamp() + interval '3 days'")
    assert await schedule.pass_when_due() is not None
    assert await schedule.pass_when_due() is None


async def test_the_command_line_compares_and_mends(pipeline: Pipeline, tmp_path: Path) -> None:
    """`refdesk reconcile`, first as a dry run."""
    [document_id] = await fill(pipeline, 1)
    await set_aside(pipeline, document_id, readers=["everyone"])
    drift = [{"document_id": document_id, "kind": "wrong_readers"}]
    looked = await pipeline.command("reconcile", "--dry-run", "--json", home=tmp_path)
    assert looked.code == 0, looked.err
    assert looked.last == {"checked": 1, "found": {"wrong_readers": 1}, "repaired": 0, "drift": drift}
    mended = await pipeline.command("reconcile", home=tmp_path)
    assert f"wrong readers: {document_id}\n1 compared, 1 differ, 1 mended.\n" in mended.out
    await assert_sound(pipeline, document_id)
    await pipeline.call("POST", "/api/index/reconcile", by=ALICE, json={}, expect=403)
    for cursor in ("nonsense", "index", "index:\0", "index:" + "9" * 300):
        with pytest.raises(InvalidRequest):
            await pipeline.reconciler.step(cursor, dry_run=True)
