"""`refdesk sync` of a folder that holds everything: the receipt adds up, also after kills, and nothing is deleted in silence."""

import asyncio
import os
import random
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.documents_desk import ALICE, Desk, eventually, open_desk
from tests.support.hostile_tree import NFD, HostileTree, build
from tests.support.running import REFDESK, Said, command, environment

from refdesk.app.mirror import Source
from refdesk.app.sources.names import path_of

SEED = 12


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


def settings(desk: Desk) -> dict[str, str]:
    return {"REFDESK_URL": desk.url, "REFDESK_API_KEY": "alice hr legal"}


async def sync(desk: Desk, root: Path, *options: str) -> Said:
    said = await command(
        "sync", str(root), "--json", *options, home=desk.directory.parent, within_s=1500.0, **settings(desk)
    )
    assert said.out, said.err
    assert_adds_up(said.last)
    return said


def assert_adds_up(last: dict[str, Any]) -> None:
    named = len(last["skipped"]) + len(last["failed"]) + len(last["kept"])
    ends = last["added"] + last["updated"] + last["unchanged"] + last["deleted"] + named
    assert last["found"] + last["gone"] == ends


async def contents(desk: Desk, root: Path) -> dict[bytes, tuple[str, int]]:
    """Hash and version of each document, by the name of its file."""
    rows = await desk.query(
        "SELECT external_id, content_sha256, version FROM current_documents WHERE owner = %s", ALICE.id
    )
    prefix = Source(str(root)).prefix
    assert all(name.startswith(prefix) for name, _, _ in rows)
    return {os.fsencode(path_of(name.removeprefix(prefix))): (sha256, version) for name, sha256, version in rows}


def by_form(names: dict[bytes, Any]) -> dict[bytes, Any]:
    """A lone name in NFD has a key in NFC: compare what is one name in either form."""
    return {_composed(name) if _composed(name) not in names else name: value for name, value in names.items()}


def _composed(name: bytes) -> bytes:
    return os.fsencode(unicodedata.normalize("NFC", os.fsdecode(name)))


async def killed(desk: Desk, root: Path, *, after: int) -> None:
    """A sync that is killed once so many more documents are stored; one that ends before that is whole."""
    before = await stored(desk)
    process = await asyncio.create_subprocess_exec(
        *REFDESK, "sync", str(root), env=environment(desk.directory.parent, **settings(desk)),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def far_enough() -> bool:
        return process.returncode is not None or await stored(desk) >= before + after

    try:
        await eventually(far_enough, within_s=600.0)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def stored(desk: Desk) -> int:
    return int((await desk.query("SELECT count(*) FROM current_documents"))[0][0])


async def assert_mirrored(desk: Desk, tree: HostileTree, *, kills: int) -> None:
    """After so many kills the receipt adds up to what the folder holds, and one more sync changes nothing."""
    chosen = random.Random(SEED)
    for _ in range(kills):
        await killed(desk, tree.root, after=chosen.randrange(1, max(2, len(tree.taken) // (kills + 1))))
    done = await stored(desk)
    assert 0 < done < len(tree.taken)
    first = await sync(desk, tree.root)
    last = first.last
    assert last["found"] == tree.found and (last["gone"], last["deleted"], last["updated"]) == (0, 0, 0)
    assert {"skipped": len(last["skipped"]), "failed": len(last["failed"])} == tree.ends, last["failed"]
    assert last["unchanged"] >= done and last["added"] + last["unchanged"] == len(tree.taken)
    assert first.code == 1  # programs, and paths longer than an external id
    before = await contents(desk, tree.root)
    assert by_form({name: sha256 for name, (sha256, _) in before.items()}) == by_form(tree.taken)
    assert {version for _, version in before.values()} == {1}
    second = (await sync(desk, tree.root)).last
    assert (second["added"], second["updated"], second["deleted"], second["unchanged"]) == (0, 0, 0, len(tree.taken))
    assert await contents(desk, tree.root) == before


async def test_a_hostile_tree_adds_up_and_a_second_sync_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    """Every kind of name and file, and three kills on the way."""
    await assert_mirrored(desk, build(tmp_path / "tree", count=150), kills=3)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_ten_thousand_files_add_up_after_twenty_kills(desk: Desk, tmp_path: Path) -> None:
    """The full count."""
    await assert_mirrored(desk, build(tmp_path / "tree", count=10_000), kills=20)


async def test_what_happens_to_odd_files_later_is_told_by_name(desk: Desk, tmp_path: Path) -> None:
    """Emptied, renamed to its other form, ignored, removed, out of sight: each is said, and nothing else changes."""
    tree = build(tmp_path / "tree", count=60)
    root = tree.root
    for name in ("mount/a.md", "mount/deep/b.md", "rules/c.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"Text of {name}.")
    await sync(desk, root)
    before = await contents(desk, root)
    (root / "0000/plain 1.md").write_bytes(b"")
    (root / "0000/plain 2.md").write_bytes(b" \n")
    (root / "0000/plain 3.md").unlink()
    (root / f"0000/twins/{NFD}.md").rename(root / "0000/twins" / unicodedata.normalize("NFC", f"{NFD}.md"))
    (root / "0000/plain 4.md").unlink()
    (root / "0000/plain 4.md").symlink_to("nowhere")
    (root / "0000/plain 5.md").write_text("Other text.")
    for name in ("mount/a.md", "mount/deep/b.md"):
        (root / name).unlink()
    (root / "mount/deep").rmdir()
    (root / "rules/.refdeskignore").write_bytes(b"#" * ((1 << 20) + 1))
    (root / "folder with rules/.refdeskignore").write_text("*\n")
    planned = (await sync(desk, root, "--dry-run")).last  # calls added what the service will refuse
    said = await sync(desk, root)
    for last in (planned, said.last):
        changes = {(change["path"], change["change"]) for change in last["changes"]}
        assert {change for change in changes if change[1] != "added"} == {
            ("0000/plain 1.md", "deleted"),
            ("0000/plain 2.md", "deleted"),
            ("0000/plain 3.md", "deleted"),
            ("0000/plain 5.md", "updated"),
            ("folder with rules/a.md", "deleted"),
        }
        assert {kept["path"] for kept in last["kept"]} == {
            "0000/plain 4.md",
            "mount/a.md",
            "mount/deep/b.md",
            "rules/c.md",
        }
    after = await contents(desk, root)
    assert before.keys() - after.keys() == {
        b"0000/plain 1.md", b"0000/plain 2.md", b"0000/plain 3.md", b"folder with rules/a.md",
    }  # fmt: skip
    assert {name for name, content in after.items() if before[name] != content} == {b"0000/plain 5.md"}
