"""The index's events become the documents' states: through a real NATS, in any order, any number of times."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.documents_desk import ADMINISTRATOR, Desk, eventually, key, open_desk, running
from tests.integration.nats_server import NatsServer

from refdesk.contracts.events import IndexApplied, IndexFailed, encode
from refdesk.documents.states import StateConsumer
from refdesk.outside.nats.broker import Broker
from refdesk.settings.servers import StreamSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    server = NatsServer(folder)
    server.start()
    yield server
    server.kill()


@contextlib.asynccontextmanager
async def following(desk: Desk, nats: NatsServer) -> AsyncIterator[Broker]:
    streams = StreamSettings(bytes_max=64 << 20)
    async with Broker.connect(nats.url, name="test", streams=streams) as broker:
        await broker.ensure_streams()
        async with running(StateConsumer(desk.store, broker=broker).run):
            yield broker


async def publish(broker: Broker, event: IndexApplied | IndexFailed, *, event_id: str) -> None:
    await broker.publish(event.subject, encode(event, event_id=event_id, source="test"), message_id=event_id)


def applied(document_id: str, version: int) -> IndexApplied:
    return IndexApplied(document_id=document_id, version=version, chunks=1, generation="g", seconds={}, occurred_at=NOW)


def failed(document_id: str, version: int, *, attempts: int = 1, final: bool = False) -> IndexFailed:
    return IndexFailed(
        document_id=document_id,
        version=version,
        reason="report.pdf is encrypted.",
        code="document-rejected",
        attempts=attempts,
        final=final,
        occurred_at=NOW,
    )


async def state(desk: Desk, document_id: str) -> dict[str, Any]:
    reply = await desk.call("GET", f"/{document_id}", by=ADMINISTRATOR)
    names = ("state", "indexed_version", "attempts", "failure")
    return {name: reply.json[name] for name in names}


async def becomes(desk: Desk, document_id: str, wanted: dict[str, Any]) -> None:
    async def is_there() -> bool:
        return await state(desk, document_id) == wanted

    await eventually(is_there)


async def test_a_document_becomes_searchable_and_its_watcher_sees_it(desk: Desk, nats: NatsServer) -> None:
    """One applied event: state, version and lag change, and the event stream says so."""
    document = await desk.add()
    address, headers = desk.address("/events"), key(ADMINISTRATOR)
    async with following(desk, nats) as broker, desk.session.get(address, headers=headers) as response:
        await response.content.readuntil(b"\n\n")
        await publish(broker, applied(document["id"], 1), event_id="a")
        shown = {"state": "pending"}  # as the addition itself may still be told
        while shown["state"] == "pending":
            event = (await response.content.readuntil(b"\n\n")).decode()
            shown = msgspec.json.decode(event.partition("data: ")[2])
    assert (shown["state"], shown["indexed_version"], shown["lag_seconds"]) == ("indexed", 1, None)
    reply = await desk.call("POST", "/standing", by=ADMINISTRATOR, json={"document_ids": []})
    assert reply.json["index_lag_seconds"] == 0


async def test_a_failure_is_shown_with_its_reason(desk: Desk, nats: NatsServer) -> None:
    """Tried again: pending, with the reason; given up: failed; after a new version: pending, as if nothing was."""
    document = await desk.add()
    async with following(desk, nats) as broker:
        await publish(broker, failed(document["id"], 1), event_id="a")
        reason = "report.pdf is encrypted."
        await becomes(desk, document["id"], {
            "state": "pending", "indexed_version": None, "attempts": 1, "failure": reason,
        })  # fmt: skip
        await publish(broker, failed(document["id"], 1, attempts=5, final=True), event_id="b")
        await becomes(desk, document["id"], {
            "state": "failed", "indexed_version": None, "attempts": 5, "failure": reason,
        })  # fmt: skip
        listed = await desk.call("GET", "?state=failed")
        assert [one["id"] for one in listed.json["documents"]] == [document["id"]]
    await desk.call("PUT", f"/{document['id']}", json={"text": "repaired"})
    assert await state(desk, document["id"]) == {
        "state": "pending", "indexed_version": None, "attempts": 0, "failure": None,
    }  # fmt: skip


async def test_junk_on_the_stream_is_given_up_and_holds_nothing_up(desk: Desk, nats: NatsServer) -> None:
    """What is no event of ours never comes back; what follows is applied."""
    document = await desk.add()
    async with following(desk, nats) as broker:
        await broker.publish("index.x.applied", b"not json", message_id="junk")
        await publish(broker, applied("0" * 32, 1), event_id="unknown document")
        await publish(broker, applied(document["id"], 1), event_id="a")
        await becomes(desk, document["id"], {
            "state": "indexed", "indexed_version": 1, "attempts": 0, "failure": None,
        })  # fmt: skip


async def test_any_order_and_number_of_events_ends_in_the_same_state(desk: Desk) -> None:
    """Every permutation of applied 1, applied 2, failed 1 and failed 2, each twice: version 2 is indexed."""
    for order in itertools.permutations(("applied 1", "applied 2", "failed 1", "failed 2")):
        document = await desk.add()
        await desk.call("PUT", f"/{document['id']}", json={"text": "new"})
        for name in [*order, *order]:
            kind, version = name.split()
            if kind == "applied":
                await desk.store.apply_indexed(applied(document["id"], int(version)))
            else:
                await desk.store.apply_failed(failed(document["id"], int(version), final=True))
        shown = await state(desk, document["id"])
        assert (shown["state"], shown["indexed_version"], shown["failure"]) == ("indexed", 2, None), order


async def test_an_older_version_applied_leaves_the_newer_pending_since_its_own_change(desk: Desk) -> None:
    """The lag shrinks to the change that is really waiting."""
    document = await desk.add()
    newer = (await desk.call("PUT", f"/{document['id']}", json={"text": "new"})).json
    await desk.store.apply_indexed(applied(document["id"], 1))
    reply = await desk.call("POST", "/standing", by=ADMINISTRATOR, json={"document_ids": []})
    assert reply.json["as_of"] == newer["updated_at"]
    shown = await state(desk, document["id"])
    assert (shown["state"], shown["indexed_version"]) == ("pending", 1)


async def test_a_deletion_waits_until_it_is_applied_and_stays_hidden(desk: Desk) -> None:
    """A tombstone counts as a pending change; a late event about it brings nothing back."""
    document = await desk.add()
    await desk.store.apply_indexed(applied(document["id"], 1))
    await desk.call("DELETE", f"/{document['id']}")
    assert (await desk.service.backlog()).documents_pending == 1
    await desk.store.apply_indexed(applied(document["id"], 1))
    assert (await desk.service.backlog()).documents_pending == 1
    await desk.store.apply_indexed(applied(document["id"], 2))
    assert (await desk.service.backlog()).documents_pending == 0
    assert (await desk.call("GET", f"/{document['id']}")).status == 404
