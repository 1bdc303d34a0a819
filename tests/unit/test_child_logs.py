"""Logs of child processes stay as large as they may be, while their writers go on."""

import os
import stat
import sys
from pathlib import Path

import pytest

from refdesk.app.embedded import child_logs
from refdesk.app.embedded.child_logs import bound, open_log
from refdesk.app.embedded.children import Child, Folders, children
from refdesk.app.embedded.processes import Program
from refdesk.settings.telemetry import LogFiles

LIMITS = LogFiles(bytes_max=1000, kept=3)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "desk.log"


def written(log: Path) -> list[str]:
    """What every file of it has, the oldest first."""
    aside = sorted(log.parent.glob(f"{log.name}.*[0-9]"), key=lambda path: -int(path.suffix[1:]))
    return [file.read_text() for file in (*aside, log) if file.exists()]


def test_a_log_that_is_too_large_is_put_aside_and_its_writer_goes_on(log: Path) -> None:
    """In the file that it has open; the last ones are kept, nobody else may read them, and a small log is left alone."""
    descriptor = open_log(log)
    try:
        for number in range(6):
            os.write(descriptor, f"{number}".encode() * 1001)
            bound(log.parent, limits=LIMITS)
            assert log.stat().st_size == 0
        os.write(descriptor, b"the last")
        bound(log.parent, limits=LIMITS)
    finally:
        os.close(descriptor)
    assert written(log) == ["3" * 1001, "4" * 1001, "5" * 1001, "the last"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in log.parent.iterdir()} == {0o600}


def test_none_are_kept_where_none_are_wanted(log: Path) -> None:
    """It is emptied."""
    log.write_text("x" * 1001)
    bound(log.parent, limits=LogFiles(bytes_max=1000, kept=0))
    assert written(log) == [""]


def test_a_log_that_cannot_be_put_aside_goes_on(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk; what was put aside before stays, but for the oldest, and the next look tries again."""
    for number in range(3):
        log.write_text(f"{number}" * 1001)
        bound(log.parent, limits=LIMITS)
    log.write_text("3" * 1001)
    with monkeypatch.context() as full:
        full.setattr(child_logs.shutil, "copyfileobj", _no_space)
        bound(log.parent, limits=LIMITS)
    assert written(log) == ["1" * 1001, "2" * 1001, "3" * 1001]
    bound(log.parent, limits=LIMITS)
    assert written(log) == ["1" * 1001, "2" * 1001, "3" * 1001, ""]


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


WRITES = """
import os, signal, time
for number in range(2000):
    os.write(1, b"%06d\\n" % number)
    while number % 200 == 199 and os.fstat(1).st_size:
        time.sleep(0.001)
signal.pause()
"""
"""Two thousand lines; after each two hundred it waits for its log to be empty, so that none falls into the moment between."""


async def test_a_child_that_writes_all_the_while_has_bounded_logs_with_every_line(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs."""
    monkeypatch.setattr(child_logs, "LOOK_S", 0.01)
    limits = LogFiles(bytes_max=1399, kept=20)
    program = Program(name="desk", command=(sys.executable, "-c", WRITES))

    async def healthy() -> bool:
        return "001999\n" in "".join(written(log))

    async with children(folders=Folders(logs=log.parent, records=log.parent, log_files=limits)) as running:
        await running.start(Child(program=program, healthy=healthy))
    assert "".join(written(log)).split() == [f"{number:06d}" for number in range(2000)]
    assert {path.stat().st_size for path in log.parent.glob("*.log.*")} == {1400}
