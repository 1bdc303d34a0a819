"""What the two sides of the sandbox say to each other: eight bytes of length, then JSON or the raw document."""

from typing import BinaryIO

import msgspec

from refdesk.indexing.parsed import ParsedDocument

LENGTH_BYTES = 8


class Mark(msgspec.Struct, frozen=True):
    """A rectangle on a page, in shares of its width and height."""

    left: float
    top: float
    width: float
    height: float


class PageMarks(msgspec.Struct, frozen=True):
    """Where a text stands on a page: a rectangle for each of its lines; none when it is not there."""

    page: int
    marks: list[Mark]


class PageLook(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a PDF to draw, so wide in pixels; with ``text`` only where that stands on it."""

    page: int
    width: int = 0
    pixels_max: int = 0
    text: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to parse; the document itself is the next frame.

    With ``recognise_page`` only the text of that page is asked for. With ``recognised`` the texts of pages asked for before stand
    in for those that hold none; with ``recognised_in`` those of attachments, by their `Scan.key`. ``unrecognised`` says why texts
    of these attachments are missing, where they are. The attachments in ``unread``, by their numbers from 1 on, are named with
    the reason given, and so are all from ``unread_from`` on. With ``look`` only that is asked for.
    """

    media_type: str
    filename: str | None
    recognise_page: int | None = None
    recognised: dict[int, str] = {}
    recognised_in: dict[str, dict[int, str]] = {}
    unrecognised: dict[str, str] = {}
    unread: dict[int, str] = {}
    unread_from: int | None = None
    look: PageLook | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One of document, page text, image, marks, rejection and out-of-memory, or nothing for "ready"; with the memory held by now.

    Before a document comes, ``attachment`` says of which of its attachments the parser begins to read, and 0 that it has read it:
    if it comes to grief there, the others can do without.
    ``unfenced``, in the first one: what this machine does not refuse the process, in words.
    """

    document: ParsedDocument | None = None
    page_text: str | None = None
    image: bytes | None = None
    marks: PageMarks | None = None
    attachment: int | None = None
    rejection: str | None = None
    details: dict[str, int | str] = {}
    out_of_memory: bool = False
    resident_bytes: int = 0
    unfenced: tuple[str, ...] = ()


def frame(payload: bytes) -> bytes:
    """A payload with its length before it."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next payload; None when the other side has gone."""
    header = stream.read(LENGTH_BYTES)
    if len(header) < LENGTH_BYTES:
        return None
    size = int.from_bytes(header, "big")
    payload = stream.read(size)
    return payload if len(payload) == size else None
