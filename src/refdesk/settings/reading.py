"""Reading documents: what one may cost, and the processes that read."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Count, Seconds, Whole, prefixed


class Parsing(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("parse_")):
    """Reading documents."""

    seconds_max: Seconds = 30.0
    """How long reading one document may take, not counting how long it waits for a busy processor."""
    memory_bytes_max: Count = 512 * 1024 * 1024
    """Memory that reading one document may take."""
    pages_max: Count = 2000
    """Pages one document may have."""
    characters_max: Count = 20_000_000
    """Characters of text one document may have."""
    blocks_max: Count = 500_000
    """Paragraphs, list items and table rows of one document together."""
    archive_members_max: Count = 10_000
    """Files inside a DOCX, XLSX, ODT, EPUB and the like."""
    archive_bytes_max: Count = 256 * 1024 * 1024
    """What those files may unpack to, all together."""
    archive_ratio_max: Count = 200
    """How many times its size one of them may unpack to."""
    processors_spared: Annotated[int, Meta(ge=0)] = 1
    """Processors that reading documents keeps off, where there are more: there is always one without a hostile file."""
    attachments_max: Count = msgspec.field(default=1000, name="attachments_max")
    """Attachments of one mail, mailbox or PDF that are read; the others are named."""
    attachment_bytes_max: Count = msgspec.field(default=50 * 1024 * 1024, name="attachment_bytes_max")
    """The largest attachment that is read."""
    attachment_depth_max: Whole = msgspec.field(default=8, name="attachment_depth_max")
    """How many messages a message may stand in to be read, be it forwarded or attached."""


class PoolSizes(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("parse_")):
    """The processes that read documents."""

    workers: Count = msgspec.field(default=2, name="parse_processes_max")
    """Documents that are read at a time, each in a process of its own."""
    queue_max: Count = msgspec.field(default=64, name="parse_waiting_max")
    """Documents that may wait for one of these processes; one more is tried again later."""
    idle_s: Seconds = msgspec.field(default=30.0, name="parse_process_idle_seconds_max")
    """How long such a process is kept without work."""
    documents_per_worker_max: Count = msgspec.field(default=200, name="parse_process_documents_max")
    """Documents it may read before a new one takes its place."""
    resident_bytes_max: Count = msgspec.field(default=192 * 1024 * 1024, name="parse_process_bytes_max")
    """Memory it may still hold after a document before a new one takes its place."""


class Recognition(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("ocr_")):
    """Text recognition."""

    data_dir: Path | None = None
    """The folder of tesseract's `*.traineddata`. Unset: the usual ones are looked at. Where it is found, scans are read."""
    languages: Annotated[str, Meta(pattern=r"^\w+(\+\w+)*$")] = "eng"
    """The languages of scans, as tesseract writes them: `deu+eng`. Each needs its data."""
    pages_max: Whole = 100
    """Scanned pages of one document that are read. 0 switches text recognition off."""
    page_seconds_max: Seconds = 20.0
    """How long reading one scanned page may take."""
    seconds_max: Seconds = 300.0
    """How long reading all scanned pages of one document may take."""
