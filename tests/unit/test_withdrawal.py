"""Watches over running answers: when they look, and what a look that several make together means to each."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime

import pytest

from refdesk.answering.evidence.gate import Gate, Look
from refdesk.answering.evidence.truth import LookRefused, Shown
from refdesk.answering.logs.log import AnswerLog
from refdesk.answering.withdrawal import Withdrawals
from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Source, Sources
from refdesk.contracts.errors import AnswerWithdrawn
from refdesk.index.ledger.news import IndexNews

HR = Scope(readers=("hr",))
LOOK_S = 0.3


class CountedGate(Gate):
    """Notes the documents of each look; allows all but ``gone``, and refuses a look at one that is ``malformed``."""

    def __init__(self, *, gone: str = "", malformed: str = "") -> None:
        self.looks: list[set[str]] = []
        self._gone = gone
        self._malformed = malformed
        self.looked = asyncio.Event()

    async def look(self, shown: Collection[Shown], *, scope: Scope) -> Look:
        documents = {one.document_id for one in shown}
        self.looks.append(documents)
        self.looked.set()
        if self._malformed in documents:
            raise LookRefused
        versions = {document: 1 for document in documents if document != self._gone}
        return Look(versions=versions, as_of=datetime.now(UTC), index_lag_seconds=0.0)


def watching(gate: Gate) -> Withdrawals:
    return Withdrawals(gate, news=IndexNews("postgresql://nobody.invalid/none"), look_s=LOOK_S)


def answer(document_id: str) -> AnswerLog:
    """A running answer that stands on one document."""
    log = AnswerLog(f"log of {document_id}")
    log.append(
        Sources(
            (Source(n=1, document_id=document_id, version=1, title="Leave", passage="27 days", ordinal=0, stale=False),)
        )
    )
    return log


async def read(withdrawals: Withdrawals, document_id: str) -> None:
    async with withdrawals.watched(answer(document_id), scope=HR):
        await asyncio.Event().wait()


async def test_answers_of_one_scope_are_looked_at_together() -> None:
    """One look does for all, or two where a moment at which watches look passed while the readings began."""
    gate = CountedGate()
    withdrawals = watching(gate)
    names = set("abcdef")
    readings = [asyncio.create_task(read(withdrawals, name)) for name in names]
    while set().union(*gate.looks) != names:
        gate.looked.clear()
        await gate.looked.wait()
    for reading in readings:
        reading.cancel()
    await asyncio.gather(*readings, return_exceptions=True)
    assert len(gate.looks) <= 2


async def test_only_the_answer_whose_document_is_gone_ends() -> None:
    gate = CountedGate(gone="b")
    withdrawals = watching(gate)
    staying = asyncio.create_task(read(withdrawals, "a"))
    with pytest.raises(AnswerWithdrawn):
        await read(withdrawals, "b")
    assert not staying.done()
    staying.cancel()


async def test_a_look_that_is_refused_ends_only_the_answer_at_fault() -> None:
    """The others look again, each alone."""
    gate = CountedGate(malformed="b")
    withdrawals = watching(gate)
    staying = asyncio.create_task(read(withdrawals, "a"))
    with pytest.raises(LookRefused):
        await read(withdrawals, "b")
    while {"a"} not in gate.looks:
        await asyncio.sleep(0)
    assert not staying.done()
    staying.cancel()
