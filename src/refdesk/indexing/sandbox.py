"""One parser process, seen from outside: started, asked, and killed without regret."""

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from refdesk.contracts.errors import Unavailable
from refdesk.indexing.frames import LENGTH_BYTES, Reply, Request, frame
from refdesk.indexing.parsed import ParsingLimits

_DIRECTORY_PREFIX = "refdesk-parser-"
_STDERR = "stderr"
_STARTING_S_MAX = 60.0
"""A directory younger than this may belong to a parser that is just being started."""
_START_TIMEOUT_S = 30.0  # Python and the parser's library; 0.5 s on an idle machine
_END_TIMEOUT_S = 1.0
_PIPE_BUFFER_BYTES = 1024 * 1024
_STDERR_TAIL_BYTES = 4096
_JSON_BYTES_PER_CHARACTER_MAX = 6  # \\u0000
_JSON_BYTES_PER_BLOCK_MAX = 64
_DECODE_IN_LOOP_BYTES_MAX = 256 * 1024


class SandboxCrashed(Exception):
    """The parser process ended, or ran out of memory, instead of answering."""

    def __init__(
        self,
        status: int | None,
        *,
        stderr: bytes = b"",
        out_of_memory: bool = False,
        answered: int = 0,
        attachment: int = 0,
    ) -> None:
        super().__init__(f"the parser process ended with status {status}")
        text = stderr.lower()
        self.out_of_memory = (
            out_of_memory or status == -signal.SIGKILL or b"memory allocation" in text or b"memoryerror" in text
        )
        self.out_of_cpu = status == -signal.SIGXCPU
        self.answered = answered
        """How many documents it had read before."""
        self.attachment = attachment


class Sandbox:
    """A running parser process in a directory of its own; it answers one request after the other.

    Any failure, a timeout or a cancellation included, leaves it in an unknown state: `stop` it then.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, directory: tempfile.TemporaryDirectory[str], limits: ParsingLimits
    ) -> None:
        self.answered = 0
        self.attachment = 0
        """The attachment that it reads or came to grief in, from 1 on; 0 outside of any."""
        self.resident_bytes = 0
        self.unfenced: tuple[str, ...] = ()
        """What this machine does not refuse it, in words; empty where every fence stands."""
        self.pid = process.pid
        self._process = process
        self._directory = directory
        self._reply_bytes_max = (
            _JSON_BYTES_PER_CHARACTER_MAX * limits.characters_max + _JSON_BYTES_PER_BLOCK_MAX * limits.blocks_max
        )

    @classmethod
    async def start(cls, limits: ParsingLimits) -> Self:
        """A process that is ready to parse. Raises `Unavailable` when none can be had."""
        directory = tempfile.TemporaryDirectory(prefix=_DIRECTORY_PREFIX, ignore_cleanup_errors=True)
        try:
            sandbox = cls(await _spawn(Path(directory.name), limits), directory, limits)
        except OSError as error:
            directory.cleanup()
            raise Unavailable(f"A parser process cannot be started: {error}.") from error
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                ready = await sandbox._exchange(frame(msgspec.json.encode(limits)))
            sandbox.unfenced = ready.unfenced
        except (SandboxCrashed, TimeoutError) as error:
            raise Unavailable("A parser process did not start. `refdesk doctor` checks the installation.") from error
        finally:
            if not sandbox.resident_bytes:
                await sandbox.stop()
        return sandbox

    async def ask(self, request: Request, content: bytes) -> Reply:
        """The answer to one request. Raises `SandboxCrashed`."""
        self.attachment = 0
        reply = await self._exchange(
            frame(msgspec.json.encode(request)), len(content).to_bytes(LENGTH_BYTES, "big"), content
        )
        if reply.out_of_memory:
            raise SandboxCrashed(None, out_of_memory=True, answered=self.answered, attachment=self.attachment)
        self.answered += 1
        return reply

    def kill(self) -> None:
        """Ends the process at once, without waiting."""
        with suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def stop(self) -> None:
        """Kills the process, waits for its end and removes its directory."""
        self.kill()
        await self._process.wait()
        self._directory.cleanup()

    async def _exchange(self, *parts: bytes) -> Reply:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError("the sandbox was started with pipes")
        try:
            for part in parts:
                stdin.write(part)
            await stdin.drain()
            while (reply := await self._reply(stdout)).attachment is not None:
                self.attachment = reply.attachment
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError) as error:
            raise await self._crash() from error
        self.resident_bytes = reply.resident_bytes
        return reply

    async def _reply(self, stdout: asyncio.StreamReader) -> Reply:
        size = int.from_bytes(await stdout.readexactly(LENGTH_BYTES), "big")
        if size > self._reply_bytes_max:
            raise SandboxCrashed(None, answered=self.answered)
        return await _decode(await stdout.readexactly(size))

    async def _crash(self) -> SandboxCrashed:
        """It has ended by itself, nearly always: to kill it just then would take its status from whoever waits for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT_S):
                await self._process.wait()
        self.kill()
        status = await self._process.wait()
        stderr = await asyncio.to_thread(_tail, Path(self._directory.name, _STDERR))
        return SandboxCrashed(status, stderr=stderr, answered=self.answered, attachment=self.attachment)


def remove_abandoned(*, starting_s_max: float = _STARTING_S_MAX) -> None:
    """Removes the directories of parsers that died with their parent, which could not.

    A parser holds the lock on its ``stderr`` for as long as it lives, whoever started it.
    """
    for directory in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY_PREFIX}*"):
        with suppress(OSError), (directory / _STDERR).open("rb") as stderr:
            fcntl.flock(stderr, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not 0 <= time.time() - directory.stat().st_mtime < starting_s_max:  # below 0: the clock was set back
                shutil.rmtree(directory)


async def _spawn(directory: Path, limits: ParsingLimits) -> asyncio.subprocess.Process:
    with (directory / _STDERR).open("wb") as stderr:
        fcntl.flock(stderr, fcntl.LOCK_EX)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-PsB",
            *("-m", "refdesk.indexing.sandboxed", str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            cwd=directory,
            env=_environment(directory, limits),
            limit=_PIPE_BUFFER_BYTES,
        )


def _environment(directory: Path, limits: ParsingLimits) -> dict[str, str]:
    """All that a parser may know: no keys, no addresses. One malloc arena, so that threads do not reserve memory."""
    recognition = {"TESSDATA_PREFIX": limits.recognition.data_dir} if limits.recognition else {}
    return recognition | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LC_ALL": "C.UTF-8",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "MALLOC_ARENA_MAX": "1",
        "RAYON_NUM_THREADS": "1",
        "OMP_THREAD_LIMIT": "1",
    }


async def _decode(payload: bytes) -> Reply:
    if len(payload) <= _DECODE_IN_LOOP_BYTES_MAX:
        return msgspec.json.decode(payload, type=Reply)
    return await asyncio.to_thread(msgspec.json.decode, payload, type=Reply)


def _tail(path: Path) -> bytes:
    try:
        return path.read_bytes()[-_STDERR_TAIL_BYTES:]
    except OSError:
        return b""
