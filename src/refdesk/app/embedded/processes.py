"""Child processes: how one is started, written down, ended, and found again after a crash.

Each child leads a session, and so a process group, of its own: Ctrl-C in a terminal reaches only the supervisor, a child and
whatever it started can be ended together, and one that stands back does so as a whole (`indexing/priority.py`). Three things
keep a child from outliving the supervisor: the kernel's parent-death signal (`launch.py`), the guardian (`guardian.py`), and the
record of its pid that the next start reads.
"""

# mypy: allow-untyped-calls
# psutil ships no types.

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from refdesk.app.embedded.child_logs import open_log

START_TIME_TOLERANCE_S = 2.0
"""The clock that start times are computed from may be corrected by a second between two readings."""
POLL_S = 0.01
KILL_WAIT_S = 5.0
CRASH_GRACE_S_MAX = 5.0
"""What a child gets whose supervisor has crashed: its servers or clients are going as well, so waiting saves nothing."""
LAUNCH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")))
GUARDIAN = (sys.executable, "-I", "-S", str(Path(__file__).with_name("guardian.py")))


@dataclass(frozen=True, kw_only=True)
class Account:
    """The user a program runs as when we are root; `capability` is the one Linux capability it keeps, -1 for none."""

    uid: int
    gid: int
    capability: int = -1


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run and how to stop it.

    `stop_signal` asks for a clean stop, from us and from the kernel when we die; after `stop_grace_s` seconds it is
    SIGKILL. `environment` is added to ours; without a `working_directory` it works where we work.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    working_directory: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0

    @property
    def crash_grace_s(self) -> float:
        return min(self.stop_grace_s, CRASH_GRACE_S_MAX)


async def spawn(program: Program, *, log_path: Path) -> asyncio.subprocess.Process:
    """Start `program` in a session of its own, its output appended to the log.

    The kernel ties a child's death to the *thread* that started it: call this only from the main thread's event loop.
    Raises OSError when the log cannot be opened; a program that cannot be run ends at once and says so in its log.
    """
    account = program.account or Account(uid=-1, gid=-1)
    launch = (os.getpid(), int(program.stop_signal), account.uid, account.gid, account.capability)
    log = open_log(log_path)
    try:
        return await asyncio.create_subprocess_exec(
            *LAUNCH,
            *map(str, launch),
            "--",
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=program.working_directory,
            env={**os.environ, **program.environment},
            start_new_session=True,
        )
    finally:
        os.close(log)


def signal_group(leader: int, number: int) -> bool:
    """Send a signal to a child and all it started; False when nobody of them is left."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):  # macOS answers "not permitted" for a group of zombies
        return False
    return True


async def end(process: asyncio.subprocess.Process, *, program: Program, hurry: asyncio.Event) -> bool:
    """Stop a child, then whatever it left behind in its group; True when it went by itself.

    It gets its grace unless `hurry` is set. When this is cancelled, the group is killed at once.
    """
    try:
        if process.returncode is None:
            signal_group(process.pid, program.stop_signal)
            await first_of(process.wait(), hurry.wait(), within_s=program.stop_grace_s)
        return process.returncode is not None
    finally:
        signal_group(process.pid, signal.SIGKILL)
        await first_of(process.wait(), within_s=KILL_WAIT_S)


async def first_of(*waits: Coroutine[object, object, object], within_s: float | None = None) -> None:
    """Return when the first of these is done, or when the time is over; the others are cancelled.

    Raises what the first one raised.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Guardian:
    """Our end of the guardian's standard input. A guardian that was killed is done without: the kernel still helps."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def _tell(self, line: str) -> None:
        if self._process.stdin and not self._process.stdin.is_closing():
            self._process.stdin.write(f"{line}\n".encode())

    def watch(self, pid: int, *, program: Program) -> None:
        self._tell(f"+ {pid} {int(program.stop_signal)} {program.crash_grace_s}")

    def forget(self, pid: int) -> None:
        self._tell(f"- {pid}")


@contextlib.asynccontextmanager
async def guardian() -> AsyncIterator[Guardian]:
    """Run a guardian for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *GUARDIAN,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        process_group=0,
    )
    assert process.stdin
    try:
        yield Guardian(process)
    finally:
        process.stdin.close()
        await process.wait()


@dataclass(frozen=True, kw_only=True)
class Record:
    """A child that was started, as written to `<name>.pid`: enough to know it again and to end it."""

    pid: int
    started: float
    """Seconds since 1970, as the operating system reports it."""
    command: str
    stop_signal: int
    stop_grace_s: float

    @staticmethod
    def of(pid: int, *, program: Program) -> "Record":
        """Raises psutil.NoSuchProcess when the child has already ended."""
        return Record(
            pid=pid,
            started=psutil.Process(pid).create_time(),
            command=program.command[0],
            stop_signal=int(program.stop_signal),
            stop_grace_s=program.crash_grace_s,
        )

    def process(self) -> psutil.Process | None:
        """The process, if it still runs and really is the one: same start time, same program."""
        try:
            process = psutil.Process(self.pid)
            same_start = abs(process.create_time() - self.started) < START_TIME_TOLERANCE_S
            return process if same_start and self._runs_in(process) else None
        except psutil.NoSuchProcess:
            return None

    def _runs_in(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.AccessDenied):
            if process.exe() == os.path.realpath(self.command):
                return True
        return self.command in process.cmdline()


def write_record(path: Path, *, record: Record) -> None:
    path.write_text(json.dumps(vars(record)), encoding="utf-8")


def read_record(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # cut short by the crash: the kernel and the guardian have had their turn
        return None


async def end_leftovers(records: Path) -> list[str]:
    """End the children of a crashed run that are still there, and return their names."""
    found = [(path, read_record(path)) for path in sorted(records.glob("*.pid"))]
    ended = await asyncio.gather(*(_end_leftover(record) for _, record in found if record))
    for path, _ in found:
        path.unlink(missing_ok=True)
    return [path.stem for (path, _), was_there in zip([f for f in found if f[1]], ended, strict=True) if was_there]


async def _end_leftover(record: Record) -> bool:
    if record.process() is None:
        return False
    signal_group(record.pid, record.stop_signal)
    if not await _gone(record, within_s=record.stop_grace_s):
        signal_group(record.pid, signal.SIGKILL)
        await _gone(record, within_s=KILL_WAIT_S)
    return True


async def _gone(record: Record, *, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            while (process := record.process()) and process.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        return False
    except psutil.NoSuchProcess:
        pass
    return True
