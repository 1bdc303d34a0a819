"""Writing history, beside the asking path: an answer is kept when it has ended.

    asked ── its record, with a mark beside it ──▶ Valkey            (the call that saves the record: nobody waits for more)
      └──▶ awaited here ──ended──▶ written to PostgreSQL ──▶ the mark goes

Whoever dies before that leaves the mark. Every process looks for marks that nobody minds any more: the log in Valkey is what is
written then, and a log without a writer is gone on with (`logs.journal`). So an answer is written at least once, and by its id it
is there once.

What waits here is bounded; beyond that the marks alone remember. PostgreSQL down: it is tried again. Valkey down: what this
process was asked is written all the same.
"""

import asyncio
import logging
import time
from contextlib import suppress

import msgspec

from refdesk.answering.conversations.history import History
from refdesk.answering.logs.degradation import seen_by
from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import AnswerLog, AnswerRecord
from refdesk.contracts.errors import Conflict, Expired, RefdeskError, Unavailable, problem
from refdesk.outside import telemetry
from refdesk.outside.valkey.client import Command, Valkey, ValkeyError

logger = logging.getLogger(__name__)

MARKS = "refdesk:unkept"
"""Answers that are to be kept and are not yet, by when they were asked."""
LOOK_S = 0.25
RETRY_S = 1.0
SWEEP_S = 5.0
MINDED_MS = 15_000
"""A mark that is older, of a log that nobody writes any more, is anybody's."""
MARKS_AT_ONCE = 500
LAST_WRITES_S = 2.0
"""How long a shutdown waits for what has ended to be written; the marks remember the rest."""


class Keeper:
    """Have ``run`` running. ``waiting_max``: answers awaited in this process; without a ``history`` nothing is kept."""

    def __init__(
        self, valkey: Valkey, *, journal: Journal, history: History | None, waiting_max: int, retention_s: int
    ) -> None:
        self._valkey = valkey
        self._journal = journal
        self._history = history
        self._waiting_max = waiting_max
        self._retention_s = retention_s
        self._waiting: dict[str, tuple[AnswerRecord, AnswerLog | None]] = {}

    def marks(self, record: AnswerRecord) -> list[Command]:
        """What is to be sent along with the record."""
        if not self._is_kept(record):
            return []
        return [("ZADD", MARKS, _now_ms(), record.answer_id)]

    def expect(self, record: AnswerRecord, log: AnswerLog) -> None:
        """Has the answer kept once the log has ended. Never waits."""
        if not self._is_kept(record):
            return
        if len(self._waiting) >= self._waiting_max:
            telemetry.history_writes.labels("put_off").inc()
            return
        self._waiting[record.answer_id] = (record, log)

    async def keep_now(self, record: AnswerRecord, log: AnswerLog) -> None:
        """Keeps an answer that has ended, whether or not it belongs to a conversation. Raises Unavailable, and Conflict where
        nothing is kept."""
        if self._history is None:
            raise Conflict("This desk keeps no answers (REFDESK_CONVERSATIONS_KEPT): there is none to share.")
        await self._history.keep(record, answer_of(record, log))

    async def run(self) -> None:
        """Writes what has ended, until cancelled."""
        if self._history is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_forever(self._history))
            tasks.create_task(self._sweep_forever())

    async def close(self) -> None:
        """Writes what has ended, if that is quick."""
        if self._history is None:
            return
        with suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(LAST_WRITES_S):
                await self._write_ended(self._history)

    def _is_kept(self, record: AnswerRecord) -> bool:
        return self._history is not None and record.conversation_id is not None

    async def _write_forever(self, history: History) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._write_ended(history)
            except Unavailable as error:
                logger.warning("history is not written yet: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _write_ended(self, history: History) -> None:
        ended = [entry for entry in self._waiting.values() if entry[1] is None or entry[1].finished]
        for record, log in ended:
            await self._write(history, record, log)
            self._waiting.pop(record.answer_id, None)
            await self._unmark(record.answer_id)

    async def _write(self, history: History, record: AnswerRecord, log: AnswerLog | None) -> None:
        try:
            await history.keep(record, answer_of(record, log))
        except Unavailable:
            telemetry.history_writes.labels("retried").inc()
            raise
        except Exception:
            telemetry.history_writes.labels("failed").inc()
            logger.exception("answer %s cannot be kept", record.answer_id)
        else:
            telemetry.history_writes.labels("kept").inc()

    async def _unmark(self, answer_id: str) -> None:
        with suppress(ValkeyError):
            await self._valkey.command("ZREM", MARKS, answer_id)

    # what others have left

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self._sweep()
            except (ValkeyError, RefdeskError) as error:
                logger.debug("marks of answers to keep are not looked at: %s", error)

    async def _sweep(self) -> None:
        now = _now_ms()
        await self._valkey.command("ZREMRANGEBYSCORE", MARKS, "-inf", now - self._retention_s * 1000)
        marked = await self._valkey.command("ZRANGEBYSCORE", MARKS, "-inf", now - MINDED_MS, "LIMIT", 0, MARKS_AT_ONCE)
        for answer_id in [str(one, "ascii") for one in marked]:
            if answer_id not in self._waiting and len(self._waiting) < self._waiting_max:
                await self._mind(answer_id)

    async def _mind(self, answer_id: str) -> None:
        """Takes the answer up unless somebody still writes it."""
        try:
            record = await self._journal.record(answer_id)
        except msgspec.MsgspecError:  # of another release, perhaps
            record = None
        if record is None:
            await self._unmark(answer_id)
        elif not await self._journal.is_written(record.log_id):
            self._waiting[answer_id] = (record, await self._journal.open(record.log_id))


def answer_of(record: AnswerRecord, log: AnswerLog | None) -> FinishedAnswer:
    """What the asker has read, or would have; of a log that is lost, that it is."""
    answer = FinishedAnswer.begun(record)
    if log is None:
        answer.status, answer.error = "failed", msgspec.Raw(msgspec.json.encode(problem(Expired())))
    elif log.entries:
        answer.add(seen_by(log.entries, with_details=False))
    return answer


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
