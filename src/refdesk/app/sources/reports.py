"""What a sync did, entry by entry, as it adds up."""

import msgspec

from refdesk.contracts.syncs import Outcome, SyncCounts, SyncEntry, SyncIndexing


class Named(msgspec.Struct, frozen=True):
    path: str
    reason: str


class Change(msgspec.Struct, frozen=True):
    path: str
    change: Outcome
    reason: str = ""


class Report(msgspec.Struct):
    """How many came to which end, and by name all but the unchanged: ``found + gone`` is the sum of the ends.

    ``found`` and ``gone`` are as in `SyncCounts`. ``changes`` names what was added, updated and deleted.
    """

    added: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: list[Named] = msgspec.field(default_factory=list)
    skipped: list[Named] = msgspec.field(default_factory=list)
    kept: list[Named] = msgspec.field(default_factory=list)
    changes: list[Change] = msgspec.field(default_factory=list)
    found: int = 0
    gone: int = 0
    refusal: str | None = None
    """Why the sync that a dry run tells of would be refused."""
    also_running: int = 0
    receipt: str | None = None
    indexing: SyncIndexing | None = None
    """What the index has made of the source's documents, where that was waited for."""

    def count(self, path: str, outcome: Outcome, reason: str = "") -> None:
        """One entry, or one document, has come to its end."""
        match outcome:
            case "unchanged":
                self.unchanged += 1
            case "failed" | "skipped" | "kept":
                named: list[Named] = getattr(self, outcome)
                named.append(Named(path, reason))
            case "added" | "updated" | "deleted":
                setattr(self, outcome, getattr(self, outcome) + 1)
                self.changes.append(Change(path, outcome, reason))

    @property
    def counts(self) -> SyncCounts:
        return SyncCounts(
            found=self.found,
            gone=self.gone,
            added=self.added,
            updated=self.updated,
            unchanged=self.unchanged,
            skipped=len(self.skipped),
            failed=len(self.failed),
            deleted=self.deleted,
            kept=len(self.kept),
        )

    @property
    def entries(self) -> list[SyncEntry]:
        """All that is named."""
        outcomes: tuple[Outcome, ...] = ("failed", "kept", "skipped")
        named = [SyncEntry(one.path, outcome, one.reason) for outcome in outcomes for one in getattr(self, outcome)]
        return named + [SyncEntry(one.path, one.change, one.reason) for one in self.changes]
