"""Parsing documents without trusting them.

Each document is read in a process that can be killed. A process serves many documents, one at a time: starting one costs
half a second, most documents cost milliseconds. Processes start when there is work and end when there has been none for a
while, so an idle system holds none.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import msgspec

from refdesk.contracts.documents import ReadingNote
from refdesk.contracts.errors import DocumentRejected, Overloaded
from refdesk.indexing.frames import PageLook, Reply, Request
from refdesk.indexing.parsed import NOTE_CHARACTERS_MAX, Block, ParsedDocument, ParsingLimits, rejected
from refdesk.indexing.priority import Waited, limit
from refdesk.indexing.recognising import Recognising, name_of, too_slow
from refdesk.indexing.recognition import pages
from refdesk.indexing.sandbox import Sandbox, SandboxCrashed, remove_abandoned
from refdesk.outside import media_types as kinds
from refdesk.outside import telemetry
from refdesk.settings.reading import PoolSizes

_ATTACHMENTS_FAILED_MAX = 2
"""Attachments of one document that may each take a parser along; behind the next one no attachment is read."""

logger = logging.getLogger(__name__)

__all__ = ["Block", "ParsedDocument", "ParserPool", "ParsingLimits"]


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
        self._warned = False

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(remove_abandoned)
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
        request, parsed = await self._read(Request(media_type=media_type, filename=filename), content)
        if not parsed.scanned and not parsed.scans:
            return parsed
        recognising = Recognising(self.limits.recognition, self._page_text)
        request, trouble = await recognising.recognise(parsed, request, content)
        if request.recognised or request.unrecognised:
            _, parsed = await self._read(request, content)
        if parsed.scanned and trouble:
            parsed = _noting(parsed, trouble)
        if not parsed.blocks:
            raise rejected(
                f"No text could be recognised in {name_of(request)}", "upload a clearer scan, or one that has some"
            )
        return parsed

    async def look(self, content: bytes, look: PageLook) -> Reply:
        """How a page of a PDF looks, or where a text stands on it. Raises as `parse` does."""
        if self._waiting >= self._sizes.queue_max:
            raise Overloaded(f"{self._waiting} pages already wait to be drawn. Try again later.", retry_after_s=5)
        reply = await self._in_turn(Request(media_type=kinds.PDF, filename=None, look=look), content)
        if reply.image is None and reply.marks is None:
            raise _rejection(reply)
        return reply

    async def _read(self, request: Request, content: bytes) -> tuple[Request, ParsedDocument]:
        """An attachment that takes the parser along is left out, and after some all that follow: the request says which."""
        while True:
            try:
                return request, _document(await self._in_turn(request, content))
            except _AttachmentFailed as failure:
                unread = {**request.unread, failure.number: failure.rejection.message}
                request = msgspec.structs.replace(
                    request,
                    unread=unread,
                    unread_from=failure.number if len(unread) > _ATTACHMENTS_FAILED_MAX else None,
                )

    async def _page_text(self, request: Request, content: bytes, wall_s: float) -> tuple[str, float]:
        """Each page takes its turn like a document, so that a long scan delays nobody by more than a page."""
        async with self._turn(request):
            began_s = time.monotonic()
            text = _page_text(await self._ask(request, content, wall_s=wall_s))
            return text, time.monotonic() - began_s

    async def _in_turn(self, request: Request, content: bytes) -> Reply:
        async with self._turn(request):
            return await self._ask(request, content, wall_s=self.limits.wall_s)

    @asynccontextmanager
    async def _turn(self, request: Request) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            media_type = request.media_type if request.media_type in kinds.SUPPORTED else "other"
            with telemetry.parse_seconds.labels(media_type).time():
                yield
        finally:
            self._free.release()

    async def _ask(self, request: Request, content: bytes, *, wall_s: float) -> Reply:
        """Asks once more in a fresh process after a crash: what came before may have been at fault."""
        try:
            return await self._ask_once(request, content, wall_s=wall_s)
        except SandboxCrashed as crash:
            if crash.out_of_cpu or (crash.out_of_memory and crash.answered == 0):
                raise _in_attachment(self._blame(crash, request), crash.attachment) from crash
        try:
            return await self._ask_once(request, content, wall_s=wall_s, fresh=True)
        except SandboxCrashed as crash:
            raise _in_attachment(self._blame(crash, request), crash.attachment) from crash

    async def _ask_once(self, request: Request, content: bytes, *, wall_s: float, fresh: bool = False) -> Reply:
        sandbox = await self._take(fresh=fresh)
        healthy = False
        try:
            async with limit(wall_s, waited=Waited(sandbox.pid)):
                reply = await sandbox.ask(request, content)
            healthy = not self._is_worn(sandbox)
            return reply
        except SandboxCrashed as crash:
            reason = "memory" if crash.out_of_memory else "cpu" if crash.out_of_cpu else "crash"
            telemetry.parse_killed.labels(reason).inc()
            raise
        except TimeoutError as error:
            telemetry.parse_killed.labels("time").inc()
            rejection = too_slow(_part(request), wall_s, _seconds_setting(request))
            raise _in_attachment(rejection, sandbox.attachment) from error
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
        sandbox = await Sandbox.start(self.limits)
        self._warn_of_gaps(sandbox)
        return sandbox

    def _warn_of_gaps(self, sandbox: Sandbox) -> None:
        """Once: every process of a pool has the same fences."""
        if sandbox.unfenced and not self._warned:
            self._warned = True
            logger.warning("Documents are read with fewer fences than there could be: %s.", "; ".join(sandbox.unfenced))

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

    def _blame(self, crash: SandboxCrashed, request: Request) -> DocumentRejected:
        name, limits = _part(request), self.limits
        if crash.out_of_memory:
            return rejected(
                f"{name} needs more than {limits.memory_bytes_max // 2**20} MiB of memory to read",
                "split it, or raise REFDESK_PARSE_MEMORY_BYTES_MAX",
                limit=limits.memory_bytes_max,
            )
        if crash.out_of_cpu:
            return too_slow(name, limits.cpu_s, _seconds_setting(request))
        return rejected(
            f"{name} crashed the parser twice",
            "save it anew in its program, or convert it to PDF, and upload the new copy",
        )


class _AttachmentFailed(Exception):
    """An attachment was being read when the parser process had to end."""

    def __init__(self, number: int, rejection: DocumentRejected) -> None:
        super().__init__(rejection.message)
        self.number = number
        self.rejection = rejection


def _in_attachment(rejection: DocumentRejected, number: int) -> DocumentRejected | _AttachmentFailed:
    return _AttachmentFailed(number, rejection) if number else rejection


def _noting(parsed: ParsedDocument, trouble: DocumentRejected) -> ParsedDocument:
    text = f"There is no text on {pages(parsed.scanned)}: {trouble.message}"
    note = ReadingNote(code="pages_unread", text=text[:NOTE_CHARACTERS_MAX])
    return msgspec.structs.replace(parsed, notes=(*parsed.notes, note))


def _document(reply: Reply) -> ParsedDocument:
    if reply.document is None:
        raise _rejection(reply)
    return reply.document


def _page_text(reply: Reply) -> str:
    if reply.page_text is None:
        raise _rejection(reply)
    return reply.page_text


def _rejection(reply: Reply) -> DocumentRejected:
    rejection = DocumentRejected(reply.rejection)
    rejection.details.update(reply.details)
    return rejection


def _seconds_setting(request: Request) -> str:
    return "REFDESK_PARSE_SECONDS_MAX" if request.recognise_page is None else "REFDESK_OCR_PAGE_SECONDS_MAX"


def _part(request: Request) -> str:
    name = name_of(request)
    return name if request.recognise_page is None else f"Page {request.recognise_page} of {name}"
