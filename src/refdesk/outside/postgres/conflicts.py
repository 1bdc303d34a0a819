"""Doing a transaction anew that lost to another."""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from refdesk.contracts.errors import TransactionConflict

CONFLICTS_MAX = 3
"""How often it is done anew."""
PAUSE_S_MAX = 0.05

T = TypeVar("T")
Arguments = ParamSpec("Arguments")


def repeated(work: Callable[Arguments, Awaitable[T]]) -> Callable[Arguments, Awaitable[T]]:
    """Do it anew when PostgreSQL ended its transaction for another's sake (deadlock, serialization): nothing of it was kept."""

    @functools.wraps(work)
    async def done(*args: Arguments.args, **kwargs: Arguments.kwargs) -> T:
        for _ in range(CONFLICTS_MAX):
            try:
                return await work(*args, **kwargs)
            except TransactionConflict:
                await asyncio.sleep(random.uniform(0, PAUSE_S_MAX))  # noqa: S311  not a secret
        return await work(*args, **kwargs)

    return done
