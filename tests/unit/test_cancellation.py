"""A task that is cancelled ends, whatever has just come of what it waits for."""

import asyncio

import pytest


@pytest.mark.parametrize("steps", range(4))
async def test_a_cancellation_that_comes_with_the_result_is_heeded(steps: int) -> None:
    """However many steps of the event loop later; Python 3.11's own `wait_for` forgets it within two."""
    result = asyncio.get_running_loop().create_future()

    async def waits() -> None:
        await asyncio.wait_for(_result_of(result), 60)
        await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    result.set_result(None)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done and task.cancelled()


async def _result_of(future: "asyncio.Future[None]") -> None:
    await future


async def test_what_is_waited_for_is_returned_and_raised() -> None:
    """Of a coroutine, a future, and an error; without a limit, too."""
    future = asyncio.get_running_loop().create_future()
    future.set_result("there")
    assert await asyncio.wait_for(future, 1) == "there"
    assert await asyncio.wait_for(asyncio.sleep(0, "slept"), None) == "slept"
    assert await asyncio.wait_for(future, 0) == "there"
    with pytest.raises(KeyError):
        await asyncio.wait_for(_failing(), 1)


async def _failing() -> None:
    raise KeyError


@pytest.mark.parametrize("timeout", [-1, 0, 0.001])
async def test_what_takes_too_long_is_ended(timeout: float) -> None:
    """Before the error is raised."""
    task = asyncio.create_task(asyncio.Event().wait())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, timeout)
    assert task.cancelled()
