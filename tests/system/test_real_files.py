"""Real documentation and real, damaged and hostile files, through `refdesk add` as anybody would."""

import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.running import Refdesk, running

DATA = Path(__file__).parents[3] / "shared" / "data"
HANDBOOK = DATA / "handbook" / "18f" / "v1_2024-01-01"
FORMATS = DATA / "formats"
QUICK_BYTES_MAX = 60_000
"""Files up to this size are tried by every run; the rest by the long ones."""

pytestmark = pytest.mark.skipif(
    not FORMATS.is_dir(), reason=f"REAL FILES ARE NOT TESTED: {FORMATS} is not there (the project's shared test data)."
)


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FORMATS / "manifest.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
async def empty_desk(desk: Refdesk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refdesk]:
    """A Refdesk of this file's own."""
    home = tmp_path_factory.mktemp("real")
    shutil.copytree(desk.data_dir / "models", home / "data" / "models")
    async with running(home, "--no-samples") as refdesk:
        yield refdesk


async def add(refdesk: Refdesk, paths: list[Path], *, within_s: float) -> tuple[dict[str, str], float]:
    """Add the files; the failed ones with their reasons, and the seconds it took. None is left pending."""
    began_s = time.monotonic()
    said = await refdesk.command("add", *map(str, paths), "--json", within_s=within_s)
    took_s = time.monotonic() - began_s
    report = said.last
    assert "Traceback" not in said.err
    assert report["pending"] == 0
    assert report["indexed"] + len(report["failed"]) == len(paths)
    assert said.code == (1 if report["failed"] else 0)
    return {failure["path"]: failure["reason"] for failure in report["failed"]}, took_s


def tell(line: str) -> None:
    """For who runs it with -s or -rP."""
    sys.stdout.write(f"{line}\n")


def check(chosen: list[dict[str, Any]], failed: dict[str, str]) -> None:
    """Files that are in order are indexed; whatever failed has a reason that says something."""
    in_order = {str(FORMATS / row["file"]) for row in chosen if row["class"] == "ok"}
    assert not in_order & set(failed), {path: failed[path] for path in in_order & set(failed)}
    assert all(len(reason) > 20 for reason in failed.values()), failed


@pytest.mark.timeout(180)
async def test_small_files_of_every_kind_are_indexed_or_fail_with_a_reason(empty_desk: Refdesk) -> None:
    """Whatever they hold: documents in order, malformed, encrypted, hostile."""
    chosen = [row for row in rows() if row["bytes"] <= QUICK_BYTES_MAX]
    failed, took_s = await add(empty_desk, [FORMATS / row["file"] for row in chosen], within_s=150)
    tell(f"{len(chosen)} small files in {took_s:.1f} s")
    check(chosen, failed)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_every_file_is_indexed_or_fails_with_a_reason(empty_desk: Refdesk) -> None:
    """None hangs the queue, large and hostile ones included."""
    chosen = rows()
    failed, took_s = await add(empty_desk, [FORMATS / row["file"] for row in chosen], within_s=800)
    tell(f"{len(chosen)} files in {took_s:.1f} s; not indexed:")
    for path, reason in failed.items():
        tell(f"  {path.removeprefix(str(FORMATS))}: {reason}")
    check(chosen, failed)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_whole_handbook_is_indexed(empty_desk: Refdesk) -> None:
    """All its pages, those included that have only a front matter; its speed is printed."""
    pages = sorted(path for path in HANDBOOK.rglob("*") if path.is_file())
    characters = sum(len(path.read_text("utf-8")) for path in pages)
    failed, took_s = await add(empty_desk, pages, within_s=800)
    tell(f"{len(pages)} pages in {took_s:.1f} s: {characters / took_s / 1000:.1f} kchar/s")
    assert not failed
