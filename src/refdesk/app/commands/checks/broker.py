"""NATS with JetStream."""

import nats
import nats.errors

from refdesk.app.commands.checks.findings import CALL_TIMEOUT_S, CONNECT_TIMEOUT_S, Finding, Findings, Level
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.outside.nats.monitoring import FsyncWatch
from refdesk.settings.loading import Loaded


async def check_nats(loaded: Loaded) -> Findings:
    url = loaded.settings.nats.url
    if url is None:
        return
    reasons: list[Exception] = []

    async def keep(reason: Exception) -> None:
        reasons.append(reason)

    try:
        client = await nats.connect(
            url.split(","),
            error_cb=keep,
            connect_timeout=CONNECT_TIMEOUT_S,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
        )
    except (nats.errors.Error, OSError, ValueError) as error:
        mend = "Start that server, or mend REFDESK_NATS_URL."
        yield Finding("FAIL", "NATS", f"does not answer: {reasons[-1] if reasons else error!r}", mend)
        return
    try:
        account = await client.jetstream(timeout=CALL_TIMEOUT_S).account_info()
        yield Finding("ok", "NATS", f"answers, with {account.streams} streams")
    except nats.errors.Error as error:
        yield Finding("FAIL", "NATS", f"has no JetStream: {error}", "Start nats-server with JetStream (-js).")
    finally:
        await client.close()


async def check_nats_on_disk(loaded: Loaded) -> Findings:
    """A power cut costs no document either way, only time."""
    settings, name = loaded.settings, "NATS on disk"
    if settings.nats.url is None:
        return
    if settings.nats.monitoring_url is None:
        yield Finding("ok", name, "not known: REFDESK_NATS_MONITORING_URL is not set")
        return
    try:
        known = await FsyncWatch(settings.nats.monitoring_url).on_acknowledgement()
    except (Unavailable, ConfigurationError) as error:
        level: Level = "warn" if isinstance(error, Unavailable) else "FAIL"  # the Document Service would not start
        yield Finding(level, name, error.message, "Mend REFDESK_NATS_MONITORING_URL.")
    else:
        if known:
            yield Finding("ok", name, "each message, before it is acknowledged")
        else:
            mend = "Set `sync_interval: always` in its jetstream block, or accept lag after a power cut."
            yield Finding("warn", name, "messages are acknowledged before they are on disk", mend)
