"""What NATS tells of itself: whether a message is on disk before it is acknowledged.

It tells everybody who reaches its monitoring port, and the users of its system account on its own port.

Without that, whatever was acknowledged within the last two minutes (the default of ``sync_interval``) may be gone after a
power cut. The outbox tells it again, so the price is lag and no document; but nobody should pay it unawares.
"""

import asyncio
import logging
import math
from urllib.parse import urlsplit

import msgspec
import nats
import nats.errors

from refdesk.contracts.errors import Unavailable
from refdesk.outside import telemetry
from refdesk.outside.http_client import HttpClient

logger = logging.getLogger(__name__)

TIMEOUT_S = 1.5
RETRY_S = 5.0


class FsyncWatch:
    """Asks every server of a cluster; one that does not flush makes the cluster one that does not.

    ``urls``: their monitoring addresses (``http://``), or a user's of their system account (``nats://``), separated by commas;
    none: what they do is not known.
    Raises ConfigurationError when one of them is not an address.
    """

    def __init__(self, urls: str | None) -> None:
        self._servers = [_server(url.strip()) for url in (urls or "").split(",") if url.strip()]

    async def on_acknowledgement(self) -> bool | None:
        """Whether each message is on disk before its acknowledgement; None when nobody can be asked.

        Servers before 2.10 cannot do it and do not speak of it. Raises Unavailable.
        """
        if not self._servers:
            return None
        return all(await asyncio.gather(*(_flushes_always(server) for server in self._servers)))

    async def measure(self) -> None:
        """Set the gauge, to NaN when it is not known. Raises Unavailable."""
        with telemetry.known_or_nan(telemetry.broker_fsync_on_ack):
            known = await self.on_acknowledgement()
        telemetry.broker_fsync_on_ack.set(math.nan if known is None else known)

    async def say(self) -> str:
        """``yes``, ``no`` or ``unknown``."""
        try:
            known = await self.on_acknowledgement()
        except Unavailable:
            known = None
        return "unknown" if known is None else "yes" if known else "no"

    async def warn(self) -> None:
        """Once, as soon as it is known that messages are acknowledged too early."""
        while True:
            try:
                known = await self.on_acknowledgement()
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if known is False:
                logger.warning(
                    "NATS acknowledges messages before they are on disk: after a power cut, changes may be told again and "
                    "become searchable late. Set `sync_interval: always` in the jetstream block of its configuration."
                )
            return


class _Config(msgspec.Struct):
    sync_always: bool = False


class _JetStream(msgspec.Struct):
    config: _Config = msgspec.field(default_factory=_Config)


class _Varz(msgspec.Struct):
    """``server_name`` tells a NATS from whatever else may listen there."""

    server_name: str
    jetstream: _JetStream = msgspec.field(default_factory=_JetStream)


class _Told(msgspec.Struct):
    """The answer of the system account."""

    data: _Varz


class _MonitoringPort:
    def __init__(self, url: str) -> None:
        self._client = HttpClient(url)
        self.name = f"The monitoring port of NATS at {self._client.url}"

    async def varz(self) -> _Varz:
        reply = await self._client.get("/varz", connect_s=TIMEOUT_S)
        try:
            return msgspec.json.decode(await reply.read_all(), type=_Varz)
        finally:
            reply.close()
            self._client.close()  # nobody asks again soon


class _SystemAccount:
    def __init__(self, url: str) -> None:
        self._url = url
        self.name = f"The system account of NATS at {urlsplit(url).netloc.rpartition('@')[2]}"

    async def varz(self) -> _Varz:
        """Of the very server that we are connected to."""
        client = await nats.connect(self._url, allow_reconnect=False, connect_timeout=TIMEOUT_S, error_cb=_nothing)
        try:
            subject = f"$SYS.REQ.SERVER.{client._server_info['server_id']}.VARZ"
            reply = await client.request(subject, b"", timeout=TIMEOUT_S)
            return msgspec.json.decode(reply.data, type=_Told).data
        finally:
            await client.close()


async def _nothing(_: Exception) -> None:
    """What the client library would log, besides raising it."""


def _server(url: str) -> _MonitoringPort | _SystemAccount:
    return _SystemAccount(url) if url.startswith(("nats://", "tls://")) else _MonitoringPort(url)


async def _flushes_always(server: _MonitoringPort | _SystemAccount) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            told = await server.varz()
    except (OSError, nats.errors.Error, msgspec.DecodeError) as error:  # TimeoutError is an OSError
        raise Unavailable(f"{server.name} does not answer: {error or 'too slow'}.") from error
    return told.jetstream.config.sync_always
