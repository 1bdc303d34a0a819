"""The bytes of documents: checked and kept before a change names them, read again, and removed once nothing needs them."""

import asyncio
import logging
from functools import partial
from typing import BinaryIO

from refdesk.contracts.documents import DocumentVersion
from refdesk.contracts.errors import BodyTooLarge, InvalidRequest, NotFound, UnsupportedMediaType
from refdesk.documents.changes import Content, Limits
from refdesk.documents.content_record import ContentRecord, MissingContent
from refdesk.documents.store import DocumentStore
from refdesk.outside import telemetry
from refdesk.outside.blobs import BlobMissing, Blobs, OpenBlob
from refdesk.outside.detection import HEAD_BYTES, detect_media_type
from refdesk.outside.media_types import PICTURES, SUPPORTED

logger = logging.getLogger(__name__)


class Contents:
    """The content directory, for documents. ``store`` says which contents they need; ``record``: where a missing one is noted."""

    def __init__(
        self, blobs: Blobs, *, store: DocumentStore, record: ContentRecord | None = None, limits: Limits | None = None
    ) -> None:
        self._blobs = blobs
        self._store = store
        self._record = record
        self._limits = limits or Limits()

    async def keep(self, file: BinaryIO, *, bytes_count: int, filename: str | None, declared: str | None) -> Content:
        """Check and keep an upload; the content is then ready to be named by a change.

        Raises InvalidRequest (empty), BodyTooLarge and UnsupportedMediaType.
        """
        if bytes_count == 0:
            raise InvalidRequest(f"{filename or 'The text'} is empty. Send a document with content.", field="file")
        if bytes_count > self._limits.upload_bytes_max:
            raise too_large(bytes_count, self._limits.upload_bytes_max)
        media_type = await asyncio.to_thread(_media_type, file, filename, declared)
        stored = await self._blobs.put(file)
        return Content(sha256=stored.sha256, bytes=stored.bytes, media_type=media_type)

    async def keep_text(self, file: BinaryIO, *, bytes_count: int, media_type: str) -> Content:
        """Keep a text that came inside a request. Raises UnsupportedMediaType for a type that no text has."""
        if media_type not in SUPPORTED or media_type in PICTURES:
            raise UnsupportedMediaType(f"media_type={media_type[:100]!r} cannot be read. Leave it out for Markdown.")
        return await self.keep(file, bytes_count=bytes_count, filename=None, declared=media_type)

    async def open(self, sha256: str) -> OpenBlob:
        """To be read and closed. Raises BlobMissing."""
        return await self._blobs.open(sha256)

    async def of_version(self, version: DocumentVersion) -> bytes:
        """What a version said, for as long as that is kept. Raises NotFound."""
        try:
            blob = await self._blobs.open(version.content_sha256)
        except BlobMissing as error:
            raise NotFound(
                f"The content of version {version.version} is not kept any more (REFDESK_VERSION_CONTENTS_KEPT)."
            ) from error
        return await blob.read_all()

    async def note_missing(self, sha256: str) -> None:
        """Its documents fail from now on, with the reason."""
        if self._record is not None:
            await self._record.mark_missing(MissingContent(sha256=sha256, fault="missing"))

    async def sweep(self, *, grace_s: float = 3600.0) -> int:
        """Remove what no document refers to, nor one of its last versions; returns how many.

        ``grace_s`` must outlast the longest upload.
        """
        unreferenced = partial(self._store.unreferenced, versions_kept=self._limits.versions_kept)
        return await self._blobs.sweep(unreferenced, grace_s=grace_s)

    async def keep_tidy(self, *, interval_s: float = 3600.0) -> None:
        """Sweep every ``interval_s`` until cancelled."""
        while True:
            try:
                removed = await self.sweep()
                logger.info("removed %d contents that no document refers to", removed)
            except Exception:
                telemetry.unexpected_errors.labels("sweep").inc()
                logger.exception("sweeping the content directory failed; trying again later")
            await asyncio.sleep(interval_s)


def too_large(actual: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The upload has {actual:,} bytes; the limit is {limit:,} (REFDESK_UPLOAD_BYTES_MAX). Split it, or raise the limit.",
        limit=limit,
        actual=actual,
    )


def _media_type(file: BinaryIO, filename: str | None, declared: str | None) -> str:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return detect_media_type(head, filename, declared)
