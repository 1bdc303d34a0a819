"""What every benchmark measures with: CPU of a process tree, how busy a core is, paired ratios with their interval."""

import platform
import random
import sysconfig
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

BOOTSTRAP_SAMPLES = 4000
SEED = 1


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU so far, of every living thread of the process and its descendants."""
    root = psutil.Process(pid)
    return sum(process_ns(process.pid) for process in (root, *root.children(recursive=True)))


def process_ns(pid: int) -> int:
    """The same, of this process alone."""
    total = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[0])
        except OSError:
            continue  # a thread that has just ended
    return total


@dataclass(frozen=True)
class CoreTime:
    """What a core had done at one moment, in clock ticks."""

    busy: int
    total: int

    @classmethod
    def of(cls, core: int) -> "CoreTime":
        line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
        ticks = [int(field) for field in line.split()[1:9]]
        idle = ticks[3] + ticks[4]
        return cls(busy=sum(ticks) - idle, total=sum(ticks))

    def share_since(self, earlier: "CoreTime") -> float:
        """How busy the core has been since then, 0 to 1, with whomever."""
        return (self.busy - earlier.busy) / max(1, self.total - earlier.total)


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios and its 95 % bootstrap interval."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> "Ratio":
        ratios = [a / b for a, b in zip(above, below, strict=True)]
        chance = random.Random(SEED)
        medians = sorted(median(chance.choices(ratios, k=len(ratios))) for _ in range(BOOTSTRAP_SAMPLES))
        low, high = medians[int(0.025 * BOOTSTRAP_SAMPLES)], medians[int(0.975 * BOOTSTRAP_SAMPLES)]
        return cls(median(ratios), low, high)

    def __str__(self) -> str:
        return f"{self.middle:.2f} [{self.low:.2f}, {self.high:.2f}]"


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which this share lies; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def drift(values: Sequence[float]) -> float:
    """How far the first and the second half of a series lie apart, as a share of its median."""
    half = len(values) // 2
    return abs(median(values[:half]) - median(values[-half:])) / median(values) if half else 0.0


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return (
        f"{time.strftime('%Y-%m-%d')}, {psutil.cpu_count()} cores ({model}), load {psutil.getloadavg()[0]:.2f} at the start, "
        f"Python {platform.python_version()} {'' if optimised else 'not '}built for speed"
    )
