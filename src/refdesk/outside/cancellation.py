"""A task that is told to end ends: Python 3.12's `asyncio.wait_for`, for Python 3.11.

Python 3.11's forgets a cancellation that comes in the moment in which what it waits for is done (python/cpython#86296). The
clients of NATS, Valkey and PostgreSQL use it, so that a service which is told to end might wait for ever for one of its tasks.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


def heed_cancellation() -> None:
    """For every library in this process, from now on."""
    if sys.version_info < (3, 12):
        asyncio.wait_for = _wait_for  # type: ignore[assignment]  # of generators it is never asked


async def _wait_for(fut: Awaitable[T], timeout: float | None) -> T:
    """As `asyncio.wait_for` of Python 3.12: raises TimeoutError, and ends what it waits for, after so many seconds."""
    if timeout is not None and timeout <= 0:
        waited_for = asyncio.ensure_future(fut)
        if not waited_for.done():
            waited_for.cancel()
            await asyncio.wait([waited_for])
        try:
            return waited_for.result()
        except asyncio.CancelledError as error:
            raise TimeoutError from error
    async with asyncio.timeout(timeout):
        return await fut
