"""`refdesk sync`: a folder mirrored into a real Document Service; exactly what changed there changes here."""

import asyncio
import contextlib
import json
import shutil
import signal
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import fsspec
import pytest
from tests.integration.documents_desk import (
    ADMINISTRATOR,
    ALICE,
    EDITOR,
    HR,
    STRANGER,
    Desk,
    eventually,
    key,
    open_desk,
)
from tests.support.running import REFDESK, Said, command, environment

from refdesk.app.commands.client import Client
from refdesk.app.mirror import AT_ONCE, Mirror, Options, Source
from refdesk.app.sources.reports import Report
from refdesk.contracts.access import OPERATOR, Principal
from refdesk.contracts.errors import InvalidRequest

SHARED = Path(__file__).parents[3] / "shared/data"
HANDBOOK = SHARED / "handbook/18f"
NAMES_FROM_A_MAC = SHARED / "field-cases/13-nfd-names/folder"


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files to mirror and one to leave."""
    folder = tmp_path / "source"
    for path, text in {
        "leave.md": "# Leave\n\nThirty days.",
        "benefits/pension.md": "# Pension\n\nYes.",
        "benefits/Küche & Co.md": "# Kitchen\n\nOpen.",
        "travel/rail 100%.txt": "Second class.",
        ".git/config": "hidden",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


async def sync(desk: Desk, source: Path | str, *options: str, by: Principal = ALICE) -> Said:
    return await command(
        "sync",
        str(source),
        "--json",
        *options,
        home=desk.directory.parent,
        within_s=120.0,
        REFDESK_URL=desk.url,
        REFDESK_API_KEY=" ".join([by.id, *by.groups]),
    )


async def counts(desk: Desk, source: Path | str, *options: str) -> tuple[int, int, int, int]:
    """Added, updated, deleted, unchanged, of a sync without failures."""
    said = await sync(desk, source, *options)
    assert (said.code, said.last["failed"]) == (0, []), said.err
    return said.last["added"], said.last["updated"], said.last["deleted"], said.last["unchanged"]


async def documents(desk: Desk, *, by: Principal = ALICE, prefix: str = "file://") -> dict[str, Any]:
    """By external id."""
    found: dict[str, Any] = {}
    parameters = {"prefix": prefix, "limit": "3"}
    while True:
        page = (await desk.call("GET", "/by-external-id", by=by, params=parameters)).json
        found |= {document["external_id"]: document for document in page["documents"]}
        if page["next_cursor"] is None:
            return found
        parameters["cursor"] = page["next_cursor"]


def unhurried(found: dict[str, Any]) -> dict[str, Any]:
    """Without what changes by waiting alone."""
    passing = {"lag_seconds", "waiting"}
    return {
        name: {key: value for key, value in document.items() if key not in passing} for name, document in found.items()
    }


@contextlib.asynccontextmanager
async def client(desk: Desk) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(headers=key(ALICE)) as session:
        yield Client(session, url=desk.url)


async def mirror(desk: Desk, source: Source, *, interrupted_after: int | None = None) -> Report:
    done = 0

    def on_done() -> None:
        nonlocal done
        done += 1
        if done == interrupted_after:
            raise KeyboardInterruptStandIn

    async with client(desk) as caller:
        return await Mirror(caller, source, Options()).run(on_listed=lambda _: None, on_done=on_done)


class KeyboardInterruptStandIn(Exception):
    """Ends a pass in the middle."""


async def test_a_folder_becomes_documents_and_a_second_sync_changes_nothing(desk: Desk, folder: Path) -> None:
    """Below folders too, whatever their names; hidden files stay where they are."""
    assert await counts(desk, folder) == (4, 0, 0, 0)
    before = await documents(desk)
    assert len(before) == 4
    assert all(external_id.endswith(f"{folder}/{document['filename']}") or "/benefits/" in external_id
               or "/travel/" in external_id for external_id, document in before.items())  # fmt: skip
    assert {document["title"] for document in before.values()} == {"leave", "pension", "Küche & Co", "rail 100%"}
    assert await counts(desk, folder) == (0, 0, 0, 4)
    assert unhurried(await documents(desk)) == unhurried(before)


async def test_what_changed_in_the_source_changes_here_and_nothing_else(desk: Desk, folder: Path) -> None:
    """Added, replaced, deleted; a dry run says the same and does nothing."""
    assert await counts(desk, folder) == (4, 0, 0, 0)
    mine = await desk.add("Mine", external_id=f"{folder}-2/leave.md")
    (folder / "leave.md").write_text("# Leave\n\nThirty-one days.")
    (folder / "new.md").write_text("# New\n\nText.")
    shutil.rmtree(folder / "travel")
    before = await documents(desk)
    assert await counts(desk, folder, "--dry-run") == (1, 1, 1, 2)
    assert {name: document["version"] for name, document in (await documents(desk)).items()} == {
        name: document["version"] for name, document in before.items()
    }
    assert await counts(desk, folder) == (1, 1, 1, 2)
    versions = {name.rpartition("/")[2]: document["version"] for name, document in (await documents(desk)).items()}
    assert versions == {"leave.md": 2, "new.md": 1, "pension.md": 1, "Küche & Co.md": 1}
    assert (await desk.call("GET", f"/{mine['id']}")).status == 200
    assert await counts(desk, folder) == (0, 0, 0, 4)


async def test_a_name_keeps_the_documents_when_the_source_moves(desk: Desk, folder: Path, tmp_path: Path) -> None:
    """And readers and tags, given anew, make new versions."""
    assert await counts(desk, folder, "--name", "handbook") == (4, 0, 0, 0)
    moved = folder.rename(tmp_path / "moved")
    assert await counts(desk, moved, "--name", "handbook/") == (0, 0, 0, 4)
    assert await counts(desk, moved, "--name", "handbook", "--readers", "hr, legal", "--tags", "a") == (0, 4, 0, 0)
    assert await counts(desk, moved, "--name", "handbook", "--readers", "legal,hr", "--tags", "a") == (0, 0, 0, 4)
    found = await documents(desk, prefix="handbook/")
    assert {tuple(document["readers"]) for document in found.values()} == {("hr", "legal")}


async def test_an_interrupted_sync_goes_on(desk: Desk) -> None:
    """From a URL that is no folder here; what is there is not sent again, and nothing becomes a second version."""
    files = fsspec.filesystem("memory")
    files.pipe({f"/wiki/page-{number:02}.md": b"# Page\n\nText %d." % number for number in range(20)})
    source = Source("memory://wiki")
    assert source.prefix == "memory://wiki/"
    with pytest.raises(ExceptionGroup):
        await mirror(desk, source, interrupted_after=7)
    done = len(await documents(desk, prefix="memory://wiki/"))
    assert 7 <= done <= 7 + AT_ONCE
    report = await mirror(desk, source)
    assert (report.added + report.unchanged, report.updated, report.failed) == (20, 0, [])
    assert report.unchanged >= done  # more where an upload that was cut off came to its end in the server all the same
    found = await documents(desk, prefix="memory://wiki/")
    assert [document["version"] for document in found.values()] == [1] * 20
    files.rm("/wiki/page-03.md")
    report = await mirror(desk, source)
    assert (report.deleted, report.unchanged) == (1, 19)


async def test_what_another_pass_stored_meanwhile_is_not_called_an_update(desk: Desk) -> None:
    """Two passes over the same new files at once: each finds them added, and every document has one version."""
    files = fsspec.filesystem("memory")
    files.pipe({f"/twice/page-{number}.md": b"# Page\n\nText %d." % number for number in range(8)})
    source = Source("memory://twice")
    reports = await asyncio.gather(mirror(desk, source), mirror(desk, source))
    assert [(report.updated, report.failed) for report in reports] == [(0, []), (0, [])]
    found = await documents(desk, prefix="memory://twice/")
    assert [document["version"] for document in found.values()] == [1] * 8


async def test_what_is_refused_is_reported_and_stops_nothing(desk: Desk, folder: Path) -> None:
    """Exit code 1, and 0 again when all that is left is skipped; a link that leads nowhere keeps its document."""
    await counts(desk, folder)
    (folder / "image.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "empty.md").touch()
    (folder / "leave.md").unlink()
    (folder / "leave.md").symlink_to(folder / "nowhere")
    said = await sync(desk, folder)
    assert said.code == 1
    assert {failure["path"] for failure in said.last["failed"]} == {"image.bin"}
    assert {one["path"]: one["reason"] for one in said.last["skipped"]} == {
        ".git": "ignored by the default list: .*",
        "empty.md": "it is empty",
        "leave.md": "a link that leads nowhere",
    }
    assert [kept["path"] for kept in said.last["kept"]] == ["leave.md"]
    assert said.last["unchanged"] == 3
    assert "failed image.bin: " in said.out and "skipped 1: it is empty" in said.out
    (folder / "image.bin").unlink()
    assert (await sync(desk, folder)).code == 0
    assert len(await documents(desk)) == 4


async def test_an_empty_or_missing_source_deletes_nothing_by_mistake(desk: Desk, folder: Path) -> None:
    """A disk that is not mounted looks just like that."""
    await counts(desk, folder)
    emptied = folder.rename(folder.with_name("away"))
    missing = await sync(desk, folder)
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.endswith(f"There is no folder {folder}. Nothing was changed.\n")
    folder.mkdir()
    empty = await sync(desk, folder)
    assert empty.code == 1 and "--allow-empty" in empty.err
    assert len(await documents(desk)) == 4
    assert await counts(desk, folder, "--allow-empty") == (0, 0, 4, 0)
    assert emptied.is_dir()


def test_a_source_of_an_unknown_kind_is_refused_in_one_sentence() -> None:
    """Naming what is missing."""
    with pytest.raises(InvalidRequest, match="nonsense"):
        Source("nonsense://place")


async def test_a_watched_source_is_followed_until_interrupted(desk: Desk, folder: Path) -> None:
    """A pass after every interval."""
    process = await asyncio.create_subprocess_exec(
        *REFDESK, "sync", str(folder), "--watch", "--interval-s", "0.1",
        env=environment(desk.directory.parent, REFDESK_URL=desk.url, REFDESK_API_KEY="alice"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert b"4 added" in await process.stdout.readline()
        (folder / "later.md").write_text("# Later\n\nText.")

        async def followed() -> bool:
            return len(await documents(desk)) == 5

        await eventually(followed, within_s=60.0)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            await process.stdout.read()
            assert await process.wait() == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_prefix_lists_what_a_write_would_replace(desk: Desk) -> None:
    """One's own under each name, and nothing that others put there."""
    for by in (ALICE, STRANGER):
        await desk.add(f"Of {by.id}", by=by, external_id="wiki/a", readers=["everyone"])
    await desk.add("Of HR", by=HR, external_id="wiki/hr", readers=["hr"])
    await desk.add("Beside", external_id="wikis/b")
    assert {d["owner"] for d in (await documents(desk, prefix="wiki/")).values()} == {"alice"}
    assert set(await documents(desk, by=HR, prefix="wiki/")) == {"wiki/hr"}
    assert await documents(desk, by=EDITOR, prefix="wiki/") == {}
    assert (await desk.call("GET", "/by-external-id")).status == 422


@pytest.mark.parametrize(("attacker", "victim"), [(STRANGER, ADMINISTRATOR), (EDITOR, ALICE)], ids=["writer", "editor"])
async def test_who_was_there_first_owns_nothing_of_what_a_sync_brings(
    desk: Desk, folder: Path, attacker: Principal, victim: Principal
) -> None:
    """Documents under the names that it will use, readable by all: the sync makes its own, and leaves those alone."""
    theirs = {
        path: await desk.add(
            "Planted", by=attacker, external_id=f"{Source(str(folder)).prefix}{path}", readers=["everyone"]
        )
        for path in ("leave.md", "benefits/pension.md", "not there.md")
    }
    said = await sync(desk, folder, "--readers", "principal:victor", by=victim)
    assert (said.code, said.last["added"], said.last["failed"]) == (0, 4, []), said.err
    for document in theirs.values():
        after = (await desk.call("GET", f"/{document['id']}", by=attacker)).json
        assert (after["version"], after["title"]) == (1, "Planted")
    owned = (await desk.call("GET", by=attacker)).json["documents"]
    assert {document["id"] for document in owned} == {document["id"] for document in theirs.values()}
    mirrored = await documents(desk, by=victim)
    assert {document["owner"] for document in mirrored.values()} == {victim.id} and len(mirrored) == 4
    for path, document in theirs.items():
        overwritten = await desk.call("PUT", f"/{document['id']}", by=attacker, json={"text": path})
        assert overwritten.status == 200
    assert unhurried(await documents(desk, by=victim)) == unhurried(mirrored)
    again = await sync(desk, folder, "--readers", "principal:victor", by=victim)
    assert (again.code, again.last["unchanged"], again.last["deleted"]) == (0, 4, 0)


async def test_an_administrator_goes_on_with_anothers_documents_by_saying_so(desk: Desk, folder: Path) -> None:
    """And is asked to where Refdesk's own account began: two copies are seldom meant."""
    assert (await sync(desk, folder, by=OPERATOR)).last["added"] == 4
    asked = await sync(desk, folder, by=ADMINISTRATOR)
    assert asked.code == 1 and "--owner operator" in asked.err
    (folder / "leave.md").write_text("# Leave\n\nThirty-one days.")
    gone_on = await sync(desk, folder, "--owner", "operator", by=ADMINISTRATOR)
    assert (gone_on.last["updated"], gone_on.last["unchanged"]) == (1, 3)
    own = await sync(desk, folder, "--owner", "ada", by=ADMINISTRATOR)
    assert own.last["added"] == 4
    refused = await sync(desk, folder, "--owner", "operator")
    assert refused.code == 1 and "belong to their owner" in refused.err
    assert (await sync(desk, folder)).last["added"] == 4


@pytest.mark.skipif(
    not NAMES_FROM_A_MAC.is_dir(),
    reason=f"NO FIELD CASES: {NAMES_FROM_A_MAC} is not there, so the report was not tried with its own files.",
)
async def test_a_name_from_a_mac_is_added_once_and_stays(desk: Desk, tmp_path: Path) -> None:
    """Pass after pass; also saved in the other form, beside a twin, in a folder of such a name, and as the source itself."""
    source = tmp_path / unicodedata.normalize("NFD", "Übersicht")
    shutil.copytree(NAMES_FROM_A_MAC, source)
    assert await counts(desk, source) == (2, 0, 0, 0)
    assert await counts(desk, source) == (0, 0, 0, 2)
    [decomposed] = [path for path in source.iterdir() if not path.name.isascii()]
    composed = decomposed.rename(source / unicodedata.normalize("NFC", decomposed.name))
    assert composed != decomposed and await counts(desk, source) == (0, 0, 0, 2)
    decomposed.write_text("# The twin\n\nAnother text.")
    assert await counts(desk, source) == (1, 0, 0, 2)
    composed.unlink()
    assert await counts(desk, source) == (0, 0, 1, 2)
    moved = tmp_path / "moved"
    source.rename(moved)
    moved.rename(tmp_path / unicodedata.normalize("NFC", source.name))
    assert await counts(desk, tmp_path / unicodedata.normalize("NFC", source.name)) == (0, 0, 0, 2)
    assert {one["title"] for one in (await documents(desk)).values()} == {"Übergabeprotokoll Café", "plain"}


async def test_a_real_handbook_changes_exactly_as_it_did(desk: Desk, tmp_path: Path) -> None:
    """18F's handbook of 2024, then of 2025: the files of changes.json, and no other, change; then nothing does."""
    if not HANDBOOK.is_dir():
        pytest.skip(f"NO HANDBOOK: {HANDBOOK} is not there, so sync was tried on the small folder only.")
    changes = json.loads((HANDBOOK / "changes.json").read_text())
    source = tmp_path / "handbook"
    shutil.copytree(HANDBOOK / "v1_2024-01-01", source)
    total = len(changes["modified"]) + len(changes["deleted"]) + len(changes["unchanged"])
    assert await counts(desk, source) == (total, 0, 0, 0)
    first = {name.partition(f"{source}/")[2]: d["version"] for name, d in (await documents(desk)).items()}
    assert len(first) == total and set(first.values()) == {1}
    shutil.rmtree(source)
    shutil.copytree(HANDBOOK / "v2_2025-02-27", source)
    expected = (len(changes["added"]), len(changes["modified"]), len(changes["deleted"]), len(changes["unchanged"]))
    assert await counts(desk, source) == expected
    second = {name.partition(f"{source}/")[2]: d["version"] for name, d in (await documents(desk)).items()}
    assert second.keys() - first.keys() == set(changes["added"])
    assert first.keys() - second.keys() == set(changes["deleted"])
    assert {path for path, version in second.items() if version == 2} == set(changes["modified"])
    assert await counts(desk, source) == (0, 0, 0, sum(expected) - expected[2])
