"""Equal work is done once, and never by one who began before it was asked for; the rest waits in a bounded line."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from refdesk.answering.reuse.sharing import Leaders, Shared, SharedLimits
from refdesk.contracts.errors import Overloaded, TooManyRequests, Unavailable

LONG_S = 60.0


def line(*, at_once: int = 1, waiting: int = 100, wait_s: float = LONG_S) -> Shared[int]:
    limits = SharedLimits(at_once_max=at_once, waiting_max=waiting, waiting_principals_max=2, wait_s_max=wait_s)
    return Shared(limits, kind="test")


class Look:
    """Work that counts how often it began and ends when it is let."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return number


def asking(
    shared: Shared[int],
    key: str,
    work: Callable[[], Awaitable[int]],
    *,
    by: str = "ann",
    admit: Callable[[], None] | None = None,
) -> asyncio.Task[int]:
    return asyncio.create_task(shared.get(key, work, principal_id=by, admit=admit))


async def turns(count: int = 20) -> None:
    """Lets everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_thousand_who_ask_the_same_look_twice() -> None:
    """The first at once; all who came meanwhile together, once that look has ended."""
    shared, look = line(at_once=8), Look()
    first = asking(shared, "a", look)
    await turns()
    rest = [asking(shared, "a", look) for _ in range(999)]
    await turns()
    assert look.begun == 1
    look.may_end.set()
    assert await first == 1
    assert set(await asyncio.gather(*rest)) == {2}
    assert look.begun == 2


async def test_nobody_is_told_what_was_looked_up_before_they_asked() -> None:
    """Whoever sees a change and asks then, sees it in the answer, however many look already."""
    shared, now = line(), 0
    may_end = asyncio.Event()

    async def look() -> int:
        seen = now
        await may_end.wait()
        return seen

    early = asking(shared, "a", look)
    await turns()
    now = 1
    late = [asking(shared, "a", look) for _ in range(3)]
    await turns()
    now = 2
    may_end.set()
    assert await early == 0
    assert min(await asyncio.gather(*late)) >= 1


async def test_different_work_waits_its_turn_and_does_not_fail() -> None:
    """As many at a time as the limit says, the others after them in their order."""
    shared, most, order = line(at_once=3), 0, []
    at_work: set[int] = set()

    def work(number: int) -> Callable[[], Awaitable[int]]:
        async def one() -> int:
            nonlocal most
            at_work.add(number)
            most = max(most, len(at_work))
            await turns(2)
            at_work.remove(number)
            order.append(number)
            return number

        return one

    asked = [asking(shared, str(number), work(number)) for number in range(100)]
    assert await asyncio.gather(*asked) == list(range(100))
    assert (most, order) == (3, list(range(100)))


async def test_a_line_that_is_full_refuses_at_once() -> None:
    """With the limit, how many wait, and when to come back; equal work is no longer line."""
    shared, look = line(at_once=2, waiting=3), Look()
    asked = [asking(shared, str(number), look) for number in range(5)]
    await turns()
    with pytest.raises(Overloaded) as refused:
        await shared.get("one more", look, principal_id="ann")
    assert refused.value.details == {"limit": 3, "actual": 3}
    assert refused.value.retry_after_s
    asked.append(asking(shared, "4", look))
    look.may_end.set()
    await asyncio.gather(*asked)
    assert await shared.get("and now", look) == 6


async def test_a_wait_that_is_too_long_is_refused() -> None:
    """The line moves on without it."""
    shared, look = line(wait_s=0.01), Look()
    first = asking(shared, "a", look)
    await turns()
    with pytest.raises(Overloaded, match="REFDESK_RETRIEVAL_WAIT_S_MAX"):
        await shared.get("b", look)
    look.may_end.set()
    await first
    assert await shared.get("b", look) == 2


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    """Even the one for whom the work was begun."""
    shared, look = line(), Look()
    first, second = asking(shared, "a", look), asking(shared, "a", look)
    await turns()
    first.cancel()
    await turns()
    look.may_end.set()
    assert await second == 1
    assert look.cancelled == 0


async def test_work_that_nobody_waits_for_is_cancelled() -> None:
    """At work and in line; who asks then gets work of their own."""
    shared, look = line(), Look()
    at_work = asking(shared, "a", look)
    await turns()
    in_line = asking(shared, "b", look)
    await turns()
    at_work.cancel()
    in_line.cancel()
    await asyncio.wait({at_work, in_line})
    again = asking(shared, "b", look)
    look.may_end.set()
    assert await again == 2
    assert look.cancelled == 1


async def test_work_that_fails_fails_for_all_who_shared_it_and_for_nobody_else() -> None:
    """Its place is free again."""
    shared = line()

    async def fails() -> int:
        raise Unavailable

    async def one() -> int:
        return 1

    results = await asyncio.gather(*(shared.get("a", fails) for _ in range(5)), return_exceptions=True)
    assert {type(result) for result in results} == {Unavailable}
    assert await shared.get("a", one) == 1


async def test_a_newcomer_finds_a_place_in_a_full_line_and_is_next() -> None:
    """However much somebody else has asked for."""
    shared, look = line(waiting=2), Look()
    noisy = [asking(shared, str(number), look) for number in range(10)]
    await turns()
    assert sum(task.done() for task in noisy) == 7
    quiet = asking(shared, "quiet", look, by="ben")
    look.may_end.set()
    assert await quiet == 2
    await asyncio.gather(*noisy, return_exceptions=True)


async def test_a_newcomer_who_asks_the_same_is_not_held_up_in_somebody_elses_line() -> None:
    """The work is done once, in the first turn that comes."""
    shared, look = line(), Look()
    noisy = [asking(shared, str(number), look) for number in range(10)]
    await turns()
    quiet = asking(shared, "9", look, by="ben")
    await turns()
    look.may_end.set()
    assert [await quiet, await noisy[9]] == [2, 2]
    assert sorted(await asyncio.gather(*noisy)) == list(range(1, 11))


async def test_whoever_is_not_admitted_is_refused_alone() -> None:
    """When the turn comes, each asker of the same work is asked for; it is done only if somebody is left."""
    shared, look = line(), Look()

    def refuse() -> None:
        raise TooManyRequests

    first = asking(shared, "a", look)
    await turns()
    nobody = [asking(shared, "b", look, admit=refuse) for _ in range(2)]
    mixed = [asking(shared, "c", look, admit=admit) for admit in (refuse, None, lambda: None)]
    await turns()
    look.may_end.set()
    results = await asyncio.gather(first, *nobody, *mixed, return_exceptions=True)
    assert [r if isinstance(r, int) else type(r) for r in results] == [1, *[TooManyRequests] * 3, 2, 2]
    assert look.begun == 2


# leaders


async def test_who_comes_meanwhile_follows_the_first() -> None:
    """However far the first has come."""
    leaders, look = Leaders[int](), Look()

    async def follow(led: int) -> int:
        return led + 100

    asked = [asyncio.create_task(leaders.lead_or_follow("a", lead=look, follow=follow)) for _ in range(50)]
    await turns()
    look.may_end.set()
    assert sorted(await asyncio.gather(*asked)) == [1] + [101] * 49
    assert await leaders.lead_or_follow("a", lead=look, follow=follow) == 2


@pytest.mark.parametrize("leaves", [True, False])
async def test_when_the_first_fails_the_next_one_leads(leaves: bool) -> None:
    """A refusal is the leader's own, and so is a broken connection."""
    leaders, look = Leaders[int](), Look()
    begun = asyncio.Event()

    async def fails() -> int:
        begun.set()
        await asyncio.sleep(0) if not leaves else await asyncio.Event().wait()
        raise Unavailable

    async def follow(led: int) -> int:
        return led + 100

    first = asyncio.create_task(leaders.lead_or_follow("a", lead=fails, follow=follow))
    await begun.wait()
    others = [asyncio.create_task(leaders.lead_or_follow("a", lead=look, follow=follow)) for _ in range(5)]
    if leaves:
        first.cancel()
    await asyncio.wait({first})
    look.may_end.set()
    assert sorted(await asyncio.gather(*others)) == [1] + [101] * 4
    assert look.begun == 1
