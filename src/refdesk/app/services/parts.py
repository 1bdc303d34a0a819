"""What services stand on, each part with a look that tries its work: databases, the content directory, NATS.

docs/howto/operate.md says of each what its absence means; `ai_parts` has those of the AI side.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from refdesk.app.health import Part
from refdesk.contracts.errors import Unavailable
from refdesk.contracts.events import SUBJECTS
from refdesk.outside import telemetry
from refdesk.outside.blobs import Blobs
from refdesk.outside.nats.broker import Broker
from refdesk.outside.nats.connection import error_code
from refdesk.outside.nats.purging import NEARLY_FULL
from refdesk.outside.nats.streams import STREAM_NOT_FOUND
from refdesk.outside.postgres.pool import Pool
from refdesk.outside.postgres.probe import DatabaseProbe

FULL = 0.99
"""A message larger than what is left is refused before the last byte is used."""


@asynccontextmanager
async def database(
    name: str, url: str, *, read: bytes, writes: bool, pools: Sequence[Pool] = ()
) -> AsyncIterator[Part]:
    probe = DatabaseProbe(url, part=name, read=read, writes=writes, pools=pools)
    try:
        yield Part(name, probe.look)
    finally:
        await probe.close()


def content(blobs: Blobs, *, upload_bytes_max: int) -> Part:
    async def look() -> str | None:
        free = await blobs.look()
        telemetry.content_free.set(free)
        if free >= upload_bytes_max:
            return None
        return f"The content directory has {free >> 20:,} MiB left: the largest upload does not fit any more."

    return Part("content directory", look)


def nats(broker: Broker, *, needed: bool) -> Part:
    async def look() -> str | None:
        fullest = max([(await _fullness(broker, name), name) for name in SUBJECTS])
        if fullest[0] >= FULL:
            raise Unavailable(
                f"The stream {fullest[1]} of NATS is full: it takes no more. `refdesk doctor` says what fills it."
            )
        if fullest[0] >= NEARLY_FULL:
            return f"The stream {fullest[1]} of NATS is {fullest[0]:.0%} full: its readers are behind, or away."
        return None

    return Part("NATS", look, needed)


async def _fullness(broker: Broker, stream: str) -> float:
    """From 0 to 1. Raises Unavailable when NATS is not connected, or the stream has no leader."""
    try:
        return (await broker.stream_state(stream)).fullness
    except Unavailable as error:
        if error_code(error) == STREAM_NOT_FOUND:
            return 0.0  # it is made with the first message
        raise
