"""Connections to one Valkey server, each shared by all who use it (docs/adr/0013).

What is said in one turn of the event loop leaves in one write, and replies come in the order of the commands. A command whose
connection broke is not sent again, since it may have been carried out; the next one opens a new connection.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection

from refdesk.outside.valkey.errors import ConnectionBroken, NoReply, Unreachable, ValkeyError, refusal

LAST_LOOK_S = 0.05
"""For a process that was itself held up to read what has come meanwhile."""

Word = str | bytes | int | float
Command = Sequence[Word]
"""The name of a command, then its arguments."""
Where = Callable[[], Awaitable[AbstractConnection]]
"""Looks up where the server is now, and how to greet it."""


class Link:
    """A connection that is opened when it is needed. Opening it may take ``timeout_s``, and so may each reply."""

    def __init__(self, where: Where, *, name: str, timeout_s: float) -> None:
        self._where = where
        self._name = name
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._opening = asyncio.Lock()
        self._failed_at = float("-inf")

    async def replies(self, commands: Sequence[Command]) -> list[Any]:
        """A reply to each; what is refused, as the error. Raises ValkeyError when they do not all come."""
        line = self._line
        if line is None or line.is_closed:
            line = await self._opened()
        return await line.send(commands)

    async def renew(self, probe: Sequence[Command]) -> None:
        """Opens a new connection and takes it for the old one if all of the probe is done; raises ValkeyError if not."""
        line = await self._open(asyncio.get_running_loop())
        try:
            first_error(await line.send(probe))
        except BaseException:
            line.close(ConnectionBroken("The probe failed."))
            raise
        self.close()
        self._line = line

    def close(self) -> None:
        """The next command opens it again."""
        if self._line is not None:
            self._line.close(ConnectionBroken("The connection to Valkey was closed."))

    async def _opened(self) -> "_Line":
        """One tries for all who want the connection at the same time; when that fails, it fails for all of them."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self._opening:
            if self._line is not None and not self._line.is_closed:
                return self._line
            if self._failed_at >= began:
                raise Unreachable("Valkey could not be reached a moment ago.")
            try:
                self._line = await self._open(loop)
            except ValkeyError:
                self._failed_at = loop.time()
                raise
            return self._line

    async def _open(self, loop: asyncio.AbstractEventLoop) -> "_Line":
        line = _Line(loop, timeout_s=self._timeout_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                address = await self._where()
                await _dial(address, line, loop)
                first_error(await line.send(self._greeting(address)))
        except BaseException as error:
            line.close(ConnectionBroken("Valkey could not be reached."))
            if isinstance(error, TimeoutError):
                raise NoReply(f"Valkey did not answer within {self._timeout_s:g} s.") from error
            if isinstance(error, OSError | ConnectionBroken):
                raise Unreachable(f"Valkey cannot be reached: {error}.") from error
            raise
        return line

    def _greeting(self, address: AbstractConnection) -> list[Command]:
        """Who we are, and which database we mean."""
        user = [address.username] if address.username else []
        return [
            *([("AUTH", *user, address.password)] if address.password else []),
            ("CLIENT", "SETNAME", self._name),
            *([("SELECT", address.db)] if address.db else []),
        ]


def first_error(replies: list[Any]) -> list[Any]:
    """The replies, if none of them is an error; else raises the first."""
    for reply in replies:
        if isinstance(reply, ValkeyError):
            raise reply
    return replies


async def _dial(address: AbstractConnection, line: "_Line", loop: asyncio.AbstractEventLoop) -> None:
    match address:
        case UnixDomainSocketConnection(path=path):
            await loop.create_unix_connection(lambda: line, path)
        case SSLConnection(host=host, port=port, ssl_context=tls):
            await loop.create_connection(lambda: line, host, port, ssl=tls.get())
        case Connection(host=host, port=port):
            await loop.create_connection(lambda: line, host, port)


class _Call:
    """Commands sent together, and their replies as they come in."""

    __slots__ = ("error", "expected", "future", "replies", "sent_at")

    def __init__(self, expected: int, *, future: asyncio.Future[list[Any]], sent_at: float) -> None:
        self.expected = expected
        self.future = future
        self.sent_at = sent_at
        self.replies: list[Any] = []

    def take(self, reply: Any) -> bool:
        """Whether this was the last one."""
        self.replies.append(refusal(str(reply)) if isinstance(reply, hiredis.ReplyError) else reply)
        return len(self.replies) == self.expected

    def end(self, error: ValkeyError | None = None) -> None:
        if self.future.done():
            return  # nobody waits any more
        if error is not None:
            self.future.set_exception(type(error)(*error.args))
        else:
            self.future.set_result(self.replies)


class _Line(asyncio.Protocol):
    """One connection. It is closed as a whole when its oldest command has waited too long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, timeout_s: float) -> None:
        self.is_closed = False
        self._loop = loop
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._awaited: deque[_Call] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """To be sent when this turn of the event loop ends, together with what else is said in it."""
        if not self._unsent:
            self._loop.call_soon(self._write)
        self._unsent += [hiredis.pack_command(tuple(words)) for words in commands]  # type: ignore[arg-type]
        call = _Call(len(commands), future=self._loop.create_future(), sent_at=self._loop.time())
        self._awaited.append(call)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look, None)
        return call.future

    def close(self, error: ValkeyError) -> None:
        """Whoever waits for a reply gets the error. Closing twice is harmless."""
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        while self._awaited:
            self._awaited.popleft().end(error)

    def _write(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.is_closed:
            self._transport.write(b"".join(unsent))

    def _look(self, overdue: _Call | None) -> None:
        """One timer for all commands: it goes off when the oldest of them has, or might have, waited too long.

        Who is overdue is given a last look: it may be us who were held up, with the reply there to be read.
        """
        self._timer = None
        if not self._awaited:
            return
        oldest = self._awaited[0]
        left_s = oldest.sent_at + self._timeout_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look, None)
        elif oldest is not overdue:
            self._timer = self._loop.call_later(LAST_LOOK_S, self._look, oldest)
        else:
            self.close(NoReply(f"Valkey did not answer within {self._timeout_s:g} s."))

    # what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if self._awaited[0].take(reply):
                    self._awaited.popleft().end()
        except (hiredis.ProtocolError, IndexError):
            self.close(ConnectionBroken("What came from Valkey is no reply."))

    def connection_lost(self, error: Exception | None) -> None:
        self.close(ConnectionBroken(f"The connection to Valkey broke: {error or 'it was closed by the server'}."))
