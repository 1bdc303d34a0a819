"""Parsing documents without trusting them.

Each document is read in a process that can be killed. A process serves many documents, one at a time: starting one costs
half a second, most documents cost milliseconds. Processes start when there is work and end when there has been none for a
while, so an idle system holds none.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from refdesk.contracts.errors import DocumentRejected, Overloaded
from refdesk.indexing.frames import Reply, Request
from refdesk.indexing.parsed import Block, ParsedDocument, ParsingLimits, rejected
from refdesk.indexing.sandbox import Sandbox, SandboxCrashed
from refdesk.outside import telemetry
from refdesk.outside.media_types import SUPPORTED

__all__ = ["Block", "ParsedDocument", "ParserPool", "ParsingLimits", "PoolSizes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSizes:
    """How many parser processes there are, and how long they live."""

    workers: int = 2
    queue_max: int = 64
    """Documents that may wait for a process; beyond it `parse` refuses at once."""
    idle_s: float = 30.0
    """After so long without work a process ends."""
    documents_per_worker_max: int = 200
    resident_bytes_max: int = 192 * 1024 * 1024
    """A process that still holds more than this after a document is replaced."""


class ParserPool:
    """Parses documents in parallel, each in a sandboxed process. An async context manager.

    A document that hangs, swells or crashes takes its own process with it and delays nobody else. Cancelling `parse` kills
    the process at once.
    """

    def __init__(self, *, limits: ParsingLimits | None = None, sizes: PoolSizes | None = None) -> None:
        self.limits = limits or ParsingLimits()
        self._sizes = sizes or PoolSizes()
        self._free = asyncio.Semaphore(self._sizes.workers)
        self._waiting = 0
        self._idle: list[tuple[Sandbox, asyncio.TimerHandle]] = []
        self._ending: list[Sandbox] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._idle:
            sandbox, timer = self._idle.pop()
            timer.cancel()
            self._ending.append(sandbox)
        while self._ending:
            await self._ending.pop().stop()

    async def parse(self, content: bytes, media_type: str, filename: str | None = None) -> ParsedDocument:
        """The document's text and structure.

        Raises `DocumentRejected` when the document cannot be read or goes beyond a limit, `Overloaded` when too many wait
        already, and `Unavailable` when no parser process can be started. Only the last two are worth another try.
        """
        if self._waiting >= self._sizes.queue_max:
            raise Overloaded(f"{self._waiting} documents already wait to be parsed. Try again later.", retry_after_s=5)
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            with telemetry.parse_seconds.labels(media_type if media_type in SUPPORTED else "other").time():
                return self._verdict(await self._ask(Request(media_type=media_type, filename=filename), content))
        finally:
            self._free.release()

    async def _ask(self, request: Request, content: bytes) -> Reply:
        """Asks once more in a fresh process after a crash: what came before may have been at fault."""
        try:
            return await self._ask_once(request, content)
        except SandboxCrashed as crash:
            if crash.out_of_cpu or (crash.out_of_memory and crash.answered == 0):
                raise self._blame(crash, request.filename) from crash
        try:
            return await self._ask_once(request, content, fresh=True)
        except SandboxCrashed as crash:
            raise self._blame(crash, request.filename) from crash

    async def _ask_once(self, request: Request, content: bytes, *, fresh: bool = False) -> Reply:
        sandbox = await self._take(fresh=fresh)
        healthy = False
        try:
            async with asyncio.timeout(self.limits.wall_s):
                reply = await sandbox.ask(request, content)
            healthy = not self._is_worn(sandbox)
            return reply
        except SandboxCrashed as crash:
            reason = "memory" if crash.out_of_memory else "cpu" if crash.out_of_cpu else "crash"
            telemetry.parse_killed.labels(reason).inc()
            raise
        except TimeoutError as error:
            telemetry.parse_killed.labels("time").inc()
            raise rejected(
                f"{_name(request.filename)} could not be read within {self.limits.wall_s:g} s",
                "split it, or raise REFDESK_PARSE_SECONDS_MAX",
                limit=str(self.limits.wall_s),
            ) from error
        finally:
            if healthy:
                self._park(sandbox)
            else:
                await sandbox.stop()

    async def _take(self, *, fresh: bool) -> Sandbox:
        while self._ending:
            await self._ending.pop().stop()
        if self._idle and not fresh:
            sandbox, timer = self._idle.pop()  # the one used last: the others may come to their idle end
            timer.cancel()
            return sandbox
        return await Sandbox.start(self.limits)

    def _park(self, sandbox: Sandbox) -> None:
        loop = asyncio.get_running_loop()
        self._idle.append((sandbox, loop.call_later(self._sizes.idle_s, self._retire, sandbox)))

    def _retire(self, sandbox: Sandbox) -> None:
        self._idle = [(other, timer) for other, timer in self._idle if other is not sandbox]
        sandbox.kill()
        self._ending.append(sandbox)

    def _is_worn(self, sandbox: Sandbox) -> bool:
        return (
            sandbox.answered >= self._sizes.documents_per_worker_max
            or sandbox.resident_bytes > self._sizes.resident_bytes_max
        )

    def _verdict(self, reply: Reply) -> ParsedDocument:
        if reply.document is not None:
            return reply.document
        rejection = DocumentRejected(reply.rejection)
        rejection.details.update(reply.details)
        raise rejection

    def _blame(self, crash: SandboxCrashed, filename: str | None) -> DocumentRejected:
        name, limits = _name(filename), self.limits
        if crash.out_of_memory:
            return rejected(
                f"{name} needs more than {limits.memory_bytes_max // 2**20} MiB of memory to read",
                "split it, or raise REFDESK_PARSE_MEMORY_BYTES_MAX",
                limit=limits.memory_bytes_max,
            )
        if crash.out_of_cpu:
            return rejected(
                f"{name} needs more than {limits.cpu_s} s of computing to read",
                "split it, or raise REFDESK_PARSE_SECONDS_MAX",
                limit=limits.cpu_s,
            )
        return rejected(
            f"{name} crashed the parser twice",
            "save it anew in its program, or convert it to PDF, and upload the new copy",
        )


def _name(filename: str | None) -> str:
    return filename or "The document"
