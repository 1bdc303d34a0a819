"""What is attached to a mail or a PDF: each is a part of the document under its own name, read by the reader of its kind.

::

    Offer of May                        the mail: a document, with its readers and versions
      Attachment: price list.pdf        a part: its passages carry this name, and the page in it
        Discounts                       its own headings
      Attachment: photos.zip
        [Not read: …]                   and a note on the document

An attachment is read at its own risk: whatever is the matter with it, the document and the others are read. Where it takes the
parser process along, the document is read again without it; ``began`` tells the parent which one that was.

One that shows something and holds no text is handed out (`scans`): the parent has its pages recognised, and has the document
read again with their texts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from refdesk.contracts.errors import DocumentRejected, UnsupportedMediaType
from refdesk.indexing.frames import Request
from refdesk.indexing.parsed import DocumentWriter, ParsingLimits, Scan, rejected
from refdesk.indexing.recognition import pages
from refdesk.outside import media_types as kinds
from refdesk.outside.detection import HEAD_BYTES, detect_media_type

Began = Callable[[int], None]
"""Told the number of the attachment that is about to be read, from 1 on, and 0 when that is over."""
Load = Callable[[], bytes]
"""The content of an attachment, unpacked only now. Raises DocumentRejected."""
Read = Callable[[bytes, str, dict[int, str]], tuple[int, ...]]
"""Reads (content, media type, texts of its scanned pages) into the part that is open; returns the pages without text. Raises
RefdeskError.
"""

SCANS_BYTES_MAX = 32 * 1024 * 1024
"""Of the attachments of one document that are handed out to be recognised: they travel from process to process."""

_OPAQUE = {
    **dict.fromkeys(
        ("application/pkcs7-mime", "application/x-pkcs7-mime"),
        "is a message signed or encrypted as a whole; save its content and upload that",
    ),
}


class Attachments:
    """The attachments of one document, counted through, those of attachments included."""

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
        self.scans: list[Scan] = []
        """Attachments whose pages are still to be recognised."""
        self._count = 0
        self._place = [0]
        """The number of the attachment that is open, among those beside it, and of those that it stands in."""

    def add(self, load: Load, name: str, declared: str) -> None:
        """A part named for the attachment, with its text or the reason why it is not there."""
        if not name and not load().strip():
            return
        self._count += 1
        self._place[-1] += 1
        name = name or declared
        with self._writer.part(f"Attachment: {name}", level=2, attachment=name), self._at_its_own_risk():
            self._check(declared)
            if self._depth == 0:
                self._began(self._place[0])
            content = load()
            self._check_size(content)
            self._read_one(content, declared)

    @property
    def _depth(self) -> int:
        return len(self._place) - 1

    @contextmanager
    def _at_its_own_risk(self) -> Iterator[None]:
        place = self._writer.place
        try:
            yield
        except (DocumentRejected, UnsupportedMediaType) as rejection:
            self._writer.rewind(place)
            self.say_unread(rejection.message)
        if self._depth == 0:
            self._began(0)

    def _check(self, declared: str) -> None:
        name, limits, number = self._writer.name, self._limits, self._place[0]
        if reason := self._request.unread.get(number):
            raise DocumentRejected(reason)
        if self._request.unread_from is not None and number >= self._request.unread_from:
            raise rejected(f"{name} is not read, as others before it could not be", "upload it by itself")
        if self._count > limits.attachments_max:
            raise rejected(
                f"{name} is attachment {self._count:,}, and of one document {limits.attachments_max:,} are read",
                "upload it by itself, or raise REFDESK_ATTACHMENTS_MAX",
            )
        if self._depth >= self.depth_max:
            raise rejected(
                f"{name} is an attachment in {self.depth_max} others",
                "upload it by itself, or raise REFDESK_ATTACHMENT_DEPTH_MAX",
            )
        if reason := _OPAQUE.get(declared):
            raise DocumentRejected(f"{name} {reason}.")

    def _check_size(self, content: bytes) -> None:
        if len(content) > self._limits.attachment_bytes_max:
            raise rejected(
                f"{self._writer.name} has {len(content):,} bytes; the limit for an attachment is "
                f"{self._limits.attachment_bytes_max:,}",
                "upload it by itself, or raise REFDESK_ATTACHMENT_BYTES_MAX",
            )

    def _read_one(self, content: bytes, declared: str) -> None:
        name, before = self._writer.name, self._writer.place.blocks
        key = ".".join(map(str, self._place))
        media_type = detect_media_type(content[:HEAD_BYTES], name, declared)
        self._place.append(0)
        try:
            scanned = self._read(content, media_type, self._request.recognised_in.get(key, {}))
        finally:
            self._place.pop()
        is_empty = self._writer.place.blocks == before
        if scanned:
            self._say_scanned(Scan(key=key, name=name, media_type=media_type, pages=scanned, content=content), is_empty)
        elif is_empty:
            raise rejected(f"{name} contains no text", "there is nothing to be read")

    def _say_scanned(self, scan: Scan, is_empty: bool) -> None:
        """Its pages are handed out to be recognised, unless that was tried; what is not there is named."""
        untried = scan.key not in self._request.unrecognised
        bytes_handed_out = sum(len(each.content) for each in self.scans)
        if untried and self._limits.recognition and bytes_handed_out + len(scan.content) <= SCANS_BYTES_MAX:
            self.scans.append(scan)
        what = "is a picture" if scan.media_type in kinds.PICTURES else "has no text layer"
        reason = self._request.unrecognised.get(
            scan.key, f"{scan.name} {what}; upload it by itself to have its text recognised."
        )
        if is_empty:
            raise DocumentRejected(reason)
        self._writer.note("pages_unread", f"There is no text on {pages(scan.pages)} of {scan.name}: {reason}")

    def say_unread(self, reason: str) -> None:
        """In the part that is open, and on the document."""
        self._writer.note("attachment_unread", reason)
        place = self._writer.place
        try:
            self._writer.add("paragraph", f"[Not read: {reason}]")
        except DocumentRejected:  # a document that is full to the brim has the note
            self._writer.rewind(place)
