"""Who may have the model now: fair between principals, bounded, and honest about the line."""

import asyncio
from contextlib import aclosing

import pytest

from refdesk.answering.admission import RECOVERY_S, STANDING_S, Admission, Ticket
from refdesk.contracts.errors import Overloaded, TooManyRequests
from refdesk.settings.limits import AdmissionLimits

PRINCIPALS = ("ann", "ben", "cyd")


def admission(
    *, concurrent: int = 1, waiting: int = 100, own: int = 100, principals: int = 100, kept_free: int = 0
) -> Admission:
    return Admission(
        AdmissionLimits(
            concurrent_max=concurrent,
            waiting_max=waiting,
            waiting_per_principal_max=own,
            waiting_principals_max=principals,
            kept_free=kept_free,
        )
    )


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
    assert served(door, tickets) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


async def test_a_position_counts_the_turns_until_ones_own() -> None:
    """And it falls as the line moves."""
    door = admission()
    first = door.enter("ann")
    tickets = {f"a{number}": door.enter("ann") for number in range(3)} | {
        "b0": door.enter("ben"),
        "b1": door.enter("ben"),
    }
    assert {name: door.position(ticket) for name, ticket in tickets.items()} == {
        "b0": 1, "a0": 2, "b1": 3, "a1": 4, "a2": 5,
    }  # fmt: skip
    first.leave()
    assert [door.position(tickets[name]) for name in ("a0", "b1", "a1", "a2")] == [1, 2, 3, 4]


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
    """503 with the limit and the actual value: nobody else is asking."""
    door = admission(waiting=2)
    for _ in range(3):
        door.enter("ann")
    with pytest.raises(Overloaded) as refused:
        door.enter("ann")
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


async def test_whoever_has_more_than_a_share_is_refused_first() -> None:
    """429 with the share and what one has; whoever has less finds a place in a full line."""
    door = admission(concurrent=4, waiting=4)
    for _ in range(8):
        door.enter("ann")
    for _ in range(4):
        door.enter("ben")
    for name in ("ann", "ben"):
        with pytest.raises(TooManyRequests) as refused:
            door.enter(name)
    assert refused.value.details == {"limit": 4, "actual": 4}


async def test_people_in_line_are_bounded() -> None:
    """Beyond that many, whoever has nothing in line is refused as well, whatever memory there is."""
    door = admission(waiting=0, principals=2)
    for name in PRINCIPALS:
        door.enter(name)
    with pytest.raises(Overloaded, match="REFDESK_WAITING_PRINCIPALS_MAX"):
        door.enter("dan")


async def test_somebody_elses_work_leaves_places_for_newcomers() -> None:
    """One who asks for everything has all places but those; a newcomer need not wait for an answer to end."""
    door = admission(concurrent=8, kept_free=2)
    noisy = [door.enter("ann") for _ in range(20)]
    assert sum(ticket.admitted for ticket in noisy) == 6
    assert [door.enter(name).admitted for name in ("ben", "cyd", "dan")] == [True, True, False]
    noisy[0].leave()
    assert [door.writing, sum(ticket.admitted for ticket in noisy)] == [8, 6]  # dan's, not another of ann's


async def test_a_newcomer_who_wants_the_same_answer_is_not_held_up_in_somebody_elses_line() -> None:
    """It begins in the turn of whoever comes first, and counts as theirs."""
    door = admission()
    writing, *waiting = [door.enter("ann") for _ in range(5)]
    waiting[-1].wanted_by_also("ben")
    assert door.position(waiting[-1]) == 1
    writing.leave()
    assert [ticket.admitted for ticket in waiting] == [False, False, False, True]
    assert door.waiting == 3


async def test_an_answer_that_is_read_already_gets_its_place_in_a_full_line() -> None:
    """It is taken over from a process that died."""
    door = admission(waiting=0)
    door.enter("ann")
    with pytest.raises(Overloaded):
        door.enter("ann")
    assert not door.enter_late("ann").admitted


async def test_only_written_answers_teach_how_long_one_takes() -> None:
    """Whoever joins somebody else's answer leaves after milliseconds."""
    door = admission()
    estimated = door.estimated_seconds(1)
    door.enter("ann").leave()
    assert door.estimated_seconds(1) == estimated
    door.enter("ann").leave(wrote=True)
    assert door.estimated_seconds(1) < estimated


async def test_a_standing_line_is_kept_short_until_nobody_is_refused() -> None:
    """A burst may wait; after a second of it, only who is served soon may, or who has less than a share."""
    clock = [100.0]
    limits = AdmissionLimits(concurrent_max=2, waiting_max=4, waiting_per_principal_max=4, waiting_principals_max=4)
    door = Admission(limits, clock=lambda: clock[0])
    writing = [door.enter("ann") for _ in range(2)]
    line = [door.enter("ann") for _ in range(2)]
    clock[0] += STANDING_S
    with pytest.raises(Overloaded):
        door.enter("ann")
    newcomer = door.enter("eve")
    for ticket in (newcomer, *line, *writing):
        ticket.leave()
    writing = [door.enter("ann") for _ in range(2)]
    with pytest.raises(Overloaded):
        door.enter("ann")
    clock[0] += RECOVERY_S
    door.enter("ann")
    assert door.waiting == 1
