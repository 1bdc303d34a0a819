"""What NATS tells of itself on its monitoring port: whether a message is on disk before it is acknowledged.

Without that, whatever was acknowledged within the last two minutes (the default of ``sync_interval``) may be gone after a
power cut. The outbox tells it again, so the price is lag and no document; but nobody should pay it unawares.
"""

import asyncio
import logging
import math

import msgspec

from refdesk.contracts.errors import Unavailable
from refdesk.outside import telemetry
from refdesk.outside.http_client import HttpClient

logger = logging.getLogger(__name__)

TIMEOUT_S = 1.5
RETRY_S = 5.0


class FsyncWatch:
    """Asks every server of a cluster; one that does not flush makes the cluster one that does not.

    ``urls``: their monitoring addresses, separated by commas; none: what they do is not known.
    Raises ConfigurationError when one of them is not an address.
    """

    def __init__(self, urls: str | None) -> None:
        self._servers = [HttpClient(url.strip()) for url in (urls or "").split(",") if url.strip()]

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


async def _flushes_always(server: HttpClient) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reply = await server.get("/varz", connect_s=TIMEOUT_S)
            try:
                told = msgspec.json.decode(await reply.read_all(), type=_Varz)
            finally:
                reply.close()
                server.close()  # nobody asks again soon
    except (OSError, msgspec.DecodeError) as error:  # TimeoutError is an OSError
        raise Unavailable(
            f"The monitoring port of NATS at {server.url} does not answer: {error or 'too slow'}."
        ) from error
    return told.jetstream.config.sync_always
