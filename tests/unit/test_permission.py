"""What holds a permission ends with it."""

import asyncio

import pytest

from refdesk.access.permission import STANDING, Permission, is_withdrawn
from refdesk.contracts.errors import AccessChanged, Unauthenticated


async def test_a_hold_lasts_as_long_as_its_work() -> None:
    """Work that ends by itself is left alone, and its errors are its own."""
    permission = Permission()
    async with permission.held():
        assert permission.is_held
    assert not permission.is_held
    with pytest.raises(TimeoutError, match="its own"):
        async with permission.held():
            raise TimeoutError("its own")


async def test_withdrawing_ends_every_hold_and_says_why() -> None:
    """Wherever it waits; each gets an error of its own."""
    permission, holding = Permission(), asyncio.Semaphore(0)

    async def hold() -> None:
        async with permission.held():
            holding.release()
            await asyncio.Event().wait()

    holders = [asyncio.create_task(hold()) for _ in range(3)]
    for _ in holders:
        await holding.acquire()
    permission.withdraw(Unauthenticated("gone"))
    permission.withdraw(AccessChanged())
    errors = await asyncio.gather(*holders, return_exceptions=True)
    assert [(type(error), str(error)) for error in errors] == [(Unauthenticated, "gone")] * 3
    assert len({id(error) for error in errors}) == 3
    assert not permission.is_held


async def test_nothing_is_begun_without_it() -> None:
    """A hold that comes too late does not run."""
    permission = Permission()
    permission.withdraw(Unauthenticated())
    with pytest.raises(Unauthenticated):
        async with permission.held():
            pytest.fail("it ran")


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    """Also when it comes together with the withdrawal."""
    permission, holding = Permission(), asyncio.Event()

    async def hold() -> None:
        async with permission.held():
            holding.set()
            await asyncio.Event().wait()

    for withdrawn in (False, True):
        task = asyncio.create_task(hold())
        await holding.wait()
        holding.clear()
        if withdrawn:
            permission.withdraw(Unauthenticated())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_work_that_ends_as_the_permission_does_has_ended() -> None:
    """What was done before the cancellation came is not called undone."""
    permission = Permission()
    async with permission.held():
        permission.withdraw(Unauthenticated())
    await asyncio.sleep(0)


async def test_what_nobody_withdraws_is_held_without_a_trace() -> None:
    """Nothing is kept for it, and what happens inside is the block's own."""
    async with STANDING.held():
        assert not STANDING.is_held
        assert not is_withdrawn()
    with pytest.raises(TimeoutError, match="its own"):
        async with STANDING.held():
            raise TimeoutError("its own")
