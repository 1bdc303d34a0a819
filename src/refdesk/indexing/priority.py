"""Standing back: work that nobody waits for leaves busy processors to work that somebody does.

Niceness shares a busy processor out; it takes nothing from work that has one for itself. Parsers stand back: a hostile file
may keep each of them busy for half a minute. Embedding does not: it has a set number of threads, one by default, and
standing back for the database and the broker would only lengthen what it feeds them.

Who stands back may wait long without doing anything wrong: `limit` does not count that.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

STRETCH_MAX = 10.0
"""How many times as long a clock may run that stands still while a process waits. At niceness 10 one gets a tenth of a processor
that another keeps busy."""


def stand_back(niceness: int, *, process_id: int = 0) -> None:
    """Have a process, 0 for this one, stand back by so much more (Unix niceness), with all it starts from now on.

    At most as far as the system goes, 19. One that has just ended does not have to.
    """
    with suppress(ProcessLookupError):
        now = os.getpriority(os.PRIO_PROCESS, process_id)
        os.setpriority(os.PRIO_PROCESS, process_id, now + niceness)


def waited_s(process_id: int) -> float:
    """Seconds that the threads of a process have been ready and had no processor; 0 where the system does not tell."""
    waited_ns = 0
    for file in Path(f"/proc/{process_id}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):  # a thread that has just ended
            waited_ns += int(file.read_text().split()[1])
    return waited_ns / 1e9


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
