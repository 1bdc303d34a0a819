"""What a sync tells of itself, and the receipt that the Document Service keeps of it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

from refdesk.contracts.documents import ReadingNote
from refdesk.contracts.texts import Number, Text

Outcome = Literal["added", "updated", "unchanged", "skipped", "failed", "deleted", "kept"]
SyncState = Literal["running", "finished", "refused", "stopped"]
OUTCOMES_BY_WEIGHT: tuple[Outcome, ...] = ("failed", "kept", "deleted", "skipped", "updated", "added")
"""What a receipt names first, where not all fits."""


class SyncEntry(msgspec.Struct, frozen=True):
    """What became of one file, or of one document whose file is not there."""

    path: Text
    outcome: Outcome
    reason: Text = ""


class SyncCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How it adds up: ``found + gone = added + updated + unchanged + skipped + failed + deleted + kept``.

    ``found``: the entries of the source, that is files, links, special files, and each folder that is left out or cannot be
    listed. ``gone``: documents that came from it and have no file now.
    """

    found: Number = 0
    gone: Number = 0
    added: Number = 0
    updated: Number = 0
    unchanged: Number = 0
    skipped: Number = 0
    failed: Number = 0
    deleted: Number = 0
    kept: Number = 0


class SyncReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a sync has come. ``problem``: why it was refused, or broke off."""

    counts: SyncCounts
    entries: list[SyncEntry] = []
    finished: bool = False
    problem: Text = ""


class SyncNote(msgspec.Struct, frozen=True):
    """How the document of a file was read, where that is worth knowing (`contracts.documents.ReadingNote`)."""

    path: str
    notes: list[ReadingNote]


class SyncIndexing(msgspec.Struct, frozen=True):
    """What has become of a source's documents since: those that failed are named, up to a limit, and those with notes."""

    indexed: int
    pending: int
    failed: int
    failures: list[SyncEntry]
    notes: list[SyncNote] = []


class SyncReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """One sync of a source, by whom, and what it came to.

    ``state``: ``stopped`` has not been heard of for a minute, and never said that it had ended. ``entries`` and ``indexing`` are
    in the receipt alone, not in lists; ``entries_left_off`` is how many are not named.
    """

    id: str
    source: str
    owner: str
    started_by: str
    started_at: datetime
    heard_at: datetime
    state: SyncState
    problem: str
    counts: SyncCounts
    entries: list[SyncEntry] = []
    entries_left_off: int = 0
    indexing: SyncIndexing | None = None


class SyncBegun(msgspec.Struct, frozen=True):
    """A sync that is told of from now on, and how many others of the same source are under way."""

    id: str
    also_running: int


def weightiest(entries: Iterable[SyncEntry], *, count: int) -> list[SyncEntry]:
    """The first ``count`` by weight; of one weight, in the order given."""
    named = [entry for entry in entries if entry.outcome in OUTCOMES_BY_WEIGHT]
    return sorted(named, key=lambda entry: OUTCOMES_BY_WEIGHT.index(entry.outcome))[:count]
