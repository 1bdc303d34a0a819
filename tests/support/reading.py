"""Reading a document in this process, as a parser process does it."""

from refdesk.indexing.extraction import extract
from refdesk.indexing.frames import Request
from refdesk.indexing.parsed import ParsedDocument, ParsingLimits


def read(content: bytes | str, media_type: str, filename: str = "x") -> ParsedDocument:
    """The document, parsed."""
    data = content.encode() if isinstance(content, str) else content
    return extract(data, Request(media_type=media_type, filename=filename), limits=ParsingLimits())


def lines(parsed: ParsedDocument) -> list[str]:
    """Each block as ``kind: text``; headings with their level."""
    return [f"{block.kind}{block.level or ''}: {parsed.text[block.start : block.end]}" for block in parsed.blocks]
