"""Pages of documents as they look, for whoever may read the document: drawn by somebody else, kept for a while.

Drawing reads foreign bytes, so it is done in the fenced processes of the parser, which this service does not know: it is given
what draws and what finds.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from refdesk.contracts.access import Scope
from refdesk.contracts.documents import Document
from refdesk.contracts.errors import Conflict, DocumentRejected, NotFound, Overloaded
from refdesk.documents.service import DocumentService
from refdesk.outside.media_types import PDF
from refdesk.settings.documents import PageImages

Key = tuple[str, int, int]
"""The content's hash, the page and the width."""


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """How pages are drawn. ``draw(content, page, width)`` gives a PNG, ``find(content, page, text)`` the JSON of its marks.

    ``read(content, media_type)`` gives the text of a document.
    """

    draw: Callable[[bytes, int, int], Awaitable[bytes]]
    find: Callable[[bytes, int, str], Awaitable[bytes]]
    read: Callable[[bytes, str], Awaitable[str]]


class Looks:
    def __init__(self, service: DocumentService, drawing: Drawing, *, limits: PageImages) -> None:
        self._service = service
        self._drawing = drawing
        self._limits = limits
        self._free = asyncio.Semaphore(limits.at_once)
        self._waiting = 0
        self._cache: OrderedDict[Key, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._drawn: dict[Key, asyncio.Task[bytes]] = {}

    async def document(self, document_id: str, *, scope: Scope, version: int | None) -> Document:
        """The document, if it has pages to look at. Raises NotFound, and Conflict when the version is not the newest."""
        document = await self._service.get(document_id, scope=scope)
        if version is not None and version != document.version:
            raise Conflict(
                f"This version was superseded by version {document.version}. Look at that one.",
                version=document.version,
            )
        if document.media_type != PDF:
            raise NotFound("This document has no pages to look at: only those of a PDF are drawn.")
        return document

    async def page(self, document: Document, *, scope: Scope, page: int, width: int) -> bytes:
        """The page as PNG. Raises NotFound when there is no such page."""
        key = (document.content_sha256, page, width)
        if (known := self._cache.get(key)) is not None:
            self._cache.move_to_end(key)
            return known
        drawn = await self._once(key, document, scope=scope)
        self._keep(key, drawn)
        return drawn

    async def marks(self, document: Document, *, scope: Scope, page: int, text: str) -> bytes:
        """Where the text stands on the page, as JSON. Raises NotFound when there is no such page."""

        async def find(content: bytes) -> bytes:
            return await self._drawing.find(content, page, text)

        return await self._in_turn(document, scope, find)

    async def _once(self, key: Key, document: Document, *, scope: Scope) -> bytes:
        """Who asks for a page that is being drawn waits for that."""
        task = self._drawn.get(key)
        if task is None:
            task = self._drawn[key] = asyncio.create_task(self._draw(key, document, scope), name=f"draw page {key[1]}")
            task.add_done_callback(lambda _: self._drawn.pop(key, None))
        return await asyncio.shield(task)

    async def _draw(self, key: Key, document: Document, scope: Scope) -> bytes:
        async def draw(content: bytes) -> bytes:
            return await self._drawing.draw(content, key[1], key[2])

        return await self._in_turn(document, scope, draw)

    async def _in_turn(self, document: Document, scope: Scope, work: Callable[[bytes], Awaitable[bytes]]) -> bytes:
        """Reads the content when its turn has come, since a content may be large. Raises Overloaded."""
        if self._waiting >= self._limits.waiting_max:
            raise Overloaded(
                f"{self._waiting} pages already wait to be drawn (REFDESK_PAGE_IMAGE_WAITING_MAX). Try again shortly.",
                limit=self._limits.waiting_max,
            )
        self._waiting += 1
        try:
            async with self._free:
                return await work(await self._content(document, scope=scope))
        except DocumentRejected as error:
            raise NotFound(error.message) from error
        finally:
            self._waiting -= 1

    async def _content(self, document: Document, *, scope: Scope) -> bytes:
        _, blob = await self._service.open_content(document.id, scope=scope, content_sha256=document.content_sha256)
        return await blob.read_all()

    def _keep(self, key: Key, drawn: bytes) -> None:
        if key in self._cache or len(drawn) > self._limits.cache_bytes_max:
            return
        self._cache[key] = drawn
        self._cached_bytes += len(drawn)
        while self._cached_bytes > self._limits.cache_bytes_max:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])
