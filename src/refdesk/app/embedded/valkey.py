"""The embedded Valkey: a unix socket only, with an append-only file, as a cache that may forget what has a time to live.

`volatile-lru`: answer logs, fingerprints and rate windows all carry a time to live, and losing the least recently used of
them costs a regeneration. Whatever carries none is never evicted: when only that is left, writes fail loudly
instead of a budget silently starting again from zero. `everysec` may lose one second at power loss, none at kill -9.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from refdesk.app.embedded.children import Child
from refdesk.app.embedded.processes import Program

PROBE_TIMEOUT_S = 2.0
START_TIMEOUT_S = 120.0
SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "logfile": '""',
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory": "128mb",
    "maxmemory-policy": "volatile-lru",
    "auto-aof-rewrite-min-size": "16mb",
}


@dataclass(frozen=True, kw_only=True)
class ValkeyPlace:
    """Where one embedded Valkey lives: its directory, its binary, and its socket in a directory of its own."""

    directory: Path
    binary: Path
    socket: Path

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"


def valkey_child(place: ValkeyPlace) -> Child:
    settings_path = place.directory / "valkey.conf"

    async def prepare() -> None:
        settings = SETTINGS | {"dir": _quoted(place.directory), "unixsocket": _quoted(place.socket)}
        lines = (f"{name} {value}\n" for name, value in settings.items())
        settings_path.write_text("".join(lines), encoding="utf-8")

    return Child(
        program=Program(
            name="valkey",
            command=(str(place.binary), str(settings_path)),
            working_directory=place.directory,
        ),
        healthy=lambda: answers(place.socket),
        prepare=prepare,
        start_timeout_s=START_TIMEOUT_S,
    )


async def answers(path: Path) -> bool:
    """True when the server on this socket answers PING, which it refuses while it is still loading."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except OSError:
        return False


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
