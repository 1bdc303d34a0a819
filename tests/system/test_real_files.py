"""Real documentation and real, damaged and hostile files, through `refdesk add` as anybody would."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import psutil
import pytest
from tests.support.running import Refdesk, running

from refdesk.settings.tree import Settings

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
async def empty_desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refdesk]:
    """A Refdesk of this file's own."""
    async with running(tmp_path_factory.mktemp("real"), "--no-samples") as refdesk:
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


CLASSES = ("hostile", "malformed", "encrypted", "scan")
BESIDE = ("nothing", "loops", "files")
LISTED = 10
CALLS = {
    "list documents": ("GET", f"/api/documents?limit={LISTED}", None),
    "read a document": ("GET", "/api/documents/{id}", None),
    "search": ("POST", "/api/search", {"query": "how long is parental leave"}),
}


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_api_answers_while_hostile_files_are_read(tmp_path: Path) -> None:
    """Every call succeeds and no file stays pending; latencies are printed: of an idle machine, of one that is busy with what
    stands back as far as the indexer does but is none of Refdesk's, and beside the files; each twice.
    """
    files = [FORMATS / row["file"] for row in rows() if row["class"] in CLASSES]
    again = [Path(shutil.copy2(file, tmp_path)) for file in files]
    usual = Settings()
    courtesy = {
        "REFDESK_INDEX_NICENESS": str(usual.indexing.niceness),
        "REFDESK_PARSE_PROCESSORS_SPARED": str(usual.parsing.processors_spared),
    }
    peaks: dict[int, int] = {}
    seconds: dict[str, dict[str, list[float]]] = {beside: {call: [] for call in CALLS} for beside in BESIDE}
    async with (
        running(tmp_path, "--no-samples", **courtesy) as refdesk,
        refdesk.holding("leave.md", b"# Leave\n\nParental leave is fourteen weeks long.") as document,
    ):
        for number in range(LISTED):  # so that as many are listed before as meanwhile
            await refdesk.upload(f"note {number}.md", b"# A note\n\nOne of many.")
        await refdesk.all_settled()
        first = (("nothing", []), ("loops", []), ("files", files))
        for beside, added in (*first, ("files", again), *first[1::-1]):
            async with loops(usual.indexing.niceness) if beside == "loops" else contextlib.nullcontext():
                work = add(refdesk, added, within_s=300) if added else asyncio.sleep(PROBE_S, ({}, PROBE_S))
                until_done = asyncio.create_task(work)
                await probe(refdesk, document["id"], seconds[beside], until_done=until_done, peaks=peaks)
                failed, took_s = await until_done
            tell(f"beside {beside}: {len(added)} files in {took_s:.1f} s, {len(failed)} refused")
    tell(f"largest parser {max(peaks.values()) >> 20} MiB")
    for call in CALLS:
        for beside in BESIDE:
            spread = quantiles(seconds[beside][call], n=100)
            tell(f"{call}, beside {beside}: p50 {spread[49] * 1e3:.1f} ms, p95 {spread[94] * 1e3:.1f} ms")
    assert max(peaks.values()) <= 512 << 20


PROBE_S = 20.0
PROBE_PAUSE_S = 0.02


async def probe(
    refdesk: Refdesk,
    document_id: str,
    seconds: dict[str, list[float]],
    *,
    until_done: asyncio.Task[Any],
    peaks: dict[int, int],
) -> None:
    """Each call again and again until the task is done, its seconds noted; on the way, the largest size of each parser."""
    while not until_done.done():
        for call, (method, path, body) in CALLS.items():
            began_s = time.perf_counter()
            await refdesk.call(method, path.format(id=document_id), json=body)
            seconds[call].append(time.perf_counter() - began_s)
        for process in refdesk.family():
            note_peak(process, peaks)
        await asyncio.wait([until_done], timeout=PROBE_PAUSE_S)


@contextlib.asynccontextmanager
async def loops(niceness: int) -> AsyncIterator[None]:
    """Every processor has a process that is busy with nothing, in a session that stands back."""
    code = f"from refdesk.indexing.priority import stand_back\nstand_back({niceness})\nwhile True: sum(range(1000))"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, start_new_session=True)
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            await process.wait()


def note_peak(process: psutil.Process, peaks: dict[int, int]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        if "refdesk.indexing.sandboxed" in process.cmdline():
            peaks[process.pid] = max(peaks.get(process.pid, 0), process.memory_info().rss)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_whole_handbook_is_indexed(empty_desk: Refdesk) -> None:
    """All its pages, those included that have only a front matter; its speed is printed."""
    pages = sorted(path for path in HANDBOOK.rglob("*") if path.is_file())
    characters = sum(len(path.read_text("utf-8")) for path in pages)
    failed, took_s = await add(empty_desk, pages, within_s=800)
    tell(f"{len(pages)} pages in {took_s:.1f} s: {characters / took_s / 1000:.1f} kchar/s")
    assert not failed
