"""Wrong keys: a burst is refused for a while, and whoever has a right one is not."""

import pytest

from refdesk.access import wrong_keys
from refdesk.access.wrong_keys import WrongKeys

PER_MINUTE = 30


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wrong(clock: Clock) -> WrongKeys:
    return WrongKeys(per_minute_max=PER_MINUTE, clock=clock)


def fail(wrong: WrongKeys, origin: str, *, times: int) -> None:
    for n in range(times):
        wrong.note(origin, f"wrong {n}", right=False)


def test_a_burst_is_let_through_and_then_refused(wrong: WrongKeys, clock: Clock) -> None:
    """And one more is let through for each that has leaked out."""
    fail(wrong, "a", times=PER_MINUTE - 1)
    assert wrong.wait_s("a", "next") == 0
    fail(wrong, "a", times=1)
    assert wrong.wait_s("a", "next") == 2
    clock.now += 2
    assert wrong.wait_s("a", "next") == 0


def test_addresses_are_counted_apart(wrong: WrongKeys) -> None:
    """One's wrong keys are not another's."""
    fail(wrong, "a", times=PER_MINUTE)
    assert wrong.wait_s("b", "next") == 0


def test_a_key_that_was_right_is_taken_whatever_its_neighbours_send(wrong: WrongKeys) -> None:
    """Until it is wrong."""
    wrong.note("a", "right", right=True)
    fail(wrong, "a", times=PER_MINUTE * 2)
    assert wrong.wait_s("a", "right") == 0
    wrong.note("a", "right", right=False)
    assert wrong.wait_s("a", "right") > 0


def test_what_is_remembered_is_bounded(wrong: WrongKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of addresses and keys, the latest."""
    monkeypatch.setattr(wrong_keys, "ADDRESSES_MAX", 2)
    monkeypatch.setattr(wrong_keys, "RIGHT_KEYS_MAX", 2)
    for name in "abc":
        fail(wrong, name, times=PER_MINUTE)
        wrong.note(name, f"right {name}", right=True)
    assert [wrong.wait_s(name, "next") > 0 for name in "abc"] == [False, True, True]
    assert wrong.wait_s("c", "right c") == 0
    assert wrong.wait_s("c", "right a") > 0
