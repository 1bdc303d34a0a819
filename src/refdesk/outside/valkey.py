"""Valkey (or Redis): one client per process, and nothing that depends on it for being right.

Every answer needs it several times, so the commands of all of them share one connection (docs/adr/0013): what is said in one turn
of the event loop leaves in one write, and replies come in the order of the commands.

Whoever uses it decides what its absence means and says so there; ``ValkeyError`` is the one thing to catch.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import RedisError as ValkeyError
from redis.exceptions import TimeoutError as NoReply

from refdesk.contracts.errors import ConfigurationError

__all__ = ["Script", "Valkey", "ValkeyError", "open_valkey"]

CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 2.0
LAST_LOOK_S = 0.05
"""For a process that was itself held up to read what has come meanwhile."""

Word = str | bytes | int | float
Command = Sequence[Word]
"""The name of a command, then its arguments."""


class Valkey:
    """Every command raises ValkeyError when it is refused, or not answered within 2 s.

    A command whose connection broke is not sent again, since it may have been carried out; the next one opens a new
    connection. Whoever stops waiting for a reply does not take the command back.
    """

    def __init__(self, pool: ConnectionPool, *, name: str) -> None:
        self.redis: Redis = Redis.from_pool(pool)
        """redis-py's client, for subscriptions."""
        self._shared = _Link(pool.make_connection(), name=name)  # type: ignore[no-untyped-call]
        self._patient = _Link(pool.make_connection(), name=name)  # type: ignore[no-untyped-call]

    async def command(self, *words: Word) -> Any:
        """The reply: bytes, int, None, or a list of those."""
        return (await self._shared.commands([words]))[0]

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The replies of several commands that are sent together; raises the first error once all are answered."""
        return await self._shared.commands(commands) if commands else []

    async def patient_command(self, *words: Word) -> Any:
        """The same for a command that waits on the server, for less than 2 s: on the shared connection all would wait."""
        return (await self._patient.commands([words]))[0]

    async def close(self) -> None:
        self._shared.close()
        self._patient.close()
        await self.redis.aclose()


class _Link:
    """A connection that is opened when it is needed."""

    def __init__(self, address: AbstractConnection, *, name: str) -> None:
        self._address = address
        self._name = name
        self._line: _Line | None = None
        self._opening = asyncio.Lock()
        self._failed_at = float("-inf")

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        line = self._line
        if line is None or line.is_closed:
            line = await self._opened()
        return await line.send(commands)

    def close(self) -> None:
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
                raise ConnectionBroken("Valkey could not be reached a moment ago.")
            try:
                self._line = await self._open(loop)
            except ValkeyError:
                self._failed_at = loop.time()
                raise
            return self._line

    async def _open(self, loop: asyncio.AbstractEventLoop) -> "_Line":
        line = _Line(loop)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._dial(line, loop)
                await line.send(self._greeting())
        except BaseException as error:
            line.close(ConnectionBroken("Valkey could not be reached."))
            if isinstance(error, TimeoutError):
                raise NoReply(f"Valkey did not answer within {CONNECT_TIMEOUT_S:g} s.") from error
            if isinstance(error, OSError):
                raise ConnectionBroken(f"Valkey cannot be reached: {error}.") from error
            raise
        return line

    async def _dial(self, line: "_Line", loop: asyncio.AbstractEventLoop) -> None:
        match self._address:
            case UnixDomainSocketConnection(path=path):
                await loop.create_unix_connection(lambda: line, path)
            case SSLConnection(host=host, port=port, ssl_context=tls):
                await loop.create_connection(lambda: line, host, port, ssl=tls.get())
            case Connection(host=host, port=port):
                await loop.create_connection(lambda: line, host, port)

    def _greeting(self) -> list[Command]:
        """Who we are, and which database we mean."""
        address = self._address
        user = [address.username] if address.username else []
        return [
            *([("AUTH", *user, address.password)] if address.password else []),
            ("CLIENT", "SETNAME", self._name),
            *([("SELECT", address.db)] if address.db else []),
        ]


class Script:
    """A Lua script, sent by its name once the server knows it."""

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


class _Call:
    """Commands sent together, and their replies as they come in."""

    __slots__ = ("error", "expected", "future", "replies", "sent_at")

    def __init__(self, expected: int, *, future: asyncio.Future[list[Any]], sent_at: float) -> None:
        self.expected = expected
        self.future = future
        self.sent_at = sent_at
        self.replies: list[Any] = []
        self.error: ValkeyError | None = None

    def take(self, reply: Any) -> bool:
        """Whether this was the last one."""
        if isinstance(reply, hiredis.ReplyError):
            self.error = self.error or _refusal(str(reply))
        self.replies.append(reply)
        return len(self.replies) == self.expected

    def end(self, error: ValkeyError | None = None) -> None:
        if self.future.done():
            return  # nobody waits any more
        if (failure := error or self.error) is not None:
            self.future.set_exception(type(failure)(*failure.args))
        else:
            self.future.set_result(self.replies)


class _Line(asyncio.Protocol):
    """One connection. It is closed as a whole when its oldest command has waited too long."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_closed = False
        self._loop = loop
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
            self._timer = self._loop.call_later(COMMAND_TIMEOUT_S, self._look, None)
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
        left_s = oldest.sent_at + COMMAND_TIMEOUT_S - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look, None)
        elif oldest is not overdue:
            self._timer = self._loop.call_later(LAST_LOOK_S, self._look, oldest)
        else:
            self.close(NoReply(f"Valkey did not answer within {COMMAND_TIMEOUT_S:g} s."))

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


def _refusal(message: str) -> ValkeyError:
    return (NoScriptError if message.startswith("NOSCRIPT") else ResponseError)(message)


@asynccontextmanager
async def open_valkey(url: str, *, name: str) -> AsyncIterator[Valkey]:
    """``url``: ``redis://``, ``rediss://`` or ``unix://``, with redis-py's options. Raises ConfigurationError for another."""
    try:
        pool = ConnectionPool.from_url(
            url,
            client_name=name,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=COMMAND_TIMEOUT_S,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionBroken,)),
        )
    except ValueError as error:
        raise ConfigurationError(
            f"REFDESK_VALKEY_URL is not an address: {error}. Give one such as redis://host:6379."
        ) from error
    valkey = Valkey(pool, name=name)
    try:
        yield valkey
    finally:
        await valkey.close()
