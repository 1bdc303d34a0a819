"""An answer is a log: numbered events, encoded once, read by anybody, anywhere, from any point.

    producer ──append──▶ AnswerLog (memory) ──▶ readers in this process, at once
                              │
                              └─ ten times a second ────▶ Valkey ─▶ mirrors ─▶ readers elsewhere (journal.py)

Entries are encoded when they are appended, so every reader on every replica sees the same bytes. A log has one producer at
a time and any number of readers; it ends with ``done`` or ``error`` and never changes afterwards.

Numbers increase by one, but each producer counts from a start of its own, far above the one before. So a number names one
event for ever: what a producer told its own readers and took with it when it died is not mistaken for what the next one wrote
in its place.
"""

import asyncio
import secrets
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from operator import attrgetter

import msgspec

from refdesk.answering.evidence.truth import Shown
from refdesk.contracts.answers import Accepted, AnswerEvent, Delta, Done, Failed, Sources
from refdesk.contracts.errors import AnswerRewritten
from refdesk.web import sse
from refdesk.web.sse import Wait

FIRST_LOG_ID = 2
"""``accepted`` is event 1 of every answer and belongs to the asker; the log goes on from 2."""

NUMBERS_PER_PRODUCER = 1_000_000
"""More than the events of any answer."""

STOPPED_READS_S = 1.0
"""How long a stopped reading waits for the log's own ending before it ends without one."""

ARRIVAL_S = 5.0
"""How much longer than a reader who has left an asker is waited for who has not begun to read."""

BATCH_MAX = 256
BATCH_BYTES_MAX = 64 * 1024
"""Entries read at a time, and their bytes: a reader who has fallen behind holds a place in the log, not a copy of its rest."""

ID_TIME_DIGITS = 12

ENDINGS = frozenset({Done.name, Failed.name})


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One event in its wire form: ``data`` is its JSON."""

    id: int
    name: str
    data: msgspec.Raw

    def frame(self) -> bytes:
        return sse.message(self.name, self.data, event_id=self.id)


OnEntries = Callable[[list[Entry]], Wait | None]
"""Is given a batch, at least one entry. What it returns, if anything, is called and awaited before it is given the next."""


_encode = msgspec.json.Encoder().encode


def encode_entry(number: int, event: AnswerEvent) -> Entry:
    if type(event) is Delta:  # nearly all
        return Entry(number, Delta.name, msgspec.Raw(_encode(event)))
    payload = event.sources if isinstance(event, Sources) else event.problem if isinstance(event, Failed) else event
    return Entry(number, event.name, msgspec.Raw(_encode(payload)))


class AnswerLog:
    """The log of one answer in memory."""

    def __init__(self, log_id: str) -> None:
        self.id = log_id
        self.entries: list[Entry] = []
        self.next_id = FIRST_LOG_ID
        self.readers: Counter[str] = Counter()
        """Open readings by the answer they are for."""
        self._loop = asyncio.get_running_loop()
        self.idle_since = self._loop.time()
        """When the last reader left, or an expected one is missed (loop time); meaningless while ``readers`` is not empty."""
        self._stopped: dict[str, float] = {}
        """When the readings of a stopped answer end at the latest (loop time)."""
        self._stands_on: frozenset[Shown] | None = None
        self._up_to_date: list[_Reading] = []
        """Those that have been given everything there is."""

    @property
    def finished(self) -> bool:
        return bool(self.entries) and self.entries[-1].name in ENDINGS

    @property
    def reusable(self) -> bool:
        """Whether the finished log may answer the next identical question: complete, and by whom it was meant to be."""
        done = self.ending()
        return done is not None and done.finish_reason not in ("cancelled", "closest") and not done.degraded

    def ending(self) -> Done | None:
        """How it has ended, where it is complete."""
        if not self.entries or self.entries[-1].name != Done.name:
            return None
        return msgspec.json.decode(self.entries[-1].data, type=Done)

    def text(self) -> str:
        """What has been said so far."""
        deltas = (msgspec.json.decode(e.data, type=Delta).text for e in self.entries if e.name == Delta.name)
        return "".join(deltas)

    def stands_on(self) -> frozenset[Shown] | None:
        """The document versions that the answer was made from; None before its sources are known."""
        if self._stands_on is None:
            for entry in self.entries:
                if entry.name == Sources.name:
                    self._stands_on = frozenset(msgspec.json.decode(entry.data, type=list[Shown]))
                    break
        return self._stands_on

    def count(self, name: str) -> int:
        return sum(entry.name == name for entry in self.entries)

    def append(self, *events: AnswerEvent) -> None:
        """Events that belong together reach a reader together."""
        for event in events:
            self.entries.append(encode_entry(self.next_id, event))
            self.next_id += 1
        self._wake()

    def extend(self, entries: list[Entry]) -> None:
        if entries:
            self.entries.extend(entries)
            self.next_id = entries[-1].id + 1
            self._wake()

    def change_producer(self, number: int) -> None:
        """From here on another process writes, the ``number``-th that takes over."""
        self.next_id = max(number, self.next_id // NUMBERS_PER_PRODUCER + 1) * NUMBERS_PER_PRODUCER
        self._wake()

    def position_after(self, number: int) -> int | None:
        """Where the entries after this one begin; None when there is no such entry, or not yet.

        Raises AnswerRewritten when there will be none: the log has gone on, or ended, without it.
        """
        position = bisect_right(self.entries, number, key=_number)
        kept = self.entries[position - 1].id if position else FIRST_LOG_ID - 1
        if number <= kept:
            return position
        if self.finished or number < self.next_id:
            raise AnswerRewritten(
                f"Event {number} of this answer was lost with the process that wrote it. Drop what came after event {kept} "
                f"and resume with Last-Event-ID: {kept}.",
                last_event_id=kept,
            )
        return None

    def stop(self, answer_id: str) -> None:
        """This answer is read no more: its readings end with the log if it ends now, and shortly without it if others read on."""
        self._stopped[answer_id] = self._loop.time() + STOPPED_READS_S
        self._loop.call_later(STOPPED_READS_S, self._wake)
        self.readers.pop(answer_id, None)
        self.touch()
        self._wake()

    def touch(self) -> None:
        """Notes that a reader has left."""
        self.idle_since = self._loop.time()

    def expect(self) -> None:
        """Notes that a reader is about to come. A busy process may need longer for that than the grace for a reader who left."""
        self.idle_since = self._loop.time() + ARRIVAL_S

    async def read(self, answer_id: str, on_entries: OnEntries, *, after: int = 0, wait: bool = True) -> None:
        """Gives ``on_entries`` every entry numbered above ``after``, in order, in batches, until the log has ended.

        Whoever keeps up is given what is appended within ``append``: no task wakes for a word (docs/adr/0018). With ``wait``
        False it ends with what is there now. Raises AnswerRewritten when the log goes on without the entry ``after`` (as long as
        it may still come, it is waited for), and what ``on_entries`` raises.
        """
        reading = _Reading(self, on_entries, after=after)
        self.readers[answer_id] += 1
        try:
            while True:
                pending = reading.catch_up()
                if pending is None:
                    if self.finished or not wait or (self._stopped and self._is_over(answer_id)):
                        return
                    self._up_to_date.append(reading)
                    pending = await reading.until_behind()
                if pending is not None:
                    await pending()
        finally:
            self.readers[answer_id] -= 1
            self.readers = +self.readers
            self.touch()

    def batch(self, position: int) -> list[Entry]:
        """What is there from this position on, as far as it is read at a time; one entry at least."""
        batch = self.entries[position : position + BATCH_MAX]
        while len(batch) > 1 and sum(len(entry.data) for entry in batch) > BATCH_BYTES_MAX:
            batch = batch[: len(batch) // 2]
        return batch

    def _is_over(self, answer_id: str) -> bool:
        """Whether this answer was stopped, and the log has had its time to end."""
        ends_at = self._stopped.get(answer_id)
        return ends_at is not None and self._loop.time() >= ends_at

    def _wake(self) -> None:
        """Gives the readers what there is; the tasks of those who do not keep up, or may have come to their end, go on."""
        readings = self._up_to_date
        if not readings:
            return
        is_over = self.finished or bool(self._stopped)
        self._up_to_date = [reading for reading in readings if reading.keeps_up(is_over=is_over)]


class _Reading:
    """One reader's place in a log."""

    def __init__(self, log: AnswerLog, on_entries: OnEntries, *, after: int) -> None:
        self._log = log
        self._on_entries = on_entries
        self._after = after
        self._position: int | None = None
        self._behind: asyncio.Future[Wait | None] | None = None

    def catch_up(self) -> Wait | None:
        """Gives what is there; returns what has to be waited for before the rest, if anything."""
        log = self._log
        if self._position is None:
            self._position = log.position_after(self._after)
        while self._position is not None and self._position < len(log.entries):
            batch = log.batch(self._position)
            self._position += len(batch)
            if (pending := self._on_entries(batch)) is not None:
                return pending
        return None

    async def until_behind(self) -> Wait | None:
        """Returns when the reader's task has something to do: to wait for what is returned, or to see if this is the end."""
        self._behind = asyncio.get_running_loop().create_future()
        return await self._behind

    def keeps_up(self, *, is_over: bool) -> bool:
        """Gives what has just come, if this reader can take it. ``is_over``: this may be the end for them."""
        if self._behind is None or self._behind.done():
            return False  # it has left
        try:
            pending = self.catch_up()
        except Exception as error:  # noqa: BLE001 (the reader's, not the log's)
            self._behind.set_exception(error)
            return False
        if pending is None and not is_over:
            return True
        self._behind.set_result(pending)
        return False


class AnswerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An asker's answer: whose it is, what was asked, and the log it points at."""

    answer_id: str
    log_id: str
    principal_id: str
    question: str
    conversation_id: str | None
    accepted: Accepted
    read_as: str = ""
    """The question as one reads it who has not heard the conversation; empty in records of earlier releases."""
    told: tuple[Shown, ...] = ()
    """What the answers before it in its conversation stand on: its writer has read them, and may repeat them."""
    groups: tuple[str, ...] = ()
    """The asker's."""

    def entry(self) -> Entry:
        return encode_entry(1, self.accepted)


_number = attrgetter("id")


def new_id() -> str:
    """Sortable and unguessable: milliseconds since 1970 in hex, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000:0{ID_TIME_DIGITS}x}{secrets.token_hex(10)}"


def has_expired(answer_id: str, *, retention_s: int) -> bool:
    """Ids begin with their time, so an old one that is not there has expired rather than never been."""
    try:
        made_at_s = int(answer_id[:ID_TIME_DIGITS], 16) / 1000
    except ValueError:
        return False
    return 0 < time.time() - made_at_s - retention_s < 10 * 365 * 86400
