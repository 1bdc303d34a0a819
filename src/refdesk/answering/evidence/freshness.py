"""``after``: a question waits until the writes it is to know are searchable, and no longer than it says.

Every wait looks twice a second, in the index and at the gate. So how many questions of one principal may wait is bounded: in
this process, and only those that did not find everything at their first look.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from refdesk.answering.evidence.gate import Gate
from refdesk.answering.evidence.truth import Shown
from refdesk.contracts.access import Principal, Scope
from refdesk.contracts.documents import FreshnessToken
from refdesk.contracts.errors import NotYetSearchable, TooManyRequests
from refdesk.index.ledger.news import IndexNews
from refdesk.index.open_generations import OpenGenerations

WAIT_LOOK_S = 0.5
"""How often a waiting question looks by itself whether its document has become searchable; news of it come at once."""
RETRY_AFTER_S = 1


class Freshness:
    """``waiting_max``: how many questions and searches of one principal may wait for documents at a time."""

    def __init__(self, *, generations: OpenGenerations, news: IndexNews, gate: Gate, waiting_max: int) -> None:
        self._generations = generations
        self._news = news
        self._gate = gate
        self._waiting_max = waiting_max
        self._waiting: Counter[str] = Counter()

    async def wait_until_searchable(
        self, tokens: Sequence[FreshnessToken], *, principal: Principal, wait_seconds: float
    ) -> None:
        """Returns once the principal can find every token's version; raises NotYetSearchable when the time is up.

        A document that it may not read is like one that never was: both are waited for as long, and refused in the same words.
        Raises AccessUnknown at once where nobody can say whether it may, and TooManyRequests when too many of its questions wait.
        """
        if not tokens:
            return
        wanted = {token.document_id: token.version for token in tokens}
        deadline = time.monotonic() + wait_seconds
        with self._news.of(wanted) as woken:
            missing = await self._missing(wanted, scope=principal.scope)
            if not missing:
                return
            with self._place(principal.id):
                while missing:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        raise _too_late(missing, wait_seconds=wait_seconds)
                    await _wait(woken, within_s=min(left_s, WAIT_LOOK_S))
                    missing = await self._missing(wanted, scope=principal.scope)

    @contextmanager
    def _place(self, principal_id: str) -> Iterator[None]:
        """One of those that the principal may have waiting."""
        own, limit = self._waiting[principal_id], self._waiting_max
        if own >= limit:
            raise TooManyRequests(
                f"You have {own} questions waiting for documents (`after`) already; the limit is {limit} "
                "(REFDESK_WAITING_FOR_DOCUMENTS_PER_PRINCIPAL_MAX). Wait for one to go on.",
                retry_after_s=RETRY_AFTER_S,
                limit=limit,
                actual=own,
            )
        self._waiting[principal_id] += 1
        try:
            yield
        finally:
            self._waiting[principal_id] -= 1
            self._waiting = +self._waiting

    async def _missing(self, wanted: dict[str, int], *, scope: Scope) -> list[str]:
        """Both are always asked, so that the time it takes tells nothing of what exists."""
        versions, look = await asyncio.gather(
            self._generations.on_active(lambda opened: opened.index.versions(wanted)),
            self._gate.look([Shown(*one) for one in wanted.items()], scope=scope),
        )
        readable = {id_ for id_, version in wanted.items() if look.surely_allows(id_, version)}
        return [
            f"{document_id}@{version}"
            for document_id, version in wanted.items()
            if versions.get(document_id, 0) < version or document_id not in readable
        ]


def _too_late(missing: list[str], *, wait_seconds: float) -> NotYetSearchable:
    return NotYetSearchable(
        f"{', '.join(missing)} is not searchable yet after {wait_seconds:g} s. Try again, or raise "
        "wait_seconds; `refdesk status` shows what the index is doing.",
        retry_after_s=RETRY_AFTER_S,
        missing=missing,
    )


async def _wait(woken: asyncio.Event, *, within_s: float) -> None:
    """Until the event is set, or the time is up; it is cleared for the next time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await woken.wait()
    woken.clear()
