"""Keeps the streams from filling: what every reader is done with leaves (docs/adr/0028-streams-are-emptied-behind-readers.md).

    first ……… acknowledged by all │ ……… not yet ……… last
    └────────── purged ──────────┘

The readers are all consumers that the server names. Those that a stream is there for (`READERS`) must be among them: before
each of them has come, nothing leaves. Any other that has not been used for ``absent_s_max`` is forgotten and holds nothing back.
Any number of processes may purge at once: the second finds nothing left.

A message that the indexer is missing is no loss: the outbox publishes again what is not indexed (`documents/losses.py`). So a
few messages that it holds up for long cannot fill a stream: where most of one that is nearly full has served, they leave, too.
What it does *not* do: make room where readers are behind. Then the stream refuses, and the outbox keeps what comes.
"""

import asyncio
import logging
import math
from collections import deque

import msgspec

from refdesk.contracts.errors import Unavailable
from refdesk.contracts.events import READERS
from refdesk.outside import telemetry
from refdesk.outside.nats.broker import Broker, StreamState
from refdesk.outside.nats.readers import Reader

logger = logging.getLogger(__name__)

LOOK_S = 1.0
PURGE_S = 10.0
"""A stream with room to spare is purged this often; so is one that has no limit of its own on a server that is full."""
ROOMY = 0.25
"""A stream fuller than this is purged at every look."""
NEARLY_FULL = 0.8
SETTLED_S = 10.0
"""The server's count of what is left for a reader may be late by moments, on a replica by more. A message that was there so
long ago has been counted."""


class Purging:
    """Run one per process of the Document Service."""

    def __init__(self, broker: Broker, *, absent_s_max: float) -> None:
        self._broker = broker
        self._streams = {name: _Stream(name, absent_s_max=absent_s_max) for name in READERS}

    async def run(self) -> None:
        """Until cancelled. The broker's absence ends it not."""
        while True:
            for stream in self._streams.values():
                try:
                    await self._look(stream)
                except Unavailable as error:
                    logger.debug("cannot look after stream %s: %s", stream.name, error)
                except Exception:
                    logger.exception("looking after stream %s failed; trying again", stream.name)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One look at both streams. Raises Unavailable."""
        for stream in self._streams.values():
            await self._look(stream)

    async def measure(self) -> None:
        """Set the gauges, to NaN when it is not known. Raises Unavailable."""
        for name in self._streams:
            with telemetry.known_or_nan(gauge := telemetry.stream_fullness.labels(name)):
                gauge.set((await self._broker.stream_state(name)).fullness)

    async def _look(self, stream: "_Stream") -> None:
        state, now = await self._broker.stream_state(stream.name), asyncio.get_running_loop().time()
        stream.note(state, now=now)
        if not stream.is_due(state, now=now):
            return
        through = stream.done_with(await self._broker.readers(stream.name), state, now=now)
        if through >= state.first_sequence:
            purged = await self._broker.purge(stream.name, through=through)
            telemetry.stream_purged.labels(stream.name).inc(purged)
            logger.debug("%d messages left stream %s", purged, stream.name)
        stream.purged_at = now


class _Progress(msgspec.Struct):
    """When a reader was last seen to be used."""

    place: tuple[int, int]
    at: float


class _Stream:
    """What one process has seen of a stream and its readers."""

    def __init__(self, name: str, *, absent_s_max: float) -> None:
        self.name = name
        self.purged_at = -math.inf
        self._absent_s_max = absent_s_max
        self._ends: deque[tuple[float, int]] = deque()
        self._settled = 0
        self._progress: dict[str, _Progress] = {}
        self._forgotten: set[str] = set()
        self._warned = False

    def note(self, state: StreamState, *, now: float) -> None:
        """Keep where the stream ended, and warn once of one that fills."""
        self._ends.append((now, state.last_sequence))
        while self._ends and self._ends[0][0] <= now - SETTLED_S:
            self._settled = self._ends.popleft()[1]
        if state.last_sequence < self._settled:  # another stream
            self._settled = 0
            self._ends.clear()
        if state.fullness >= NEARLY_FULL and not self._warned:
            logger.warning(
                "stream %s is %.0f %% full: its readers are behind, or away. When it is full, changes wait in the outbox.",
                self.name,
                100 * state.fullness,
            )
        self._warned = state.fullness >= (ROOMY if self._warned else NEARLY_FULL)

    def is_due(self, state: StreamState, *, now: float) -> bool:
        return state.messages > 0 and (state.fullness >= ROOMY or now >= self.purged_at + PURGE_S)

    def done_with(self, readers: list[Reader], state: StreamState, *, now: float) -> int:
        """The sequence up to which no reader needs a message; 0 when that is not known."""
        if not {reader.name for reader in readers}.issuperset(READERS[self.name]):
            return 0
        self._progress = {reader.name: self._progress_of(reader, now=now) for reader in readers}
        return min(self._passed(reader, state) for reader in readers if not self._is_forgotten(reader, now=now))

    def _progress_of(self, reader: Reader, *, now: float) -> _Progress:
        before, place = self._progress.get(reader.name), (reader.acknowledged, reader.deliveries)
        in_use = reader.listening or reader.left == 0
        return before if before is not None and before.place == place and not in_use else _Progress(place, now)

    def _passed(self, reader: Reader, state: StreamState) -> int:
        """A reader of some subjects that has nothing left has passed whatever the server has counted."""
        held_up = state.fullness >= NEARLY_FULL and 2 * reader.left < state.messages
        if held_up and reader.name == READERS[self.name][0]:
            return reader.delivered
        if reader.whole or reader.left > 0:
            return reader.acknowledged
        return max(reader.acknowledged, self._settled)

    def _is_forgotten(self, reader: Reader, *, now: float) -> bool:
        idle_s = now - self._progress[reader.name].at
        if reader.name in READERS[self.name] or idle_s < self._absent_s_max:
            self._forgotten.discard(reader.name)
            return False
        if reader.name not in self._forgotten:
            self._forgotten.add(reader.name)
            logger.warning(
                "nobody has used the consumer %s of stream %s for %.0f s: it no longer keeps messages there "
                "(REFDESK_STREAM_READER_ABSENT_S_MAX). Delete it if nobody will: `nats consumer rm %s %s`.",
                reader.name,
                self.name,
                idle_s,
                self.name,
                reader.name,
            )
        return True
