"""Work that nobody waits for stands back, and is not blamed for that."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from refdesk.indexing.priority import limit, waited_s

AUTOGROUP = Path("/proc/self/autogroup")
SHOW = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"


def test_a_process_stands_back_with_all_it_starts() -> None:
    """By so much more than it did, and no further than the system goes."""
    script = (
        "import subprocess, sys; from refdesk.indexing.priority import stand_back\n"
        f"for more in (3, 4, 40):\n    stand_back(more)\n    subprocess.run([sys.executable, '-c', {SHOW!r}], check=True)"
    )
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert [int(line) for line in shown.stdout.split()] == [min(19, own + more) for more in (3, 7, 47)]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processors cannot be chosen here")
@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_a_process_keeps_off_the_first_processors(count: int) -> None:
    """As many as it is told, if any is left."""
    script = (
        "import os; from refdesk.indexing.priority import spare_processors\n"
        f"spare_processors({count})\nprint(*sorted(os.sched_getaffinity(0)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    own = sorted(os.sched_getaffinity(0))
    assert [int(number) for number in shown.stdout.split()] == (own[count:] or own)


@pytest.mark.skipif(not os.access(AUTOGROUP, os.W_OK), reason="no niceness of sessions here")
@pytest.mark.parametrize("leads", [True, False], ids=["its own", "another's"])
def test_a_session_stands_back_with_its_leader(leads: bool) -> None:
    """And with nobody else: others may be in it.

    The session is a new one, since not every session has a niceness: a container's first may share with the whole system.
    """
    script = (
        "from pathlib import Path; from refdesk.indexing.priority import stand_back\n"
        f"group = Path({str(AUTOGROUP)!r})\nbefore = group.read_text()\nstand_back(3)\nprint(before, group.read_text())"
    )
    if not leads:
        script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}], check=True)"
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, start_new_session=True)
    before, after = shown.stdout.splitlines()[:2]
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert after.strip() == (before.replace("nice 0", f"nice {min(19, own + 3)}") if leads else before)


@pytest.mark.parametrize("waited", [lambda: 0.0, iter(range(1_000_000)).__next__], ids=["never waited", "always waits"])
async def test_a_clock_ends_what_takes_too_long(waited: Callable[[], float]) -> None:
    """Also what says that it never had a processor."""
    with pytest.raises(TimeoutError):
        async with limit(0.01, waited=waited):
            await asyncio.Event().wait()


async def test_a_clock_stands_still_while_a_process_waits() -> None:
    """When its time is up it looks how much of it was waited, and allows as much again."""
    looked = asyncio.Event()
    seconds = iter([0.0, 60.0])

    def waited() -> float:
        looked.set()
        return next(seconds)

    async with limit(0.5, waited=waited):
        looked.clear()
        await looked.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a process has waited")
async def test_a_process_that_shares_its_processor_has_waited() -> None:
    """One that has ended has not."""
    processor = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, [{processor}])\nwhile True: pass"
    with ExitStack() as stack:
        first, second = (stack.enter_context(subprocess.Popen([sys.executable, "-c", busy])) for _ in range(2))
        stack.callback(first.kill)
        stack.callback(second.kill)
        async with asyncio.timeout(30):
            while waited_s(first.pid) == 0 or waited_s(second.pid) == 0:
                await asyncio.sleep(0.01)
    assert waited_s(first.pid) == 0
