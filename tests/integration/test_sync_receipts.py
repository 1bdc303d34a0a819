"""The receipt of a sync: stored, bounded, its owner's; true while it runs, after a kill, and when the index fails later."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.documents_desk import ADMINISTRATOR, ALICE, HR, STRANGER, Desk, eventually, key, open_desk
from tests.support.running import Said, command

from refdesk.app.commands.client import CallFailed, Client
from refdesk.app.mirror import Mirror, Options, Source
from refdesk.app.sources.planning import DeletionLimits
from refdesk.app.sources.reports import Report
from refdesk.contracts.access import Principal
from refdesk.contracts.documents import ReadingNote
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.events import IndexApplied
from refdesk.contracts.syncs import SyncCounts, SyncEntry, SyncReport
from refdesk.documents.syncs import Syncs
from refdesk.settings.documents import SyncLimits


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\nText.")
    return folder


async def mirrored(
    desk: Desk, folder: Path, *, deletions: DeletionLimits | None = None, by: Principal = ALICE
) -> Report:
    async with aiohttp.ClientSession(headers=key(by)) as session:
        options = Options(deletions=deletions or DeletionLimits())
        mirror = Mirror(Client(session, url=desk.url), Source(str(folder)), options)
        return await mirror.run(on_listed=lambda _: None, on_done=lambda: None)


async def cli(desk: Desk, *arguments: str) -> Said:
    settings = {"REFDESK_URL": desk.url, "REFDESK_API_KEY": "alice hr legal"}
    return await command("sync", *arguments, home=desk.directory.parent, within_s=120.0, **settings)


async def receipts(desk: Desk, *, by: Principal = ALICE, **parameters: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await desk.call("GET", "/syncs", by=by, params=parameters)).json["syncs"]
    return listed


async def test_a_receipt_says_what_was_done_and_what_the_index_made_of_it(desk: Desk, folder: Path) -> None:
    """Failures after the upload are named by their file."""
    (folder / "~$lock.docx").write_text("Alice")
    report = await mirrored(desk, folder)
    await desk.query("UPDATE documents SET failed = true, failure = 'It is damaged.' WHERE external_id LIKE '%%/2.md'")
    receipt = (await desk.call("GET", f"/syncs/{report.receipt}")).json
    assert receipt["state"] == "finished" and receipt["started_by"] == receipt["owner"] == "alice"
    assert receipt["counts"] == {
        "found": 5, "gone": 0, "added": 4, "updated": 0, "unchanged": 0, "skipped": 1, "failed": 0, "deleted": 0, "kept": 0,
    }  # fmt: skip
    assert receipt["entries"][0] == {
        "path": "~$lock.docx", "outcome": "skipped", "reason": "ignored by the default list: ~$*",
    }  # fmt: skip
    assert (receipt["indexing"]["pending"], receipt["indexing"]["failed"]) == (3, 1)
    assert receipt["indexing"]["failures"] == [{"path": "2.md", "outcome": "failed", "reason": "It is damaged."}]


async def test_the_last_receipt_is_shown_on_the_command_line(desk: Desk, folder: Path) -> None:
    """Of a source, or of any; without one, and without any, it says so."""
    nothing = await cli(desk, "--last")
    assert nothing.code == 1 and "There is no receipt" in nothing.err
    await mirrored(desk, folder)
    (folder / "0.md").unlink()
    report = await mirrored(desk, folder)
    for arguments in ([str(folder)], []):
        said = await cli(desk, "--last", "--json", *arguments)
        assert said.code == 0 and said.last["id"] == report.receipt
        assert "deleted 0.md: its file is gone" in said.out and "3 pending" in said.out
    assert (await cli(desk, "--last", str(folder.parent))).code == 1
    assert (await cli(desk)).code == 2


async def test_how_documents_were_read_is_said_of_their_files(desk: Desk, folder: Path) -> None:
    """By the receipt, by `--last`, and by a sync that waits until the index has all; a failure in the index is one, then."""
    waiting = asyncio.create_task(cli(desk, str(folder), "--wait", "--json"))

    async def stored() -> list[tuple[Any, ...]] | None:
        found = await desk.query("SELECT id, version, external_id FROM documents")
        return found if len(found) == 4 else None

    for document_id, version, external_id in await eventually(stored):
        notes = (ReadingNote(code="encoding_doubtful", text=f"Read as [GB18030], {version}.70 sure."),)
        fact = IndexApplied(
            document_id=document_id, version=version, chunks=1, generation="one", seconds={}, occurred_at=datetime.now(UTC),
            notes=notes if external_id.endswith("/3.md") else (),
        )  # fmt: skip
        await desk.store.apply_indexed(fact)
    said = await waiting
    line = "note 3.md: Read as [GB18030], 1.70 sure."
    assert said.code == 0 and line in said.out and "4 are searchable, 0 pending" in said.out
    noted = [{"path": "3.md", "notes": [{"code": "encoding_doubtful", "text": line[11:], "attachment": None}]}]
    assert said.last["indexing"]["notes"] == noted
    last = await cli(desk, "--last", "--json", str(folder))
    assert line in last.out and last.last["indexing"]["notes"] == noted
    await desk.query("UPDATE documents SET failed = true, indexed_version = NULL WHERE external_id LIKE '%%/2.md'")
    failed = await cli(desk, str(folder), "--wait")
    assert failed.code == 1 and "not searchable: 2.md" in failed.out
    assert (await cli(desk, str(folder), "--wait", "--watch")).code == 2


async def test_a_refused_sync_leaves_its_reason(desk: Desk, folder: Path) -> None:
    """And nothing else: no document was touched."""
    await mirrored(desk, folder)
    for number in range(3):
        (folder / f"{number}.md").unlink()
    with pytest.raises(InvalidRequest, match="would delete 3 of the 4"):
        await mirrored(desk, folder)
    planned = await cli(desk, str(folder), "--dry-run", "--json")
    assert planned.code == 0 and "It would be refused: This sync would delete 3" in planned.out
    assert "deleted 2.md: its file is gone" in planned.out
    newest = (await receipts(desk))[0]
    assert newest["state"] == "refused" and "--allow-deletions" in newest["problem"]
    assert (await desk.query("SELECT count(*) FROM current_documents")) == [(4,)]
    assert (await mirrored(desk, folder, deletions=DeletionLimits(share_max=1.0))).deleted == 3


async def test_a_sync_that_is_silent_has_stopped(desk: Desk) -> None:
    """Nobody can tell of a kill but the clock."""
    begun = (await desk.call("POST", "/syncs", json={"source": "wiki/"})).json
    assert [one["state"] for one in await receipts(desk)] == ["running"]
    assert (await desk.call("POST", "/syncs", json={"source": "wiki/"})).json["also_running"] == 1
    await desk.query("UPDATE syncs SET heard_at = heard_at - interval '61 seconds'")
    assert [one["state"] for one in await receipts(desk, source="wiki/")] == ["stopped", "stopped"]
    assert (await desk.call("POST", "/syncs", json={"source": "wiki/"})).json["also_running"] == 0
    told = SyncReport(counts=SyncCounts(found=1, added=1))
    assert (await desk.call("PUT", f"/syncs/{begun['id']}", json=_wire(told))).status == 204
    assert [one["state"] for one in await receipts(desk, source="wiki/")] == ["running", "stopped", "running"]


async def test_receipts_are_their_owners(desk: Desk) -> None:
    """To others they do not exist; administrators see all, and may begin one for somebody."""
    begun = (await desk.call("POST", "/syncs", json={"source": "wiki/"})).json
    one = f"/syncs/{begun['id']}"
    for by, status in ((ALICE, 200), (ADMINISTRATOR, 200), (HR, 404)):
        assert (await desk.call("GET", one, by=by)).status == status
    stranger = await desk.call("PUT", one, by=STRANGER, json=_wire(SyncReport(counts=SyncCounts())))
    assert stranger.status == 404 and await receipts(desk, by=HR) == []
    assert (await desk.call("GET", "/syncs", by=HR, params={"owner": "alice"})).status == 403
    assert (await desk.call("POST", "/syncs", by=HR, json={"source": "wiki/", "owner": "alice"})).status == 403
    await desk.call("POST", "/syncs", by=ADMINISTRATOR, json={"source": "notes/", "owner": "alice"})
    assert {one["source"] for one in await receipts(desk)} == {"wiki/", "notes/"}
    assert len(await receipts(desk, by=ADMINISTRATOR)) == 2
    assert await receipts(desk, by=ADMINISTRATOR, owner="ada") == []
    assert (await desk.call("GET", "/syncs/nonsense")).status == 404


async def test_what_cannot_be_kept_is_refused(desk: Desk) -> None:
    """A source longer than an external id, an owner that is none, numbers that no source has."""
    for body in ({"source": ""}, {"source": "x" * 513}, {"source": "a\0b"}):
        assert (await desk.call("POST", "/syncs", json=body)).status == 422, body
    assert (await desk.call("POST", "/syncs", by=ADMINISTRATOR, json={"source": "a/", "owner": "no one"})).status == 422
    begun = (await desk.call("POST", "/syncs", json={"source": "x" * 512})).json
    told = SyncReport(counts=SyncCounts(found=(1 << 63) - 1, gone=(1 << 63) - 1), finished=True)
    assert (await desk.call("PUT", f"/syncs/{begun['id']}", json=_wire(told))).status == 204
    assert (await desk.call("GET", f"/syncs/{begun['id']}")).json["entries_left_off"] == (1 << 31) - 1


async def test_what_is_kept_is_bounded(desk: Desk) -> None:
    """Receipts of a source, sources of an owner, and entries of a receipt, where failures stay longest."""
    syncs = Syncs(desk.pool, limits=SyncLimits(receipts_kept=2, sources_max=3, entries_max=2))
    for source in ("a/", "b/", "c/", "d/", "c/", "c/", "c/"):
        begun = await syncs.begin(ALICE, source=source, owner="alice")
    assert [one.source for one in await syncs.page(ALICE, owner=None, source=None, limit=10)] == ["c/", "d/", "b/"]
    assert len(await syncs.page(ALICE, owner=None, source="c/", limit=10)) == 2
    entries = [
        SyncEntry("1", "added"),
        SyncEntry("2", "skipped"),
        SyncEntry("3", "failed", "why"),
        SyncEntry("4", "kept"),
    ]
    counts = SyncCounts(found=5, added=1, skipped=1, failed=1, kept=1, unchanged=2, gone=1)
    await syncs.tell(ALICE, begun.id, SyncReport(counts=counts, entries=entries, finished=True))
    receipt = await syncs.read(ALICE, begun.id)
    assert [entry.path for entry in receipt.entries] == ["3", "4"] and receipt.entries_left_off == 2


async def test_two_syncs_at_once_undo_nothing_and_say_so(desk: Desk, folder: Path) -> None:
    """Both come to the same documents, each in its first version."""
    reports = await asyncio.gather(*(mirrored(desk, folder) for _ in range(3)))
    assert sorted(report.also_running for report in reports)[-1] >= 1
    assert [report.failed for report in reports] == [[], [], []]
    assert await desk.query("SELECT DISTINCT version, count(*) FROM current_documents GROUP BY 1") == [(1, 4)]


async def test_a_file_that_comes_back_keeps_its_document(desk: Desk, folder: Path) -> None:
    """Between the listing and the deletion."""
    await mirrored(desk, folder)
    moved = (folder / "0.md").rename(folder.parent / "0.md")
    async with aiohttp.ClientSession(headers=key(ALICE)) as session:
        mirror = Mirror(Client(session, url=desk.url), Source(str(folder)), Options())
        report = await mirror.run(on_listed=lambda _: moved.replace(folder / "0.md"), on_done=lambda: None)
    assert (report.deleted, [kept.reason for kept in report.kept]) == (0, ["its file has come back"])


async def test_a_document_that_was_changed_meanwhile_is_not_deleted(desk: Desk, folder: Path) -> None:
    """Only the version that was listed is."""
    await mirrored(desk, folder)
    (folder / "0.md").unlink()
    [(document_id,)] = await desk.query("SELECT id FROM current_documents WHERE external_id LIKE '%%/0.md'")

    async with aiohttp.ClientSession(headers=key(ALICE)) as session:
        mirror = Mirror(Changing(session, desk, document_id), Source(str(folder)), Options())
        report = await mirror.run(on_listed=lambda _: None, on_done=lambda: None)
    assert (report.deleted, [kept.reason for kept in report.kept]) == (0, ["it was changed meanwhile"])


class Changing(Client):
    """Somebody changes the document before its deletion."""

    def __init__(self, session: aiohttp.ClientSession, desk: Desk, document_id: str) -> None:
        super().__init__(session, url=desk.url)
        self._desk, self._id = desk, document_id

    async def call(self, method: str, path: str, **options: Any) -> Any:
        if method == "DELETE":
            await self._desk.call("PUT", f"/{self._id}", json={"title": "Another"})
        return await super().call(method, path, **options)


async def test_a_document_service_without_receipts_is_synced_all_the_same(desk: Desk, folder: Path) -> None:
    """One of an earlier release, while an upgrade rolls."""

    class Earlier(Client):
        async def call(self, method: str, path: str, **options: Any) -> Any:
            if path.startswith("/api/documents/syncs"):
                raise CallFailed("Method not allowed", status=405)
            return await super().call(method, path, **options)

    async with aiohttp.ClientSession(headers=key(ALICE)) as session:
        mirror = Mirror(Earlier(session, url=desk.url), Source(str(folder)), Options())
        report = await mirror.run(on_listed=lambda _: None, on_done=lambda: None)
    assert (report.added, report.receipt) == (4, None)


def _wire(report: SyncReport) -> dict[str, Any]:
    return {
        "counts": {name: getattr(report.counts, name) for name in report.counts.__struct_fields__},
        "finished": report.finished,
    }
