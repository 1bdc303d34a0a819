"""Whether a process that runs is still alive: it answers, or it has an excuse.

Silence is counted in the time in which an answer could have come:

* not the time in which we stood still ourselves (a laptop asleep, a machine overloaded): each look counts for no more than it
  was allowed to take;
* not the time in which a thread of the process was ready to run and had no processor: a starved process is late, not frozen. Any
  of them may be what its event loop waits for: who holds the interpreter's lock and gets no processor keeps it from all others.

A process that is stopped, waits for something that never comes, or works without ever looking up has no excuse.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from refdesk.indexing.priority import Waited

LOOKS_PER_SILENCE = 20
LOOK_S_MAX = 0.5
"""At least so often is it looked at."""
STRETCH_MAX = 6.0
"""How many times as long a silence may last that is all excuses."""


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """`beats` is one look: True when the process answers, whatever it says; it has its own time limit, `look_s_max`.

    `silence` says in a message what it did when it did not beat.
    """

    beats: Callable[[], Awaitable[bool]]
    look_s_max: float
    silence_s_max: float
    silence: str = "gave no sign of life"

    @property
    def pause_s(self) -> float:
        return min(self.silence_s_max / LOOKS_PER_SILENCE, LOOK_S_MAX)


async def until_silent(
    pulse: Pulse,
    *,
    process_id: int,
    waited: Callable[[], float] | None = None,
    clock: Callable[[], float] | None = None,
) -> None:
    """Return when the process has been silent for `silence_s_max` without an excuse, or for `STRETCH_MAX` times that."""
    clock, waited = clock or asyncio.get_running_loop().time, waited or Waited(process_id)
    silence_s = excused_s = 0.0
    looked_at, waited_before = clock(), waited()
    while silence_s < pulse.silence_s_max and silence_s + excused_s < pulse.silence_s_max * STRETCH_MAX:
        await asyncio.sleep(pulse.pause_s)
        beats = await pulse.beats()
        now, waited_now = clock(), waited()
        passed_s = min(now - looked_at, pulse.pause_s + pulse.look_s_max)
        starved_s = min(waited_now - waited_before, passed_s)
        looked_at, waited_before = now, waited_now
        if beats:
            silence_s = excused_s = 0.0
        else:
            silence_s += passed_s - starved_s
            excused_s += starved_s
