"""Calls by aiohttp on connections that are kept: a server may close one just when the next call is sent on it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

Answer = TypeVar("Answer")


async def once_more(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """What the call brings; of a second one, where the connection of the first ended without an answer.

    For calls that may be carried out twice. Raises what the last one raises.
    """
    try:
        return await call()
    except aiohttp.ClientConnectorError:  # there was no connection
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError, aiohttp.ClientOSError):
        return await call()
