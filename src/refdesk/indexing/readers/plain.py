"""Text without structure, and the encoding of all texts."""

import re

from refdesk.indexing.paragraphs import split_paragraphs
from refdesk.indexing.parsed import DocumentWriter, Sink
from refdesk.indexing.readers import encodings
from refdesk.indexing.readers.encodings import Decoded
from refdesk.outside import media_types as kinds
from refdesk.outside.text_encoding import text_encoding

_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?([a-zA-Z0-9_.:-]{2,40})""")
_DECLARING = frozenset({kinds.HTML, kinds.XHTML, kinds.XML})


def read_plain(text: str, sink: Sink) -> None:
    """Paragraphs."""
    for paragraph in split_paragraphs(text.replace("\f", "\n\n")):
        sink.add("paragraph", paragraph)


def decoded(content: bytes, media_type: str, writer: DocumentWriter) -> str:
    """The text of a document, in the encoding that it declares or in the one that reads best; a doubt about it is noted."""
    encoding = text_encoding(content) or "cp1252"
    declared = _CHARSET.search(content[:2048]) if media_type in _DECLARING else None
    if encoding.startswith("utf-") and encoding != "utf-8":
        found = encodings.decode_as(content, encoding)
    else:
        found = encodings.decode(content, declared=declared[1].decode("ascii") if declared else None)
    note_doubts(found, writer, what=writer.name)
    return found.text.replace("\r\n", "\n").replace("\r", "\n")


def note_doubts(found: Decoded, writer: DocumentWriter, *, what: str) -> None:
    """Says on the document where ``what`` may have been read wrongly."""
    guess = found.guess
    if guess is not None and guess.confidence < encodings.DOUBTFUL_BELOW:
        sure = f"read as {guess.name}, {guess.confidence:.2f} sure"
        writer.note("encoding_doubtful", f"{what} does not say how its text is encoded: {sure}.")
    if found.lost:
        name = encodings.name_of(found.encoding)
        writer.note("characters_lost", f"Of {what}, {found.lost:,} characters cannot be read as {name}.")
