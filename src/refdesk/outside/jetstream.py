"""NATS JetStream behind one small object: publish with a confirmed acknowledgement, consume without losing anything.

The design, and what it answers (docs/adr/0007-own-pull-loop.md names the client's faults):

* ``Broker`` owns one connection and watches it. The client library reconnects by itself; a connection that stays lost,
  or that the library gave up, is thrown away and made anew. While it is down every operation raises ``Unavailable`` at
  once: nothing is buffered, so nothing is sent later than its caller believes.
* ``Consumer`` pulls by itself: one inbox, one outstanding request, ``batch`` no larger than the free hands.

      open ──▶ pull(batch, expires, heartbeat) ──▶ messages… ──▶ the pull's end ──┐
        ▲        ▲                                                               │
        │        └───────────────────────────────────────────────────────────────┘
        └── two heartbeats missed · connection lost · consumer or stream gone: new inbox, verified consumer

* Every acknowledgement waits for the server's confirmation; one that is not confirmed raises, and the message returns.

It does *not* keep order (versions do), nor bound attempts (the worker does, with a dead letter).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from refdesk.contracts.errors import BodyTooLarge, ConfigurationError, RefdeskError, Unavailable
from refdesk.contracts.events import DOCUMENTS_STREAM, INDEX_STREAM

logger = logging.getLogger(__name__)

API = "$JS.API"
API_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 10.0
RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 4  # three unanswered pings: a half-open link is seen within 12 s (promise P12 allows 15)
PINGS_OUTSTANDING_MAX = 2
LOST_S_MAX = 10.0
"""How long the client library may try to reconnect before its connection is thrown away and made anew."""
WATCH_INTERVAL_S = 0.25

PULL_EXPIRES_S = 20.0
HEARTBEAT_S = 2.0
SILENCE_S_MAX = 2 * HEARTBEAT_S + 0.5
REOPEN_WAIT_S = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Pauses before a broken inbox is opened again; the last one repeats."""
UNEXPECTED_NAK_S = 5.0

STREAM_NOT_FOUND = 10059  # err_code, nats-server/server/errors.json
CONSUMER_NOT_FOUND = 10014

_NANOSECONDS = 1_000_000_000

T = TypeVar("T")
Handle = Callable[["Message"], Awaitable[None]]


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Ceilings of both streams. A full stream refuses new messages (``discard: new``): the publisher keeps them.

    Discarding old messages instead would drop changes that the index has not seen yet.
    """

    bytes_max: int = 1 << 30
    age_max_s: int = 7 * 24 * 3600
    message_bytes_max: int = 1 << 20
    duplicate_window_s: int = 120
    replicas: int = 1


class ConsumerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A durable pull consumer with explicit acknowledgement. ``deliveries_max`` -1: the caller bounds attempts."""

    stream: str
    durable: str
    filter_subjects: tuple[str, ...]
    ack_wait_s: float = 30.0
    ack_pending_max: int = 256
    deliveries_max: int = -1
    backoff_s: tuple[float, ...] = ()

    @property
    def lease_s(self) -> float:
        """How long the server waits for a sign of life before it delivers a message again."""
        return self.backoff_s[0] if self.backoff_s else self.ack_wait_s


class Published(msgspec.Struct, frozen=True):
    """The server's acknowledgement. ``duplicate``: the message id was already there, nothing was added."""

    stream: str
    sequence: int = msgspec.field(name="seq")
    duplicate: bool = False


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream holds. A ``created_at`` or ``last_sequence`` that went back tells of a lost or older store."""

    created_at: datetime
    messages: int
    first_sequence: int
    last_sequence: int


class Backlog(msgspec.Struct, frozen=True):
    """``waiting`` messages were not delivered yet, ``in_flight`` are delivered and not acknowledged."""

    waiting: int
    in_flight: int

    @property
    def total(self) -> int:
        return self.waiting + self.in_flight


class _ApiError(msgspec.Struct):
    code: int
    err_code: int = 0
    description: str = ""


class _Failure(msgspec.Struct):
    error: _ApiError | None = None


class _Refused(Exception):
    """The JetStream API answered with an error."""

    def __init__(self, error: _ApiError) -> None:
        super().__init__(f"{error.description} ({error.code}, {error.err_code})")
        self.error = error


class _Broken(Exception):
    """The inbox is of no more use: open another."""


class Message:
    """A delivered message. Settle it once: ``ack``, ``nak`` or ``term``; each waits for the server's confirmation.

    ``deliveries`` counts from 1; ``waiting`` is how many messages the consumer had behind this one.
    Raises Unavailable when the server does not confirm: the message will then be delivered again.
    """

    def __init__(self, raw: Msg, *, broker: "Broker", lease_s: float) -> None:
        self._broker = broker
        self._lease_s = lease_s
        self._reply = raw.reply
        metadata = raw.metadata
        self.subject: str = raw.subject
        self.payload: bytes = raw.data
        self.headers: Mapping[str, str] = raw.headers or {}
        self.deliveries: int = metadata.num_delivered
        self.stream_sequence: int = metadata.sequence.stream
        self.timestamp: datetime = metadata.timestamp
        self.waiting: int = metadata.num_pending
        self.settled = False

    async def ack(self) -> None:
        """Done: never deliver it again."""
        await self._settle(b"+ACK")

    async def nak(self, delay_s: float = 0.0) -> None:
        """Not done: deliver it again, ``delay_s`` from now."""
        delay = msgspec.json.encode({"delay": _nanoseconds(delay_s)}) if delay_s > 0 else b""
        await self._settle(b"-NAK " + delay if delay else b"-NAK")

    async def term(self) -> None:
        """Given up: never deliver it again."""
        await self._settle(b"+TERM")

    async def in_progress(self) -> None:
        """Still working: the server waits another ``lease_s``. Not confirmed."""
        await self._broker.send(self._reply, b"+WPI")

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Tell the server every third of ``lease_s`` that the work goes on, as long as the block runs."""
        beat = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.wait([beat])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with contextlib.suppress(Unavailable):
                await self.in_progress()

    async def _settle(self, verdict: bytes) -> None:
        await self._broker.request(self._reply, verdict, timeout_s=API_TIMEOUT_S)
        self.settled = True


class Broker:
    """One connection to NATS. Every operation raises Unavailable when the server cannot be reached or refuses."""

    def __init__(self, url: str, *, name: str, streams: StreamSettings) -> None:
        self._servers = url.split(",")
        self._name = name
        self._settings = streams
        self._client: Client | None = None
        self._changed = asyncio.Event()
        self._inboxes: set[_Inbox] = set()
        self._deadlines: set[asyncio.Timeout] = set()
        self._last_error = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str, *, name: str, streams: StreamSettings | None = None, wait_s: float = 5.0
    ) -> AsyncIterator["Broker"]:
        """A broker that stays connected for the length of the block. ``url`` may list servers, separated by commas.

        Waits ``wait_s`` for the first connection, then goes on without it: the server may come later.
        """
        broker = cls(url, name=name, streams=streams or StreamSettings())
        watch = asyncio.create_task(broker._stay_connected())
        try:
            if not await broker.wait_connected(timeout_s=wait_s):
                logger.warning("NATS at %s does not answer yet; trying on", broker.address)
            yield broker
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            await broker._discard()

    @property
    def address(self) -> str:
        """The servers without their credentials."""
        return ", ".join(
            urlsplit(server if "//" in server else f"//{server}").netloc.rpartition("@")[2] for server in self._servers
        )

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

    # -- publishing and the JetStream API

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> Published:
        """Store one message and wait for the acknowledgement. A known ``message_id`` is dropped by the server for the
        length of the duplicate window. A missing stream is created first (a wiped broker heals by itself).

        Raises Unavailable (nothing is known of the message then: publish it again) and BodyTooLarge.
        """
        named = {**(headers or {}), "Nats-Msg-Id": message_id}
        try:
            return await self._call(subject, payload, Published, headers=named)
        except nats.errors.NoRespondersError:
            await self.ensure_streams()
        try:
            return await self._call(subject, payload, Published, headers=named)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(f"No stream of NATS at {self.address} takes {subject}.") from error

    async def ensure_streams(self) -> None:
        """Create both streams where missing. Raises ConfigurationError naming the first field that differs."""
        for stream, subject in ((DOCUMENTS_STREAM, "documents.>"), (INDEX_STREAM, "index.>")):
            await self._ensure_stream(_stream_config(stream, subject, self._settings))

    async def stream_state(self, stream: str) -> StreamState:
        info = await self.api(f"STREAM.INFO.{stream}", _StreamInfo)
        return StreamState(
            created_at=info.created,
            messages=info.state.messages,
            first_sequence=info.state.first_seq,
            last_sequence=info.state.last_seq,
        )

    async def stream_created_at(self, stream: str) -> datetime:
        """When the stream was created: a later time than last seen means that its messages were lost."""
        return (await self.stream_state(stream)).created_at

    async def ensure_consumer(self, settings: ConsumerSettings) -> "Consumer":
        """The consumer, created or brought to these settings. Raises ConfigurationError where that is impossible."""
        consumer = self.consumer(settings)
        await consumer.ensure()
        return consumer

    def consumer(self, settings: ConsumerSettings) -> "Consumer":
        """The consumer as it should be; nothing is asked of the server yet."""
        return Consumer(self, settings)

    async def api(self, call: str, kind: type[T], body: Any = None) -> T:
        """One JetStream API call. Raises Unavailable; a refusal says the server's words."""
        payload = b"" if body is None else msgspec.json.encode(body)
        try:
            return await self._call(f"{API}.{call}", payload, kind)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(f"NATS at {self.address} runs without JetStream, or is starting.") from error

    async def request(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """One request and its reply. Raises Unavailable."""
        try:
            return await self._request(subject, payload, timeout_s=timeout_s, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(f"Nothing at NATS {self.address} answers {subject}.") from error

    async def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send without waiting for anything. Raises Unavailable when not connected."""
        client = self._connected_client()
        try:
            await client.publish(subject, payload, reply=reply)
        except (nats.errors.Error, OSError) as error:
            raise self._unavailable(error) from error

    async def _call(
        self, subject: str, payload: bytes, kind: type[T], *, headers: Mapping[str, str] | None = None
    ) -> T:
        reply = await self._request(subject, payload, timeout_s=API_TIMEOUT_S, headers=headers)
        failure = msgspec.json.decode(reply, type=_Failure).error
        if failure is not None:
            refused = _Refused(failure)
            raise Unavailable(f"NATS at {self.address} refused {subject}: {refused}.") from refused
        return msgspec.json.decode(reply, type=kind)

    async def _request(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Mapping[str, str] | None
    ) -> bytes:
        client = self._connected_client()
        try:
            named = dict(headers) if headers else None
            async with self._deadline(timeout_s):
                reply = await client.request(subject, payload, timeout=timeout_s + 1, headers=named)
        except nats.errors.NoRespondersError:
            raise
        except nats.errors.MaxPayloadError as error:
            raise BodyTooLarge(
                f"A message of {len(payload):,} bytes for {subject} is larger than NATS takes.", actual=len(payload)
            ) from error
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise self._unavailable(error) from error
        data: bytes = reply.data
        return data

    @contextlib.asynccontextmanager
    async def _deadline(self, timeout_s: float) -> AsyncIterator[None]:
        """Raises TimeoutError after ``timeout_s``, or as soon as the connection is lost: no reply can come then."""
        async with asyncio.timeout(timeout_s) as deadline:
            self._deadlines.add(deadline)
            try:
                yield
            finally:
                self._deadlines.discard(deadline)

    async def _ensure_stream(self, config: dict[str, Any]) -> None:
        name = config["name"]
        try:
            info = await self.api(f"STREAM.INFO.{name}", _Info)
        except Unavailable as error:
            if _error_code(error) != STREAM_NOT_FOUND:
                raise
            info = await self.api(f"STREAM.CREATE.{name}", _Info, config)
            logger.info("created stream %s", name)
        for field in config:
            _verify(f"Stream {name}", field, info.config.get(field), config[field])

    # -- the connection

    def subscribe_inbox(self, inbox: "_Inbox") -> None:
        self._inboxes.add(inbox)

    def unsubscribe_inbox(self, inbox: "_Inbox") -> None:
        self._inboxes.discard(inbox)

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
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_INTERVAL_S):
                    await self._wait_for_change()

    def _hopeless(self, *, lost_s: float) -> bool:
        return self._client is not None and (self._client.is_closed or lost_s > LOST_S_MAX)

    async def _try_connect(self) -> None:
        client = Client()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(
                    servers=self._servers,
                    name=self._name,
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
        client, self._client = self._client, None
        await self._on_lost()
        if client is not None:
            await _close(client)

    async def _on_connected(self) -> None:
        logger.info("connected to NATS at %s", self.address)
        self._last_error = ""
        self._notify()

    async def _on_lost(self) -> None:
        for inbox in tuple(self._inboxes):
            inbox.break_off()
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


class Consumer:
    """A durable pull consumer that outlives restarts of the server, of the connection, and of the consumer itself."""

    def __init__(self, broker: Broker, settings: ConsumerSettings) -> None:
        self._broker = broker
        self.settings = settings
        self._opened = False

    async def ensure(self) -> None:
        """Create the consumer, or bring the one there is to the settings.

        Raises ConfigurationError naming the field when the server refuses the change.
        """
        config = _consumer_config(self.settings)
        name = f"{self.settings.stream}.{self.settings.durable}"
        try:
            info = await self._broker.api(f"CONSUMER.INFO.{name}", _Info)
            if _drift(info.config, config) is None:
                return
        except Unavailable as error:
            if _error_code(error) not in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
                raise
            if _error_code(error) == STREAM_NOT_FOUND:
                await self._broker.ensure_streams()
            info = None
        await self._create(name, config, was=info)

    async def _create(self, name: str, config: dict[str, Any], *, was: "_Info | None") -> None:
        body = {"stream_name": self.settings.stream, "config": config}
        try:
            now = await self._broker.api(f"CONSUMER.CREATE.{name}", _Info, body)
        except Unavailable as error:
            field = None if was is None else _drift(was.config, config)
            if was is None or field is None or not isinstance(error.__cause__, _Refused):
                raise
            raise ConfigurationError(
                f"Consumer {name} has {field}={was.config.get(field)!r} where {config[field]!r} is wanted, and NATS "
                f"refuses the change: {error.__cause__}. Delete the consumer; it is created anew.",
                field=field,
            ) from error
        for field in config:
            _verify(f"Consumer {name}", field, now.config.get(field), config[field])
        logger.info("%s consumer %s", "created" if was is None else "updated", name)

    async def backlog(self) -> Backlog:
        """How much is left to do. Raises Unavailable."""
        info = await self._broker.api(f"CONSUMER.INFO.{self.settings.stream}.{self.settings.durable}", _ConsumerInfo)
        return Backlog(waiting=info.num_pending, in_flight=info.num_ack_pending)

    async def pending_count(self) -> int:
        """Messages not yet acknowledged: the lag. Raises Unavailable."""
        return (await self.backlog()).total

    async def consume(self, handle: Handle, *, concurrency: int, grace_s: float = 10.0) -> None:
        """Give every message to ``handle``, at most ``concurrency`` at a time, until cancelled.

        While ``handle`` runs the server is told of progress. ``handle`` settles its message; when it raises, or leaves
        the message unsettled, the message is delivered again. On cancellation nothing new is fetched, what is in hand
        has ``grace_s`` to finish, and the rest goes back to the server at once.
        Raises ConfigurationError when the consumer cannot be opened the first time.
        """
        hands = _Hands(concurrency)
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    await self._consume_one_inbox(handle, hands, group)
            except asyncio.CancelledError:
                await hands.finish(within_s=grace_s)
                raise

    async def _consume_one_inbox(self, handle: Handle, hands: "_Hands", group: asyncio.TaskGroup) -> None:
        inbox = await self._open()
        try:
            while True:
                batch = await hands.wait_free()
                await inbox.pull(batch)
                while (message := await inbox.receive()) is not None:
                    hands.take(group.create_task(self._work(handle, message)))
        except (_Broken, Unavailable) as error:
            logger.info("reopening consumer %s: %s", self.settings.durable, error)
            await asyncio.sleep(REOPEN_WAIT_S[0])
        finally:
            await inbox.close()

    async def _open(self) -> "_Inbox":
        """A verified consumer and a fresh inbox, as soon as the server has them."""
        for attempt in range(1 << 62):
            try:
                await self.ensure()
                inbox = _Inbox(self._broker, self.settings)
                await inbox.open()
            except RefdeskError as error:
                if not (error.retryable or self._opened):
                    raise
                logger.warning("cannot open consumer %s: %s", self.settings.durable, error)
                await asyncio.sleep(REOPEN_WAIT_S[min(attempt, len(REOPEN_WAIT_S) - 1)])
            else:
                self._opened = True
                return inbox
        raise AssertionError("unreachable")

    async def _work(self, handle: Handle, message: Message) -> None:
        try:
            async with message.working():
                await handle(message)
        except asyncio.CancelledError:
            await _give_back(message, delay_s=0.0)
            raise
        except Exception:
            logger.exception("message %s of %s failed", message.stream_sequence, self.settings.stream)
        await _give_back(message, delay_s=UNEXPECTED_NAK_S)


class _Hands:
    """How many messages may be worked on at a time, and the tasks that do."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    async def wait_free(self) -> int:
        """The number of free hands, once there is one."""
        while len(self._tasks) >= self._count:
            self._freed.clear()
            await self._freed.wait()
        return self._count - len(self._tasks)

    def take(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._free)

    def _free(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._freed.set()

    async def finish(self, *, within_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)


class _Inbox:
    """One subscription with at most one outstanding pull. It dies with the connection it was made on."""

    def __init__(self, broker: Broker, settings: ConsumerSettings) -> None:
        self._broker = broker
        self._settings = settings
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._subscription: Subscription | None = None
        self._address = ""
        self._pulls = 0
        self._wanted = 0

    async def open(self) -> None:
        client = self._broker._connected_client()
        self._address = client.new_inbox()
        self._broker.subscribe_inbox(self)
        try:
            self._subscription = await client.subscribe(f"{self._address}.*", cb=self._on_message)
        except (nats.errors.Error, OSError) as error:
            self._broker.unsubscribe_inbox(self)
            raise Unavailable(f"NATS at {self._broker.address} does not answer: {error}.") from error

    async def close(self) -> None:
        """Stop listening and give back what arrived but was not taken."""
        self._broker.unsubscribe_inbox(self)
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._subscription.unsubscribe()
        while not self._arrived.empty():
            raw = self._arrived.get_nowait()
            if raw is not None and not self._is_status(raw):
                await _give_back(self._message(raw), delay_s=0.0)

    def break_off(self) -> None:
        """The connection is lost."""
        self._arrived.put_nowait(None)

    async def pull(self, batch: int) -> None:
        self._pulls += 1
        self._wanted = batch
        body = {
            "batch": batch,
            "expires": _nanoseconds(PULL_EXPIRES_S),
            "idle_heartbeat": _nanoseconds(HEARTBEAT_S),
        }
        subject = f"{API}.CONSUMER.MSG.NEXT.{self._settings.stream}.{self._settings.durable}"
        await self._broker.send(subject, msgspec.json.encode(body), reply=f"{self._address}.{self._pulls}")

    async def receive(self) -> Message | None:
        """The pull's next message; None at the pull's end. Raises _Broken."""
        while self._wanted > 0:
            raw = await self._next()
            if not self._is_status(raw):
                self._wanted -= 1
                return self._message(raw)
            if raw.subject == f"{self._address}.{self._pulls}" and self._ends_pull(raw):
                self._wanted = 0
        return None

    async def _next(self) -> Msg:
        try:
            async with asyncio.timeout(SILENCE_S_MAX):
                raw = await self._arrived.get()
        except TimeoutError:
            raise _Broken(f"no heartbeat for {SILENCE_S_MAX} s") from None
        if raw is None:
            raise _Broken("connection lost")
        return raw

    def _ends_pull(self, raw: Msg) -> bool:
        """Whether a status ends the pull. Raises _Broken when it ends the consumer, too."""
        headers = raw.headers or {}
        status, description = headers.get("Status"), headers.get("Description", "")
        if status == "100":  # idle heartbeat
            return False
        if status in ("404", "408"):  # no messages; expired
            return True
        # 409: consumer deleted, leadership change, server shutdown …; 503: nobody serves the consumer
        raise _Broken(f"{status} {description}")

    def _is_status(self, raw: Msg) -> bool:
        """Messages arrive under their stream's subject, statuses under the inbox's own."""
        return raw.subject.startswith(self._address)

    def _message(self, raw: Msg) -> Message:
        return Message(raw, broker=self._broker, lease_s=self._settings.lease_s)

    async def _on_message(self, raw: Msg) -> None:
        self._arrived.put_nowait(raw)


class _Info(msgspec.Struct):
    config: dict[str, Any]


class _State(msgspec.Struct):
    messages: int
    first_seq: int
    last_seq: int


class _StreamInfo(msgspec.Struct):
    created: datetime
    state: _State


class _ConsumerInfo(msgspec.Struct):
    num_pending: int
    num_ack_pending: int


async def _give_back(message: Message, *, delay_s: float) -> None:
    """Nak a message that nobody settled; unconfirmed, it returns after its ``lease_s`` all the same."""
    if not message.settled:
        with contextlib.suppress(Unavailable):
            await message.nak(delay_s)


async def _close(client: Client) -> None:
    """Close within a second, whatever state the client library left its connection in."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1.0):
            await client.close()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)


def _stream_config(name: str, subject: str, settings: StreamSettings) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_bytes": settings.bytes_max,
        "max_age": _nanoseconds(settings.age_max_s),
        "max_msg_size": settings.message_bytes_max,
        "num_replicas": settings.replicas,
        "duplicate_window": _nanoseconds(settings.duplicate_window_s),
    }


def _consumer_config(settings: ConsumerSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "durable_name": settings.durable,
        "name": settings.durable,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "ack_wait": _nanoseconds(settings.lease_s),
        "max_ack_pending": settings.ack_pending_max,
        "max_deliver": settings.deliveries_max,
        "filter_subjects": list(settings.filter_subjects),
    }
    if settings.backoff_s:
        config["backoff"] = [_nanoseconds(pause) for pause in settings.backoff_s]
    return config


def _drift(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first field in which ``actual`` differs, or None."""
    return next((field for field, value in wanted.items() if actual.get(field) != value), None)


def _verify(owner: str, field: str, actual: Any, wanted: Any) -> None:
    if actual != wanted:
        raise ConfigurationError(
            f"{owner} has {field}={actual!r} where {wanted!r} is wanted. Change one of them "
            f"(`nats stream edit`, `nats consumer edit`, or Refdesk's settings).",
            field=field,
            actual=actual,
        )


def _error_code(error: Unavailable) -> int:
    return error.__cause__.error.err_code if isinstance(error.__cause__, _Refused) else 0
