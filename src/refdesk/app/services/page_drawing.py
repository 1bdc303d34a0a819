"""Drawing pages for the Document Service, which holds nothing of the AI side until somebody looks at a page.

The parser's fenced processes draw (`page_drawers`). They are of the AI side, so they are loaded with the first page that is
looked at, and never where nobody does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module

from refdesk.documents.looks import Drawing
from refdesk.settings.tree import Settings

_DRAWERS = "refdesk.app.services.page_drawers"


@asynccontextmanager
async def open_drawing(settings: Settings) -> AsyncIterator[Drawing]:
    async with AsyncExitStack() as stack:
        loading = asyncio.Lock()
        loaded: list[Drawing] = []

        async def real() -> Drawing:
            async with loading:
                if not loaded:
                    drawers = await asyncio.to_thread(import_module, _DRAWERS)
                    pool = await stack.enter_async_context(drawers.open_page_drawers(settings))
                    loaded.append(drawers.drawing(settings, pool))
                return loaded[0]

        async def draw(content: bytes, page: int, width: int) -> bytes:
            return await (await real()).draw(content, page, width)

        async def find(content: bytes, page: int, text: str) -> bytes:
            return await (await real()).find(content, page, text)

        async def read(content: bytes, media_type: str) -> str:
            return await (await real()).read(content, media_type)

        yield Drawing(draw=draw, find=find, read=read)
