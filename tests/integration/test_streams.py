"""The streams against what the settings ask for, and how they are kept from filling, on a real nats-server."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from tests.integration.nats_server import NatsServer
from tests.support.patience import within

from refdesk.app.commands.checks.streams import check_streams
from refdesk.contracts.errors import BrokerFull, ConfigurationError
from refdesk.contracts.events import DOCUMENTS_STREAM, READERS, SUBJECTS
from refdesk.outside.nats import purging as jetstream_purging
from refdesk.outside.nats.broker import Broker, Consumer, ConsumerSettings, Message
from refdesk.outside.nats.purging import Purging
from refdesk.outside.nats.streams import StreamInfo, stream_config
from refdesk.settings.loading import load
from refdesk.settings.servers import StreamSettings

MIB = 1 << 20
WANTED = StreamSettings(bytes_max=64 * MIB)
INDEXER, RECORDER = (
    ConsumerSettings(stream=DOCUMENTS_STREAM, durable=name, filter_subjects=(SUBJECTS[DOCUMENTS_STREAM],))
    for name in READERS[DOCUMENTS_STREAM]
)
DAY_NS = 24 * 3600 * 10**9


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@contextlib.asynccontextmanager
async def connected(server: NatsServer, settings: StreamSettings = WANTED) -> AsyncIterator[Broker]:
    async with Broker.connect(server.url, name="test", streams=settings) as broker:
        yield broker


@pytest.fixture
async def broker(server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(server) as broker:
        yield broker


async def operators_stream(broker: Broker, **different: Any) -> None:
    """Both streams as somebody else made them: ours but for some fields."""
    for name in SUBJECTS:
        config = {**stream_config(name, WANTED), **different}
        config["subjects"] = [SUBJECTS[name], *different.get("subjects", {}).get(name, ())]
        await broker._connection.api(f"STREAM.CREATE.{name}", dict, config)


async def config_of(broker: Broker, stream: str = DOCUMENTS_STREAM) -> dict[str, Any]:
    return (await broker._connection.api(f"STREAM.INFO.{stream}", StreamInfo)).config


async def doctors_word(server: NatsServer, **settings: Any) -> dict[str, Any]:
    given = {"nats_url": server.url, "stream_bytes_max": WANTED.bytes_max, **settings}
    return {finding.name: finding async for finding in check_streams(load(given, environ={}))}


STRICTER = {
    "larger": {"max_bytes": 128 * MIB},
    "without limit": {"max_bytes": -1},
    "longer": {"max_age": 30 * DAY_NS},
    "for ever": {"max_age": 0},
    "larger messages": {"max_msg_size": -1},
    "a longer memory of ids": {"duplicate_window": 600 * 10**9},
}


@pytest.mark.parametrize("different", STRICTER.values(), ids=STRICTER)
async def test_a_stricter_stream_is_taken_as_it_is(
    server: NatsServer, broker: Broker, different: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word, and without changing it."""
    await operators_stream(broker, **different)
    before = await config_of(broker)
    with caplog.at_level(logging.INFO, logger="refdesk.outside.nats.streams"):
        await broker.ensure_streams()
    assert await config_of(broker) == before
    assert caplog.messages == []
    assert {finding.level for finding in (await doctors_word(server)).values()} == {"ok"}


ASKED = {
    "smaller": {"max_bytes": MIB},
    "shorter": {"max_age": DAY_NS},
    "smaller messages": {"max_msg_size": 1000},
    "a shorter memory of ids": {"duplicate_window": 10**9},
}


@pytest.mark.parametrize("different", ASKED.values(), ids=ASKED)
async def test_a_setting_that_asks_for_more_updates_the_stream(
    server: NatsServer, broker: Broker, different: dict[str, Any]
) -> None:
    """What is in it stays; what the operator gave beyond the settings stays, too."""
    await operators_stream(broker, **different, description="ours")
    await broker.publish("documents.a.changed", b"1", message_id="1")
    assert (await doctors_word(server))["stream DOCUMENTS"].level == "warn"
    states = await broker.ensure_streams()
    assert states[DOCUMENTS_STREAM].messages == 1
    config, wanted = await config_of(broker), stream_config(DOCUMENTS_STREAM, WANTED)
    assert {field: config[field] for field in wanted} == wanted
    assert config["description"] == "ours"
    assert (await doctors_word(server))["stream DOCUMENTS"].level == "ok"


async def test_what_nats_refuses_is_said_once_and_lived_with(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Replicas on a single server: one line names field and reason, and messages go on."""
    async with connected(server) as broker:
        await broker.ensure_streams()
    async with connected(server, msgspec.structs.replace(WANTED, replicas=3)) as broker:
        for _ in range(3):
            await broker.ensure_streams()
        await broker.publish("documents.a.changed", b"1", message_id="1")
    [line, *_] = [message for message in caplog.messages if message.startswith("Stream DOCUMENTS")]
    assert "num_replicas=1 where 3 is wanted. NATS refuses the change" in line
    assert caplog.messages.count(line) == 1


DIFFERENT = {
    "more subjects": {"subjects": {DOCUMENTS_STREAM: ["audit.>"]}},
    "a limit of messages": {"max_msgs": 10_000},
    "a limit of consumers": {"max_consumers": 20},
}


@pytest.mark.parametrize("different", DIFFERENT.values(), ids=DIFFERENT)
async def test_what_is_merely_different_is_accepted_and_said(
    server: NatsServer, broker: Broker, different: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Once, although the streams are looked at every few seconds; the doctor says it, too."""
    await operators_stream(broker, **different)
    field = next(iter(different))
    with caplog.at_level(logging.INFO, logger="refdesk.outside.nats.streams"):
        await broker.ensure_streams()
        await broker.ensure_streams()
    [line] = [message for message in caplog.messages if message.startswith(f"Stream DOCUMENTS has {field}=")]
    assert line.endswith("That is accepted.")
    finding = (await doctors_word(server))["stream DOCUMENTS"]
    assert (finding.level, field in finding.what) == ("ok", True)


WRONG = {
    "drops the old": ({"discard": "old"}, "nats stream edit DOCUMENTS --discard=new"),
    "drops the old of a subject": ({"max_msgs_per_subject": 1}, "nats stream edit DOCUMENTS --max-msgs-per-subject=-1"),
    "one reader only": ({"retention": "workqueue"}, "nats stream rm DOCUMENTS"),
    "nothing before its readers": ({"retention": "interest"}, "nats stream rm DOCUMENTS"),
    "confirms nothing": ({"no_ack": True}, "nats stream edit DOCUMENTS --ack"),
    "in memory": ({"storage": "memory", "max_bytes": MIB}, "nats stream rm DOCUMENTS"),
    "lets nothing leave": ({"deny_purge": True}, "nats stream rm DOCUMENTS"),
}


@pytest.mark.parametrize(("different", "mend"), WRONG.values(), ids=WRONG)
async def test_a_stream_that_would_lose_events_is_refused(
    server: NatsServer, broker: Broker, different: dict[str, Any], mend: str
) -> None:
    """One sentence with field, value and wanted value, and the command that mends it; the doctor says the same."""
    await operators_stream(broker, **different)
    field, value = next(iter(different.items()))
    with pytest.raises(ConfigurationError) as caught:
        await broker.ensure_streams()
    assert caught.value.details["field"] == field
    assert f"Stream DOCUMENTS has {field}={value!r} where " in caught.value.message
    assert mend in caught.value.message
    finding = (await doctors_word(server))["stream DOCUMENTS"]
    assert finding.level == "FAIL" and mend in finding.mend and f"{field}={value!r}" in finding.what


async def test_a_stream_without_our_subjects_is_refused(broker: Broker) -> None:
    """It would take none of our messages."""
    await broker._connection.api("STREAM.CREATE.DOCUMENTS", dict, {"name": "DOCUMENTS", "subjects": ["other"]})
    with pytest.raises(ConfigurationError, match=r"--subjects=documents\.>"):
        await broker.ensure_streams()


# -- never full


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for a minute."""
    monkeypatch.setattr(jetstream_purging, "LOOK_S", 0.05)
    monkeypatch.setattr(jetstream_purging, "PURGE_S", 0.0)
    monkeypatch.setattr(jetstream_purging, "SETTLED_S", 0.0)


async def acknowledge(message: Message) -> None:
    await message.ack()


@contextlib.asynccontextmanager
async def running(*work: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(condition: Callable[[], Any], *, within_s: float = 60.0) -> None:
    """``condition`` is a coroutine function."""
    async with within(within_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def readers_come(broker: Broker) -> Consumer:
    """Both that the stream is there for; the indexer."""
    await broker.ensure_consumer(RECORDER)
    return await broker.ensure_consumer(INDEXER)


async def record(broker: Broker) -> None:
    """As the recorder does, until cancelled."""
    await broker.consumer(RECORDER).consume(acknowledge, concurrency=50)


async def publish(broker: Broker, count: int, *, bytes_each: int = 300, named: str = "d") -> None:
    """As fast as it goes, a few hundred at a time. Raises BrokerFull."""
    payload = b"x" * bytes_each
    for first in range(0, count, 200):
        numbers = range(first, min(first + 200, count))
        await asyncio.gather(
            *(broker.publish(f"documents.{n}.changed", payload, message_id=f"{named}{n}") for n in numbers)
        )


async def test_what_all_have_read_leaves(broker: Broker, impatient: None) -> None:
    """And what the slowest of them has not acknowledged stays, whoever made that reader."""
    await broker.ensure_streams()
    indexer = await readers_come(broker)
    slow = await broker.ensure_consumer(msgspec.structs.replace(INDEXER, durable="slow"))
    await publish(broker, 10)
    purging = Purging(broker, absent_s_max=3600)
    async with running(indexer.consume(acknowledge, concurrency=4), record(broker)):
        await until(lambda: drained(indexer))
        await until(lambda: drained(broker.consumer(RECORDER)))
        await purging.look()
        assert (await broker.stream_state(DOCUMENTS_STREAM)).messages == 10
        async with running(slow.consume(acknowledge, concurrency=4)):
            await until(lambda: drained(slow))
        await purging.look()
    state = await broker.stream_state(DOCUMENTS_STREAM)
    assert (state.messages, state.last_sequence) == (0, 10)


async def drained(consumer: Consumer) -> bool:
    return await consumer.pending_count() == 0


@pytest.mark.parametrize("come", [INDEXER, RECORDER, msgspec.structs.replace(INDEXER, durable="other")])
async def test_nothing_leaves_before_the_readers_it_is_for_have_come(
    broker: Broker, impatient: None, come: ConsumerSettings
) -> None:
    """One reader that has read everything does not decide: the record of standings must not miss what the index has."""
    await broker.ensure_streams()
    reader = await broker.ensure_consumer(come)
    await publish(broker, 10)
    async with running(reader.consume(acknowledge, concurrency=4)):
        await until(lambda: drained(reader))
    await Purging(broker, absent_s_max=3600).look()
    assert (await broker.stream_state(DOCUMENTS_STREAM)).messages == 10


async def test_the_readers_a_stream_is_for_are_never_forgotten(
    server: NatsServer, broker: Broker, impatient: None
) -> None:
    """However long they are away; and the doctor does not advise to delete one."""
    await broker.ensure_streams()
    indexer = await readers_come(broker)
    await publish(broker, 10)
    async with running(indexer.consume(acknowledge, concurrency=4)):
        await until(lambda: drained(indexer))
    purging = Purging(broker, absent_s_max=0.0)
    await purging.look()
    await purging.look()
    assert (await broker.stream_state(DOCUMENTS_STREAM)).messages == 10
    assert (await doctors_word(server))["stream DOCUMENTS"].level == "ok"


async def test_a_reader_of_some_subjects_holds_back_only_what_is_for_it(broker: Broker, impatient: None) -> None:
    """Its floor stands still where nothing comes for it; that must not hold the stream."""
    await broker.ensure_streams()
    indexer = await readers_come(broker)
    some = msgspec.structs.replace(INDEXER, durable="deletions", filter_subjects=("documents.*.deleted",))
    deletions = await broker.ensure_consumer(some)
    await publish(broker, 10)
    purging = Purging(broker, absent_s_max=3600)
    async with running(indexer.consume(acknowledge, concurrency=4), record(broker)):
        await until(lambda: drained(indexer))
        await until(lambda: drained(broker.consumer(RECORDER)))
        await purging.look()
        await purging.look()
        assert (await broker.stream_state(DOCUMENTS_STREAM)).messages == 0
        await broker.publish("documents.gone.deleted", b"", message_id="deleted")
        await until(lambda: drained(indexer))
        await purging.look()
        await purging.look()
        assert (await broker.stream_state(DOCUMENTS_STREAM)).messages == 1
        async with running(deletions.consume(acknowledge, concurrency=1)):
            await until(lambda: drained(deletions))


async def test_a_forgotten_reader_holds_nothing_for_ever(
    broker: Broker, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """After the time that the setting gives; the log names it and the command that removes it. Asked again, it counts again."""
    await broker.ensure_streams()
    indexer = await readers_come(broker)
    forgotten = await broker.ensure_consumer(msgspec.structs.replace(INDEXER, durable="forgotten"))
    await publish(broker, 10)
    purging = Purging(broker, absent_s_max=0.5)
    async with running(indexer.consume(acknowledge, concurrency=4), record(broker)):
        await until(lambda: drained(indexer))
        await purging.look()
        assert (await broker.stream_state(DOCUMENTS_STREAM)).messages == 10

        async def gone() -> bool:
            await purging.look()
            return (await broker.stream_state(DOCUMENTS_STREAM)).messages == 0

        await until(gone)
        [line] = [message for message in caplog.messages if "nobody has used the consumer forgotten" in message]
        assert "nats consumer rm DOCUMENTS forgotten" in line
        async with running(forgotten.consume(lambda message: asyncio.sleep(60), concurrency=1, grace_s=0.1)):
            await publish(broker, 1, named="again")
            await until(lambda: drained(indexer))
            await asyncio.gather(*(purging.look() for _ in range(3)))
            assert (await broker.stream_state(DOCUMENTS_STREAM)).messages == 1


async def test_one_message_that_is_held_up_does_not_fill_the_stream(server: NatsServer, impatient: None) -> None:
    """It leaves with those that have served; the outbox tells it again."""
    async with connected(server, msgspec.structs.replace(WANTED, bytes_max=MIB // 8)) as broker:
        await broker.ensure_streams()

        async def handle(message: Message) -> None:
            await (message.nak(3600) if message.stream_sequence == 1 else message.ack())

        indexer, purging = await readers_come(broker), Purging(broker, absent_s_max=3600)
        async with running(indexer.consume(handle, concurrency=50), record(broker), purging.run()):
            for round_ in range(8):
                await publish(broker, 100, named=f"{round_}-")
                await until(lambda: only_one_left(indexer, broker))


async def only_one_left(consumer: Consumer, broker: Broker) -> bool:
    return await consumer.pending_count() <= 1 and (await broker.stream_state(DOCUMENTS_STREAM)).fullness < 0.6


async def test_a_full_stream_says_so_and_takes_messages_again_once_its_reader_comes(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As an old version left it: full of messages, most of them read. Nobody has to do anything."""
    async with connected(server, msgspec.structs.replace(WANTED, bytes_max=MIB // 8)) as broker:
        await broker.ensure_streams()
        with pytest.raises(BrokerFull, match=r"maximum bytes exceeded"):
            await publish(broker, 10_000)
        finding = (await doctors_word(server, stream_bytes_max=MIB // 8))["stream DOCUMENTS"]
        assert finding.level == "warn" and "the consumer indexer has never come" in finding.what
        indexer = await readers_come(broker)
        purging = Purging(broker, absent_s_max=3600)
        await purging.look()
        assert (await broker.stream_state(DOCUMENTS_STREAM)).fullness > 0.99
        assert [message for message in caplog.messages if "stream DOCUMENTS is 100 % full" in message]
        finding = (await doctors_word(server, stream_bytes_max=MIB // 8))["stream DOCUMENTS"]
        assert finding.level == "warn" and "for the consumer indexer" in finding.what
        async with running(indexer.consume(acknowledge, concurrency=50), record(broker)):
            await until(lambda: drained(indexer))
            await until(lambda: drained(broker.consumer(RECORDER)))
        async with running(purging.run()):
            await until(lambda: has_room(broker))
            await publish(broker, 300, named="later")
    assert len([message for message in caplog.messages if "% full" in message]) == 1


async def has_room(broker: Broker) -> bool:
    with contextlib.suppress(BrokerFull):
        await publish(broker, 1, named="is there room")
        return True
    return False


async def test_a_full_server_says_so_and_recovers(tmp_path: Path, impatient: None) -> None:
    """The room of the whole server is the limit: the same error, and the same way out."""
    server = NatsServer(tmp_path, jetstream={"max_file_store": MIB // 8})
    server.start()
    try:
        async with connected(server, msgspec.structs.replace(WANTED, bytes_max=-1)) as broker:
            await broker.ensure_streams()
            indexer, purging = await readers_come(broker), Purging(broker, absent_s_max=3600)
            with pytest.raises(BrokerFull):
                await publish(broker, 10_000)
            async with running(indexer.consume(acknowledge, concurrency=50), record(broker), purging.run()):
                await until(lambda: has_room(broker))
    finally:
        server.kill()


async def flood(server: NatsServer, *, events: int, bytes_max: int, behind_max: int) -> float:
    """That many events through a stream of that size, read by its readers, who acknowledge each; the fullest it was.

    The publisher waits for no acknowledgement: one event refused, and the stream's last place shows it.
    """
    fullest, published, read = 0.0, 0, [0, 0]

    def reads(place: int) -> Callable[[Message], Awaitable[None]]:
        async def handle(message: Message) -> None:
            await message.ack()
            read[place] += 1

        return handle

    async with connected(server, msgspec.structs.replace(WANTED, bytes_max=bytes_max)) as broker:
        await broker.ensure_streams()
        purging = Purging(broker, absent_s_max=3600)
        readers = [await broker.ensure_consumer(settings) for settings in (INDEXER, RECORDER)]
        reading = (reader.consume(reads(place), concurrency=200) for place, reader in enumerate(readers))
        async with running(*reading, purging.run()):
            while published < events:
                for _ in range(min(behind_max, events - published)):
                    await broker._connection.send(f"documents.{published}.changed", b"x" * 300)
                    published += 1
                fullest = max(fullest, (await broker.stream_state(DOCUMENTS_STREAM)).fullness)
                async with within(60):  # an acknowledgement that is lost costs its lease
                    while published - min(read) > (behind_max if published < events else 0):
                        await asyncio.sleep(0.005)
        assert (await broker.stream_state(DOCUMENTS_STREAM)).last_sequence == published
    return fullest


async def test_a_small_stream_takes_many_times_its_size(server: NatsServer, impatient: None) -> None:
    """20,000 events through one that has room for 2,800, and for what comes between two looks: never full."""
    assert await flood(server, events=20_000, bytes_max=MIB, behind_max=100) < 1.0


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_three_million_events_go_through_a_stream_of_64_mib(server: NatsServer) -> None:
    """The promise's figure: more than a gigabyte, and never full."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:  # as services have it
        fullest = loop.run(flood(server, events=3_000_000, bytes_max=64 * MIB, behind_max=5000))
    print(f"fullest: {fullest:.0%}")  # noqa: T201
    assert fullest < 1.0
