"""Pages that show something and hold no text: they are recognised one by one, within what one document may cost.

The pages of attachments come behind those of the document itself, and count with them. Where other pages do have text, these are
worth having, whatever goes wrong with the scanned ones; what is missing is named with its reason.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.frames import Request
from refdesk.indexing.parsed import ParsedDocument, rejected
from refdesk.indexing.recognition import RecognitionLimits
from refdesk.outside import media_types as kinds

PageText = Callable[[Request, bytes, float], Awaitable[tuple[str, float]]]
"""Recognises the page that a request names, within so many seconds, in its turn; returns its text, and how many it took. Raises
DocumentRejected.
"""


class Recognising:
    """Of one document."""

    def __init__(self, limits: RecognitionLimits | None, page_text: PageText) -> None:
        self._limits = limits
        self._page_text = page_text
        self._pages = 0
        self._spent_s = 0.0

    async def recognise(
        self, parsed: ParsedDocument, request: Request, content: bytes
    ) -> tuple[Request, DocumentRejected | None]:
        """What to read the document again with, and why texts of its own pages are missing.

        Raises DocumentRejected where the document has no other text.
        """
        texts: dict[int, str] = {}
        trouble: DocumentRejected | None = None
        if parsed.scanned:
            texts, trouble = await self._texts(parsed.scanned, request, content)
            if trouble and not parsed.blocks:
                raise trouble
        found: dict[str, dict[int, str]] = {}
        missing: dict[str, str] = {}
        for scan in parsed.scans:
            of_scan = Request(media_type=scan.media_type, filename=scan.name)
            found[scan.key], failure = await self._texts(scan.pages, of_scan, scan.content)
            missing[scan.key] = failure.message if failure else f"No text could be recognised in {scan.name}."
        return msgspec.structs.replace(request, recognised=texts, recognised_in=found, unrecognised=missing), trouble

    async def _texts(
        self, pages: Sequence[int], request: Request, content: bytes
    ) -> tuple[dict[int, str], DocumentRejected | None]:
        """The texts by page, and why some are missing."""
        texts: dict[int, str] = {}
        try:
            limits = self._required(pages, request)
            for page in pages:
                wall_s = min(limits.page_s, limits.total_s - self._spent_s)
                if wall_s <= 0:
                    raise too_slow(f"All of {name_of(request)}", limits.total_s, "REFDESK_OCR_SECONDS_MAX")
                page_request = msgspec.structs.replace(request, recognise_page=page)
                texts[page], seconds = await self._page_text(page_request, content, wall_s)
                self._spent_s += seconds
        except DocumentRejected as trouble:
            return texts, trouble
        return texts, None

    def _required(self, pages: Sequence[int], request: Request) -> RecognitionLimits:
        """The limits, where they allow so many pages more."""
        limits, name = self._limits, name_of(request)
        what = f"{name} is a picture" if request.media_type in kinds.PICTURES else f"{name} has no text layer"
        if limits is None:
            raise rejected(
                f"{what}, and there is no text recognition (OCR) here",
                "install tesseract's data for the languages of REFDESK_OCR_LANGUAGES where the indexer runs (on Debian: "
                "apt-get install tesseract-ocr-eng), restart it and retry, or upload a searchable PDF",
            )
        count = self._pages + len(pages)
        if count > limits.pages_max:
            raise rejected(
                f"{what}, and {count:,} pages are to be recognised; the limit is {limits.pages_max:,}",
                "split it, upload a searchable PDF, or raise REFDESK_OCR_PAGES_MAX",
                limit=limits.pages_max,
                actual=count,
            )
        self._pages = count
        return limits


def too_slow(what: str, seconds: float, setting: str) -> DocumentRejected:
    return rejected(
        f"{what} could not be read within {seconds:g} s", f"split it, or raise {setting}", limit=str(seconds)
    )


def name_of(request: Request) -> str:
    return request.filename or "The document"
