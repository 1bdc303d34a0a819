"""The feed of document changes: what each watcher is told, over real server-sent events."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.documents_desk import ADMINISTRATOR, ALICE, HR, STRANGER, Desk, key, open_desk, running
from tests.support.patience import within

from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Overloaded, TooManyRequests
from refdesk.documents import feed
from refdesk.documents.feed import DocumentFeed
from refdesk.settings.documents import FeedLimits


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


class Stream:
    """A client of the event stream."""

    def __init__(self, content: Any) -> None:
        self._content = content

    async def next(self) -> tuple[str, Any]:
        """The next event's name and data."""
        fields: dict[str, str] = {}
        async with within(10):
            while line := (await self._content.readline()).decode():
                name, _, value = line.rstrip("\n").partition(": ")
                if not line.strip() and "event" in fields:
                    return fields["event"], msgspec.json.decode(fields["data"])
                if name:
                    fields[name] = value
        return "end", None


@contextlib.asynccontextmanager
async def watching(desk: Desk, by: Principal) -> AsyncIterator[Stream]:
    async with desk.session.get(desk.address("/events"), headers=key(by)) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert await response.content.readline() == b": watching\n"
        yield Stream(response.content)


async def test_a_watcher_sees_a_document_live_and_die(desk: Desk) -> None:
    """Created, replaced, deleted: each as it is committed."""
    async with watching(desk, ALICE) as stream:
        document = await desk.add()
        name, data = await stream.next()
        assert data.pop("waiting")["reason"] == "queued"
        document.pop("waiting")
        assert (name, data) == ("document", {**document, "lag_seconds": pytest.approx(0, abs=5)})
        await desk.call("PUT", f"/{document['id']}", json={"text": "new"})
        name, data = await stream.next()
        assert (name, data["version"], data["state"]) == ("document", 2, "pending")
        await desk.call("DELETE", f"/{document['id']}")
        assert await stream.next() == ("deleted", {"id": document["id"]})


async def test_a_watcher_is_told_only_of_what_they_may_read(desk: Desk) -> None:
    """A stranger's first event is the first open document; not even a deletion tells of a closed one."""
    async with watching(desk, STRANGER) as stranger, watching(desk, HR) as reader, watching(desk, ADMINISTRATOR) as ada:
        closed = await desk.add("Closed", readers=["hr"])
        await desk.call("DELETE", f"/{closed['id']}")
        await desk.add("Open")
        assert (await stranger.next())[1]["title"] == "Open"
        for watcher in (reader, ada):
            seen = [await watcher.next()]
            while seen[-1][0] != "document" or seen[-1][1]["title"] != "Open":
                seen.append(await watcher.next())
            assert ("deleted", {"id": closed["id"]}) in seen


async def test_who_loses_the_right_to_read_is_told_it_is_gone(desk: Desk) -> None:
    """A document that leaves a scope leaves its watcher's page."""
    document = await desk.add("Open")
    async with watching(desk, STRANGER) as stranger, watching(desk, HR) as reader:
        await desk.call("PUT", f"/{document['id']}", json={"readers": ["hr"]})
        while (told := await stranger.next())[0] == "document":
            assert told[1]["version"] == document["version"], "the version that is no longer theirs"
        assert told == ("deleted", {"id": document["id"]})
        while (told := await reader.next())[1]["version"] == document["version"]:
            pass
        assert told[1]["readers"] == ["hr"]


async def test_nobody_watches_without_a_key(desk: Desk) -> None:
    """401 before any stream."""
    assert (await desk.call("GET", "/events", by=None)).status == 401


async def test_a_watcher_too_far_behind_is_cut_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream ends, so that it connects and lists anew; memory stays bounded."""
    monkeypatch.setattr(feed, "BEHIND_MAX", 0)
    async with watching(desk, ALICE) as stream:
        await desk.add()
        while (event := await stream.next())[0] != "end":
            assert event[0] == "document"


async def test_a_lost_listener_cuts_watchers_off_and_new_ones_work(desk: Desk) -> None:
    """What was missed is found by listing; nobody waits on a dead stream."""
    async with watching(desk, ALICE) as stream:
        await desk.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'refdesk listen%%'"
        )
        assert (await stream.next())[0] == "end"
    async with watching(desk, ALICE) as stream:
        await desk.add("After")
        assert (await stream.next())[1]["title"] == "After"


async def test_one_principal_does_not_take_all_places(desk: Desk) -> None:
    """Of three places, two; what was left may be taken again."""
    limits = FeedLimits(watchers_max=3, per_principal_max=2)
    own = DocumentFeed(desk.store, database_url=desk.database_url, limits=limits)
    async with running(own.run), AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(own.watch(ALICE))
        with pytest.raises(TooManyRequests, match="REFDESK_FEED_WATCHERS_PER_PRINCIPAL_MAX"):
            await stack.enter_async_context(own.watch(ALICE))
        async with own.watch(HR):
            with pytest.raises(Overloaded, match="REFDESK_FEED_WATCHERS_MAX"):
                await stack.enter_async_context(own.watch(STRANGER))
        await stack.enter_async_context(own.watch(STRANGER))
