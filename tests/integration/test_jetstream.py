"""The broker adapter against a real nats-server that is killed, restarted and wiped under it."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import nats.errors
import pytest
import uvloop
from tests.integration.nats_server import NatsServer
from tests.support.patience import within

from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.contracts.events import DOCUMENTS_STREAM, INDEX_STREAM
from refdesk.outside.nats import connection as nats_connection
from refdesk.outside.nats import inbox
from refdesk.outside.nats.broker import Broker, Consumer, ConsumerSettings, Message
from refdesk.outside.nats.connection import Connection
from refdesk.settings.servers import StreamSettings

SMALL = StreamSettings(bytes_max=64 << 20)
WORK = ConsumerSettings(stream=DOCUMENTS_STREAM, durable="work", filter_subjects=("documents.>",), ack_wait_s=2.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def broker(server: NatsServer) -> AsyncIterator[Broker]:
    async with Broker.connect(server.url, name="test", streams=SMALL) as broker:
        await broker.ensure_streams()
        yield broker


async def eventually(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    async with within(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def drained(consumer: Consumer, *, within_s: float = 60.0) -> None:
    """Wait until nothing is left (a killed server forgets acknowledgements it had not written; those return)."""
    async with within(within_s):
        while await consumer.pending_count() > 0:
            await asyncio.sleep(0.02)


class Seen:
    """A handler that acknowledges and remembers."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        await message.ack()
        self.payloads.append(message.payload)

    async def all_of(self, wanted: set[bytes]) -> None:
        await eventually(lambda: wanted <= set(self.payloads))


@contextlib.asynccontextmanager
async def consuming(
    consumer: Consumer, handle: object, *, concurrency: int = 4, grace_s: float = 1.0
) -> AsyncIterator[None]:
    task = asyncio.create_task(consumer.consume(handle, concurrency=concurrency, grace_s=grace_s))  # type: ignore[arg-type]
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task


async def publish(broker: Broker, name: str) -> None:
    """Publish, trying again while the server is away, as a relay does."""
    async with within(20):
        while True:
            try:
                await broker.publish(f"documents.{name}.changed", name.encode(), message_id=name)
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_messages_arrive_once_each_and_are_confirmed(broker: Broker) -> None:
    """What is published is handled, acknowledged, and gone from the backlog."""
    consumer = await broker.ensure_consumer(WORK)
    seen = Seen()
    for number in range(100):
        await publish(broker, f"m{number}")
    assert await consumer.pending_count() == 100
    async with consuming(consumer, seen):
        await eventually(lambda: len(seen.payloads) == 100)
    assert sorted(seen.payloads) == sorted(f"m{number}".encode() for number in range(100))
    assert await consumer.pending_count() == 0


async def test_duplicates_by_message_id_are_dropped(broker: Broker) -> None:
    """The server's window drops a message id it knows, and the acknowledgement says so."""
    first = await broker.publish("documents.a.changed", b"1", message_id="same")
    second = await broker.publish("documents.a.changed", b"1", message_id="same")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.sequence == second.sequence
    assert (await broker.stream_state(DOCUMENTS_STREAM)).messages == 1


async def test_publish_leaves_the_callers_headers_alone(broker: Broker) -> None:
    """The client library writes into the headers it is given; ours is a copy."""
    headers = {"Traceparent": "00-1-2-03"}
    await broker.publish("documents.a.changed", b"", message_id="1", headers=headers)
    assert headers == {"Traceparent": "00-1-2-03"}


async def test_unacknowledged_messages_come_back(broker: Broker) -> None:
    """A message whose handler died without a word is delivered again after its lease, counted."""
    consumer = await broker.ensure_consumer(WORK)
    await publish(broker, "a")
    deliveries: list[int] = []

    async def handle(message: Message) -> None:
        deliveries.append(message.deliveries)
        if message.deliveries == 1:
            message.settled = True  # as if the process had died here
        else:
            await message.ack()

    async with consuming(consumer, handle):
        await eventually(lambda: deliveries == [1, 2])


async def test_a_nak_waits_its_delay(broker: Broker) -> None:
    """``nak(delay_s)`` brings the message back no sooner than asked."""
    consumer = await broker.ensure_consumer(WORK)
    await publish(broker, "a")
    times: list[float] = []

    async def handle(message: Message) -> None:
        times.append(time.monotonic())
        await (message.nak(0.7) if len(times) == 1 else message.ack())

    async with consuming(consumer, handle):
        await eventually(lambda: len(times) == 2)
    assert 0.65 <= times[1] - times[0] < 2.0


async def test_a_terminated_message_never_returns(broker: Broker) -> None:
    """``term`` ends a message for good."""
    consumer = await broker.ensure_consumer(WORK)
    await publish(broker, "a")
    count = 0

    async def handle(message: Message) -> None:
        nonlocal count
        count += 1
        await message.term()

    async with consuming(consumer, handle):
        await eventually(lambda: count == 1)
    assert await consumer.pending_count() == 0


async def test_long_work_keeps_its_lease(broker: Broker) -> None:
    """Work of twice the lease is not delivered to anybody else, because progress is reported."""
    consumer = await broker.ensure_consumer(WORK)
    await publish(broker, "slow")
    deliveries: list[int] = []

    async def handle(message: Message) -> None:
        deliveries.append(message.deliveries)
        await asyncio.sleep(2 * WORK.ack_wait_s)
        await message.ack()

    async with consuming(consumer, handle), consuming(broker.consumer(WORK), handle):
        await drained(consumer)
    assert deliveries == [1]


async def test_who_steps_aside_frees_a_hand(broker: Broker) -> None:
    """One hand, two aside: three are worked on and the fourth waits; then all are done."""
    consumer = await broker.ensure_consumer(WORK)
    for name in ("a", "b", "c", "d"):
        await publish(broker, name)
    started: list[bytes] = []
    go_on = asyncio.Event()

    async def handle(message: Message) -> None:
        started.append(message.payload)
        message.step_aside()
        await go_on.wait()
        await message.ack()

    task = asyncio.create_task(consumer.consume(handle, concurrency=1, aside_max=2, grace_s=1.0))
    try:
        await eventually(lambda: started == [b"a", b"b", b"c"])
        assert (await consumer.backlog()).waiting == 1
        go_on.set()
        await drained(consumer)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert started == [b"a", b"b", b"c", b"d"]


async def test_a_failing_handler_gives_its_message_back(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is logged, the message is delivered again, and the loop goes on."""
    monkeypatch.setattr("refdesk.outside.nats.consumer.UNEXPECTED_NAK_S", 0.1)
    consumer = await broker.ensure_consumer(WORK)
    await publish(broker, "a")
    deliveries: list[int] = []

    async def handle(message: Message) -> None:
        deliveries.append(message.deliveries)
        if message.deliveries == 1:
            raise RuntimeError("boom")
        await message.ack()

    async with consuming(consumer, handle):
        await eventually(lambda: deliveries == [1, 2])


async def test_cancellation_finishes_what_is_in_hand(broker: Broker) -> None:
    """Within the grace the running handler ends and acknowledges; what would not end is given back at once."""
    consumer = await broker.ensure_consumer(msgspec.structs.replace(WORK, ack_wait_s=300.0))
    await publish(broker, "quick")
    await publish(broker, "endless")
    started: set[bytes] = set()

    async def handle(message: Message) -> None:
        started.add(message.payload)
        await asyncio.sleep(0.3 if message.payload == b"quick" else 60)
        await message.ack()

    async with consuming(consumer, handle):
        await eventually(lambda: len(started) == 2)
    assert await consumer.pending_count() == 1
    seen = Seen()
    async with consuming(consumer, seen):
        await eventually(lambda: seen.payloads == [b"endless"])  # long before its lease ends


async def test_a_cancelled_consumer_always_ends(broker: Broker) -> None:
    """Wherever the cancellation lands, even beside a reply: the consumer ends. (asyncio.wait_for may swallow it.)"""
    consumer = await broker.ensure_consumer(WORK)
    for steps in range(300):
        task = asyncio.create_task(consumer.consume(Seen(), concurrency=1, grace_s=0.1))
        replies = asyncio.create_task(consumer.pending_count())
        for _ in range(steps % 60):
            await asyncio.sleep(0)
        if steps % 2:
            await replies
        task.cancel()
        _, running = await asyncio.wait([task], timeout=5)
        assert not running, f"swallowed after {steps} steps"
        await replies


async def test_a_server_killed_mid_fetch_costs_no_message(server: NatsServer, broker: Broker) -> None:
    """SIGKILL while pulls are outstanding and messages in hand; after the restart everything arrives."""
    consumer = await broker.ensure_consumer(WORK)
    seen = Seen()
    wanted: set[bytes] = set()
    async with consuming(consumer, seen):
        for round_ in range(3):
            before = [f"before-{round_}-{number}" for number in range(20)]
            for name in before:
                await publish(broker, name)
            server.kill()
            await eventually(lambda: not broker.connected)
            with pytest.raises(Unavailable):
                await broker.publish("documents.a.changed", b"", message_id="refused at once")
            down = asyncio.create_task(publish(broker, f"down-{round_}"))
            server.start()
            await down
            await publish(broker, f"after-{round_}")
            wanted |= {name.encode() for name in (*before, f"down-{round_}", f"after-{round_}")}
            await seen.all_of(wanted)
        await drained(consumer)


async def test_an_idle_pull_survives_the_servers_restart(server: NatsServer, broker: Broker) -> None:
    """Nothing to do, the server restarts, and the next message still arrives within seconds."""
    consumer = await broker.ensure_consumer(WORK)
    seen = Seen()
    async with consuming(consumer, seen):
        await publish(broker, "first")
        await eventually(lambda: len(seen.payloads) == 1)
        server.kill()
        server.start()
        begin = time.monotonic()
        await publish(broker, "second")
        await eventually(lambda: len(seen.payloads) == 2, within_s=5)
    print(f"idle pull healed {time.monotonic() - begin:.2f} s after the restart")  # noqa: T201


async def test_a_process_that_stood_still_takes_up_what_came_meanwhile(
    server: NatsServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own silence is not the server's: nothing is left to a lease that outlasts this test."""
    monkeypatch.setattr(inbox, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(inbox, "SILENCE_S_MAX", 0.25)
    consumer, seen = broker.consumer(msgspec.structs.replace(WORK, ack_wait_s=120.0)), Seen()

    async def meanwhile() -> None:
        until = time.monotonic() + 0.5
        async with Broker.connect(server.url, name="other", streams=SMALL) as other:
            await publish(other, "second")
            watched = other.consumer(consumer.settings)
            while (await watched.backlog()).in_flight == 0 or time.monotonic() < until:
                await asyncio.sleep(0.01)

    async with consuming(consumer, seen):
        await publish(broker, "first")
        await seen.all_of({b"first"})
        elsewhere = threading.Thread(target=lambda: asyncio.run(meanwhile()))
        elsewhere.start()
        elsewhere.join()  # nothing else runs in this one: it stands still
        await seen.all_of({b"second"})


async def test_a_wiped_store_is_made_anew(server: NatsServer, broker: Broker) -> None:
    """Streams and consumer are created again by themselves; the stream's creation time tells of it."""
    consumer = await broker.ensure_consumer(WORK)
    created = await broker.stream_created_at(DOCUMENTS_STREAM)
    seen = Seen()
    async with consuming(consumer, seen):
        server.kill()
        server.wipe()
        server.start()
        await publish(broker, "new")
        await eventually(lambda: seen.payloads == [b"new"])
    assert await broker.stream_created_at(DOCUMENTS_STREAM) > created


async def test_a_deleted_consumer_is_created_again(broker: Broker) -> None:
    """Deleting the consumer under a running pull costs a moment, not the worker."""
    consumer = await broker.ensure_consumer(WORK)
    seen = Seen()
    async with consuming(consumer, seen):
        await publish(broker, "a")
        await eventually(lambda: len(seen.payloads) == 1)
        await broker._connection.api(f"CONSUMER.DELETE.{DOCUMENTS_STREAM}.work", dict)
        await publish(broker, "b")
        await eventually(lambda: b"b" in seen.payloads)


async def test_a_drifted_consumer_is_updated_or_named(broker: Broker) -> None:
    """What can change is changed; what cannot is an error that names the field."""
    await broker.ensure_consumer(WORK)
    longer = ConsumerSettings(stream=WORK.stream, durable="work", filter_subjects=("documents.>",), ack_wait_s=7.0)
    await broker.ensure_consumer(longer)
    config = {"durable_name": "fixed", "name": "fixed", "ack_policy": "all", "deliver_policy": "new"}
    body = {"stream_name": INDEX_STREAM, "config": config}
    await broker._connection.api(f"CONSUMER.CREATE.{INDEX_STREAM}.fixed", dict, body)
    with pytest.raises(ConfigurationError, match="deliver_policy='new' where 'all'"):
        await broker.ensure_consumer(
            ConsumerSettings(stream=INDEX_STREAM, durable="fixed", filter_subjects=("index.>",))
        )


async def test_a_server_that_comes_later_is_found(tmp_path: Path) -> None:
    """A broker opened before its server raises Unavailable, names the address without secrets, and connects later."""
    server = NatsServer(tmp_path)
    url = f"nats://someone:secret@127.0.0.1:{server.port}"
    async with Broker.connect(url, name="early", streams=SMALL, wait_s=0.1) as broker:
        with pytest.raises(Unavailable, match=f"127.0.0.1:{server.port}") as caught:
            await broker.ensure_streams()
        assert "secret" not in str(caught.value)
        server.start()
        try:
            assert await broker.wait_connected(timeout_s=10)
            await broker.ensure_streams()
        finally:
            server.kill()


async def test_a_connection_given_up_is_replaced(broker: Broker) -> None:
    """A connection that the client library closed for good is made anew."""
    assert broker._connection._client is not None
    await broker._connection._client.close()
    await publish(broker, "a")


async def test_a_half_open_connection_is_noticed(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that keeps the connection but says nothing is taken for lost; when it wakes, work goes on."""
    monkeypatch.setattr("refdesk.outside.nats.connection.PING_INTERVAL_S", 0.2)
    async with Broker.connect(server.url, name="test", streams=SMALL) as broker:
        await broker.ensure_streams()
        seen = Seen()
        async with consuming(broker.consumer(WORK), seen):
            await publish(broker, "a")
            await seen.all_of({b"a"})
            server.signal(signal.SIGSTOP)
            try:
                await eventually(lambda: not broker.connected)
            finally:
                server.signal(signal.SIGCONT)
            await publish(broker, "b")
            await seen.all_of({b"a", b"b"})


async def test_servers_that_are_all_slow_are_left_less_and_less_often(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an overloaded machine each change of the server costs more than it brings: patience doubles, to a limit."""
    monkeypatch.setattr(nats_connection, "PATIENCE_S", 0.05)
    monkeypatch.setattr(nats_connection, "PATIENCE_S_MAX", 0.3)
    async with Connection.open(server.url, name="test", wait_s=5.0) as connection:
        connection._patience_s = 0.05
        patience = []

        async def unanswered(**_: object) -> None:
            raise nats.errors.FlushTimeoutError

        for _ in range(5):
            assert await connection.wait_connected(timeout_s=10)
            client = connection._client
            assert client is not None
            monkeypatch.setattr(client, "flush", unanswered)
            connection._unanswered_since = asyncio.get_running_loop().time()
            await eventually(lambda left=client: connection._client is not left)  # type: ignore[misc]
            patience.append(connection._patience_s)
        assert patience == [0.1, 0.2, 0.3, 0.3, 0.3]
        monkeypatch.setattr(nats_connection, "TRUSTED_AFTER_S", 0.0)
        assert await connection.wait_connected(timeout_s=10)
        await connection.api("INFO", dict)
        assert connection._patience_s == 0.05


def test_a_transport_that_is_closed_already_is_an_absence_and_no_fault(server: NatsServer) -> None:
    """Where the client's writer has found out and its reader has not, uvloop, on which services run, has a word of its own."""

    async def lose() -> None:
        async with Connection.open(server.url, name="test", wait_s=5.0) as connection:
            for use in (connection.request, connection.send):
                assert await connection.wait_connected(timeout_s=10.0)
                client = connection._client
                assert client is not None
                client._flusher_task.cancel()
                await asyncio.wait([client._flusher_task])
                client._transport._io_writer.transport.abort()
                await asyncio.sleep(0)
                assert connection.connected
                with pytest.raises(Unavailable):
                    await use("nobody", b"x")
                await eventually(lambda: not connection.connected)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(lose())
