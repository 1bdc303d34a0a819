"""The logs' copy in Valkey: what makes an answer outlive its process and reach readers on other replicas.

    refdesk:log:{<id>}        stream of batches; each batch's id is the number of its last event
    refdesk:lease:{<id>}      which process produces the log; renewed while it does, gone seconds after it dies
    refdesk:job:{<id>}        what is being answered, so that another process can take over
    refdesk:takeovers:{<id>}  how often that has happened
    refdesk:readers:{<id>}    answers followed from other processes, each with its expiry
    refdesk:answer:<id>       an asker's record
    refdesk:unbooked          what was begun and is not booked yet: log:<id>, answer:<id>, by when (`bookings`)

Braces keep what belongs to one log on one node of a cluster.

A write goes through only while the lease is its writer's: a process that was frozen and wakes up late is refused. It tells how
far the stream has come, so a write whose reply was lost is not repeated, and a stream that was lost is written again.
A process that follows a log whose lease is gone tries to take the lease; who gets it goes on writing, with numbers of its own:
what was written before and never copied is not there, and whoever saw it is told (``AnswerLog.position_after``).

One connection to each server reads all the streams that a process follows, however many.

Valkey down means: answers flow to the readers of their own process all the same, shared there only, and cannot be resumed
elsewhere until it is back. What was not copied meanwhile is copied then, up to ``UNCOPIED_LOGS_MAX`` finished logs.
"""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from refdesk.answering.logs.evidence_logs import EvidenceLogs
from refdesk.answering.logs.log import FIRST_LOG_ID, AnswerLog, AnswerRecord, Entry
from refdesk.answering.scripts import lua
from refdesk.contracts.answers import AnswerEvent, Delta, Failed
from refdesk.contracts.errors import AnswerRewritten, Unavailable, problem
from refdesk.outside.valkey.client import Command, Script, Valkey, ValkeyError, Word

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.1
"""Readers in this process wait for nothing; those elsewhere see a few words at a time. A copy costs as much as a few words."""
TICK_S = 0.25
LEASE_MS = 3000
RENEW_AFTER_S = 1.0
RETRY_AFTER_S = 0.25
PRESENCE_MS = 2000
FINISHED_LOGS_KEPT = 256
"""Finished logs kept in this process's memory; older ones are read back from Valkey."""
UNCOPIED_LOGS_MAX = 1000
UNBOOKED = "refdesk:unbooked"
LOG, ANSWER = "log:", "answer:"
FOLLOW_BLOCK_MS = 30
"""How long one read of the followed streams waits; a log that is followed anew joins the next one."""


class Abandoned(Unavailable):
    """The process that was to write this answer died before another one could take over. Ask again."""


TakeOver = Callable[[AnswerLog, bytes], None]
"""Called with a log whose producer has died and its job, once this process holds the lease. Raises msgspec.MsgspecError for a job
that it cannot read."""


class Lease(msgspec.Struct, frozen=True):
    """Who produces a log, until when, and the key that says so."""

    key: str
    owner: str
    ms: int = LEASE_MS


class Journal:
    """Every log this process produces or follows, and the finished ones it remembers."""

    def __init__(self, valkey: Valkey, *, retention_s: int) -> None:
        self.evidence = EvidenceLogs(valkey, retention_s=retention_s)
        self._valkey = valkey
        self._retention_s = retention_s
        self._write = Script(valkey, lua("write"))
        self._process = secrets.token_hex(8)
        self._produced: dict[str, _Produced] = {}
        self._followed: dict[str, AnswerLog] = {}
        self._finished: OrderedDict[str, AnswerLog] = OrderedDict()
        self._dirty = asyncio.Event()
        self._ended = asyncio.Event()
        """Set when a log has ended since it was last copied: that is copied at once."""
        self._following = asyncio.Event()
        """Set while any log is followed."""
        self._copying = asyncio.Lock()

    def start(self, log_id: str, *, on_superseded: Callable[[], None]) -> AnswerLog:
        """A new log that this process produces."""
        log = AnswerLog(log_id)
        self._produced[log_id] = _Produced(log, on_superseded)
        self._dirty.set()
        return log

    def forget(self, log_id: str) -> None:
        """Undoes `start`: another process writes that answer."""
        self._produced.pop(log_id, None)

    def lease(self, log_id: str) -> Lease:
        """The lease under which this process produces the log."""
        return Lease(_key("lease", log_id), self._process)

    def append(self, log: AnswerLog, *events: AnswerEvent) -> None:
        log.append(*events)
        self._dirty.set()
        if log.finished:
            self._ended.set()

    def produced(self) -> list[AnswerLog]:
        """The unfinished logs of this process."""
        return [produced.log for produced in self._produced.values() if not produced.log.finished]

    async def save(self, record: AnswerRecord, *, job: bytes | None = None, also: Sequence[Command] = ()) -> None:
        """Keeps an asker's record, and with a new log its job; ``also`` goes in the same round trip."""
        kept_s, lease = self._retention_s, self.lease(record.log_id)
        unbooked = ANSWER + record.answer_id if job is None else LOG + record.log_id
        commands: list[Command] = [
            ("SET", f"refdesk:answer:{record.answer_id}", msgspec.json.encode(record), "EX", kept_s),
            ("ZADD", UNBOOKED, time.time(), unbooked),
            *also,
        ]
        if job is not None:
            commands.append(("SET", _key("job", record.log_id), job, "EX", kept_s))
            commands.append(("SET", lease.key, lease.owner, "PX", lease.ms))
        try:
            await self._valkey.commands(commands)
        except ValkeyError as error:
            logger.debug("answer %s cannot be resumed elsewhere: %s", record.answer_id, error)

    async def record(self, answer_id: str) -> AnswerRecord | None:
        """Raises ValkeyError when it cannot be known."""
        payload = await self._valkey.command("GET", f"refdesk:answer:{answer_id}")
        return None if payload is None else msgspec.json.decode(payload, type=AnswerRecord)

    async def open(self, log_id: str) -> AnswerLog | None:
        """The log, from memory or followed from Valkey; None when it has expired.

        Raises ValkeyError when it cannot be known.
        """
        if (log := self.known(log_id)) is not None:
            return log
        entries = await self._entries([(log_id, "0-0")])
        leased = await self._valkey.command("EXISTS", _key("lease", log_id), _key("job", log_id))
        if (log := self.known(log_id)) is not None:
            return log
        if not entries and (not leased or await self.evidence.is_erased(log_id)):
            return None
        log = AnswerLog(log_id)
        log.extend(entries.get(log_id, []))
        if log.finished:
            self._remember(log)
        else:
            self._followed[log_id] = log
            self._following.set()
            await self.tell_presence(log, coming=True)
        return log

    async def is_written(self, log_id: str) -> bool:
        """Whether some process produces this log now. Raises ValkeyError when it cannot be known."""
        return bool(await self._valkey.command("EXISTS", self.lease(log_id).key))

    async def run(self, take_over: TakeOver) -> None:
        """Copies and follows logs, renews leases, announces readers and takes over, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._copy())
            tasks.create_task(self._follow())
            tasks.create_task(self._tick(take_over))

    async def followed_elsewhere(self, log_id: str) -> bool:
        """Whether another process reads this log; False when Valkey cannot tell."""
        try:
            return bool(await self._valkey.command("ZCOUNT", _key("readers", log_id), _now_ms(), "+inf"))
        except ValkeyError:
            return False

    async def joining(self, log: AnswerLog) -> None:
        """Announces a reader of this log, so that its producer does not stop it."""
        log.expect()
        if log.id in self._followed:
            await self.tell_presence(log, coming=True)

    @contextmanager
    def expected(self, log_id: str) -> Iterator[None]:
        """If the block fails, the expected reader is not waited for."""
        try:
            yield
        except BaseException:
            if (log := self.known(log_id)) is not None:
                log.touch()
            raise

    async def tell_presence(self, log: AnswerLog, *, coming: bool = False) -> None:
        """Announces to the producer of a followed log whether this process reads it, or is about to."""
        key = _key("readers", log.id)
        commands: list[Command] = [("ZREMRANGEBYSCORE", key, "-inf", _now_ms())]
        if log.readers or coming:
            commands.append(("ZADD", key, _now_ms() + PRESENCE_MS, self._process))
            commands.append(("PEXPIRE", key, PRESENCE_MS * 2))
        else:
            commands.append(("ZREM", key, self._process))
        try:
            await self._valkey.commands(commands)
        except ValkeyError as error:
            logger.debug("nobody is told who reads log %s: %s", log.id, error)

    async def flush(self, *, renew: bool = False) -> None:
        """Copies everything that is not copied yet, once; each copy renews its log's lease.

        With ``renew`` only what was not written lately: leases that would end, and copies that have failed.
        """
        async with self._copying:
            batches = [
                produced for produced in self._produced.values() if (produced.is_old if renew else produced.is_behind)
            ]
            if not batches:
                return
            try:
                reached = await self._write.each([self._batch(produced) for produced in batches])
            except ValkeyError as error:
                logger.debug("%d logs are not copied yet: %s", len(batches), error)
                self._shed()
                return
            for produced, last in zip(batches, reached, strict=True):
                self._copied(produced, last)
            await self.evidence.note([produced.log for produced in batches])

    async def erase(self, document_ids: Collection[str]) -> int:
        """Remove finished logs that stand on one of these documents, here and in Valkey. How many; raises ValkeyError."""
        wanted = set(document_ids)
        for log in list(self._finished.values()):
            if any(one.document_id in wanted for one in log.stands_on() or ()):
                self._finished.pop(log.id, None)
        return await self.evidence.erase(document_ids)

    def known(self, log_id: str) -> AnswerLog | None:
        """The log, if this process has it in memory."""
        if log_id in self._produced:
            return self._produced[log_id].log
        return self._followed.get(log_id) or self._finished.get(log_id)

    def superseded_by(self, log: AnswerLog, on_superseded: Callable[[], None]) -> None:
        """Sets what happens when somebody else takes over a log that this process took over itself."""
        self._produced[log.id].on_superseded = on_superseded

    def produces(self, log_id: str) -> bool:
        """Whether this process writes the log, or has not copied all of it yet."""
        return log_id in self._produced

    async def has_producer(self, log_id: str) -> bool:
        """Whether any process writes the log. Raises ValkeyError when it cannot be known."""
        return bool(await self._valkey.command("EXISTS", _key("lease", log_id)))

    async def kept(self, log_id: str) -> tuple[AnswerLog, bytes | None]:
        """The log as far as it was copied, and its job, if there is one still. Raises ValkeyError when it cannot be known."""
        log = AnswerLog(log_id)
        log.extend((await self._entries([(log_id, "0-0")])).get(log_id, []))
        return log, await self._valkey.command("GET", _key("job", log_id))

    # producing

    async def _copy(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self._ended.clear()
            await self.flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_INTERVAL_S):
                    await self._ended.wait()

    def _batch(self, produced: "_Produced") -> tuple[list[str], list[Word]]:
        """The keys and values of `scripts/write.lua`."""
        log_id, rest = produced.log.id, produced.rest
        last, payload = (rest[-1].id, msgspec.json.encode(rest)) if rest else (0, b"")
        lease = self.lease(log_id)
        values: list[Word] = [
            lease.owner,
            lease.ms,
            produced.last_copied,
            payload,
            last,
            FIRST_LOG_ID,
            self._retention_s,
        ]
        return [_key("log", log_id), lease.key], values

    def _copied(self, produced: "_Produced", last: int) -> None:
        log = produced.log
        copied = produced.position_after(last)
        if copied is None:
            logger.warning("log %s was taken over by another process", log.id)
            self._produced.pop(log.id, None)
            produced.on_superseded()
            return
        produced.copied, produced.written_at = copied, time.monotonic()
        if produced.is_behind:
            self._dirty.set()
        elif log.finished:
            self._produced.pop(log.id, None)
            self._remember(log)

    def _shed(self) -> None:
        """Gives up the copies of the oldest finished logs when there are too many: memory is bounded."""
        finished = [log_id for log_id, produced in self._produced.items() if produced.log.finished]
        for log_id in finished[:-UNCOPIED_LOGS_MAX]:
            self._remember(self._produced.pop(log_id).log)

    async def _tick(self, take_over: TakeOver) -> None:
        """Leases of what we produce, presence on what we follow; also the second chance of a failed copy."""
        while True:
            await asyncio.sleep(TICK_S)
            await self.flush(renew=True)
            for log in list(self._followed.values()):
                await self.tell_presence(log)
            await self._adopt_orphans(take_over)

    # following

    async def _follow(self) -> None:
        """Feeds every followed log until it ends."""
        while True:
            await self._following.wait()
            try:
                positions = [(log_id, f"{log.next_id - 1}-0") for log_id, log in self._followed.items()]
                self._feed(await self._entries(positions, block_ms=FOLLOW_BLOCK_MS))
            except ValkeyError as error:
                logger.debug("%d logs cannot be followed right now: %s", len(self._followed), error)
                await asyncio.sleep(TICK_S)

    def _feed(self, news: dict[str, list[Entry]]) -> None:
        """Entries of a log that is not followed any more, or that are there already, are passed over."""
        for log_id, entries in news.items():
            log = self._followed.get(log_id)
            if log is None:
                continue
            log.extend([entry for entry in entries if entry.id >= log.next_id])
            if log.finished:
                self._unfollow(log)
                self._remember(log)

    def _unfollow(self, log: AnswerLog) -> None:
        self._followed.pop(log.id, None)
        if not self._followed:
            self._following.clear()

    async def _adopt_orphans(self, take_over: TakeOver) -> None:
        """Goes on with the followed logs whose producer has died, those that no other process goes on with."""
        logs = list(self._followed.values())
        try:
            leased = await self._valkey.commands([("EXISTS", self.lease(log.id).key) for log in logs])
            for log, has_producer in zip(logs, leased, strict=True):
                if not has_producer:
                    await self._adopt(log, take_over)
        except ValkeyError as error:
            logger.debug("logs without a producer may be left so: %s", error)

    async def _adopt(self, log: AnswerLog, take_over: TakeOver) -> None:
        lease = self.lease(log.id)
        if not await self._valkey.command("SET", lease.key, lease.owner, "PX", lease.ms, "NX"):
            return
        self._feed(await self._entries([(log.id, f"{log.next_id - 1}-0")]))
        counter = _key("takeovers", log.id)
        job, number, _ = await self._valkey.commands(
            [("GET", _key("job", log.id)), ("INCR", counter), ("EXPIRE", counter, self._retention_s)]
        )
        if log.finished:
            return
        logger.warning("the producer of log %s has died; going on with it here", log.id)
        self._unfollow(log)
        log.change_producer(number)
        self._produced[log.id] = _Produced(log, lambda: None, copied=len(log.entries))
        try:
            if job is None:
                raise Abandoned
            take_over(log, job)
        except (Abandoned, msgspec.MsgspecError) as error:  # the job of another release, perhaps
            logger.warning("log %s cannot be gone on with: %r", log.id, error)
            self.append(log, Failed(problem(Abandoned()) | {"partial": log.count(Delta.name) > 0}))

    async def _entries(
        self, positions: Sequence[tuple[str, str]], *, block_ms: int | None = None
    ) -> dict[str, list[Entry]]:
        """What the streams hold after these positions, by log."""
        keys = {_key("log", log_id): log_id for log_id, _ in positions}
        read = [(key, after) for key, (_, after) in zip(keys, positions, strict=True)]
        found = await self._valkey.streams(read, block_ms=block_ms)
        return {
            keys[str(stream, "ascii")]: [
                entry for _, (_, payload) in batches for entry in msgspec.json.decode(payload, type=list[Entry])
            ]
            for stream, batches in found
        }

    def _remember(self, log: AnswerLog) -> None:
        self._finished[log.id] = log
        while len(self._finished) > FINISHED_LOGS_KEPT:
            self._finished.popitem(last=False)


class _Produced:
    """A log that this process produces: how many of its entries are copied, and what to call when another takes over."""

    def __init__(self, log: AnswerLog, on_superseded: Callable[[], None], *, copied: int = 0) -> None:
        self.log = log
        self.on_superseded = on_superseded
        self.copied = copied
        self.written_at = 0.0
        """When it was last written to Valkey (``time.monotonic``), which renews its lease."""

    @property
    def is_behind(self) -> bool:
        """Whether anything is not copied yet."""
        return self.copied < len(self.log.entries)

    @property
    def is_old(self) -> bool:
        """Whether its lease should be renewed now, or its copy be tried again."""
        return time.monotonic() - self.written_at >= (RETRY_AFTER_S if self.is_behind else RENEW_AFTER_S)

    @property
    def last_copied(self) -> int:
        """The number of the last entry that is copied."""
        return self.log.entries[self.copied - 1].id if self.copied else FIRST_LOG_ID - 1

    def position_after(self, last: int) -> int | None:
        """How many entries are copied when the stream ends with this one; None when it is none of ours."""
        try:
            return self.log.position_after(last) if last else None
        except AnswerRewritten:
            return None

    @property
    def rest(self) -> list[Entry]:
        """What is not copied yet."""
        return self.log.entries[self.copied :]


def _key(kind: str, log_id: str) -> str:
    return f"refdesk:{kind}:{{{log_id}}}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
