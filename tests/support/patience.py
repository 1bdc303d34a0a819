"""Time limits that hold on a quiet machine, and give a busy one the time that it takes from its processes."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from refdesk.indexing.priority import limit

PRESSURE = Path("/proc/pressure/cpu")
SPARED_S_MAX = 90.0
"""So that what never comes is told as such before pytest's own limit ends the test."""


def within(seconds: float) -> AbstractAsyncContextManager[None]:
    """Raise TimeoutError after so many seconds; those do not count in which something had to wait for a processor.

    They count at most ten times over, and no more than `SPARED_S_MAX` of them are spared.
    """
    before_s = starved_s()
    return limit(seconds, waited=lambda: min(starved_s() - before_s, SPARED_S_MAX))


def starved_s() -> float:
    """Seconds in which something on this machine was ready and had no processor; 0 where Linux does not tell."""
    try:
        return int(PRESSURE.read_text().partition("total=")[2].split()[0]) / 1e6
    except OSError:
        return 0.0
