"""What draws pages for the Document Service: the parser's fenced processes, a few of its own."""

import msgspec

from refdesk.app.services.parsers import parsing_limits
from refdesk.documents.looks import Drawing
from refdesk.indexing.frames import PageLook
from refdesk.indexing.parsing import ParserPool
from refdesk.settings.tree import Settings


def open_page_drawers(settings: Settings) -> ParserPool:
    """To be entered. A process starts when somebody looks at a page, and ends when nobody has for a while."""
    images = settings.page_images
    sizes = msgspec.structs.replace(
        settings.parsers, workers=images.at_once, queue_max=images.waiting_max + images.at_once
    )
    return ParserPool(limits=parsing_limits(settings), sizes=sizes)


def drawing(settings: Settings, drawers: ParserPool) -> Drawing:
    async def draw(content: bytes, page: int, width: int) -> bytes:
        look = PageLook(page=page, width=width, pixels_max=settings.page_images.pixels_max)
        return (await drawers.look(content, look)).image or b""

    async def find(content: bytes, page: int, text: str) -> bytes:
        return msgspec.json.encode((await drawers.look(content, PageLook(page=page, text=text))).marks)

    async def read(content: bytes, media_type: str) -> str:
        return (await drawers.parse(content, media_type)).text

    return Drawing(draw=draw, find=find, read=read)
