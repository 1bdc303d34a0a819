"""The content directory belongs to its database, and what is missing in it is seen, told and healed."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from tests.integration.documents_desk import ADMINISTRATOR, Desk, open_desk

from refdesk.app.cli import cli
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.documents.content_record import ContentRecord
from refdesk.documents.store import MIGRATIONS
from refdesk.outside import blob_identity
from refdesk.outside.blobs import Blobs
from refdesk.outside.postgres.database import migrate, open_pool


@pytest.fixture
async def record(fresh_database: str) -> AsyncIterator[ContentRecord]:
    async with open_pool(fresh_database, name="test contents", size_max=2) as pool:
        await migrate(pool, MIGRATIONS)
        yield ContentRecord(pool)


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "content") as desk:
        yield desk


def place(desk: Desk, name: str) -> Path:
    return desk.directory / name[:2] / name[2:4] / name


async def state(desk: Desk, document_id: str) -> tuple[str, str | None]:
    document = (await desk.call("GET", f"/{document_id}")).json
    return document["state"], document.get("failure")


async def test_the_first_directory_is_taken_and_no_other(record: ContentRecord, tmp_path: Path) -> None:
    """A second service on another directory, on none and on somebody else's is refused in a sentence."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    identity = await record.claim(ours)
    assert await record.claim(ours) == identity == blob_identity.read_identity(ours)
    for found in (None, "0" * 32):
        if found is not None:
            blob_identity.write_identity(other, found)
        with pytest.raises(ConfigurationError, match="does not belong") as raised:
            await record.claim(other)
        assert "adopt-content" in raised.value.message and str(other) in raised.value.message
        assert blob_identity.read_identity(other) == found
    assert await record.claim(ours) == identity


async def test_a_crash_before_the_record_is_no_refusal(record: ContentRecord, tmp_path: Path) -> None:
    """The directory has the identity already, the database does not know yet."""
    identity = await record.claim(tmp_path / "ours")
    async with record._pool.connection() as connection:
        await connection.execute("UPDATE content_store SET used = false")
    assert await record.claim(tmp_path / "ours") == identity


async def test_an_empty_directory_for_old_documents_is_refused(desk: Desk, tmp_path: Path) -> None:
    """As when the volume is not mounted at the start after an upgrade; the right one is taken."""
    await desk.add()
    record = ContentRecord(desk.pool)
    with pytest.raises(ConfigurationError, match="no content in it"):
        await record.claim(tmp_path / "empty")
    assert await record.claim(desk.directory)


async def test_a_directory_is_adopted_on_purpose(
    record: ContentRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, by the service that starts next: with its own identity, or with ours when it has none."""
    await record.claim(tmp_path / "ours")
    restored = tmp_path / "data" / "content"
    blob_identity.write_identity(restored, "1" * 32)
    monkeypatch.chdir(tmp_path)
    cli.main(["adopt-content", "--data-dir", str(tmp_path / "data")], standalone_mode=False)
    assert await record.claim(restored) == "1" * 32
    assert await record.claim(restored) == "1" * 32
    with pytest.raises(ConfigurationError):
        await record.claim(tmp_path / "ours")


async def test_nothing_is_written_to_or_missed_in_another_directory(tmp_path: Path) -> None:
    """An unmounted volume is an outage, and not the loss of every document."""
    identity = "2" * 32
    blob_identity.write_identity(tmp_path / "content", identity)
    blobs = Blobs(tmp_path / "content", identity=identity)
    assert await blobs.faults(["0" * 64]) == {"0" * 64: "missing"}
    (tmp_path / "content" / "identity").unlink()
    for work in (blobs.look, lambda: blobs.open("0" * 64), lambda: blobs.faults(["0" * 64])):
        with pytest.raises(Unavailable, match="mounted"):
            await work()
    assert not (tmp_path / "content" / "incoming").exists()


async def test_a_missing_content_is_told_and_heals(desk: Desk) -> None:
    """Reading it is a typed error, its document has failed with the reason, the metric counts it, and it comes back."""
    document = await desk.add()
    away = desk.directory.parent / "away"
    shutil.move(place(desk, document["content_sha256"]), away)
    reply = await desk.call("GET", f"/{document['id']}/content")
    assert (reply.status, reply.json["type"]) == (410, "content-missing")
    told, why = await state(desk, document["id"])
    assert told == "failed" and "missing" in str(why)
    await desk.service.measure()
    assert REGISTRY.get_sample_value("refdesk_contents_missing") == 1
    backlog = await desk.call("GET", "/backlog", by=ADMINISTRATOR)
    assert backlog.json["contents_missing"] == 1

    shutil.move(away, place(desk, document["content_sha256"]))
    step = await desk.call("POST", "/check-content", by=ADMINISTRATOR, json={})
    assert step.json["healed"] == 1
    assert (await state(desk, document["id"]))[0] == "pending"
    assert len(await desk.query("SELECT id FROM outbox WHERE document_id = %s", document["id"])) == 2
    await desk.service.measure()
    assert REGISTRY.get_sample_value("refdesk_contents_missing") == 0


async def test_a_round_finds_what_is_missing(desk: Desk) -> None:
    """Also of documents that are indexed, and without anybody reading them."""
    kept, lost = await desk.add("Kept"), await desk.add("Lost")
    await desk.query("UPDATE documents SET indexed_version = version, pending_since = NULL RETURNING id")
    place(desk, lost["content_sha256"]).unlink()
    step = await desk.check.step("")
    assert (step.checked, [fault.sha256 for fault in step.faults]) == (2, [lost["content_sha256"]])
    assert (await state(desk, kept["id"]))[0] == "indexed"
    assert (await state(desk, lost["id"]))[0] == "failed"


async def test_a_damaged_content_is_put_aside(desk: Desk) -> None:
    """A check that reads finds it; the same bytes, uploaded again, take its place."""
    document = await desk.add()
    place(desk, document["content_sha256"]).write_bytes(b"other bytes")
    assert (await desk.check.step("")).faults == []
    [fault] = (await desk.check.step("", verify=True)).faults
    assert (fault.sha256, fault.fault) == (document["content_sha256"], "damaged")
    assert (desk.directory / "damaged" / fault.sha256).read_bytes() == b"other bytes"
    await desk.add()
    assert await desk.check.heal() == 1
    assert (await desk.call("GET", f"/{document['id']}/content")).status == 200


async def test_a_cursor_that_is_none_is_refused(desk: Desk) -> None:
    """Like everywhere."""
    reply = await desk.call("POST", "/check-content", by=ADMINISTRATOR, json={"cursor": "x"})
    assert (reply.status, reply.json["field"]) == (422, "cursor")
