"""How the time of something grows with what it reads: near linear, or a way to freeze a service.

Time is CPU time, so that a busy machine changes little, and work is broken off by a timer of CPU time: Python's regular
expressions look for signals while they search. It is the thread's own time: while such a timer runs, Linux counts that of the
process in ticks of four milliseconds.
"""

import re
import re._constants as op
import re._parser as sre
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

SHORT, LONG = 1 << 13, 1 << 20
"""Up to what size something is tried: in every run, and in the long form."""

BEGIN = 16
NOTICED_S = 0.004
"""Less is too little to be compared."""
FACTOR_MAX = 3.0
"""Of the time, when the size doubles. Linear work has 2, quadratic work 4."""
LOOKS = 5
"""How often both sizes are run, in turns, before growth is believed: a busy machine slows some runs, not the best of each."""
CPU_S_MAX = 20.0
"""For one size, whatever the factors were: far more than linear work takes, far less than for ever."""

TAILS = ("\0", "x\n")


class Frozen(Exception):
    """It took more than linear time."""


def check(work: Callable[[str], Any], make: Callable[[int], str], *, begin: int = BEGIN, size_max: int) -> None:
    """Double the size up to ``size_max``; raises Frozen when the time grows much faster, twice in a row."""
    before_s, strikes, size = 0.0, 0, begin
    while size <= size_max:
        text = make(size)
        seconds = cpu_s(work, text)
        if _is_steep(before_s, seconds):
            half = make(size // 2)
            looks = [(cpu_s(work, half), cpu_s(work, text)) for _ in range(LOOKS)]
            before_s, seconds = (min(times) for times in zip(*looks, strict=True))
        strikes = strikes + 1 if _is_steep(before_s, seconds) else 0
        if strikes == 2:
            raise Frozen(f"{before_s:.3f} s, then {seconds:.3f} s for {size} characters such as {text[:60]!r}")
        before_s, size = seconds, size * 2


def _is_steep(before_s: float, seconds: float) -> bool:
    return seconds > max(NOTICED_S, FACTOR_MAX * before_s) and before_s > NOTICED_S / 4


def cpu_s(work: Callable[[str], Any], text: str) -> float:
    """CPU seconds of one run; raises Frozen after ``CPU_S_MAX``."""

    def stop(*_: object) -> None:
        raise Frozen(f"more than {CPU_S_MAX} s for {len(text)} characters such as {text[:60]!r}")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S_MAX)
    begin = time.thread_time()
    try:
        work(text)
        return time.thread_time() - begin
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def pumped(pump: str, *, prefix: str = "", tail: str = "") -> Callable[[int], str]:
    """A text of about the size asked for: the pump again and again."""
    return lambda size: f"{prefix}{pump * max(1, size // len(pump))}{tail}"


# What a pattern itself says would be hard for it


def attacks(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """(prefix, pump, tail): what the pattern repeats, behind what it wants before that, with an end that does not match."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree = sre.parse(source, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags)
    repeats = list(_repeats(tree, ""))
    pumps = {(prefix, pump) for prefix, pump in repeats if pump}
    ones = {pump for _, pump in repeats if pump} | set(_characters(tree))
    pumps |= {("", one) for one in ones}
    pumps |= {("", one + other) for one in sorted(ones)[:4] for other in sorted(ones)[:4] if one != other}
    whole = next(iter(_samples(tree)), "")
    for prefix, pump in sorted(pumps | {("", whole or "x")}):
        for tail in TAILS:
            yield prefix, pump, tail


def _repeats(tree: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Every repeated part: a text that comes before it, and texts that it may repeat."""
    for kind, value in tree:
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            for sample in _samples(value[2]):
                yield prefix, sample
            yield from _repeats(value[2], prefix)
        else:
            for part in _parts(kind, value):
                yield from _repeats(part, prefix)
        prefix += next(iter(_samples([(kind, value)])), "")


def _parts(kind: Any, value: Any) -> list[Any]:
    if kind is op.SUBPATTERN:
        return [value[3]]
    if kind is op.BRANCH:
        return list(value[1])
    if kind in (op.ASSERT, op.ASSERT_NOT):
        return [value[1]]
    return [value] if kind is op.ATOMIC_GROUP else []


def _samples(tree: Any) -> list[str]:
    """A few texts that match, or nearly: repeats as seldom as allowed, and once."""
    texts = [""]
    for kind, value in tree:
        texts = [text + more for text in texts for more in _samples_of(kind, value)][:6]
    return list(dict.fromkeys(texts))


def _samples_of(kind: Any, value: Any) -> list[str]:
    if kind is op.LITERAL:
        return [chr(value)]
    if kind is op.IN:
        return [_member(value)]
    if kind in (op.ANY, op.NOT_LITERAL):
        return ["a"]
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
        counts = {value[0], min(max(value[0], 1), value[1])}
        return [text * count for count in sorted(counts) for text in _samples(value[2])]
    if kind is op.BRANCH:
        return [text for part in value[1] for text in _samples(part)[:2]]
    if kind in (op.ASSERT, op.ASSERT_NOT, op.AT, op.GROUPREF):
        return [""]
    return [text for part in _parts(kind, value) for text in _samples(part)]


_OF_CATEGORY = {op.CATEGORY_SPACE: " ", op.CATEGORY_DIGIT: "1", op.CATEGORY_WORD: "a"}
_TRIED = "a1 \n\t-_.,:;!?\"'()[]{}<>=/\\é中"


def _member(members: Any) -> str:
    """A character of a class."""
    negated = members[0][0] is op.NEGATE
    if negated:
        return next((one for one in _TRIED if not any(_has(m, one) for m in members[1:])), "\u3042")
    kind, value = members[0]
    return chr(value) if kind is op.LITERAL else chr(value[0]) if kind is op.RANGE else _OF_CATEGORY.get(value, "-")


def _has(member: Any, one: str) -> bool:
    kind, value = member
    if kind is op.LITERAL:
        return ord(one) == value
    if kind is op.RANGE:
        return bool(value[0] <= ord(one) <= value[1])
    tests = {op.CATEGORY_SPACE: one.isspace(), op.CATEGORY_DIGIT: one.isdigit(), op.CATEGORY_WORD: one.isalnum()}
    tests |= {op.CATEGORY_NOT_SPACE: not one.isspace(), op.CATEGORY_NOT_WORD: not one.isalnum()}
    return tests.get(value, False)


def _characters(tree: Any) -> Iterator[str]:
    """One character for every literal and class."""
    for kind, value in tree:
        if kind in (op.LITERAL, op.IN, op.ANY, op.NOT_LITERAL):
            yield from _samples_of(kind, value)
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            yield from _characters(value[2])
        else:
            for part in _parts(kind, value):
                yield from _characters(part)
