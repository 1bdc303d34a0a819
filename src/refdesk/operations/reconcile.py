"""The reconciler: compares what the index holds with what the Document Service says it should, and mends the difference.

    pass 1   index, page by page      ──▶ the Document Service by id   orphaned, wrong version, wrong readers, damaged
    pass 2   documents, page by page  ──▶ the index by id              missing

Each document is read from the index first and from the Document Service afterwards: versions only grow, so what the index is
ahead of, or knows alone, is drift whatever happens meanwhile. What else differs may have been applied between the two looks;
it counts only if the index still shows the same at a third look. Documents that were just changed, are on their way or have
failed are left alone, except after a restore.

Mending changes no rule of the index. An orphan is removed. Everything else is *told again* through the outbox, and comes the
way every change comes; its readers are put right at once, and where the index claims to have that version already, its claim
is lowered. A crash in between leaves drift for the next pass.

What it does *not* do: compare the text of chunks or the values of vectors.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from importlib import resources
from typing import Literal, get_args

import msgspec
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.documents import ID_CHARACTERS_MAX, FreshnessToken, ManifestEntry
from refdesk.contracts.errors import InvalidRequest, Unavailable
from refdesk.index.ledger.generations import Live
from refdesk.index.ledger.lineage import ForeignDocuments, LineageMemory
from refdesk.index.open_generations import OpenGenerations
from refdesk.index.port import ChunkIndex, Holding
from refdesk.outside import telemetry
from refdesk.outside.document_service import ENTRIES_MAX, DocumentServiceClient
from refdesk.outside.postgres.database import load_queries, transaction

logger = logging.getLogger(__name__)

LOOK_S_MIN, LOOK_S_MAX = 1.0, 60.0
"""How often a process looks whether it is time for a pass, at the most and at the least."""

Kind = Literal["missing", "orphaned", "wrong_version", "wrong_readers", "damaged", "unconfirmed"]


class Drift(msgspec.Struct, frozen=True):
    """One difference.

    ``missing``: it should be searchable and is not there. ``orphaned``: it is searchable and should not be. ``damaged``: chunks,
    vectors or tags are not those of its version. ``unconfirmed``: the Document Service does not know, or lost track.
    """

    document_id: str
    kind: Kind


class Step(msgspec.Struct, frozen=True):
    """One page of a pass. Go on with ``next_cursor``; it is absent after the last page."""

    checked: int
    drift: list[Drift]
    repaired: int
    next_cursor: str | None = None


class Report(msgspec.Struct, frozen=True):
    """A whole pass: how many documents were compared, differed by kind, and were mended."""

    checked: int
    found: dict[str, int]
    repaired: int


class _Difference(msgspec.Struct, frozen=True):
    kind: Kind
    entry: ManifestEntry | None
    holding: Holding | None

    @property
    def document_id(self) -> str:
        known = self.entry or self.holding
        assert known is not None
        return known.document_id

    @property
    def claimed(self) -> bool:
        """Whether the index claims to have what it has not: nobody will bring it."""
        holding, entry = self.holding, self.entry
        return holding is not None and (entry is None or holding.version >= entry.version)


class Patience(msgspec.Struct, frozen=True):
    """Which documents a pass leaves alone.

    Those changed less than ``settle_s`` ago; those pending for less than ``lost_after_s``, which is longer than any pause between
    attempts and than most backlogs; and those that have failed, unless ``failed_too``.
    """

    settle_s: float = 5.0
    lost_after_s: float = 900.0
    failed_too: bool = False


PATIENT = Patience()
AT_ONCE = Patience(settle_s=0.0, lost_after_s=0.0, failed_too=True)
"""After a restore: what a failed version said about its readers may be lost, too."""


class Reconciler:
    """Raises Unavailable when the index database or the Document Service does not answer; what was mended stays mended.

    ``beside``: the generation is not the active one. What it lacks, re-embedding brings it, also after its claim was lowered:
    that is no drift, and nothing is told again.
    """

    def __init__(
        self,
        *,
        index: ChunkIndex,
        documents: DocumentServiceClient,
        patience: Patience = PATIENT,
        beside: bool = False,
    ) -> None:
        self._index = index
        self._documents = documents
        self._patience = patience
        self._beside = beside

    async def reconcile(self, *, dry_run: bool = False) -> Report:
        """A whole pass."""
        found: Counter[str] = Counter(dict.fromkeys(get_args(Kind), 0))
        checked = repaired = 0
        async for step in self._steps(dry_run=dry_run):
            checked += step.checked
            repaired += step.repaired
            found.update(drift.kind for drift in step.drift)
        return Report(checked=checked, found=dict(found), repaired=repaired)

    async def _steps(self, *, dry_run: bool) -> AsyncIterator[Step]:
        step = await self.step(None, dry_run=dry_run)
        yield step
        while step.next_cursor is not None:
            step = await self.step(step.next_cursor, dry_run=dry_run)
            yield step

    async def step(self, cursor: str | None, *, dry_run: bool) -> Step:
        """One page from where ``cursor`` says (None: the beginning). Raises InvalidRequest for a cursor that is none."""
        place, colon, after = (cursor or "index:").partition(":")
        if place == "index" and colon and "\0" not in after and len(after) <= ID_CHARACTERS_MAX:
            return await self._index_step(after, dry_run=dry_run)
        if place == "documents":
            return await self._documents_step(after, dry_run=dry_run)
        raise InvalidRequest("The cursor is not valid. Pass next_cursor exactly as it came.", field="cursor")

    async def _index_step(self, after: str, *, dry_run: bool) -> Step:
        page = await self._index.audit(after=after, count=ENTRIES_MAX)
        entries = await self._documents.manifest_of(holding.document_id for holding in page) if page else {}
        differences = self._differences((entries.get(holding.document_id), holding) for holding in page)
        step = await self._finish(differences, checked=len(page), dry_run=dry_run)
        following = f"index:{page[-1].document_id}" if len(page) == ENTRIES_MAX else "documents:"
        return msgspec.structs.replace(step, next_cursor=following)

    async def _documents_step(self, after: str, *, dry_run: bool) -> Step:
        """Those that the index has were compared by the pass before."""
        manifest = await self._documents.manifest_page(after=after)
        held = await self._index.holdings(entry.document_id for entry in manifest.entries)
        absent = [entry for entry in manifest.entries if entry.document_id not in held]
        differences = self._differences((entry, None) for entry in absent)
        step = await self._finish(differences, checked=len(absent), dry_run=dry_run)
        following = None if manifest.next_after is None else f"documents:{manifest.next_after}"
        return msgspec.structs.replace(step, next_cursor=following)

    def _differences(self, pairs: Iterable[tuple[ManifestEntry | None, Holding | None]]) -> list[_Difference]:
        kinds = ((self._kind(entry, holding), entry, holding) for entry, holding in pairs)
        return [_Difference(kind, entry, holding) for kind, entry, holding in kinds if kind is not None]

    def _kind(self, entry: ManifestEntry | None, holding: Holding | None) -> Kind | None:
        searchable = holding is not None and not holding.removed
        if entry is None:
            return "orphaned" if searchable else None
        if entry.changed_seconds_ago < self._patience.settle_s:
            return None
        if holding is not None and holding.version > entry.version:
            return "wrong_version"
        lost = self._is_lost(entry)
        if entry.state != "indexed" and not lost:
            return None
        if entry.deleted:
            return "orphaned" if searchable else "unconfirmed" if lost else None
        return ("missing" if not searchable else _fault(entry, holding)) or ("unconfirmed" if lost else None)

    def _is_lost(self, entry: ManifestEntry) -> bool:
        """Whether its newest event counts as lost."""
        if entry.state == "failed":
            return self._patience.failed_too
        return (entry.pending_seconds or 0.0) > self._patience.lost_after_s

    async def _finish(self, differences: list[_Difference], *, checked: int, dry_run: bool) -> Step:
        """Keep what still is so at another look; mend it unless this is a dry run."""
        if self._beside:
            differences = [difference for difference in differences if difference.claimed]
        now = await self._index.holdings(difference.document_id for difference in differences) if differences else {}
        real = [difference for difference in differences if now.get(difference.document_id) == difference.holding]
        repaired = 0 if dry_run or not real else await self._repair(real)
        drift = [Drift(difference.document_id, difference.kind) for difference in real]
        return Step(checked=checked, drift=drift, repaired=repaired)

    async def _repair(self, differences: list[_Difference]) -> int:
        repaired = 0
        to_tell: list[ManifestEntry] = []
        for difference in differences:
            if difference.kind == "orphaned":
                repaired += await self._remove(difference)
            elif await self._reopen(difference) and difference.entry is not None:
                to_tell.append(difference.entry)
        if self._beside:
            return repaired + len(to_tell)
        return repaired + len(await self._tell(to_tell))

    async def _tell(self, entries: list[ManifestEntry]) -> set[FreshnessToken]:
        """What has changed since the look has an event of its own, but it may have come while the index still claimed more."""
        told = await self._documents.retell(entry.token for entry in entries)
        changed = [entry.document_id for entry in entries if entry.token not in told]
        if changed:
            now = await self._documents.manifest_of(changed)
            told |= await self._documents.retell(entry.token for entry in now.values())
        return told

    async def _remove(self, orphan: _Difference) -> bool:
        assert orphan.holding is not None
        if orphan.entry is None:
            return await self._index.remove(orphan.document_id, orphan.holding.version + 1)
        return await self._reopen(orphan) and await self._index.remove(orphan.document_id, orphan.entry.version)

    async def _reopen(self, difference: _Difference) -> bool:
        """Let the version that is told be newer than what the index claims; False when the index has changed meanwhile.

        Who may read the document is put right now, not when what is told has come.
        """
        entry, holding = difference.entry, difference.holding
        if entry is None or holding is None or difference.kind == "unconfirmed":
            return True
        claimed = min(holding.version, entry.version - 1)
        return await self._index.reopen(holding, version=claimed, readers=entry.readers)


def _fault(entry: ManifestEntry, holding: Holding | None) -> Kind | None:
    """What is wrong with a searchable document that should be searchable."""
    assert holding is not None
    if holding.version != entry.version:
        return "wrong_version"
    if set(holding.readers) != set(entry.readers):
        return "wrong_readers"
    whole = holding.whole and holding.content_sha256 == entry.content_sha256
    return None if whole and set(holding.tags) == set(entry.tags) else "damaged"


def _sum(reports: list[Report]) -> Report:
    found: Counter[str] = Counter(dict.fromkeys(get_args(Kind), 0))
    for report in reports:
        found.update(report.found)
    return Report(
        checked=sum(report.checked for report in reports),
        found=dict(found),
        repaired=sum(report.repaired for report in reports),
    )


Reconcilers = Callable[[], Awaitable[list[Reconciler]]]
"""One per generation of the index, the active one's first."""


def reconcilers(
    generations: OpenGenerations, documents: DocumentServiceClient, *, patience: Patience = PATIENT
) -> Reconcilers:
    """Of the generations within reach when it is called."""

    async def of_each() -> list[Reconciler]:
        return [await of(live) for live in await generations.within_reach()]

    async def of(live: Live) -> Reconciler:
        opened = await generations.open(live)
        return Reconciler(
            index=opened.index if live.active else opened.beside,
            documents=documents,
            beside=not live.active,
            patience=patience,
        )

    return of_each


class Schedule:
    """A pass every ``interval_s``, by whichever process comes first: the index database remembers the last one."""

    def __init__(
        self, pool: AsyncConnectionPool, reconcilers: Reconcilers, *, memory: LineageMemory, interval_s: float
    ) -> None:
        self._pool = pool
        self._reconcilers = reconcilers
        self._memory = memory
        self._interval_s = interval_s
        self._queries = load_queries(resources.files("refdesk.operations") / "reconcile.sql")

    async def run(self) -> None:
        """Until cancelled. The absence of any part ends no more than one pass."""
        while True:
            try:
                await self.pass_when_due()
            except (Unavailable, ForeignDocuments) as error:
                logger.warning("cannot compare the index with the documents yet: %s", error)
            except Exception:
                logger.exception("comparing the index with the documents failed; trying again later")
            await asyncio.sleep(max(LOOK_S_MIN, min(self._interval_s, LOOK_S_MAX)))

    async def pass_when_due(self) -> Report | None:
        """One pass, if ``interval_s`` have gone by since the last one began anywhere.

        Raises ForeignDocuments rather than empty the index because the documents are others.
        """
        await self._memory.require_kin()
        if not await self._claim():
            return None
        reports = [await reconciler.reconcile() for reconciler in await self._reconcilers()]
        report = _sum(reports)
        for kind, count in report.found.items():
            telemetry.index_drift.labels(kind).set(count)
        level = logging.WARNING if any(report.found.values()) else logging.INFO
        logger.log(level, "compared %d documents with the index: %s", report.checked, report.found)
        return report

    async def _claim(self) -> bool:
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(self._queries.claim_pass, {"interval_s": self._interval_s})
            return await cursor.fetchone() is not None
