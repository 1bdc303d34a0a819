"""What the broker lost: noticed, and told again from the documents themselves.

**Its store.** A stream that is younger than it was, or has gone back, was wiped, or is an older copy: every document that is
not known to be indexed is told again. One look does not prove that a stream went back, since a server that is about to learn
that it no longer leads may still answer; a second look, or a new message with an old number, does.

**Single messages**, purged by hand, gone by age, or said on a stream that lost its end. Three numbers find them:

    DOCUMENTS   ……………… F ………………   the indexer has passed F: what is before was acknowledged by it, or is no longer there
    INDEX       ………………………… L ……   how long INDEX was then: whatever was said about events before F is before L
    INDEX       ………………………… G ──▶   how far we have heard it: once G has reached L, we know all that was said

A document that is still pending then, and whose newest event is before F, is one that nobody will speak of any more. It is
told again; should it still be at work somewhere, its second telling is answered cheaply.

The outbox keeps with each event how far the stream was when the event was marked as published, which is at or after its own
place. So only events between two looks need to be looked at. What it does *not* do: know why something was lost, or mend what
is wrong in the index, which is the reconciler's.
"""

import logging
from collections.abc import Iterable

import msgspec

from refdesk.contracts.events import DOCUMENTS_STREAM, INDEX_STREAM
from refdesk.documents.outbox import Outbox, StreamMemory
from refdesk.outside.nats.broker import Broker, Published, StreamState

logger = logging.getLogger(__name__)

NOT_YET = -1
"""Below the place of every event, also of those published before their places were kept."""


class _Mark(msgspec.Struct, frozen=True):
    """At one moment: what the indexer had ``passed`` of DOCUMENTS, and how much was ``said`` on INDEX."""

    passed: int
    said: int


class Losses:
    """One per relay; they share what they remember of the streams."""

    def __init__(self, outbox: Outbox, *, broker: Broker) -> None:
        self._outbox = outbox
        self._broker = broker
        self.seen_sequence = 0
        """The highest place on DOCUMENTS that is known to have been given."""
        self.proven = False
        """A new message got an old place: look at once."""
        self._suspected = False
        self._mark: _Mark | None = None
        self._examined = NOT_YET

    def notice(self, replies: Iterable[Published]) -> None:
        """Remember the highest place, unless a new message got one that was given out before."""
        sequences = [reply.sequence for reply in replies if not reply.duplicate]
        if sequences and min(sequences) <= self.seen_sequence:
            self.proven = True
        else:
            self.seen_sequence = max([self.seen_sequence, *sequences])

    async def look(self) -> None:
        """Make the streams where they are missing, compare them with what was last seen, and tell again what they lost.

        Raises Unavailable, and ConfigurationError where a stream is not as it must be.
        """
        now = await self._broker.ensure_streams()
        remembered = await self._outbox.recall_streams()
        if self._is_lost(remembered, now):
            count = await self._outbox.retell(pending_only=True)
            logger.warning("the broker has lost messages; told %d pending documents again", count)
            self._mark, self._examined, remembered = None, NOT_YET, {}
        elif self._suspected:
            return
        for stream, state in now.items():
            await self._outbox.remember_stream(stream, _memory(state), lower=stream not in remembered)
        self.seen_sequence, self.proven = now[DOCUMENTS_STREAM].last_sequence, False
        await self._look_inside(now)

    def _is_lost(self, remembered: dict[str, StreamMemory], now: dict[str, StreamState]) -> bool:
        known = [(remembered[stream], state) for stream, state in now.items() if stream in remembered]
        went_back = any(state.last_sequence < memory.last_sequence for memory, state in known)
        is_proven = self.proven or (went_back and self._suspected)
        self._suspected = went_back and not is_proven
        return is_proven or any(state.created_at != memory.created_at for memory, state in known)

    async def _look_inside(self, now: dict[str, StreamState]) -> None:
        """After the streams were remembered: no event is marked with a place below theirs any more."""
        mark = self._mark
        if mark is not None:
            if await self._passed(INDEX_STREAM, now[INDEX_STREAM]) < mark.said:
                return
            if count := await self._outbox.retell_lost(after=self._examined, through=mark.passed):
                logger.warning("%d pending documents were lost track of in the broker; told them again", count)
            self._examined = mark.passed
        passed = await self._passed(DOCUMENTS_STREAM, now[DOCUMENTS_STREAM])
        if passed < self._examined:  # its consumer was made anew, or another server leads
            self._examined = NOT_YET
        self._mark = _Mark(passed=passed, said=(await self._broker.stream_state(INDEX_STREAM)).last_sequence)

    async def _passed(self, stream: str, state: StreamState) -> int:
        """The place up to which the stream's reader is done with everything, or will never see it."""
        reader = await self._broker.reader(stream)
        acknowledged = 0 if reader is None else reader.acknowledged
        return min(max(acknowledged, state.first_sequence - 1), state.last_sequence)


def _memory(state: StreamState) -> StreamMemory:
    return StreamMemory(created_at=state.created_at, last_sequence=state.last_sequence)
