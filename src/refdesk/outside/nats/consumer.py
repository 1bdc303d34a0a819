"""A durable JetStream consumer that pulls by itself and loses nothing (docs/adr/0007-own-pull-loop.md).

    open ──▶ pull(batch, expires, heartbeat) ──▶ messages… ──▶ the pull's end ──┐
      ▲        ▲                                                               │
      │        └───────────────────────────────────────────────────────────────┘
      └── two heartbeats missed · connection lost · consumer or stream gone: new inbox, verified consumer

One inbox, one outstanding pull, ``batch`` no larger than the free hands. Every acknowledgement waits for the server's
confirmation; one that is not confirmed raises, and the message returns.
It does *not* keep order (versions do), nor bound attempts (the caller does, with a dead letter).
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from nats.aio.msg import Msg

from refdesk.contracts.errors import ConfigurationError, RefdeskError, Unavailable
from refdesk.outside import telemetry
from refdesk.outside.nats.connection import API, Connection, Refused, error_code
from refdesk.outside.nats.readers import CONSUMER_NOT_FOUND
from refdesk.outside.nats.streams import STREAM_NOT_FOUND, StreamInfo, nanoseconds

logger = logging.getLogger(__name__)

PULL_EXPIRES_S = 20.0
HEARTBEAT_S = 2.0
SILENCE_S_MAX = 2 * HEARTBEAT_S + 0.5
REOPEN_WAIT_S = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Pauses before a broken inbox is opened again; the last one repeats."""
UNEXPECTED_NAK_S = 5.0

Handle = Callable[["Message"], Awaitable[None]]


class ConsumerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A durable pull consumer with explicit acknowledgement. ``deliveries_max`` -1: the caller bounds attempts."""

    stream: str
    durable: str
    filter_subjects: tuple[str, ...]
    ack_wait_s: float = 30.0
    ack_pending_max: int = 256
    deliveries_max: int = -1
    backoff_s: tuple[float, ...] = ()
    replicas: int = 0
    """0: as many as the stream has."""

    @property
    def lease_s(self) -> float:
        """How long the server waits for a sign of life before it delivers a message again."""
        return self.backoff_s[0] if self.backoff_s else self.ack_wait_s


class Backlog(msgspec.Struct, frozen=True):
    """``waiting`` messages were not delivered yet, ``in_flight`` are delivered and not acknowledged."""

    waiting: int
    in_flight: int

    @property
    def total(self) -> int:
        return self.waiting + self.in_flight


class _Broken(Exception):
    """The inbox is of no more use: open another."""


class Message:
    """A delivered message. Settle it once: ``ack``, ``nak`` or ``term``; each waits for the server's confirmation.

    ``deliveries`` counts from 1; ``waiting`` is how many messages the consumer had behind this one.
    Raises Unavailable when the server does not confirm: the message will then be delivered again.
    """

    def __init__(self, raw: Msg, *, connection: Connection, lease_s: float) -> None:
        self._connection = connection
        self._lease_s = lease_s
        self.step_aside: Callable[[], None] = _nobody_waits
        """Work on this message will take long: another one may be taken up meanwhile, while there is room for that."""
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
        delay = msgspec.json.encode({"delay": nanoseconds(delay_s)}) if delay_s > 0 else b""
        await self._settle(b"-NAK " + delay if delay else b"-NAK")

    async def term(self) -> None:
        """Given up: never deliver it again."""
        await self._settle(b"+TERM")

    async def in_progress(self) -> None:
        """Still working: the server waits another ``lease_s``. Not confirmed."""
        await self._connection.send(self._reply, b"+WPI")

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
        await self._connection.request(self._reply, verdict)
        self.settled = True


class Consumer:
    """A durable pull consumer that outlives restarts of the server, of the connection, and of the consumer itself."""

    def __init__(
        self, connection: Connection, settings: ConsumerSettings, *, ensure_streams: Callable[[], Awaitable[Any]]
    ) -> None:
        self._connection = connection
        self._ensure_streams = ensure_streams
        self.settings = settings
        self._ensured = False

    async def ensure(self) -> None:
        """Create the consumer, or bring the one there is to the settings.

        Raises ConfigurationError naming the field when the server refuses the change.
        """
        config = _consumer_config(self.settings)
        name = f"{self.settings.stream}.{self.settings.durable}"
        try:
            info = await self._connection.api(f"CONSUMER.INFO.{name}", Info)
            if drift(info.config, config) is None:
                return
        except Unavailable as error:
            if error_code(error) not in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
                raise
            if error_code(error) == STREAM_NOT_FOUND:
                await self._ensure_streams()
            info = None
        await self._create(name, config, was=info)

    async def _create(self, name: str, config: dict[str, Any], *, was: "Info | None") -> None:
        body = {"stream_name": self.settings.stream, "config": config}
        try:
            now = await self._connection.api(f"CONSUMER.CREATE.{name}", Info, body)
        except Unavailable as error:
            field = None if was is None else drift(was.config, config)
            if was is None or field is None or not isinstance(error.__cause__, Refused):
                raise
            raise ConfigurationError(
                f"Consumer {name} has {field}={was.config.get(field)!r} where {config[field]!r} is wanted, and NATS "
                f"refuses the change: {error.__cause__}. Delete the consumer; it is created anew.",
                field=field,
            ) from error
        for field in config:
            verify(f"Consumer {name}", field, now.config.get(field), config[field])
        logger.info("%s consumer %s", "created" if was is None else "updated", name)

    async def backlog(self) -> Backlog:
        """How much is left to do of all that was acknowledged to a publisher before the call. Raises Unavailable.

        For consumers of a whole stream. The server's own ``num_pending`` will not do: it counts a message a moment after
        its publisher was told that it is stored.
        """
        stream = await self._connection.api(f"STREAM.INFO.{self.settings.stream}", StreamInfo)
        info = await self._connection.api(
            f"CONSUMER.INFO.{self.settings.stream}.{self.settings.durable}", _ConsumerInfo
        )
        passed = max(info.delivered.stream_seq, stream.state.first_seq - 1)
        return Backlog(waiting=max(0, stream.state.last_seq - passed), in_flight=info.num_ack_pending)

    async def pending_count(self) -> int:
        """Messages not yet acknowledged: the lag. Raises Unavailable."""
        return (await self.backlog()).total

    async def consume(self, handle: Handle, *, concurrency: int, aside_max: int = 0, grace_s: float = 10.0) -> None:
        """Give every message to ``handle``, at most ``concurrency`` at a time, until cancelled.

        Beside these, up to ``aside_max`` may be under way for which ``handle`` called ``step_aside``.

        While ``handle`` runs the server is told of progress. ``handle`` settles its message; when it raises, or leaves
        the message unsettled, the message is delivered again. On cancellation nothing new is fetched, what is in hand
        has ``grace_s`` to finish, and the rest goes back to the server at once.
        Raises ConfigurationError when the consumer cannot be opened the first time.
        """
        hands = _Hands(concurrency, aside_max=aside_max)
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    await self._consume_one_inbox(handle, hands, group)
            except asyncio.CancelledError:
                await hands.finish(within_s=grace_s)
                raise

    async def _consume_one_inbox(self, handle: Handle, hands: "_Hands", group: asyncio.TaskGroup) -> None:
        await self._ensure_for_ever()
        inbox = _Inbox(self._connection, self.settings)
        try:
            async with inbox.open():
                while True:
                    await inbox.pull(await hands.wait_free())
                    while (message := await inbox.receive()) is not None:
                        task = group.create_task(self._work(handle, message))
                        message.step_aside = partial(hands.step_aside, task)
                        hands.take(task)
        except (_Broken, Unavailable) as error:
            logger.info("reopening consumer %s: %s", self.settings.durable, error)
            await asyncio.sleep(REOPEN_WAIT_S[0])

    async def _ensure_for_ever(self) -> None:
        """Return once the server has the consumer. Only before the first success does a wrong setting raise."""
        pauses = itertools.chain(REOPEN_WAIT_S, itertools.repeat(REOPEN_WAIT_S[-1]))
        while True:
            try:
                await self.ensure()
            except RefdeskError as error:
                if not (error.retryable or self._ensured):
                    raise
                logger.warning("cannot open consumer %s: %s", self.settings.durable, error)
                await asyncio.sleep(next(pauses))
            else:
                self._ensured = True
                return

    async def _work(self, handle: Handle, message: Message) -> None:
        if message.deliveries > 1:
            telemetry.redeliveries.labels(self.settings.stream).inc()
        try:
            async with message.working():
                await handle(message)
        except asyncio.CancelledError:
            await _give_back(message, delay_s=0.0)
            raise
        except Unavailable as error:
            logger.warning("message %s of %s is not settled: %s", message.stream_sequence, self.settings.stream, error)
        except Exception:
            logger.exception("message %s of %s failed", message.stream_sequence, self.settings.stream)
        await _give_back(message, delay_s=UNEXPECTED_NAK_S)


def _nobody_waits() -> None:
    """The ``step_aside`` of a message that no hand was taken for."""


class _Hands:
    """How many messages may be worked on at a time, and the tasks that do."""

    def __init__(self, count: int, *, aside_max: int) -> None:
        self._count = count
        self._aside_max = aside_max
        self._tasks: set[asyncio.Task[None]] = set()
        self._aside: set[asyncio.Task[None]] = set()
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

    def step_aside(self, task: asyncio.Task[None]) -> None:
        """Free the task's hand; it keeps it when too many are aside already."""
        if task in self._tasks and len(self._aside) < self._aside_max:
            self._tasks.discard(task)
            self._aside.add(task)
            self._freed.set()

    def _free(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._aside.discard(task)
        self._freed.set()

    async def finish(self, *, within_s: float) -> None:
        if under_way := self._tasks | self._aside:
            await asyncio.wait(under_way, timeout=within_s)


class _Inbox:
    """One subscription with at most one outstanding pull. It dies with the connection it was made on."""

    def __init__(self, connection: Connection, settings: ConsumerSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._address = ""
        self._pulls = 0
        self._wanted = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen for the length of the block; what arrived but was not taken goes back. Raises Unavailable."""
        self._address = self._connection.new_inbox()
        subject = f"{self._address}.*"
        try:
            async with self._connection.subscribed(subject, on_message=self._on_message, on_loss=self.break_off):
                yield
        finally:
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
            "expires": nanoseconds(PULL_EXPIRES_S),
            "idle_heartbeat": nanoseconds(HEARTBEAT_S),
        }
        subject = f"{API}.CONSUMER.MSG.NEXT.{self._settings.stream}.{self._settings.durable}"
        await self._connection.send(subject, msgspec.json.encode(body), reply=f"{self._address}.{self._pulls}")

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
            raw = await self._what_came_after_all()
        if raw is None:
            raise _Broken("connection lost")
        return raw

    async def _what_came_after_all(self) -> Msg | None:
        """This process may have stood still, and not the server: then what it sent comes before its reply.

        Giving the inbox up unread would leave that to the lease. Raises _Broken when nothing came, Unavailable.
        """
        await self._connection.api(f"CONSUMER.INFO.{self._settings.stream}.{self._settings.durable}", Info)
        if self._arrived.empty():
            raise _Broken(f"no heartbeat for {SILENCE_S_MAX} s")
        return self._arrived.get_nowait()

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
        return Message(raw, connection=self._connection, lease_s=self._settings.lease_s)

    async def _on_message(self, raw: Msg) -> None:
        self._arrived.put_nowait(raw)


class Info(msgspec.Struct):
    config: dict[str, Any]


class _Delivered(msgspec.Struct):
    stream_seq: int


class _ConsumerInfo(msgspec.Struct):
    delivered: _Delivered
    num_ack_pending: int


async def _give_back(message: Message, *, delay_s: float) -> None:
    """Nak a message that nobody settled; unconfirmed, it returns after its ``lease_s`` all the same."""
    if not message.settled:
        with contextlib.suppress(Unavailable):
            await message.nak(delay_s)


def _consumer_config(settings: ConsumerSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "durable_name": settings.durable,
        "name": settings.durable,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "ack_wait": nanoseconds(settings.lease_s),
        "max_ack_pending": settings.ack_pending_max,
        "max_deliver": settings.deliveries_max,
        "filter_subjects": list(settings.filter_subjects),
    }
    if settings.replicas:
        config["num_replicas"] = settings.replicas
    if settings.backoff_s:
        config["backoff"] = [nanoseconds(pause) for pause in settings.backoff_s]
    return config


def drift(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first field in which ``actual`` differs, or None."""
    return next((field for field, value in wanted.items() if actual.get(field) != value), None)


def verify(owner: str, field: str, actual: Any, wanted: Any) -> None:
    if actual != wanted:
        raise ConfigurationError(
            f"{owner} has {field}={actual!r} where {wanted!r} is wanted. Change one of them "
            f"(`nats consumer edit`, or Refdesk's settings).",
            field=field,
            actual=actual,
        )
