"""The connections of one server: how many, from where, how long they may take, and how much may come before a request.

uvicorn bounds none of this for the parser we use. So its two protocols are extended here, and nowhere else: this module
is the only one that leans on uvicorn's inside (``tests/unit/test_connections.py`` fails when that changes).

    accepted ──▶ WAITING for a head ──▶ busy with a request ──▶ WAITING (kept alive) ──▶ …
                    │    │                    │
        too late 408│    │too large 431       └─ upgraded: a WebSocket, until it ends
                    ▼    ▼
                  LEAVING: the refusal is sent; what still comes is read and dropped, for a short while

Whoever waits is in one ordered table, the longest first. One timer for all looks through it about once a second, only
while somebody waits; a connection that is busy, as one that streams an answer is, costs nothing. When there is no room,
the longest waiting connection makes it, so that idle or half-open ones never keep a client out. Where all are busy, a
small reserve still answers ``/health``, and refuses the rest.

Bytes are counted before they are parsed: never more than the bound of a head is given to the parser, so nothing larger is
ever kept. A refusal in the midst of an answer under way sends nothing: that answer is finished, and the connection ends.
"""

import asyncio
import math
from collections import Counter
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import SecurityError

from refdesk.access.clients import LOOPBACK, Address, Network, address_of, is_among, origin
from refdesk.contracts.errors import HeadersTooLarge, MalformedRequest, Overloaded, RefdeskError, RequestTooSlow
from refdesk.outside import telemetry
from refdesk.web.replies import refusal

LOOK_S_MAX = 1.0
"""Between two looks for who waits too long: how much later than its time a connection may leave."""
RESERVE = 16
"""Connections beyond the most, for questions after health."""
PIPELINED_MAX = 16
"""Requests that may wait on one connection for the answer to the one before; clients send none this way."""
HEALTH = b"/health/"


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one server. Seconds and bytes; ``trusted`` are networks whose addresses speak for many clients."""

    head_bytes_max: int = 32 * 1024
    """Request line and headers together; of a body, what comes beside its content: trailers, chunk extensions."""
    headers_max: int = 100
    head_s_max: float = 10.0
    keep_alive_s: float = 30.0
    leave_s: float = 5.0
    """How long what a refused client still sends is read: closing at once would reset the connection, and lose the refusal."""
    connections_max: int = 4000
    per_client_max: int = 400
    trusted: tuple[Network, ...] = LOOPBACK


class Connections:
    """All connections of one server, and those that wait for a request."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._count = 0
        self._of_client: Counter[str] = Counter()
        self._waiting: dict[HttpConnection, float] = {}
        """Until when, in the event loop's seconds; the longest waiting first."""
        self._look: asyncio.TimerHandle | None = None
        self._look_s = min(LOOK_S_MAX, limits.head_s_max / 4)

    @property
    def full(self) -> bool:
        return self._count > self.limits.connections_max

    def enter(self, client: str) -> None:
        self._count += 1
        self._of_client[client] += 1

    def leave(self, client: str) -> None:
        self._count -= 1
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]

    def refusal(self, connection: "HttpConnection") -> RefdeskError | None:
        """Why a connection that has just come cannot stay."""
        if self._of_client[connection.origin] > self.limits.per_client_max and not self._speaks_for_many(connection):
            return Overloaded(
                f"{self.limits.per_client_max} connections are open from your address, which is the limit "
                "(REFDESK_CONNECTIONS_PER_CLIENT_MAX). Close some.",
                retry_after_s=5,
            )
        while self.full and self._make_room_for(connection):
            pass
        if not self.full:
            return None
        connection.reserved = True
        return full() if self._count > self.limits.connections_max + RESERVE else None

    def wait(self, connection: "HttpConnection", seconds: float) -> None:
        """It waits from now on, and is expired after so long."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = connection.loop.time() + seconds
        if self._look is None:
            self._look = connection.loop.call_later(self._look_s, self._expire, connection.loop)

    def wait_no_more(self, connection: "HttpConnection") -> None:
        self._waiting.pop(connection, None)

    def _make_room_for(self, newcomer: "HttpConnection") -> bool:
        """Whether a waiting connection was closed for it."""
        for connection in self._waiting:
            if connection is not newcomer and not connection.answering:
                connection.make_room()
                return True
        return False

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in [connection for connection, until in self._waiting.items() if until <= now]:
            del self._waiting[connection]
            connection.expire()
        self._look = loop.call_later(self._look_s, self._expire, loop) if self._waiting else None

    def _speaks_for_many(self, connection: "HttpConnection") -> bool:
        return connection.address is None or is_among(connection.address, self.limits.trusted)


def full() -> Overloaded:
    return Overloaded(
        "All connections are in use (REFDESK_CONNECTIONS_MAX). Wait as long as Retry-After says.", retry_after_s=5
    )


class _Refused(Exception):
    """Stops the parser; ``error`` is what the client gets."""

    def __init__(self, error: RefdeskError) -> None:
        super().__init__(error)
        self.error = error


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection with its bounds."""

    def __init__(self, *, door: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._door = door
        self._limits = door.limits
        self._first = self._in_head = True
        """Whether no request has come in yet; whether what comes next is, or begins, a head."""
        self._begins_in_head = True
        """Whether the bytes now being read did, and no other head has come in with them."""
        self._begins_inside = False
        """Whether the head that is coming in began in the midst of such bytes."""
        self._head_bytes = 0
        """Of the head that is coming in, unless it began so."""
        self._headers_count = 0
        self._beside_bytes = 0
        """Of a body, what came since its last piece of content."""
        self._complete = True
        """Whether the last request has come in whole."""
        self._leaving = False
        self._counts = False
        self.reserved = False
        """Whether there is room for questions after health alone."""
        self.address: Address | None = None
        self.origin = ""

    # the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = address_of(self.client[0] if self.client else None)
        self.origin = origin(self.address)
        self._door.enter(self.origin)
        self._counts = True
        self._door.wait(self, self._limits.head_s_max)
        if (refusal := self._door.refusal(self)) is not None:
            telemetry.connections_refused.labels(refusal.code).inc()
            self._leaving = True
            self.transport.write(raw_response(refusal))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._left()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._left()
        super().handle_websocket_upgrade()

    def _left(self) -> None:
        """Counts no more, whether the transport is closed yet or not."""
        self._door.wait_no_more(self)
        if self._counts:
            self._counts = False
            self._door.leave(self.origin)

    @property
    def answering(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    # what comes in

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while data and not self._leaving and self.transport.get_protocol() is self:
            room = self._limits.head_bytes_max - self._head_bytes if self._in_head else len(data)
            if room == 0:
                self.refuse(self._too_large())
            else:
                self._take(data[:room])
                data = data[room:]

    def _take(self, piece: bytes) -> None:
        self._begins_in_head = self._in_head
        self._beside_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError as error:
            reason = error.__context__
            self.refuse(reason.error if isinstance(reason, _Refused) else MalformedRequest())
        else:
            if self._in_head and self._begins_in_head:
                self._head_bytes += len(piece)
            elif not self._in_head and self._beside_bytes > self._limits.head_bytes_max:
                self.refuse(self._too_large())

    # the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._complete = True, False
        self._begins_inside = not self._begins_in_head
        self._headers_count = 0
        if not self._first:
            self._door.wait(self, self._limits.head_s_max)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers_count += 1
        if self._headers_count > self._limits.headers_max:
            raise _Refused(
                HeadersTooLarge(
                    f"The request has more than {self._limits.headers_max} headers, which is the limit "
                    "(REFDESK_HEADERS_MAX). Send fewer.",
                    limit=self._limits.headers_max,
                )
            )
        if self._in_head:  # what comes after the body is nobody's
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.reserved and self._door.full and not self.url.startswith(HEALTH):
            raise _Refused(full())
        if len(self.pipeline) >= PIPELINED_MAX:
            raise _Refused(MalformedRequest("Too many requests wait on one connection. Read the answers first."))
        if self._begins_inside and self._head_size() > self._limits.head_bytes_max:
            raise _Refused(self._too_large())
        super().on_headers_complete()
        self._in_head = self._begins_in_head = self._first = False
        self._head_bytes = self._beside_bytes = self._headers_count = 0
        self._door.wait_no_more(self)

    def on_body(self, body: bytes) -> None:
        self._beside_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._complete = True, True
        super().on_message_complete()
        if not self.answering and self.cycle is not None:
            self._door.wait(self, self._limits.keep_alive_s)

    # what goes out

    def on_response_complete(self) -> None:
        super().on_response_complete()
        next_has_begun = self._in_head and not self._complete
        if not (self.transport.is_closing() or self.answering or next_has_begun):
            self._door.wait(self, self._limits.keep_alive_s if self._complete else self._limits.head_s_max)

    def refuse(self, error: RefdeskError) -> None:
        """Answer with the error, and leave; an answer that is under way to an earlier request is finished first."""
        self._leaving = True
        telemetry.connections_refused.labels(error.code).inc()
        if not self.answering:
            self._say_and_leave(error)
        elif self._in_head:
            self.cycle.keep_alive = False
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._say_and_leave(error)

    def _say_and_leave(self, error: RefdeskError) -> None:
        self.transport.write(raw_response(error, path=getattr(self, "url", b"").decode("latin-1")))
        self.transport.write_eof()
        self.flow.resume_reading()
        self._door.wait(self, self._limits.leave_s)

    def expire(self) -> None:
        """It has waited as long as it may. A client that has sent nothing gets no response."""
        if self._leaving:
            self.transport.abort()
        elif self._in_head and not self._complete:
            self.refuse(
                RequestTooSlow(
                    f"The request's headers took more than {self._limits.head_s_max:g} s (REFDESK_HEADERS_SECONDS_MAX). "
                    "Send them at once.",
                    limit=self._limits.head_s_max,
                )
            )
        else:
            self.transport.close()

    def make_room(self) -> None:
        """Closes, to make room for a new connection."""
        self._left()
        self.transport.close()

    def _head_size(self) -> int:
        """Of the head just read, at the least: for one that came in behind another request, and was not counted."""
        lines = sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)
        return len(self.parser.get_method() + self.url + b"  HTTP/1.1\r\n\r\n") + lines

    def _too_large(self) -> HeadersTooLarge:
        bytes_max = self._limits.head_bytes_max
        return HeadersTooLarge(
            f"The request line and headers have more than {bytes_max:,} bytes, which is the limit "
            "(REFDESK_HEADERS_BYTES_MAX). Send fewer or shorter headers.",
            limit=bytes_max,
        )


class SocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, counted, and refused when its handshake is none: uvicorn would wait for another for ever."""

    def __init__(self, *, door: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._door = door
        self._origin = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._origin = origin(address_of(self.client[0] if self.client else None))
        self._door.enter(self._origin)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.leave(self._origin)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            kind = HeadersTooLarge if isinstance(self.conn.handshake_exc, SecurityError) else MalformedRequest
            error = kind(f"This is no WebSocket handshake: {self.conn.handshake_exc}.")
            telemetry.connections_refused.labels(error.code).inc()
            self.transport.write(raw_response(error))
            self.transport.close()


def raw_response(error: RefdeskError, *, path: str = "") -> bytes:
    """The error as a whole HTTP response, after which the connection ends. ``path``: as far as it is known."""
    response = refusal(error, {"path": path})
    head = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode(), b"connection: close"]
    lines = [*head, *(b"%s: %s" % header for header in response.raw_headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)


def configuration(app: ASGIApp, limits: ConnectionLimits, **given: Any) -> uvicorn.Config:
    """uvicorn's, with these protocols."""
    door = Connections(limits)
    return uvicorn.Config(
        app,
        http=cast(Any, partial(HttpConnection, door=door)),
        ws=cast(Any, partial(SocketConnection, door=door)),
        timeout_keep_alive=math.ceil(limits.keep_alive_s),
        **given,
    )
