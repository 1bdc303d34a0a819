"""The Document Service."""

from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Count, Seconds, Whole, prefixed


class Uploads(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("upload_")):
    """Uploads."""

    bytes_max: Count = 50 * 1024 * 1024
    """The largest file that is taken."""
    seconds_max: Seconds = 900.0
    """How long an upload may take."""
    pause_seconds_max: Seconds = 30.0
    """How long an upload may stand still."""


class UploadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one principal may upload.

    Counted by each process for itself; days are UTC's.
    """

    at_once: Count = msgspec.field(default=32, name="concurrent_uploads_max")
    """Uploads of one principal that one process reads at a time."""
    per_minute: Count = msgspec.field(default=1200, name="uploads_per_minute_max")
    """Uploads one principal may begin in a minute, per process; administrators aside."""
    bytes_per_day: Count = msgspec.field(default=20 * 1024**3, name="upload_bytes_per_day_max")
    """Bytes one principal may upload in a day (UTC), per process; administrators aside."""


class PageImages(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("page_image_")):
    """Images of pages."""

    width_max: Count = 2400
    """The widest image of a page of a PDF, in pixels."""
    pixels_max: Count = 12_000_000
    """Pixels of such an image; a longer page is drawn narrower."""
    cache_bytes_max: Whole = 64 * 1024 * 1024
    """Drawn pages that the Document Service keeps in memory."""
    at_once: Count = msgspec.field(default=1, name="page_image_processes_max")
    """Processes that draw pages, started when somebody looks at one. What one may take are the limits of parsing."""
    waiting_max: Count = 32
    """Pages that may wait to be drawn; more are refused (503)."""


class FeedLimits(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("feed_")):
    """Watching documents change."""

    watchers_max: Count = 500
    """Clients that may watch documents change, per process."""
    per_principal_max: Count = msgspec.field(default=50, name="feed_watchers_per_principal_max")
    """Of these, clients of one principal."""


class SyncLimits(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("sync_")):
    """Receipts of syncs."""

    receipts_kept: Count = 20
    """Receipts that are kept of each source that is synced; older ones go."""
    sources_max: Count = 200
    """Sources of one owner that receipts are kept of; those that were not synced for the longest time go."""
    entries_max: Count = msgspec.field(default=1000, name="sync_receipt_entries_max")
    """Files that a receipt names, those that failed first; the others are counted."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of documents, on their way to the index."""

    version_contents_kept: Count = 5
    """How many versions of a document keep their content, the current one included, so that they can be compared."""
    queue_counted_max: Count = 1000
    """How many changes ahead of a waiting document are counted; more are told as "at least"."""
    revocation_wait_s: Annotated[float, Meta(ge=0)] = 0.5
    """How long a deletion, or a change that takes somebody's right, waits for NATS to have it before it is acknowledged."""
    event_lease_s: Annotated[float, Meta(ge=1)] = 30.0
    """How long an event stays with a process that gives no sign of life before another gets it: what a crash costs it."""
    relay_lease_s: Annotated[float, Meta(ge=1)] = 15.0
    """The same for changes on their way to NATS; must outlast the publishing of a hundred."""
    content_check_interval_s: Annotated[float, Meta(ge=1)] = 60.0
    """How often a Document Service looks whether the contents of 500 documents are there, the next ones each time."""
