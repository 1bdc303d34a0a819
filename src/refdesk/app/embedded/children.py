"""Keeping child processes alive: started together, probed until healthy, restarted when they die, stopped in order.

One keeper task lives as long as its child is wanted, through any number of lives of the process:

    sweep → prepare → spawn → probe until healthy → wait for its end or for stop → end → sweep ─┐
      ▲                                                              backoff, unless stopping    │
      └──────────────────────────────────────────────────────────────────────────────────────────┘

A child that never becomes healthy at its *first* start is an error for whoever starts it; later on there is nobody to
tell but the console, so it is tried again for ever.

A healthy child that has a `Pulse` is watched on: when it is silent for too long it is killed and started again (`pulse`). The
servers are never taken for silent: from outside, a hang and a long recovery look the same, and ending a recovery only makes it
longer. NATS has one all the same, for what it says of itself (`nats.Writing`).
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from refdesk.app.embedded import child_logs, processes
from refdesk.app.embedded.processes import Guardian, Program
from refdesk.app.embedded.pulse import Pulse, until_silent
from refdesk.contracts.errors import ConfigurationError, RefdeskError
from refdesk.indexing.priority import Waited, limit
from refdesk.settings.telemetry import LogFiles

RESTART_DELAY_MIN_S = 0.1
RESTART_DELAY_MAX_S = 10.0
HEALTHY_RESET_S = 30.0
"""A child that was healthy for so long has its failures forgiven."""
FIRST_START_ATTEMPTS = 3
PROBE_INTERVAL_S = 0.02


class StartFailed(ConfigurationError):
    """A part of Refdesk could not be started. Its log in the data directory says why."""

    code = "start-failed"
    title = "Start failed"


async def nothing() -> None:
    """The hook of a child that needs none."""


@dataclass(frozen=True, kw_only=True)
class Child:
    """A program and what its keeper must know about it.

    `healthy` is one probe: True when the child serves, False when it does not yet; it has its own time limit.
    `prepare` runs before every start; what it raises as RefdeskError counts as a failed start.
    `sweep` runs before every start and after every end, and ends processes that left the child's process group.
    `start_timeout_s` leaves out what it waits for a busy machine's processors, up to ten times as long in all.
    `pulse` tells whether it is still alive once it was healthy; without one it is never taken for frozen.
    """

    program: Program
    healthy: Callable[[], Awaitable[bool]]
    prepare: Callable[[], Awaitable[None]] = nothing
    sweep: Callable[[], Awaitable[None]] = nothing
    pulse: Pulse | None = None
    start_timeout_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class ChildEvent:
    """Something that happened to a child; `message` is one complete line for people."""

    child: str
    state: Literal["healthy", "failed", "stopping", "stopped", "swept"]
    message: str


OnEvent = Callable[[ChildEvent], None]


def ignore(event: ChildEvent) -> None:
    """For callers that want to hear nothing."""


def restart_delay_s(failures: int) -> float:
    """Doubling from 0.1 s to 10 s; `failures` counts from 1."""
    doublings = min(failures - 1, 16)
    return min(RESTART_DELAY_MIN_S * float(1 << doublings), RESTART_DELAY_MAX_S)


def how_it_ended(returncode: int | None) -> str:
    if returncode is None:
        return "did not end"
    if returncode < 0:
        return f"was ended by signal {-returncode} ({signal.strsignal(-returncode)})"
    return f"ended with exit code {returncode}"


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where children log and where they are written down. Both exist. How large logs grow is bounded."""

    logs: Path
    records: Path
    log_files: LogFiles = field(default_factory=LogFiles)


class _Keeper:
    """One child through all its lives."""

    def __init__(
        self, child: Child, *, folders: Folders, guardian: Guardian, on_event: OnEvent, hurry: asyncio.Event
    ) -> None:
        self._child = child
        self._program = child.program
        self._log = folders.logs / f"{child.program.name}.log"
        self._record = folders.records / f"{child.program.name}.pid"
        self._guardian = guardian
        self._on_event = on_event
        self._hurry = hurry
        self._stopping = asyncio.Event()
        self._began_s = 0.0
        self._healthy_since_s: float | None = None
        self._failures = 0
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def keep(self) -> None:
        try:
            while not self._stopping.is_set():
                await self._one_life()
                if not self._stopping.is_set():
                    await processes.first_of(self._stopping.wait(), within_s=restart_delay_s(self._failures))
        finally:
            if not self.started.done():
                self.started.cancel()
            self.gone.set()

    async def _one_life(self) -> None:
        self._began_s, self._healthy_since_s = _now_s(), None
        process = await self._begin()
        if process is None:
            return
        try:
            self._write_down(process.pid)
            await self._live(process)
        finally:
            await self._end(process)

    async def _begin(self) -> asyncio.subprocess.Process | None:
        try:
            await self._child.sweep()
            await self._child.prepare()
            return await processes.spawn(self._program, log_path=self._log)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            message = f"{self._program.name} could not be started: {error.strerror}{where}"
            self._failed(message, fatal=StartFailed(f"{message}. Free some space or mend the permissions there."))
        except RefdeskError as error:
            self._failed(error.message, fatal=error)
        return None

    def _write_down(self, pid: int) -> None:
        """For the guardian and for the next start. A full disk does not stop us: kernel and guardian still help."""
        self._guardian.watch(pid, program=self._program)
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            processes.write_record(self._record, record=processes.Record.of(pid, program=self._program))

    async def _live(self, process: asyncio.subprocess.Process) -> None:
        if await self._becomes_healthy(process):
            self._healthy_since_s = _now_s()
            self._say("healthy", f"{self._program.name} is ready after {self._healthy_since_s - self._began_s:.1f} s.")
            if not self.started.done():
                self.started.set_result(None)
            if await self._falls_silent(process):
                return
        if self._stopping.is_set():
            return
        if process.returncode is None:
            what = f"{self._program.name} did not become healthy within {self._child.start_timeout_s:.0f} s"
            self._failed(what, fatal=self._start_failed(what))
        else:
            self._failed(f"{self._program.name} {how_it_ended(process.returncode)}")

    async def _falls_silent(self, process: asyncio.subprocess.Process) -> bool:
        """Live with it until it ends, is to be stopped, or is silent for too long; then it is killed, and True."""
        pulse, silent = self._child.pulse, asyncio.Event()

        async def watch(pulse: Pulse) -> None:
            await until_silent(pulse, process_id=process.pid)
            silent.set()

        watching = () if pulse is None else (watch(pulse),)
        await processes.first_of(process.wait(), self._stopping.wait(), *watching)
        if pulse is None or not silent.is_set() or self._stopping.is_set() or process.returncode is not None:
            return False
        processes.signal_group(process.pid, signal.SIGKILL)  # what is frozen hears no milder signal
        self._failed(f"{self._program.name} {pulse.silence} for {pulse.silence_s_max:g} s and was killed")
        return True

    async def _becomes_healthy(self, process: asyncio.subprocess.Process) -> bool:
        healthy = asyncio.Event()

        async def probe() -> None:
            while not await self._child.healthy():
                await asyncio.sleep(PROBE_INTERVAL_S)
            healthy.set()

        with contextlib.suppress(TimeoutError):
            async with limit(self._child.start_timeout_s, waited=Waited(process.pid)):
                await processes.first_of(probe(), process.wait(), self._stopping.wait())
        return healthy.is_set() and process.returncode is None

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        was_running = process.returncode is None
        clean = await processes.end(process, program=self._program, hurry=self._hurry)
        await self._child.sweep()
        self._guardian.forget(process.pid)
        with contextlib.suppress(OSError):
            self._record.unlink()
        if was_running and self._stopping.is_set():
            how = "has stopped" if clean else "did not stop in time and was killed"
            self._say("stopped", f"{self._program.name} {how}.")

    def _failed(self, what: str, *, fatal: RefdeskError | None = None) -> None:
        """Count a failure. At the first start, `fatal` ends it at once; anything else is tried a few times."""
        long_enough = self._healthy_since_s is not None and _now_s() - self._healthy_since_s >= HEALTHY_RESET_S
        self._failures = 1 if long_enough else self._failures + 1
        if not self.started.done() and (fatal or self._failures >= FIRST_START_ATTEMPTS):
            self.started.set_exception(fatal or self._start_failed(what))
            self._stopping.set()
            return
        self._say("failed", f"{what}; starting it again in {restart_delay_s(self._failures):.1f} s ({self._log}).")

    def _start_failed(self, what: str) -> StartFailed:
        tail = child_logs.tail(self._log)
        said = f" It said: {tail.rstrip('.')}." if tail else ""
        return StartFailed(f"{what}.{said} The log is {self._log}.")

    def _say(self, state: Literal["healthy", "failed", "stopped"], message: str) -> None:
        self._on_event(ChildEvent(child=self._program.name, state=state, message=message))


def _now_s() -> float:
    return asyncio.get_running_loop().time()


class Children:
    """The running children, in the order they were started. Made by `children()`."""

    def __init__(
        self,
        *,
        tasks: asyncio.TaskGroup,
        guardian: Guardian,
        folders: Folders,
        on_event: OnEvent,
        hurry: asyncio.Event,
    ) -> None:
        self._tasks = tasks
        self._guardian = guardian
        self._folders = folders
        self._on_event = on_event
        self._hurry = hurry
        self._stages: list[list[_Keeper]] = []

    async def start(self, *children: Child) -> None:
        """Start these at the same time; return when all are healthy. Raises StartFailed when one cannot be started."""
        stage = [
            _Keeper(child, folders=self._folders, guardian=self._guardian, on_event=self._on_event, hurry=self._hurry)
            for child in children
        ]
        self._stages.append(stage)
        for keeper in stage:
            self._tasks.create_task(keeper.keep())
        await asyncio.gather(*(keeper.started for keeper in stage))

    async def stop(self) -> None:
        """Stop what was started last first; children that were started together stop together."""
        for stage in reversed(self._stages):
            for keeper in stage:
                keeper.stop()
            for keeper in stage:
                await keeper.gone.wait()


@contextlib.asynccontextmanager
async def children(
    *, folders: Folders, on_event: OnEvent = ignore, hurry: asyncio.Event | None = None
) -> AsyncIterator[Children]:
    """Children for as long as the block lasts; leaving it, in whatever way, stops them in reverse order.

    First ends what a crashed run may have left behind. Once `hurry` is set, nobody gets any more grace. Enter and
    leave the block in the same task.
    """
    for name in await processes.end_leftovers(folders.records):
        message = f"{name} was still running from a run that had crashed; it has been ended."
        on_event(ChildEvent(child=name, state="swept", message=message))
    try:
        async with processes.guardian() as guardian, asyncio.TaskGroup() as tasks:
            running = Children(
                tasks=tasks, guardian=guardian, folders=folders, on_event=on_event, hurry=hurry or asyncio.Event()
            )
            bounding = tasks.create_task(child_logs.keep_bounded(folders.logs, limits=folders.log_files))
            try:
                yield running
            finally:
                await running.stop()
                bounding.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
