"""An answer is shown to a reader only while they may read every document that it stands on.

A finished one is looked at when it is asked for again, and when a follow-up would give it to the model. A running one is
looked at whenever there is news of one of its documents, and now and then without any, since news can stay away. Each reader
has their own rights; those with the same share a watch, and the watches of one scope look together. For a word nothing is done.
What a document said is in the answer's text, not only in its sources: so it is withheld as a whole.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

from refdesk.answering.evidence.gate import Gate, Look
from refdesk.answering.evidence.joint_looks import JointLooks
from refdesk.answering.evidence.truth import LookRefused, Shown
from refdesk.answering.logs.log import AnswerLog
from refdesk.contracts.access import Scope
from refdesk.contracts.errors import AnswerWithdrawn, Unavailable
from refdesk.index.ledger.news import IndexNews
from refdesk.outside import telemetry

SOURCES_LOOK_S = 0.1
"""How often a watch looks whether its answer's sources have come. They are the first thing that comes."""
LOOK_S = 3.0
"""How often a watch looks without news. Together with a look of the longest kind it stays below five seconds."""
MOMENTS_PER_LOOK = 3
"""Watches look at moments that they share, so many in ``LOOK_S``: one look does for all that began within a third of it."""


class Withdrawals:
    def __init__(self, gate: Gate, *, news: IndexNews, look_s: float = LOOK_S) -> None:
        self._gate = gate
        self._joint = JointLooks(gate)
        self._news = news
        self._look_s = look_s
        self._watches: dict[tuple[str, Scope], _Watch] = {}

    async def check(self, stands_on: frozenset[Shown] | None, *, scope: Scope) -> None:
        """Raises AnswerWithdrawn where the scope may not read all of it any more, AccessUnknown where that is unknown."""
        if not stands_on:
            return
        _require(await self._gate.look(stands_on, scope=scope), stands_on)

    async def readable(self, stands_on: Mapping[str, frozenset[Shown]], *, scope: Scope) -> set[str]:
        """The ids of those answers that the scope may read, by what each stands on, in one look; unknown counts as no."""
        shown = {one for evidence in stands_on.values() for one in evidence}
        if not shown:
            return set(stands_on)
        look = await self._gate.look(shown, scope=scope)

        def allows(evidence: frozenset[Shown]) -> bool:
            return all(look.allows(one.document_id, one.version) for one in evidence)

        return {id_ for id_, evidence in stands_on.items() if allows(evidence)}

    @asynccontextmanager
    async def watched(self, log: AnswerLog, *, scope: Scope) -> AsyncIterator[None]:
        """Reading that log. Raises what ``check`` raises, in the middle, when that comes to be so."""
        key = (log.id, scope)
        watch = self._watches.get(key) or _Watch(self._watch(log, scope), name=f"watch {log.id}")
        self._watches[key] = watch
        try:
            async with asyncio.timeout(None) as limit:
                with watch.cutting_off(limit):
                    yield
        except TimeoutError:
            if not limit.expired():
                raise  # the reading's own
            watch.task.result()
            raise
        finally:
            if not watch.readings or watch.task.done():
                self._watches.pop(key, None)
                watch.task.cancel()

    async def _watch(self, log: AnswerLog, scope: Scope) -> None:
        """Until cancelled, or until the reading has to end. Raises why."""
        while (stands_on := log.stands_on()) is None:
            await asyncio.sleep(SOURCES_LOOK_S)
        document_ids = {one.document_id for one in stands_on}
        with self._news.of(document_ids) as woken:
            if self._news.recently(document_ids):  # after the look at the sources, perhaps
                woken.set()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._next_moment()):
                        await woken.wait()
                has_news = woken.is_set()
                woken.clear()
                try:
                    await self._check_together(stands_on, scope=scope)
                except (
                    Unavailable
                ):  # AccessUnknown, too: while it is unknown, the last result holds until there is news
                    if has_news:
                        raise

    def _next_moment(self) -> float:
        """When a watch that has just looked, or begun, looks next without news (loop time): in ``look_s`` at the latest."""
        apart_s = self._look_s / MOMENTS_PER_LOOK
        return (asyncio.get_running_loop().time() + self._look_s) // apart_s * apart_s

    async def _check_together(self, stands_on: frozenset[Shown], *, scope: Scope) -> None:
        """As ``check``. A look that is refused for something that another answer stands on is made again for this one alone."""
        if not stands_on:
            return
        try:
            look = await self._joint.look(stands_on, scope=scope)
        except LookRefused:
            await self.check(stands_on, scope=scope)
        else:
            _require(look, stands_on)


def _require(look: Look, stands_on: frozenset[Shown]) -> None:
    """Raises AnswerWithdrawn unless the look allows all of it, AccessUnknown where that is unknown."""
    if not all(look.surely_allows(one.document_id, one.version) for one in stands_on):
        telemetry.acl_denied.inc()
        raise AnswerWithdrawn


class _Watch:
    """Of one log, for all its readings with one scope."""

    def __init__(self, watching: Coroutine[None, None, None], *, name: str) -> None:
        self.readings = 0
        self.task = asyncio.create_task(watching, name=name)
        self.task.add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )  # some have no reading left to tell

    @contextmanager
    def cutting_off(self, limit: asyncio.Timeout) -> Iterator[None]:
        """A reading that ends, by its limit, when the watch does."""
        loop, is_over = asyncio.get_running_loop(), False

        def cut_off(_: asyncio.Task[None]) -> None:
            if not is_over:  # it may have been called already when the reading ends
                limit.reschedule(loop.time())

        self.readings += 1
        self.task.add_done_callback(cut_off)
        try:
            yield
        finally:
            is_over = True
            self.task.remove_done_callback(cut_off)
            self.readings -= 1
