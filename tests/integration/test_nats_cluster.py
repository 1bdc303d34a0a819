"""The broker adapter on a cluster of three, whose nodes are stopped, killed, frozen and set back one by one."""

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.integration.nats_cluster import NatsCluster, frozen, nats_cluster, url_of
from tests.integration.nats_server import NatsServer

from refdesk.contracts.errors import Unavailable
from refdesk.contracts.events import DOCUMENTS_STREAM, INDEXER, SUBJECTS
from refdesk.outside.nats.broker import Broker, ConsumerSettings, Message
from refdesk.settings.servers import StreamSettings

RESUMED_S_MAX = 15.0
"""The promise: so long after a node's loss, work goes on."""
THREE = StreamSettings(bytes_max=64 << 20, replicas=3)
INDEXER = ConsumerSettings(
    stream=DOCUMENTS_STREAM,
    durable=INDEXER,
    filter_subjects=(SUBJECTS[DOCUMENTS_STREAM],),
    ack_wait_s=2.0,
)


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsCluster]:
    async with nats_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class Load:
    """Publishes without pause, trying again as a relay does, and consumes; both keep record."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.acknowledged: dict[bytes, int] = {}
        """Payload and place of what the broker has acknowledged as new."""
        self.received: dict[bytes, float] = {}

    async def publish(self) -> None:
        for number in itertools.count():
            payload = b"%d" % number
            while payload not in self.acknowledged:
                try:
                    reply = await self.broker.publish("documents.a.changed", payload, message_id=f"load-{number}")
                    self.acknowledged[payload] = reply.sequence
                except Unavailable:
                    await asyncio.sleep(0.05)

    async def consume(self) -> None:
        await self.broker.consumer(INDEXER).consume(self._take, concurrency=8, grace_s=1.0)

    async def _take(self, message: Message) -> None:
        self.received.setdefault(message.payload, time.monotonic())
        await message.ack()

    async def goes_on(self, *, after: float, within_s: float = RESUMED_S_MAX) -> float:
        """Wait until something published after that moment was received; the seconds since then."""
        known = set(self.acknowledged)
        async with asyncio.timeout(after + within_s + 30 - time.monotonic()):
            while not (new := self.received.keys() - known):
                await asyncio.sleep(0.01)
        return min(self.received[payload] for payload in new) - after


@contextlib.asynccontextmanager
async def loaded(cluster: NatsCluster, *, settings: StreamSettings = THREE, url: str = "") -> AsyncIterator[Load]:
    """Everything acknowledged must have been received at the end, each under a place of its own."""
    async with Broker.connect(url or cluster.urls, name="test", streams=settings) as broker:
        await anew(broker)
        load = Load(broker)
        async with asyncio.TaskGroup() as tasks:
            publishing, consuming = tasks.create_task(load.publish()), tasks.create_task(load.consume())
            await load.goes_on(after=time.monotonic())
            yield load
            publishing.cancel()
            await eventually(lambda: load.acknowledged.keys() <= load.received.keys())
            consuming.cancel()
        places = list(load.acknowledged.values())
        assert len(set(places)) == len(places)


async def anew(broker: Broker) -> None:
    """Streams without anything in them, as the settings ask for them."""
    async with asyncio.timeout(60):
        for stream in SUBJECTS:
            with contextlib.suppress(Unavailable):
                await broker._connection.api(f"STREAM.DELETE.{stream}", dict[str, Any])
        while True:
            with contextlib.suppress(Unavailable):
                await broker.ensure_streams()
                return
            await asyncio.sleep(0.1)


async def eventually(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


async def granted(broker: Broker, call: str) -> None:
    """Ask until it is: while one election goes on there may be nobody to grant the next."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                await broker._connection.api(call, dict[str, Any])
                return
            await asyncio.sleep(0.1)


async def victim(cluster: NatsCluster, load: Load, *, of: str = DOCUMENTS_STREAM) -> NatsServer:
    return cluster.nodes[await cluster.leader(of, at=load.broker._connection)]


async def test_a_leader_killed_under_load_loses_nothing(cluster: NatsCluster) -> None:
    """SIGKILL; the client may be connected to that very node. Every acknowledged message arrives, and work goes on in time."""
    async with loaded(cluster) as load:
        node = await victim(cluster, load)
        node.kill()
        resumed_s = await load.goes_on(after=time.monotonic())
        print(f"resumed {resumed_s:.1f} s after SIGKILL")  # noqa: T201
        node.start()
    assert resumed_s <= RESUMED_S_MAX


@pytest.mark.long
@pytest.mark.parametrize("of", [DOCUMENTS_STREAM, f"{DOCUMENTS_STREAM}.{INDEXER}"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_each_leader_may_be_stopped(cluster: NatsCluster, how: signal.Signals, of: str) -> None:
    """The stream's and the consumer's, in an orderly way or not."""
    async with loaded(cluster) as load:
        node = await victim(cluster, load, of=of)
        await asyncio.to_thread(node.stop, how)
        resumed_s = await load.goes_on(after=time.monotonic())
        print(f"resumed {resumed_s:.1f} s after {how.name} of the leader of {of}")  # noqa: T201
        node.start()
    assert resumed_s <= RESUMED_S_MAX


@pytest.mark.long
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the client leaves sockets of failed attempts
@pytest.mark.parametrize("single", [False, True], ids=["all are named", "only the frozen one is named"])
async def test_a_frozen_node_is_left(cluster: NatsCluster, single: bool) -> None:
    """It keeps its connections and says nothing. Others are found although only this one was named."""
    name = next(iter(cluster.nodes))
    node = cluster.nodes[name]
    async with loaded(cluster, url=url_of(node) if single else "") as load:
        if not single:
            node = await victim(cluster, load)
        with frozen(node):
            resumed_s = await load.goes_on(after=time.monotonic())
        print(f"resumed {resumed_s:.1f} s after SIGSTOP")  # noqa: T201
    assert resumed_s <= RESUMED_S_MAX


@pytest.mark.long
async def test_a_lost_quorum_stops_work_and_its_return_starts_it(cluster: NatsCluster) -> None:
    """With one node of three nothing is acknowledged; with two, work goes on."""
    async with loaded(cluster) as load:
        first, second, _ = cluster.nodes.values()
        first.kill()
        second.kill()
        killed_at = time.monotonic()
        before = len(load.acknowledged)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                while len(load.acknowledged) <= before + 1:
                    await asyncio.sleep(0.05)
        first.start()
        resumed_s = await load.goes_on(after=time.monotonic())
        print(f"without a quorum for {time.monotonic() - killed_at:.0f} s, resumed after {resumed_s:.1f} s")  # noqa: T201
        second.start()
    assert resumed_s <= RESUMED_S_MAX


@pytest.mark.long
async def test_leaders_may_step_down_again_and_again(cluster: NatsCluster) -> None:
    """Elections in the middle of everything cost a moment each."""
    async with loaded(cluster) as load:
        for _ in range(5):
            for what in (
                f"STREAM.LEADER.STEPDOWN.{DOCUMENTS_STREAM}",
                f"CONSUMER.LEADER.STEPDOWN.{DOCUMENTS_STREAM}.indexer",
            ):
                await granted(load.broker, what)
                assert await load.goes_on(after=time.monotonic()) <= RESUMED_S_MAX


@pytest.mark.long
async def test_a_stream_grows_from_one_replica_to_three_while_it_works(cluster: NatsCluster) -> None:
    """By the setting, on a running system; the stream keeps its age and its place."""
    async with loaded(cluster, settings=StreamSettings(bytes_max=64 << 20)) as load:
        before = await load.broker.stream_state(DOCUMENTS_STREAM)
        async with Broker.connect(cluster.urls, name="other", streams=THREE) as other:
            await other.ensure_streams()
            await load.goes_on(after=time.monotonic())
            after = await other.stream_state(DOCUMENTS_STREAM)
            assert (await other.examine_stream(DOCUMENTS_STREAM))[1] == []
    assert after.created_at == before.created_at
    assert after.last_sequence >= before.last_sequence
