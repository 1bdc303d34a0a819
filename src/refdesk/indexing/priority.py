"""Standing back: work that nobody waits for leaves busy processors to work that somebody does.

Niceness shares a busy processor out; it takes nothing from work that has one for itself. A whole indexer stands back, its
parsers included: a hostile file may keep each of them busy for half a minute, and embedding never pauses for long.

Linux with `sched_autogroup_enabled`, as most distributions have it, shares processors among sessions first: a process's
niceness counts within its session only, and each session has one of its own. So an indexer stands back with its session, and
parsers stay in it. In a container with a share of its own, that share decides.

Who stands back may wait long without doing anything wrong: `limit` does not count that.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

STRETCH_MAX = 10.0
"""How many times as long a clock may run that stands still while a process waits. At niceness 10 one gets a tenth of a processor
that another keeps busy."""

SESSION_TRIES_MAX = 10
SESSION_RETRY_S = 0.1
"""Linux takes a session's niceness from others than root once in a tenth of a second, whoever they are (sched/autogroup.c)."""


def stand_back(niceness: int) -> None:
    """Have this process stand back by so much more (Unix niceness), with all it starts from now on.

    At most as far as the system goes, 19. Its session does, too, where it leads one: another's is not ours to change.
    """
    now = os.nice(niceness)
    if niceness and os.getsid(0) == os.getpid():
        _session_stands_back(now)


def _session_stands_back(niceness: int) -> None:
    """Best effort: many systems share nothing among sessions, and some containers forbid it."""
    for _ in range(SESSION_TRIES_MAX):
        try:
            Path("/proc/self/autogroup").write_text(str(niceness))
        except BlockingIOError:
            time.sleep(SESSION_RETRY_S)
        except OSError:
            return
        else:
            return


def spare_processors(count: int) -> None:
    """Keep this process off so many of its processors, the first ones, where it has more; with all it starts from now on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        others = sorted(os.sched_getaffinity(0))[count:]
        if others:
            os.sched_setaffinity(0, others)


def waits(process_id: int) -> dict[int, float]:
    """By thread of a process, seconds that it has been ready and had no processor; empty where the system does not tell."""
    found = {}
    for file in Path(f"/proc/{process_id}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):  # a thread that has just ended
            found[int(file.parent.name)] = int(file.read_text().split()[1]) / 1e9
    return found


class Waited:
    """Seconds that the threads of a process have waited so, all together. They only grow: threads that ended stay counted."""

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._by_thread: dict[int, float] = {}
        self._seconds = 0.0

    def __call__(self) -> float:
        now = waits(self._process_id)
        self._seconds += sum(max(seconds - self._by_thread.get(thread, 0.0), 0.0) for thread, seconds in now.items())
        self._by_thread = now
        return self._seconds


@asynccontextmanager
async def limit(seconds: float, *, waited: Callable[[], float]) -> AsyncIterator[None]:
    """Raise TimeoutError after so many seconds, those not counted that ``waited`` has grown by since.

    Whatever it says, ``STRETCH_MAX`` times as many are the end.
    """
    loop = asyncio.get_running_loop()
    began_s, waited_before_s = loop.time(), waited()
    async with asyncio.timeout(None) as clock:
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            allowed_s = min(seconds + waited() - waited_before_s, seconds * STRETCH_MAX)
            if loop.time() >= began_s + allowed_s:
                clock.reschedule(loop.time())
            else:
                timer = loop.call_at(began_s + allowed_s, look)

        timer = loop.call_later(seconds, look)
        try:
            yield
        finally:
            timer.cancel()
