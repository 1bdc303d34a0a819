"""Valkey (or Redis): one client per process, and nothing that depends on it for being right.

Every answer needs it several times, so the commands of all of them share one connection (docs/adr/0013). It may be one server,
the primary that Sentinels name, or a cluster (docs/adr/0027): all behind one small port, ``Server``.

Whoever uses it decides what its absence means and says so there; ``ValkeyError`` is the one thing to catch. That it is away is
found out once, not by every question anew (``health``).
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from refdesk.outside.valkey.errors import ConnectionBroken, NoScriptError, ValkeyError
from refdesk.outside.valkey.forms import open_server
from refdesk.outside.valkey.health import Health, ValkeyState
from refdesk.outside.valkey.lines import Command, Word, first_error
from refdesk.outside.valkey.servers import Position, Server

__all__ = ["Command", "Script", "Valkey", "ValkeyError", "ValkeyState", "Word", "open_valkey"]

TIMEOUT_S = 0.5


class Valkey:
    """Every command raises ValkeyError when it is refused or not answered in time, and at once while Valkey is away.

    Whoever stops waiting for a reply does not take the command back.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.health = Health(server.probe)

    @property
    def state(self) -> ValkeyState:
        """Whether it is well, since when, and what is wrong."""
        return self.health.state

    async def command(self, *words: Word) -> Any:
        """The reply: bytes, int, None, or a list of those."""
        return (await self.commands([words]))[0]

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The replies of several commands that are sent together; raises the first error once all are answered."""
        if not commands:
            return []
        self.health.check()
        try:
            return first_error(await self._server.replies(commands))
        except ValkeyError as error:
            self.health.note(error)
            raise

    async def streams(self, positions: Sequence[Position], *, block_ms: int | None = None) -> list[Any]:
        """What streams hold after these positions (key, id), as XREAD tells it; waits for ``block_ms`` while there is nothing."""
        self.health.check()
        try:
            return await self._server.streams(positions, block_ms=block_ms)
        except ValkeyError as error:
            self.health.note(error)
            raise

    async def everywhere(self, *words: Word) -> dict[str, Any]:
        """What each server that takes writes says to a command without a key, by its name.

        Raises ValkeyError, and changes nothing about the state: what only some may ask says nothing of whether Valkey works.
        """
        self.health.check()
        return await self._server.everywhere(words)

    async def probe(self) -> None:
        """Writes something; raises ValkeyError when that is not possible."""
        await self._server.probe()

    async def messages(self, channel: str) -> AsyncGenerator[bytes, None]:
        """What is published there from now on; raises ValkeyError when that cannot be heard any more."""
        try:
            async with aclosing(self._server.messages(channel)) as messages:
                async for message in messages:
                    yield message
        except RuntimeError as error:  # uvloop's, of a connection that was reset before the first word on it
            raise ConnectionBroken from error


class Script:
    """A Lua script, sent by its name once the server knows it. All its keys have one hash tag: ``{…}``."""

    def __init__(self, valkey: Valkey, text: str) -> None:
        self._valkey = valkey
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], values: Sequence[Word]) -> Any:
        return (await self.each([(keys, values)]))[0]

    async def each(self, calls: Sequence[tuple[Sequence[str], Sequence[Word]]]) -> list[Any]:
        """One reply for each (keys, values), run in their order; some may run twice where the server is told the script."""
        rest = [(len(keys), *keys, *values) for keys, values in calls]
        with suppress(NoScriptError):
            return await self._valkey.commands([("EVALSHA", self._digest, *words) for words in rest])
        return await self._valkey.commands([("EVAL", self._text, *words) for words in rest])


@asynccontextmanager
async def open_valkey(url: str, *, name: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Valkey]:
    """``url``: see ``forms``. ``timeout_s``: how long a reply, or opening a connection, may take."""
    async with open_server(url, name=name, timeout_s=timeout_s) as server:
        valkey = Valkey(server)
        probing = asyncio.create_task(valkey.health.run(), name="probe Valkey")
        try:
            yield valkey
        finally:
            probing.cancel()
            await asyncio.wait([probing])
