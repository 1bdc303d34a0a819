"""Another user of this machine who knows where the embedded servers are: run by root, by `test_strangers.py`.

    stranger.py UID GID POSTGRES_URL VALKEY_SOCKET NATS_HOST_AND_PORT

Prints one JSON object: for each server "refused", or what it let a stranger have.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

import nats
import nats.errors
import psycopg


async def postgres(url: str) -> str:
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
        row = await (await connection.execute("SELECT current_user")).fetchone()
        return str(row)


async def valkey(socket: str) -> str:
    _, writer = await asyncio.open_unix_connection(socket)
    writer.close()
    return "connected"


async def broker(address: str) -> str:
    for user in ("", "refdesk@", "system@", "guessed@"):
        client = await nats.connect(
            f"nats://{user}{address}", allow_reconnect=False, connect_timeout=5, error_cb=_quiet
        )
        await client.close()
    return "connected"


async def _quiet(_: Exception) -> None:
    """The refusal is raised, too."""


async def outcome(attempt: Callable[[str], Awaitable[str]], where: str) -> str:
    try:
        return await attempt(where)
    except (psycopg.OperationalError, nats.errors.Error, OSError):
        return "refused"


async def main(uid: int, gid: int, *places: str) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    attempts = {"postgres": postgres, "valkey": valkey, "nats": broker}
    found = {
        name: await outcome(attempt, where) for (name, attempt), where in zip(attempts.items(), places, strict=True)
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
