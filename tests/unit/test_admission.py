"""Who may have the model now: fair between principals, bounded, and honest about the line."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.answering.admission import RECOVERY_S, STANDING_S, Admission, AdmissionLimits, Ticket
from refdesk.contracts.errors import Overloaded, TooManyRequests

PRINCIPALS = ("ann", "ben", "cyd")


def admission(*, concurrent: int = 1, waiting: int = 100, own: int = 100) -> Admission:
    return Admission(AdmissionLimits(concurrent_max=concurrent, waiting_max=waiting, waiting_per_principal_max=own))


def served(door: Admission, tickets: dict[str, Ticket]) -> list[str]:
    """The names in the order in which they get the model, each leaving when the next is due."""
    order: list[str] = []
    while len(order) < len(tickets):
        name = next(name for name, ticket in tickets.items() if ticket.admitted and name not in order)
        order.append(name)
        tickets[name].leave()
    return order


async def test_a_noisy_principal_delays_only_themselves() -> None:
    """Free places go round the principals in turn."""
    door = admission()
    tickets = {f"a{number}": door.enter("ann") for number in range(4)}
    tickets |= {"b0": door.enter("ben"), "b1": door.enter("ben"), "c0": door.enter("cyd")}
    assert served(door, tickets) == ["a0", "a1", "b0", "c0", "a2", "b1", "a3"]


async def test_a_position_counts_the_turns_until_ones_own() -> None:
    """And it falls as the line moves."""
    door = admission()
    first = door.enter("ann")
    tickets = {f"a{number}": door.enter("ann") for number in range(3)} | {
        "b0": door.enter("ben"),
        "b1": door.enter("ben"),
    }
    assert {name: door.position(ticket) for name, ticket in tickets.items()} == {
        "a0": 1, "b0": 2, "a1": 3, "b1": 4, "a2": 5,
    }  # fmt: skip
    first.leave()
    assert [door.position(tickets[name]) for name in ("b0", "a1", "b1", "a2")] == [1, 2, 3, 4]


async def test_positions_are_told_at_once_and_when_the_line_moves() -> None:
    """Until it is one's turn."""
    door = admission()
    writing, ahead, own = door.enter("ann"), door.enter("ben"), door.enter("cyd")
    told = []
    async with aclosing(own.positions()) as positions:
        async for position, seconds in positions:
            told.append(position)
            assert seconds > 0
            writing.leave()
            if len(told) == 2:
                ahead.leave()
    assert told == [2, 1]
    assert own.admitted


async def test_whoever_stops_waiting_leaves_no_task_behind() -> None:
    """A cancelled wait is over."""
    door = admission()
    door.enter("ann")
    own = door.enter("ben")
    before = asyncio.all_tasks()

    async def watch() -> None:
        async with aclosing(own.positions()) as positions:
            async for _ in positions:
                pass

    watching = asyncio.create_task(watch())
    done, _ = await asyncio.wait([watching], timeout=0.01)
    assert not done
    watching.cancel()
    await asyncio.wait([watching])
    assert asyncio.all_tasks() == before


async def test_a_full_line_refuses_at_once_and_says_when_to_come_back() -> None:
    """503 with the limit and the actual value."""
    door = admission(waiting=2)
    for name in PRINCIPALS:
        door.enter(name)
    with pytest.raises(Overloaded) as refused:
        door.enter("dan")
    assert refused.value.details == {"limit": 2, "actual": 2}
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1


async def test_ones_own_line_is_bounded_too() -> None:
    """429, while others still get a place."""
    door = admission(own=1)
    door.enter("ann")
    door.enter("ann")
    with pytest.raises(TooManyRequests) as refused:
        door.enter("ann")
    assert refused.value.details == {"limit": 1, "actual": 1}
    door.enter("ben")


async def test_an_answer_that_is_read_already_gets_its_place_in_a_full_line() -> None:
    """It is taken over from a process that died."""
    door = admission(waiting=0)
    door.enter("ann")
    with pytest.raises(Overloaded):
        door.enter("ben")
    assert not door.enter_late("ben").admitted


async def test_only_written_answers_teach_how_long_one_takes() -> None:
    """Whoever joins somebody else's answer leaves after milliseconds."""
    door = admission()
    estimated = door.estimated_seconds(1)
    door.enter("ann").leave()
    assert door.estimated_seconds(1) == estimated
    door.enter("ann").leave(wrote=True)
    assert door.estimated_seconds(1) < estimated


@given(st.lists(st.tuples(st.sampled_from(PRINCIPALS), st.integers(0, 30)), max_size=60), st.integers(1, 4))
async def test_places_are_neither_lost_nor_given_twice(steps: list[tuple[str, int]], concurrent: int) -> None:
    """However people come and leave, in line or at the model, once or twice."""
    door, tickets = admission(concurrent=concurrent, waiting=10, own=5), list[Ticket]()
    gone: set[int] = set()
    for name, leaver in steps:
        if leaver < len(tickets):
            tickets[leaver].leave()
            gone.add(leaver)
        else:
            try:
                tickets.append(door.enter(name))
            except (TooManyRequests, Overloaded):
                assert door.waiting > 0
        here = [ticket for number, ticket in enumerate(tickets) if number not in gone]
        at_the_model = sum(ticket.admitted for ticket in here)
        assert (door.writing, door.waiting) == (at_the_model, len(here) - at_the_model)
        assert at_the_model == min(concurrent, len(here))
        assert sorted(door.position(ticket) for ticket in here if not ticket.admitted) == [*range(1, door.waiting + 1)]


async def test_a_standing_line_is_kept_short_until_nobody_is_refused() -> None:
    """A burst may wait; after a second of it, only who is served soon may."""
    clock = [100.0]
    limits = AdmissionLimits(concurrent_max=2, waiting_max=4, waiting_per_principal_max=4)
    door = Admission(limits, clock=lambda: clock[0])
    writing = [door.enter("ann"), door.enter("ben")]
    line = [door.enter("cyd"), door.enter("dan")]
    clock[0] += STANDING_S
    with pytest.raises(Overloaded):
        door.enter("eve")
    for ticket in (*line, *writing):
        ticket.leave()
    writing = [door.enter("ann"), door.enter("ben")]
    with pytest.raises(Overloaded):
        door.enter("eve")
    clock[0] += RECOVERY_S
    door.enter("eve")
    assert door.waiting == 1
