"""What is attached to mail: each attachment is a part of the document under its own name, read by the reader of its kind.

::

    Offer of May                        the mail: a document, with its readers and versions
      Attachment: price list.pdf        a part: its passages carry this name, and the page in it
        Discounts                       its own headings
      Attachment: photos.zip
        [Not read: …]                   and a note on the document

An attachment is read at its own risk: whatever is the matter with it, the mail and the others are read. Where it takes the
parser process along, the mail is read again without it; ``began`` tells the parent which one that was.
"""

from collections.abc import Callable

from refdesk.contracts.errors import DocumentRejected, UnsupportedMediaType
from refdesk.indexing.frames import Request
from refdesk.indexing.parsed import DocumentWriter, ParsingLimits, rejected
from refdesk.indexing.recognition import pages
from refdesk.outside import media_types as kinds

Began = Callable[[int], None]
"""Told the number of the attachment that is about to be read, from 1 on, and 0 when that is over."""
Read = Callable[[bytes, str], tuple[int, ...]]
"""Reads (content, media type) into the part that is open; returns the pages without text. Raises RefdeskError."""

_OPAQUE = {
    **dict.fromkeys(
        ("application/pkcs7-mime", "application/x-pkcs7-mime"),
        "is a message signed or encrypted as a whole; save its content and upload that",
    ),
    "application/ms-tnef": "holds what Outlook wrote for itself; send it as ordinary attachments",
}


class Attachments:
    """The attachments of one document, counted through, those of attached mails included."""

    def __init__(
        self,
        writer: DocumentWriter,
        read: Read,
        *,
        request: Request,
        limits: ParsingLimits,
        began: Began,
    ) -> None:
        self._writer = writer
        self._read = read
        self._request = request
        self._limits = limits
        self._began = began
        self.depth_max = limits.attachment_depth_max
        """How many messages a message may stand in."""
        self._count = 0
        self._number = 0
        """Of the outermost one, with which those in it go down."""
        self._depth = 0

    def add(self, content: bytes, name: str, declared: str) -> None:
        """A part named for the attachment, with its text or the reason why it is not there."""
        if not name and not content.strip():
            return
        self._count += 1
        if self._depth == 0:
            self._number += 1
        name = name or declared
        with self._writer.part(f"Attachment: {name}", level=2, attachment=name):
            place = self._writer.place
            try:
                self._check(content, declared)
                self._read_one(content, declared)
            except (DocumentRejected, UnsupportedMediaType) as rejection:
                self._writer.rewind(place)
                self.say_unread(rejection.message)
            if self._depth == 0:
                self._began(0)

    def _check(self, content: bytes, declared: str) -> None:
        name, limits = self._writer.name, self._limits
        if reason := self._request.unread.get(self._number):
            raise DocumentRejected(reason)
        if self._request.unread_from is not None and self._number >= self._request.unread_from:
            raise rejected(f"{name} is not read, as others before it could not be", "upload it by itself")
        if self._count > limits.attachments_max:
            raise rejected(
                f"{name} is attachment {self._count:,}, and of one document {limits.attachments_max:,} are read",
                "upload it by itself, or raise REFDESK_ATTACHMENTS_MAX",
            )
        if len(content) > limits.attachment_bytes_max:
            raise rejected(
                f"{name} has {len(content):,} bytes; the limit for an attachment is {limits.attachment_bytes_max:,}",
                "upload it by itself, or raise REFDESK_ATTACHMENT_BYTES_MAX",
            )
        if self._depth >= self.depth_max:
            raise rejected(
                f"{name} is attached to a mail in {self.depth_max} others",
                "upload it by itself, or raise REFDESK_ATTACHMENT_DEPTH_MAX",
            )
        if reason := _OPAQUE.get(declared):
            raise DocumentRejected(f"{name} {reason}.")

    def _read_one(self, content: bytes, declared: str) -> None:
        name, before = self._writer.name, self._writer.place.blocks
        media_type = kinds.detect_media_type(content[: kinds.HEAD_BYTES], name, declared)
        if self._depth == 0:
            self._began(self._number)
        self._depth += 1
        try:
            scanned = self._read(content, media_type)
        finally:
            self._depth -= 1
        is_empty = self._writer.place.blocks == before
        if is_empty and scanned:
            what = "is a picture" if media_type in kinds.PICTURES else "has no text layer"
            raise rejected(f"{name} {what}", "upload it by itself to have its text recognised")
        if is_empty:
            raise rejected(f"{name} contains no text", "there is nothing to be read")
        if scanned:
            self._writer.note("pages_unread", f"There is no text on {pages(scanned)} of {name}; upload it by itself.")

    def say_unread(self, reason: str) -> None:
        """In the part that is open, and on the document."""
        self._writer.note("attachment_unread", reason)
        place = self._writer.place
        try:
            self._writer.add("paragraph", f"[Not read: {reason}]")
        except DocumentRejected:  # a document that is full to the brim has the note
            self._writer.rewind(place)
