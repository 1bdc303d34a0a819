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
import itertools
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from refdesk.contracts.errors import ConfigurationError, RefdeskError, Unavailable
from refdesk.outside import telemetry
from refdesk.outside.nats.connection import Connection, Refused, error_code
from refdesk.outside.nats.consumer_settings import ConsumerSettings, consumer_config, drift, verify
from refdesk.outside.nats.inbox import Broken, Inbox
from refdesk.outside.nats.messages import Message, give_back
from refdesk.outside.nats.readers import CONSUMER_NOT_FOUND
from refdesk.outside.nats.streams import STREAM_NOT_FOUND, StreamInfo

logger = logging.getLogger(__name__)

REOPEN_WAIT_S = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Pauses before a broken inbox is opened again; the last one repeats."""
UNEXPECTED_NAK_S = 5.0

Handle = Callable[[Message], Awaitable[None]]


class Backlog(msgspec.Struct, frozen=True):
    """``waiting`` messages were not delivered yet, ``in_flight`` are delivered and not acknowledged."""

    waiting: int
    in_flight: int

    @property
    def total(self) -> int:
        return self.waiting + self.in_flight


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
        config = consumer_config(self.settings)
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
        inbox = Inbox(self._connection, self.settings)
        try:
            async with inbox.open():
                while True:
                    await inbox.pull(await hands.wait_free())
                    while (message := await inbox.receive()) is not None:
                        task = group.create_task(self._work(handle, message))
                        message.step_aside = partial(hands.step_aside, task)
                        hands.take(task)
        except (Broken, Unavailable) as error:
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
            await give_back(message, delay_s=0.0)
            raise
        except Unavailable as error:
            logger.warning("message %s of %s is not settled: %s", message.stream_sequence, self.settings.stream, error)
        except Exception:
            logger.exception("message %s of %s failed", message.stream_sequence, self.settings.stream)
        await give_back(message, delay_s=UNEXPECTED_NAK_S)


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


class Info(msgspec.Struct):
    config: dict[str, Any]


class _Delivered(msgspec.Struct):
    stream_seq: int


class _ConsumerInfo(msgspec.Struct):
    delivered: _Delivered
    num_ack_pending: int
