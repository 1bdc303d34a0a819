"""One connection to NATS that is watched, and never buffers.

The client library reconnects by itself; a connection that stays lost, or that the library gave up, is thrown away and
made anew. While it is down every operation raises ``Unavailable`` at once, and requests in flight fail the moment it
is lost: nothing is sent later than its caller believes.

In a cluster a request may go unanswered although all is well: nobody leads at that moment, the server is about to lose its
lead, or it is frozen or cut off from the others. So a request is repeated until its time is up; whatever is asked of NATS
here may be done twice. One without an answer casts doubt on the server: does it answer a ping? Another one is tried where it
does not, and where it does but has answered no request for a while.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from refdesk.contracts.errors import BodyTooLarge, Unavailable

logger = logging.getLogger(__name__)

API = "$JS.API"
API_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 10.0
RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 4  # three unanswered pings: a half-open link is seen within 12 s
PINGS_OUTSTANDING_MAX = 2
LOST_S_MAX = 10.0
"""How long the client library may try to reconnect before its connection is thrown away and made anew."""
WATCH_INTERVAL_S = 0.25

REPEATS_S = (1.0, 2.0)
"""Pauses after which an unanswered request is sent once more, within its time."""
PATIENCE_S, PATIENCE_S_MAX = 2, 16
"""How long a server may take to take a connection, and to answer a ping while it is in doubt; it has two pings, for it may be us
who stood still. Doubled with each server that is left: a machine on which all are slow gains nothing by changes."""
TRUSTED_AFTER_S = 30.0
"""A connection that has answered for so long makes up for those that were left."""
CUT_OFF_S = 8.0
"""A server that answers pings and, for so long, no request is left for another one of the cluster."""

REPLY_SHOWN_BYTES_MAX = 200
DISCOVERED_MAX = 16
"""Servers that are remembered beside those that were named."""

LOST = (nats.errors.Error, OSError, RuntimeError)
"""What the client library raises when the server is out of reach; the last is uvloop's word for a transport that is closed
already, which the library hands on."""

T = TypeVar("T")


class ApiError(msgspec.Struct):
    """The words of a refusal."""

    code: int
    err_code: int = 0
    description: str = ""


class _Failure(msgspec.Struct):
    error: ApiError | None = None


class Refused(Exception):
    """The JetStream API answered with an error; the cause of an Unavailable."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(f"{error.description} ({error.code}, {error.err_code})")
        self.error = error


class NoResponder(Unavailable):
    """Nothing at NATS answers this request."""


def error_code(error: Unavailable) -> int:
    """The JetStream ``err_code`` behind an Unavailable, or 0."""
    return error.__cause__.error.err_code if isinstance(error.__cause__, Refused) else 0


class Connection:
    """One connection to NATS. Every operation raises Unavailable when the server cannot be reached or refuses."""

    def __init__(self, url: str, *, name: str) -> None:
        self._servers = url.split(",")
        self._discovered: list[str] = []
        self._name = name
        self._client: Client | None = None
        self._changed = asyncio.Event()
        self._on_loss: set[Callable[[], None]] = set()
        self._deadlines: set[asyncio.Timeout] = set()
        self._last_error = ""
        self._unanswered_since: float | None = None
        self._patience_s = PATIENCE_S
        self._connected_at = 0.0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str, *, name: str, wait_s: float) -> AsyncIterator["Connection"]:
        """Connected for the length of the block; ``url`` may list servers, separated by commas.

        Waits ``wait_s`` for the first connection, then goes on without it: the server may come later.
        """
        connection = cls(url, name=name)
        watch = asyncio.create_task(connection._stay_connected())
        try:
            if not await connection.wait_connected(timeout_s=wait_s):
                logger.warning("NATS at %s does not answer yet; trying on", connection.address)
            yield connection
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            await connection._discard()

    @property
    def address(self) -> str:
        """The servers without their credentials."""
        return ", ".join(_uri(server).netloc.rpartition("@")[2] for server in self._servers)

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def wait_connected(self, *, timeout_s: float) -> bool:
        """Whether the connection stands within ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.connected:
                    await self._wait_for_change()
        except TimeoutError:
            return False
        return True

    async def api(self, call: str, kind: type[T], body: Any = None) -> T:
        """One JetStream API call. Raises Unavailable; a refusal says the server's words."""
        payload = b"" if body is None else msgspec.json.encode(body)
        return await self.call(f"{API}.{call}", payload, kind)

    async def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send without waiting for anything. Raises Unavailable when not connected."""
        client = self._connected_client()
        try:
            await client.publish(subject, payload, reply=reply)
        except LOST as error:
            raise self._unavailable(error) from error

    async def call(self, subject: str, payload: bytes, kind: type[T], *, headers: Mapping[str, str] | None = None) -> T:
        """One request whose reply is JSON, or an error of JetStream's. Raises Unavailable, also when it is neither."""
        reply = await self.request(subject, payload, headers=headers)
        try:
            failure = msgspec.json.decode(reply, type=_Failure).error
            if failure is None:
                return msgspec.json.decode(reply, type=kind)
        except msgspec.DecodeError as error:
            shown = reply[:REPLY_SHOWN_BYTES_MAX].decode(errors="replace")
            raise Unavailable(f"NATS at {self.address} gave no whole answer to {subject}: {error}: {shown}") from error
        refused = Refused(failure)
        raise Unavailable(f"NATS at {self.address} refused {subject}: {refused}.") from refused

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = API_TIMEOUT_S,
    ) -> bytes:
        """One request and its reply. Raises NoResponder (an Unavailable) when nobody listens."""
        client = self._connected_client()
        try:
            named = dict(headers) if headers else None
            async with self._deadline(timeout_s):
                reply = await self._insist(client, subject, payload, named)
        except nats.errors.NoRespondersError as error:
            raise NoResponder(f"Nothing at NATS {self.address} answers {subject}.") from error
        except nats.errors.MaxPayloadError as error:
            raise BodyTooLarge(
                f"A message of {len(payload):,} bytes for {subject} is larger than NATS takes.", actual=len(payload)
            ) from error
        except LOST as error:  # TimeoutError is an OSError
            raise self._unavailable(error) from error
        data: bytes = reply.data
        return data

    async def _insist(self, client: Client, subject: str, payload: bytes, headers: dict[str, str] | None) -> Msg:
        """The first reply; the request is repeated while there is none."""
        tries: set[asyncio.Task[Msg]] = set()
        try:
            for pause_s in (*REPEATS_S, None):
                # No timeout of the client's: its asyncio.wait_for loses a cancellation that meets the reply (Python 3.11).
                request = client.request(subject, payload, timeout=None, headers=headers)  # type: ignore[arg-type]
                tries.add(asyncio.create_task(request))
                replied, _ = await asyncio.wait(tries, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
                if replied:
                    self._trust()
                    return replied.pop().result()
                if self._unanswered_since is None:
                    self._unanswered_since = asyncio.get_running_loop().time()
                    self._notify()
        finally:
            for request_sent in tries:
                request_sent.cancel()
            await asyncio.gather(*tries, return_exceptions=True)
        raise AssertionError("the last wait has no end but a reply")

    def _trust(self) -> None:
        """It has answered."""
        self._unanswered_since = None
        if asyncio.get_running_loop().time() - self._connected_at > TRUSTED_AFTER_S:
            self._patience_s = PATIENCE_S

    @contextlib.asynccontextmanager
    async def _deadline(self, timeout_s: float) -> AsyncIterator[None]:
        """Raises TimeoutError after ``timeout_s``, or as soon as the connection is lost: no reply can come then."""
        async with asyncio.timeout(timeout_s) as deadline:
            self._deadlines.add(deadline)
            try:
                yield
            finally:
                self._deadlines.discard(deadline)

    def new_inbox(self) -> str:
        """A subject of our own, for replies. Raises Unavailable."""
        inbox: str = self._connected_client().new_inbox()
        return inbox

    @contextlib.asynccontextmanager
    async def subscribed(
        self, subject: str, *, on_message: Callable[[Msg], Awaitable[None]], on_loss: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Messages of ``subject`` for the length of the block; ``on_loss`` says when the connection under it is gone.

        Raises Unavailable.
        """
        client = self._connected_client()
        try:
            subscription = await client.subscribe(subject, cb=on_message)
        except LOST as error:
            raise self._unavailable(error) from error
        self._on_loss.add(on_loss)
        try:
            yield
        finally:
            self._on_loss.discard(on_loss)
            with contextlib.suppress(*LOST):
                await subscription.unsubscribe()

    def _connected_client(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise Unavailable(f"NATS at {self.address} is not connected.")
        return self._client

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"NATS at {self.address} does not answer: {error or type(error).__name__}.")

    async def _stay_connected(self) -> None:
        """Make a connection whenever there is none, or the one there is stays lost."""
        clock = asyncio.get_running_loop()
        connected_at = clock.time()
        while True:
            if self._client is None:
                await self._try_connect()
            if self.connected:
                connected_at = clock.time()
            elif self._client is not None and self._hopeless(lost_s=clock.time() - connected_at):
                logger.warning("gave up a lost connection to NATS at %s; making a new one", self.address)
                await self._discard()
                continue
            if self._unanswered_since is not None and not await self._is_trusted(since=self._unanswered_since):
                logger.warning("a server of NATS at %s does not answer; trying another", self.address)
                self._patience_s = min(2 * self._patience_s, PATIENCE_S_MAX)
                await self._discard()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_INTERVAL_S):
                    await self._wait_for_change()

    def _hopeless(self, *, lost_s: float) -> bool:
        return self._client is not None and (self._client.is_closed or lost_s > LOST_S_MAX)

    async def _is_trusted(self, *, since: float) -> bool:
        """Whether the server that left a request unanswered is worth waiting for."""
        client = self._client
        if client is None or not client.is_connected:
            return True  # it is being replaced already
        for _ in range(2):
            try:
                await client.flush(timeout=self._patience_s)
            except LOST:
                continue
            alone = len(self._known_servers()) < 2
            return alone or asyncio.get_running_loop().time() - since < CUT_OFF_S * self._patience_s / PATIENCE_S
        return False

    def _known_servers(self) -> list[str]:
        """Those that were named, and those they have told of: the named ones may be the ones that are away."""
        if self._client is not None and not self._servers[0].startswith("ws"):
            told = [uri.geturl() for uri in self._client.discovered_servers]
            self._discovered = list(dict.fromkeys([*told, *self._discovered]))[:DISCOVERED_MAX]
        return list(dict.fromkeys([*self._servers, *self._discovered]))

    def _credentials(self) -> dict[str, str]:
        """What the named servers are shown, if it is the same for all, for those they have told of."""
        named = {(uri.username, uri.password) for uri in map(_uri, self._servers)}
        user, password = named.pop()
        if named or user is None:
            return {}
        return {"token": user} if password is None else {"user": user, "password": password}

    async def _try_connect(self) -> None:
        client = Client()
        try:
            async with asyncio.timeout(max(CONNECT_TIMEOUT_S, 2 * self._patience_s)):
                await client.connect(
                    servers=self._known_servers(),
                    **self._credentials(),  # type: ignore[arg-type]
                    name=self._name,
                    connect_timeout=self._patience_s,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # it sleeps that long; a fraction is fine
                    ping_interval=PING_INTERVAL_S,
                    max_outstanding_pings=PINGS_OUTSTANDING_MAX,
                    pending_size=0,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_lost,
                    reconnected_cb=self._on_connected,
                    closed_cb=self._on_lost,
                )
        except Exception as error:  # noqa: BLE001 (the loop's border: whatever the client raises, it is tried again)
            await self._on_error(error)
            await _close(client)
            await asyncio.sleep(RECONNECT_WAIT_S)
        except asyncio.CancelledError:
            await _close(client)
            raise
        else:
            self._client = client
            await self._on_connected()

    async def _discard(self) -> None:
        self._known_servers()
        client, self._client = self._client, None
        self._unanswered_since = None
        await self._on_lost()
        if client is not None:
            await _close(client)

    async def _on_connected(self) -> None:
        self._connected_at = asyncio.get_running_loop().time()
        logger.info("connected to NATS at %s", self.address)
        self._last_error = ""
        self._notify()

    async def _on_lost(self) -> None:
        for on_loss in tuple(self._on_loss):
            on_loss()
        for deadline in self._deadlines:
            if deadline.expired():
                continue
            deadline.reschedule(asyncio.get_running_loop().time())
        self._notify()

    async def _on_error(self, error: Exception) -> None:
        described = f"{type(error).__name__}: {error}"
        level = logging.DEBUG if described == self._last_error else logging.WARNING
        self._last_error = described
        logger.log(level, "NATS at %s: %s", self.address, described)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for_change(self) -> None:
        await self._changed.wait()


def _uri(server: str) -> SplitResult:
    return urlsplit(server if "//" in server else f"//{server}")


async def _close(client: Client) -> None:
    """Close within a second, whatever state the client library left its connection in."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1.0):
            await client.close()
