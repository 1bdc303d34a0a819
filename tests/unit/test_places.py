"""Places shared between principals, whatever they do: properties that hold after every step."""

import asyncio
import heapq
import itertools
import random
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from refdesk.answering.places import Place, PlaceLimits, Places
from refdesk.contracts.errors import Overloaded, TooManyRequests

NAMES = ("ann", "ben", "cyd", "dan", "eve")
COUNT, KEPT_FREE, WAITING_MAX, PRINCIPALS_MAX = 8, 2, 6, 4


def places(*, count: int = COUNT, kept_free: int = KEPT_FREE) -> Places:
    return Places(PlaceLimits(count=count, kept_free=kept_free, waiting_max=WAITING_MAX, principals_max=PRINCIPALS_MAX))


def entered(door: Places, *names: str) -> Place:
    place = Place()
    door.enter(place, *names)
    return place


class Model(RuleBasedStateMachine):
    """People who enter, want what others want, and leave; and a plain account of who has what."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.door = places()
        self.here: list[Place] = []

    def teardown(self) -> None:
        self.runner.close()

    @rule(name=st.sampled_from(NAMES))
    def enter(self, name: str) -> None:
        has_nothing = self.door.under_way(name) == 0
        people_in_line = {name for place in self.waiting for name in place.wanted_by}
        try:
            self.door.check(name, retry_after_s=1)
        except (Overloaded, TooManyRequests):
            assert len(people_in_line) >= PRINCIPALS_MAX or not has_nothing, "a newcomer found no place"
            assert self.door.under_way(name) > 0 or len(people_in_line) >= PRINCIPALS_MAX
            return
        free = COUNT - self.door.taken
        place = self.runner.run(self._entered(name))
        self.here.append(place)
        assert place.called.done() == (free > (0 if has_nothing else KEPT_FREE) or (has_nothing and free > 0))

    async def _entered(self, name: str) -> Place:
        return entered(self.door, name)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def want_the_same(self, data: st.DataObject, name: str) -> None:
        self.door.join(data.draw(st.sampled_from(self.waiting)), name)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def want_it_no_more(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(self.waiting))
        if len(place.wanted_by) > 1:
            self.door.part(place, data.draw(st.sampled_from(place.wanted_by)))

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(self.here))
        self.here.remove(place)
        for _ in range(2):
            self.door.leave(place)

    @property
    def waiting(self) -> list[Place]:
        return [place for place in self.here if not place.called.done()]

    @invariant()
    def places_are_neither_lost_nor_given_twice(self) -> None:
        held = Counter(place.holder for place in self.here if place.called.done())
        assert (self.door.taken, self.door.waiting) == (held.total(), len(self.waiting))
        assert held.total() <= COUNT
        for name in NAMES:
            in_line = sum(name in place.wanted_by for place in self.waiting)
            assert self.door.under_way(name) == held[name] + in_line

    @invariant()
    def nothing_is_free_that_somebody_waits_for(self) -> None:
        """But what is kept for those who have nothing."""
        if self.waiting:
            free = COUNT - self.door.taken
            assert free <= KEPT_FREE
            assert not free or all(self.door.under_way(name) for place in self.waiting for name in place.wanted_by)

    @invariant()
    def the_line_is_bounded(self) -> None:
        share = [max(1, (COUNT - KEPT_FREE + WAITING_MAX) // number) for number in range(1, len(NAMES) + 1)]
        assert self.door.waiting <= WAITING_MAX + sum(share) + len(NAMES)


def test_whatever_people_do_the_places_are_shared() -> None:
    """None lost, none given twice, none idle; a newcomer finds one; the line is bounded; no count is below zero."""
    checks = settings(max_examples=25, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Model, settings=checks)  # type: ignore[no-untyped-call]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(NAMES), max_size=6), st.lists(st.sampled_from(NAMES), max_size=30))
async def test_a_position_is_how_many_are_called_before(working: list[str], waiting: list[str]) -> None:
    """And oneself: seen by others giving their places back one after the other."""
    door = places(count=len(working) + len(waiting), kept_free=0)
    for name in working:
        entered(door, name)
    others = [entered(door, f"other {number}") for number in range(len(waiting))]
    told = {door.position(place): place for place in [entered(door, name) for name in waiting]}
    assert sorted(told) == list(range(1, len(waiting) + 1))
    for position, other in enumerate(others, 1):
        door.leave(other)
        called = {number for number, place in told.items() if place.called.done()}
        assert called == set(range(1, position + 1))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=100, max_size=100))
@settings(max_examples=10, deadline=None)
async def test_nobody_waits_for_ever(steps: list[tuple[int, int]]) -> None:
    """However many newcomers come in between, who waits is called after as many endings as people and places were there."""
    door = places(count=4, kept_free=1)
    working = [entered(door, "ann") for _ in range(4)]
    patient, endings = working[-1], 0
    assert not patient.called.done()
    for number, (newcomers, leaver) in enumerate(steps):
        working += [entered(door, f"{number}-{one}") for one in range(newcomers)]
        called = [place for place in working if place.called.done()]
        if patient.called.done():
            break
        oldest = called[0] if number % 2 else called[leaver % len(called)]  # everything ends some day
        door.leave(oldest)
        working.remove(oldest)
        endings += 1
    assert patient.called.done()
    assert endings <= 60


async def test_ten_principals_get_equal_shares_however_much_they_ask_for() -> None:
    """Jain's index over twenty simulated minutes: they keep 2 to 200 questions of some ten seconds each under way."""
    door = Places(PlaceLimits(count=16, kept_free=2, waiting_max=16, principals_max=500))
    chance, served, steps = random.Random(1), Counter[str](), itertools.count()
    happening: list[tuple[float, int, str, Place]] = []

    def later(seconds: float, name: str, place: Place) -> None:
        heapq.heappush(happening, (now + seconds, next(steps), name, place))

    class Question(Place):
        """Which is answered some time after it is called."""

        def call(self, holder: str) -> None:
            super().call(holder)
            later(chance.uniform(5, 15), holder, self)

    now = 0.0
    for number in range(10):
        for _ in range(2 + 22 * number):
            later(chance.random(), f"key {number}", Question())
    while now < 1200:
        now, _, name, place = heapq.heappop(happening)
        if place.called.done():
            served[name] += 1
            door.leave(place)
            later(chance.random(), name, Question())
            continue
        try:
            door.check(name, retry_after_s=1)
        except (Overloaded, TooManyRequests):
            later(chance.uniform(0, 5), name, place)
        else:
            door.enter(place, name)
    jain = served.total() ** 2 / (10 * sum(answers**2 for answers in served.values()))
    assert jain >= 0.95, served
