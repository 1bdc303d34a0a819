"""Whether NATS has a message on disk before it acknowledges it: asked of real servers, never taken for granted."""

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.integration.nats_server import NatsServer

from refdesk.app.commands.checks.broker import check_nats_on_disk
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.errors import Unavailable
from refdesk.outside.nats.monitoring import FsyncWatch
from refdesk.settings.loading import load

ALWAYS = {"sync_interval": "always"}
NOWHERE = "http://127.0.0.1:1"


@contextlib.contextmanager
def started(folder: Path, **jetstream: Any) -> Iterator[NatsServer]:
    folder.mkdir()
    server = NatsServer(folder, jetstream=jetstream)
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def told(urls: str | None) -> tuple[float, str]:
    """By the gauge and in words."""
    watch = FsyncWatch(urls)
    with contextlib.suppress(Unavailable):
        await watch.measure()
    shown = REGISTRY.get_sample_value("refdesk_broker_fsync_on_ack")
    assert shown is not None
    return shown, await watch.say()


async def test_a_server_says_whether_it_flushes(tmp_path: Path) -> None:
    """Of several, one that does not is enough."""
    with started(tmp_path / "always", **ALWAYS) as always, started(tmp_path / "later") as later:
        assert await told(always.monitoring_url) == (1.0, "yes")
        assert await told(later.monitoring_url) == (0.0, "no")
        assert await told(f"{always.monitoring_url}, {later.monitoring_url}") == (0.0, "no")


@pytest.mark.parametrize("urls", [None, NOWHERE])
async def test_what_nobody_says_is_not_known(urls: str | None) -> None:
    """Neither yes nor no."""
    shown, said = await told(urls)
    assert math.isnan(shown)
    assert said == "unknown"


async def test_our_own_server_flushes(servers: StackUrls) -> None:
    """What it says of itself, not what we wrote into its settings."""
    assert await told(servers.nats_monitoring_url) == (1.0, "yes")


async def test_what_is_no_nats_is_not_believed(servers: StackUrls, nats_url: str) -> None:
    """NATS's own port does not speak HTTP."""
    with pytest.raises(Unavailable, match="does not answer"):
        await FsyncWatch(f"http://{nats_url.rpartition('@')[2]}").on_acknowledgement()


async def test_early_acknowledgements_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once at the start, with what to do; a server that flushes is not worth a word."""
    caplog.set_level(logging.WARNING, logger="refdesk")
    with started(tmp_path / "always", **ALWAYS) as always, started(tmp_path / "later") as later:
        await FsyncWatch(always.monitoring_url).warn()
        await FsyncWatch(None).warn()
        assert caplog.messages == []
        await FsyncWatch(later.monitoring_url).warn()
    [warning] = caplog.messages
    assert "sync_interval: always" in warning


async def test_the_doctor_asks_too(tmp_path: Path) -> None:
    """A warning where it is not so; silence is no failure."""
    with started(tmp_path / "always", **ALWAYS) as always, started(tmp_path / "later") as later:
        said = []
        for url in (always.monitoring_url, later.monitoring_url, NOWHERE, "nats:8222", None):
            loaded = load({"nats_url": later.url, "nats_monitoring_url": url}, environ={})
            said += [finding async for finding in check_nats_on_disk(loaded)]
    assert [finding.level for finding in said] == ["ok", "warn", "warn", "FAIL", "ok"]
    assert "not known" in said[-1].what
