"""HTTP/1.1 to one address, for the calls that every answer makes: what one network read brings is handed on at once.

A general client costs more per read than all that is then done with it (docs/adr/0009). This one keeps connections alive,
checks certificates, and takes bodies in chunks, by length or up to the end of the connection; llhttp parses.

What it does not do: redirects, cookies, compression, credentials in the address, HTTP/2.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import cast
from urllib.parse import urlsplit

import httptools

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.http_proxy import PORTS, Proxy

KEEP_ALIVE_S = 15.0
"""How long a connection that nobody uses is kept; common servers keep it for 20 s or more."""
READ_AHEAD_BYTES_MAX = 1 << 18
"""What may wait of a reply that is not read; beyond it the server has to."""

OnBytes = Callable[[bytes], bool]
"""Is given what has come, and says whether it wants more."""


class Unanswered(ConnectionError):
    """The connection was closed before anything of the reply had come."""


class Reply:
    """One reply as it comes in. Waiting raises OSError when the connection breaks, or what ``fail`` was given."""

    def __init__(self, connection: "Connection") -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        """By lower-case name."""
        self.complete = False
        self._began = False
        self._connection = connection
        self._loop = connection.loop
        self._parser = httptools.HttpResponseParser(self)
        self._has_head = False
        self._keeps_alive = False
        self._body: list[bytes] = []
        self._waiting_bytes = 0
        self._on_bytes: OnBytes | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Returns once the status and the headers are there."""
        while not self._has_head:
            await self._more()

    async def read(self) -> bytes:
        """What of the body has come since the last read, as soon as there is something; empty at the end."""
        while not self._body and not self.complete:
            await self._more()
        return self._drain()

    async def each(self, on_bytes: OnBytes) -> None:
        """Gives ``on_bytes`` what each network read brings of the body, until its end or until it wants no more.

        It is called from where the bytes come in: nothing waits for a turn of the event loop. What it raises is raised here.
        """
        self._on_bytes = on_bytes
        self._hand_over()
        while self._on_bytes is not None and not self.complete:
            await self._more()
        if self._error is not None:
            raise self._error

    async def read_all(self) -> bytes:
        """The whole body, of whatever length: for those whom we trust."""
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)

    def fail(self, error: Exception) -> None:
        """Whoever waits for more of this reply waits no longer."""
        self._error = self._error or error
        self._wake()

    def close(self) -> None:
        """Keeps the connection for the next exchange; before the reply is complete, closes it: the other side stops."""
        if self._keeps_alive and self._error is None and not self._connection.transport.is_closing():
            self._connection.rest()
        else:
            self._connection.transport.abort()

    def _hand_over(self) -> None:
        """What has come goes to whoever takes each piece at once."""
        if self._on_bytes is None or not self._body:
            return
        try:
            if not self._on_bytes(self._drain()):
                self._on_bytes = None
        except Exception as error:  # noqa: BLE001 (raised where it is waited for)
            self._on_bytes = None
            self.fail(error)

    def _drain(self) -> bytes:
        """What has come; the server may send on."""
        data, self._body = b"".join(self._body), []
        if self._waiting_bytes > READ_AHEAD_BYTES_MAX and not self._connection.transport.is_closing():
            self._connection.transport.resume_reading()
        self._waiting_bytes = 0
        return data

    def _more(self) -> asyncio.Future[None]:
        """Done when something has come or gone wrong."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # what the connection tells

    def feed(self, data: bytes) -> None:
        self._began = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(ConnectionError(f"what came is not HTTP: {error}"))
        if self._on_bytes is not None:
            self._hand_over()
            if self._on_bytes is not None and not self.complete:
                return  # nobody waits for anything else
        if self._waiting_bytes > READ_AHEAD_BYTES_MAX:
            self._connection.transport.pause_reading()
        self._wake()

    def end(self, error: Exception | None) -> None:
        """The connection is gone. That ends a body of which neither the length nor the chunks were announced."""
        open_end = self._has_head and not self.headers.keys() & {"content-length", "transfer-encoding"}
        if error is None and open_end:
            self.complete = True
            self._wake()
        elif not self._began:
            self.fail(Unanswered("the connection was closed without an answer"))
        elif not self.complete:
            self.fail(error or ConnectionResetError("the connection was closed before the reply was complete"))

    # what the parser tells

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= 200
        if not self._has_head:  # 103 Early Hints and the like; the reply proper follows
            self.headers.clear()

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._waiting_bytes += len(data)

    def on_message_complete(self) -> None:
        self.complete = self._has_head
        self._keeps_alive = self.complete and self._parser.should_keep_alive()


class Connection(asyncio.Protocol):
    """One connection, for one exchange after another; among the ``idle`` ones while it is not in use."""

    transport: asyncio.Transport

    def __init__(self, idle: dict["Connection", None], *, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._idle = idle
        self._reply: Reply | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def exchange(self, request: bytes) -> Reply:
        """The reply, once its head is there. Failing that, the connection is closed."""
        self._stop_expiry()
        reply = self._reply = Reply(self)
        self.transport.write(request)
        try:
            await reply.head()
        except BaseException:
            self.transport.abort()
            raise
        return reply

    def rest(self) -> None:
        """Not in use for now; it closes unless that changes soon."""
        self._idle[self] = None
        self._expiry = self.loop.call_later(KEEP_ALIVE_S, self.transport.close)

    def _stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    # what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reply is None or self._reply.complete:
            self.transport.abort()  # nobody has asked for anything
        else:
            self._reply.feed(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_expiry()
        self._idle.pop(self, None)
        if self._reply is not None:
            self._reply.end(error)


class HttpClient:
    """Calls to one address (``https://models.example:8443/v1``), each on a connection of its own while it lasts."""

    def __init__(self, url: str, *, proxy: Proxy | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in PORTS or parts.hostname is None:
            raise ConfigurationError(
                f"{url!r} is not the address of a service: it must begin with http:// or https://."
            )
        self.url = url.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._host, self._port = self.server = parts.hostname, parts.port or PORTS[parts.scheme]
        self._authority = parts.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._proxy = proxy
        self._idle: dict[Connection, None] = {}
        """In the order in which they came to rest."""

    async def post(self, path: str, body: bytes, *, headers: Mapping[str, str], connect_s: float) -> Reply:
        """The reply, once its head is there; to be closed. ``path`` continues the client's address.

        Raises TimeoutError when no connection is made within ``connect_s``, and other kinds of OSError when it cannot be
        made or breaks. A kept connection that the server has closed meanwhile, as servers do, is replaced by a new one.
        """
        return await self._exchange(self._request("POST", path, body, headers), connect_s=connect_s)

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None, connect_s: float) -> Reply:
        """As `post`."""
        return await self._exchange(self._request("GET", path, b"", headers or {}), connect_s=connect_s)

    def close(self) -> None:
        """Closes the connections that are not in use."""
        for connection in self._idle:
            connection.transport.close()

    async def _exchange(self, request: bytes, *, connect_s: float) -> Reply:
        if self._idle:
            connection, _ = self._idle.popitem()
            with suppress(Unanswered):
                return await connection.exchange(request)
        connection = await self._connect(connect_s)
        return await connection.exchange(request)

    async def _connect(self, connect_s: float) -> Connection:
        async with asyncio.timeout(connect_s):
            if self._proxy is None:
                return await self._connect_to(self._host, self._port, self._tls)
            secure = ssl.create_default_context() if self._proxy.secure else None
            connection = await self._connect_to(self._proxy.host, self._proxy.port, secure)
            return connection if self._tls is None else await self._tunnel(connection, self._proxy, self._tls)

    async def _connect_to(self, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._idle, loop=loop), host, port, ssl=tls)
        return connection

    async def _tunnel(self, outer: Connection, proxy: Proxy, tls: ssl.SSLContext) -> Connection:
        """A connection in TLS through one to the proxy."""
        target = f"{self._host}:{self._port}" if ":" not in self._host else f"[{self._host}]:{self._port}"
        try:
            reply = await outer.exchange(_message(f"CONNECT {target}", {"Host": target, **proxy.headers}))
            if reply.status != 200:
                raise ConnectionRefusedError(f"the proxy {proxy.shown} answered {reply.status} to CONNECT {target}")
            loop, inner = outer.loop, Connection(self._idle, loop=outer.loop)
            transport = await loop.start_tls(outer.transport, inner, tls, server_hostname=self._host)
        except BaseException:
            outer.transport.abort()
            raise
        if transport is None:
            raise ConnectionResetError(f"the proxy {proxy.shown} closed the connection")
        inner.connection_made(transport)
        return inner

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        target = f"{self._path}{path}"
        fields = {"Host": self._authority, **headers, "Content-Length": str(len(body))}
        if self._proxy is not None and self._tls is None:
            target, fields = f"http://{self._authority}{target}", {**fields, **self._proxy.headers}
        return _message(f"{method} {target}", fields) + body


def _message(call: str, fields: Mapping[str, str]) -> bytes:
    lines = [f"{call} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@asynccontextmanager
async def open_http_client(url: str, *, proxy: Proxy | None = None) -> AsyncIterator[HttpClient]:
    """Raises ConfigurationError when that is not an address."""
    client = HttpClient(url, proxy=proxy)
    try:
        yield client
    finally:
        client.close()
        await asyncio.sleep(0)  # the event loop closes them when its turn comes
