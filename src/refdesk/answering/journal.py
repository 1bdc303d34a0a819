"""The logs' copy in Valkey: what makes an answer outlive its process and reach readers on other replicas.

    refdesk:log:<id>      stream of batches; each batch's id is the number of its last event
    refdesk:lease:<id>    which process produces the log; renewed while it does, gone seconds after it dies
    refdesk:job:<id>      what is being answered, so that another process can take over
    refdesk:readers:<id>  answers followed from other processes, each with its expiry
    refdesk:answer:<id>   an asker's record

A write goes through only while the lease is its writer's: a process that was frozen and wakes up late is refused.
A process that follows a log whose lease is gone tries to take the lease; who gets it goes on writing.

Valkey down means: answers flow to the readers of their own process all the same, uncoalesced, and cannot be resumed elsewhere
until it is back. What was not copied meanwhile is copied then.
"""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from refdesk.answering.log import AnswerLog, AnswerRecord, Entry
from refdesk.contracts.answers import AnswerEvent
from refdesk.outside.valkey import Valkey, ValkeyError

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.02
TICK_S = 0.25
LEASE_MS = 3000
PRESENCE_MS = 2000
FINISHED_LOGS_KEPT = 256
"""Finished logs kept in this process's memory; older ones are read back from Valkey."""
FOLLOW_BLOCK_MS = 500

_WRITE = """
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[1], ARGV[3], 'e', ARGV[4])
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
return 1
"""
"""Renews the lease if it is ours or nobody's, and appends a batch if there is one. KEYS: log, lease."""


TakeOver = Callable[[AnswerLog, bytes], None]
"""Called with a log whose producer has died and its job, once this process holds the lease."""


class Lease(msgspec.Struct, frozen=True):
    """Who produces a log, until when, and the key that says so."""

    key: str
    owner: str
    ms: int = LEASE_MS


class Journal:
    """Every log this process produces or follows, and the finished ones it remembers."""

    def __init__(self, valkey: Valkey, *, retention_s: int, take_over: TakeOver) -> None:
        self._valkey = valkey
        self._retention_s = retention_s
        self._take_over = take_over
        self._process = secrets.token_hex(8)
        self._produced: dict[str, _Produced] = {}
        self._followed: dict[str, AnswerLog] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._finished: OrderedDict[str, AnswerLog] = OrderedDict()
        self._dirty = asyncio.Event()
        self._write = valkey.register_script(_WRITE)

    def start(self, log_id: str, *, on_superseded: Callable[[], None]) -> AnswerLog:
        """A new log that this process produces."""
        log = AnswerLog(log_id)
        self._produced[log_id] = _Produced(log, on_superseded)
        self._dirty.set()
        return log

    def forget(self, log_id: str) -> None:
        """Takes back a start: somebody else writes that answer."""
        self._produced.pop(log_id, None)

    def lease(self, log_id: str) -> Lease:
        """The lease under which this process produces the log."""
        return Lease(f"refdesk:lease:{log_id}", self._process)

    def append(self, log: AnswerLog, event: AnswerEvent) -> None:
        log.append(event)
        self._dirty.set()

    def produced(self) -> list[AnswerLog]:
        """The unfinished logs of this process."""
        return [produced.log for produced in self._produced.values() if not produced.log.finished]

    async def save(self, record: AnswerRecord, *, job: bytes | None = None) -> None:
        """Keeps an asker's record, and with a new log its job."""
        try:
            async with self._valkey.pipeline(transaction=False) as pipeline:
                pipeline.set(f"refdesk:answer:{record.answer_id}", msgspec.json.encode(record), ex=self._retention_s)
                if job is not None:
                    pipeline.set(f"refdesk:job:{record.log_id}", job, ex=self._retention_s)
                    pipeline.set(f"refdesk:lease:{record.log_id}", self._process, px=LEASE_MS)
                await pipeline.execute()
        except ValkeyError as error:
            logger.warning("answer %s cannot be resumed elsewhere: %s", record.answer_id, error)

    async def record(self, answer_id: str) -> AnswerRecord | None:
        """Raises ValkeyError when it cannot be known."""
        payload = await self._valkey.get(f"refdesk:answer:{answer_id}")
        return None if payload is None else msgspec.json.decode(payload, type=AnswerRecord)

    async def open(self, log_id: str) -> AnswerLog | None:
        """The log, from memory or followed from Valkey; None when it has expired.

        Raises ValkeyError when it cannot be known.
        """
        if (log := self.known(log_id)) is not None:
            return log
        entries, last = await self._entries(log_id, after="0-0")
        leased = await self._valkey.exists(f"refdesk:lease:{log_id}", f"refdesk:job:{log_id}")
        if (log := self.known(log_id)) is not None:
            return log
        if not entries and not leased:
            return None
        log = AnswerLog(log_id)
        log.extend(entries)
        if log.finished:
            self._remember(log)
        else:
            self._followed[log_id] = log
            await self._tell_presence(log, coming=True)
            self._following[log_id] = asyncio.create_task(self._follow(log, last), name=f"follow {log_id}")
        return log

    async def run(self) -> None:
        """Copies what is new, renews leases and tells who reads, for as long as the process lives."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy())
                tasks.create_task(self._tick())
        finally:
            for task in self._following.values():
                task.cancel()

    async def followed_elsewhere(self, log_id: str) -> bool:
        """Whether another process reads this log; False when Valkey cannot tell."""
        try:
            return bool(await self._valkey.zcount(f"refdesk:readers:{log_id}", _now_ms(), "+inf"))
        except ValkeyError:
            return False

    async def flush(self) -> None:
        """Copies everything that is not copied yet, once."""
        for produced in list(self._produced.values()):
            await self._copy_one(produced)

    def known(self, log_id: str) -> AnswerLog | None:
        """The log, if this process has it in memory."""
        if log_id in self._produced:
            return self._produced[log_id].log
        return self._followed.get(log_id) or self._finished.get(log_id)

    async def _copy(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self.flush()
            await asyncio.sleep(FLUSH_INTERVAL_S)

    async def _copy_one(self, produced: "_Produced", *, renew: bool = False) -> None:
        log, batch = produced.log, produced.log.entries[produced.copied :]
        if not batch and not renew:
            return
        keys = [f"refdesk:log:{log.id}", f"refdesk:lease:{log.id}"]
        number, payload = (f"{batch[-1].id}-0", msgspec.json.encode(batch)) if batch else ("", b"")
        try:
            written = await self._write(keys, [self._process, LEASE_MS, number, payload, self._retention_s])
        except ValkeyError as error:
            logger.warning("log %s is not copied yet: %s", log.id, error)
            return
        if not written:
            self._give_up(produced)
            return
        produced.copied += len(batch)
        if log.finished and produced.copied == len(log.entries):
            self._produced.pop(log.id, None)
            self._remember(log)

    def _give_up(self, produced: "_Produced") -> None:
        logger.warning("log %s was taken over by another process", produced.log.id)
        self._produced.pop(produced.log.id, None)
        produced.on_superseded()

    async def _tick(self) -> None:
        """Leases of what we produce, presence on what we follow; also the second chance of a failed copy."""
        while True:
            await asyncio.sleep(TICK_S)
            for produced in list(self._produced.values()):
                await self._copy_one(produced, renew=True)
            for log in list(self._followed.values()):
                await self._tell_presence(log)

    async def _tell_presence(self, log: AnswerLog, *, coming: bool = False) -> None:
        key = f"refdesk:readers:{log.id}"
        try:
            async with self._valkey.pipeline(transaction=False) as pipeline:
                pipeline.zremrangebyscore(key, "-inf", _now_ms())
                if log.readers or coming:
                    pipeline.zadd(key, {self._process: _now_ms() + PRESENCE_MS})
                    pipeline.pexpire(key, PRESENCE_MS * 2)
                else:
                    pipeline.zrem(key, self._process)
                await pipeline.execute()
        except ValkeyError as error:
            logger.warning("nobody is told who reads log %s: %s", log.id, error)

    async def _follow(self, log: AnswerLog, last: str) -> None:
        """Feeds a followed log until it ends, its producer's death included."""
        try:
            while not log.finished:
                try:
                    entries, last = await self._entries(log.id, after=last, block_ms=FOLLOW_BLOCK_MS)
                    if entries:
                        log.extend(entries)
                    elif await self._orphaned(log):
                        return
                except ValkeyError as error:
                    logger.warning("log %s cannot be followed right now: %s", log.id, error)
                    await asyncio.sleep(TICK_S)
            self._remember(log)
        finally:
            self._followed.pop(log.id, None)
            self._following.pop(log.id, None)

    async def _orphaned(self, log: AnswerLog) -> bool:
        """Whether the producer has died and this process has taken over."""
        lease = f"refdesk:lease:{log.id}"
        if await self._valkey.exists(lease):
            return False
        if not await self._valkey.set(lease, self._process, px=LEASE_MS, nx=True):
            return False
        missed, _ = await self._entries(log.id, after=f"{log.next_id - 1}-0")
        log.extend(missed)
        job: Any = await self._valkey.get(f"refdesk:job:{log.id}")
        if log.finished or job is None:
            return log.finished
        logger.warning("the producer of log %s has died; going on with it here", log.id)
        self._produced[log.id] = _Produced(log, lambda: None, copied=len(log.entries))
        self._take_over(log, job)
        return True

    def superseded_by(self, log: AnswerLog, on_superseded: Callable[[], None]) -> None:
        """Sets what happens when somebody else takes over a log that this process took over itself."""
        self._produced[log.id].on_superseded = on_superseded

    async def _entries(self, log_id: str, *, after: str, block_ms: int | None = None) -> tuple[list[Entry], str]:
        reply: Any = await self._valkey.xread({f"refdesk:log:{log_id}": after}, block=block_ms)
        entries: list[Entry] = []
        for _, batches in reply or []:
            for number, fields in batches:
                after = number.decode()
                entries.extend(msgspec.json.decode(fields[b"e"], type=list[Entry]))
        return entries, after

    def _remember(self, log: AnswerLog) -> None:
        self._finished[log.id] = log
        while len(self._finished) > FINISHED_LOGS_KEPT:
            self._finished.popitem(last=False)


class _Produced:
    """A log of ours: how many of its entries are copied, and whom to tell when it is not ours any more."""

    def __init__(self, log: AnswerLog, on_superseded: Callable[[], None], *, copied: int = 0) -> None:
        self.log = log
        self.on_superseded = on_superseded
        self.copied = copied


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
