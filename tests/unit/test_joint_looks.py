"""Looks at the gate that readings make together."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime

import pytest

from refdesk.answering.evidence.gate import AccessUnknown, Gate, Look
from refdesk.answering.evidence.joint_looks import SHOWN_MAX, JointLooks
from refdesk.answering.evidence.truth import Shown
from refdesk.contracts.access import Scope

HR, BOARD = Scope(readers=("hr",)), Scope(readers=("board",))


class HeldGate(Gate):
    """Notes the looks, and answers when it is opened."""

    def __init__(self) -> None:
        self.looks: list[tuple[Scope, set[str]]] = []
        self.open = asyncio.Event()
        self.error: AccessUnknown | None = None

    async def look(self, shown: Collection[Shown], *, scope: Scope) -> Look:
        self.looks.append((scope, {one.document_id for one in shown}))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return Look(
            versions={one.document_id: one.version for one in shown}, as_of=datetime.now(UTC), index_lag_seconds=0.0
        )


def of(*document_ids: str) -> frozenset[Shown]:
    return frozenset(Shown(document_id, 1) for document_id in document_ids)


async def test_those_of_one_scope_in_one_moment_look_once() -> None:
    """Each is told of its own documents; another scope has a look of its own."""
    gate = HeldGate()
    gate.open.set()
    looks = JointLooks(gate)
    a, b, other = await asyncio.gather(
        looks.look(of("a", "x"), scope=HR), looks.look(of("b", "x"), scope=HR), looks.look(of("c"), scope=BOARD)
    )
    assert gate.looks == [(HR, {"a", "b", "x"}), (BOARD, {"c"})]
    assert a.allows("a", 1) and b.allows("b", 1) and other.allows("c", 1) and not other.allows("a", 1)


async def test_a_look_that_has_begun_is_not_joined() -> None:
    """What it would tell may be older than the question."""
    gate = HeldGate()
    looks = JointLooks(gate)
    first = asyncio.create_task(looks.look(of("a"), scope=HR))
    while not gate.looks:
        await asyncio.sleep(0)
    second = asyncio.create_task(looks.look(of("a"), scope=HR))
    while len(gate.looks) < 2:
        await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, second)


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    gate = HeldGate()
    looks = JointLooks(gate)
    leaving, staying = [asyncio.create_task(looks.look(of(name), scope=HR)) for name in "ab"]
    while not gate.looks:
        await asyncio.sleep(0)
    leaving.cancel()
    gate.open.set()
    assert (await staying).allows("b", 1)
    assert leaving.cancelled()


async def test_what_the_gate_raises_comes_to_all() -> None:
    gate = HeldGate()
    gate.error = AccessUnknown()
    gate.open.set()
    looks = JointLooks(gate)
    outcomes = await asyncio.gather(*(looks.look(of(name), scope=HR) for name in "ab"), return_exceptions=True)
    assert all(isinstance(outcome, AccessUnknown) for outcome in outcomes)
    with pytest.raises(AccessUnknown):
        await looks.look(of("a"), scope=HR)
    assert len(gate.looks) == 2


async def test_more_than_one_request_takes_is_looked_at_in_several() -> None:
    gate = HeldGate()
    gate.open.set()
    looks = JointLooks(gate)
    await asyncio.gather(
        *(looks.look(of(*(f"{one}-{n}" for n in range(SHOWN_MAX // 2 - 1))), scope=HR) for one in range(3))
    )
    assert [len(documents) for _, documents in gate.looks] == [2 * (SHOWN_MAX // 2 - 1), SHOWN_MAX // 2 - 1]
