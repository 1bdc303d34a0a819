"""`refdesk documents list`, `show`, `delete` and `retry`, on a real Document Service."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.documents_desk import Desk, open_desk
from tests.support.running import Said, command


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


async def documents(desk: Desk, *arguments: str) -> Said:
    settings = {"REFDESK_URL": desk.url, "REFDESK_API_KEY": "alice hr legal"}
    return await command("documents", *arguments, home=desk.directory.parent, within_s=120.0, **settings)


async def test_documents_are_listed_shown_retried_and_deleted_by_hand(desk: Desk) -> None:
    """Each says what it did."""
    kept, failed = await desk.add("Holidays"), await desk.add("Parking")
    await desk.query("UPDATE documents SET failed = true, failure = 'It is damaged.' WHERE id = %s", failed["id"])
    listed = await documents(desk, "list")
    assert listed.code == 0
    first, second = listed.out.splitlines()
    assert first == f"{failed['id']}  failed   Parking: It is damaged."
    assert second.startswith(f"{kept['id']}  pending  Holidays: ")
    shown = await documents(desk, "show", failed["id"])
    assert "failure: It is damaged." in shown.out and "title: Parking" in shown.out
    note = '[{"code": "encoding_doubtful", "text": "Read as GB18030, 0.70 sure."}]'
    await desk.query("UPDATE documents SET notes = %s::jsonb WHERE id = %s", note, failed["id"])
    noted = await documents(desk, "show", failed["id"])
    assert "note: Read as GB18030, 0.70 sure.\n" in noted.out and "notes:" not in noted.out
    assert (await documents(desk, "retry", failed["id"])).out == "pending again: Parking\n"
    assert (await documents(desk, "list", "--state", "failed")).out == "No documents.\n"
    assert (await documents(desk, "delete", kept["id"], "--yes")).out == f"deleted {kept['id']}\n"
    assert [one["title"] for one in (await documents(desk, "list", "--json")).last["documents"]] == ["Parking"]


async def test_what_is_not_there_or_not_meant_changes_nothing(desk: Desk) -> None:
    """One sentence and exit code 1; misuse ends with 2."""
    kept = await desk.add("Holidays")
    assert (await documents(desk, "show", "../documents")).code == 1
    assert (await documents(desk, "delete", kept["id"])).code == 130  # nobody said yes
    assert (await documents(desk, "delete")).code == 2
    assert (await desk.call("GET", f"/{kept['id']}")).status == 200
