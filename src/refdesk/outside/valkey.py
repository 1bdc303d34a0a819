"""Valkey (or Redis): one client per process, and nothing that depends on it for being right.

Whoever uses it decides what its absence means and says so there; ``ValkeyError`` is the one thing to catch.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import RedisError as ValkeyError

__all__ = ["Valkey", "ValkeyError", "open_valkey"]

Valkey = Redis

CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 2.0
CONNECTIONS_MAX = 16
"""Whoever finds them all busy waits for one: an error would let a burst of questions past the budgets, and so would a burst of
connections that a busy process cannot all open in time. A command takes well under a millisecond."""


@asynccontextmanager
async def open_valkey(url: str, *, name: str) -> AsyncIterator[Valkey]:
    """A client that connects on use. ``url``: ``redis://``, ``rediss://`` or ``unix://``; commands time out after 2 s.

    A connection that broke is opened anew for the command; one that timed out is not waited for again.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        timeout=COMMAND_TIMEOUT_S,
        client_name=name,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=COMMAND_TIMEOUT_S,
        health_check_interval=15,
        max_connections=CONNECTIONS_MAX,
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionBroken,)),
    )
    client: Valkey = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()
