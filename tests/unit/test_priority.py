"""Work that nobody waits for stands back, and is not blamed for that."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refdesk.indexing import priority
from refdesk.indexing.priority import Waited, limit, waits

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


def sharing_a_processor(program: str) -> str:
    """Python that keeps to the first processor we may use."""
    return f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}])\n{program}"


BUSY = "while True: pass"
HOLDS_THE_LOCK = """
import sys, threading
sys.setswitchinterval(1000)
def busy():
    print("begun", flush=True)
    while True: pass
threading.Thread(target=busy).start()
"""
"""Its main thread wants the interpreter's lock from the thread that has it, and does not let go."""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a process has waited")
async def test_a_process_that_shares_its_processor_has_waited() -> None:
    """One that has ended has not."""
    with running(BUSY) as first, running(BUSY) as second:
        async with asyncio.timeout(30):
            while not (sum(waits(first.pid).values()) and sum(waits(second.pid).values())):
                await asyncio.sleep(0.01)
    assert waits(first.pid) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a process has waited")
async def test_a_process_waits_with_any_of_its_threads() -> None:
    """Its main thread sleeps until another lets go of the interpreter's lock, and that one has no processor."""
    with running(BUSY), running(HOLDS_THE_LOCK) as held:
        assert held.stdout and held.stdout.readline() == b"begun\n"
        waited = Waited(held.pid)
        before_s, main_before_s = waited(), waits(held.pid)[held.pid]
        async with asyncio.timeout(60):
            while waited() - before_s < 0.5:
                await asyncio.sleep(0.01)
        assert waits(held.pid)[held.pid] - main_before_s < 0.1


def test_what_a_thread_has_waited_counts_beyond_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads come and go; what is counted only grows."""
    seen = iter([{1: 1.0, 2: 5.0}, {1: 1.5}, {1: 2.0, 3: 4.0}, {}])
    monkeypatch.setattr(priority, "waits", lambda _: next(seen))
    waited = Waited(0)
    assert [waited() for _ in range(4)] == [6.0, 6.5, 11.0, 11.0]


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", sharing_a_processor(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
