"""Wrong keys, counted by the address they come from: the rate limit of guessing.

Each address has a bucket that a wrong key fills by one, and that leaks its whole size in a minute. While it is full,
keys from there are not looked up, but for those that were right lately: whoever has one is not kept out by a stranger
behind the same proxy. Nothing waits: a refusal says when to come again.
"""

import math
import time
from collections.abc import Callable
from typing import TypeVar

ADDRESSES_MAX = 10_000
RIGHT_KEYS_MAX = 10_000
MINUTE_S = 60.0

T = TypeVar("T")


class WrongKeys:
    """In memory, per process, and bounded: of too many addresses, the one that failed longest ago is forgotten."""

    def __init__(self, *, per_minute_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute_max
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}
        """How full each bucket was, and when; the one that failed longest ago first."""
        self._right: dict[str, None] = {}

    def wait_s(self, origin: str, key: str) -> int:
        """How many seconds until this key may be tried; 0: now."""
        if key in self._right:
            return 0
        excess = self._level(origin) - (self._most - 1)
        return math.ceil(excess * MINUTE_S / self._most) if excess > 0 else 0

    def note(self, origin: str, key: str, *, right: bool) -> None:
        """What became of a key that was tried."""
        if right:
            _remember(self._right, key, None, most=RIGHT_KEYS_MAX)
        else:
            self._right.pop(key, None)
            _remember(self._levels, origin, (self._level(origin) + 1, self._clock()), most=ADDRESSES_MAX)

    def _level(self, origin: str) -> float:
        level, at = self._levels.get(origin, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * self._most / MINUTE_S)


def _remember(memory: dict[str, T], name: str, value: T, *, most: int) -> None:
    """As the latest; the earliest gives way."""
    memory.pop(name, None)
    memory[name] = value
    if len(memory) > most:
        del memory[next(iter(memory))]
