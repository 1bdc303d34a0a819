"""How short of processors this machine is, by Linux's own account (pressure stall information)."""

from pathlib import Path

CPU = Path("/proc/pressure/cpu")


def waited_for_processors(file: Path = CPU) -> float:
    """The share of the last ten seconds in which some process was ready and had no processor: 0 to 1; 0 where it is not known."""
    try:
        some = file.read_text(encoding="ascii").split()
        return min(1.0, max(0.0, float(some[1].removeprefix("avg10=")) / 100))
    except (OSError, ValueError, IndexError):  # another system, an older kernel, a container that does not show it
        return 0.0
