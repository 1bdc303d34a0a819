"""The one gate before passages: which documents this scope may read now, by whose word.

    passages, sources ──▶ the Document Service ──silent──▶ the record beside the index ──behind──▶ refused (503)

The Document Service knows. While it is silent, the record of standings does for what everybody may read, once it has all that
is on the stream: a deletion and a change of readers are on it before they are acknowledged. Whatever is not for everyone is
unknown then, and unknown means no (docs/adr/0025).
"""

from collections.abc import Collection
from datetime import UTC, datetime

import msgspec

from refdesk.answering.evidence.truth import Shown, SourceOfTruth
from refdesk.contracts.access import Scope
from refdesk.contracts.errors import Unavailable
from refdesk.index.ledger.standings import Standings
from refdesk.index.open_generations import OpenGenerations
from refdesk.index.recording import Recorder
from refdesk.outside import telemetry

RETRY_AFTER_S = 2


class AccessUnknown(Unavailable):
    """Nobody can say now what you may read: the Document Service does not answer. Ask again in a moment."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the gate brought.

    ``versions``: the newest version of each document that may be shown. ``unknown``: documents of which nobody can say it now.
    ``checked_at``: when the record was looked at, in place of the Document Service; None where that answered.
    """

    versions: dict[str, int]
    as_of: datetime
    index_lag_seconds: float
    unknown: frozenset[str] = frozenset()
    checked_at: datetime | None = None

    def allows(self, document_id: str, version: int) -> bool:
        """Never a version above the newest: it is of a future that the documents have lost, by a restored backup."""
        return document_id in self.versions and version <= self.versions[document_id]

    def surely_allows(self, document_id: str, version: int) -> bool:
        """As `allows`, for callers that show a document or nothing. Raises AccessUnknown where the answer is unknown."""
        if document_id in self.unknown:
            raise AccessUnknown(retry_after_s=RETRY_AFTER_S)
        return self.allows(document_id, version)

    def is_stale(self, document_id: str, version: int) -> bool:
        """Whether a newer version is on its way."""
        return version < self.versions.get(document_id, 0)


class Gate:
    """Without a ``recorder`` it is unknown whether the record is current; then only the Document Service is asked."""

    def __init__(
        self, *, truth: SourceOfTruth, standings: Standings, recorder: Recorder | None, generations: OpenGenerations
    ) -> None:
        self._truth = truth
        self._standings = standings
        self._recorder = recorder
        self._generations = generations

    async def look(self, shown: Collection[Shown], *, scope: Scope) -> Look:
        """Raises AccessUnknown when neither the Document Service answers nor the record is current."""
        truth = await self._truth.standing(shown, scope=scope)
        if truth is not None:
            telemetry.access_checks.labels("documents").inc()
            return Look(versions=truth.versions, as_of=truth.as_of, index_lag_seconds=truth.index_lag_seconds)
        return await self._look_at_record({one.document_id for one in shown}, scope=scope)

    async def _look_at_record(self, document_ids: Collection[str], *, scope: Scope) -> Look:
        checked_at, as_of = datetime.now(UTC), self._truth.last_as_of
        recorder = self._recorder
        if recorder is None or not await recorder.is_current() or not await self._standings.is_reliable():
            telemetry.access_checks.labels("refused").inc()
            raise AccessUnknown(
                "The Document Service does not answer, and the record of its changes is behind, or in doubt after a "
                "restore: nobody can say what you may read. Ask again in a moment; `refdesk doctor` says what is away.",
                retry_after_s=RETRY_AFTER_S,
            )
        active = await self._generations.active()
        known = await self._standings.known(document_ids, generation=active.generation)
        telemetry.access_checks.labels("record").inc()
        return Look(
            versions={document_id: one.version for document_id, one in known.items() if one.is_public},
            unknown=frozenset(id_ for id_, one in known.items() if one.allows(scope) and not one.is_public),
            as_of=as_of,
            index_lag_seconds=(checked_at - as_of).total_seconds(),
            checked_at=checked_at,
        )
