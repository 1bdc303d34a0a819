"""How long a child may take to become healthy: what it waits for a processor is no fault of its own."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from refdesk.app.embedded import children as keeping
from refdesk.app.embedded.children import Child, Folders, StartFailed, children
from refdesk.app.embedded.processes import Program

START_TIMEOUT_S = 0.5
HEALTHY_AFTER_S = 1.5


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders(logs=tmp_path / "logs", records=tmp_path / "run")
    found.logs.mkdir()
    found.records.mkdir()
    return found


def slow_child() -> Child:
    """A process that does nothing, and serves after a while."""
    began_s: list[float] = []

    async def healthy() -> bool:
        now_s = asyncio.get_running_loop().time()
        began_s.append(now_s)
        return now_s - began_s[0] >= HEALTHY_AFTER_S

    program = Program(name="slow", command=(sys.executable, "-c", "import signal; signal.pause()"))
    return Child(program=program, healthy=healthy, start_timeout_s=START_TIMEOUT_S)


async def start(folders: Folders, child: Child) -> None:
    async with children(folders=folders) as running:
        await running.start(child)


def always(seconds: Callable[[], float]) -> Callable[[int], Callable[[], float]]:
    return lambda _: seconds


async def test_a_start_that_waits_for_a_processor_has_more_time(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it waits all the time, by the injected count; so three times its limit is not too long."""
    monkeypatch.setattr(keeping, "Waited", always(asyncio.get_running_loop().time))
    await start(folders, slow_child())


async def test_a_start_that_has_a_processor_is_held_to_its_limit(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for none, and is not healthy in time."""
    monkeypatch.setattr(keeping, "Waited", always(lambda: 0.0))
    with pytest.raises(StartFailed, match="did not become healthy"):
        await start(folders, slow_child())
