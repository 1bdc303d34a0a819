"""Looks at the gate that several readings make together: one for all that want one of the same scope in the same moment."""

import asyncio

from refdesk.answering.evidence.gate import Gate, Look
from refdesk.answering.evidence.truth import Shown
from refdesk.contracts.access import Scope

SHOWN_MAX = 1000
"""Versions in one look: their names stay far below what the Document Service takes in one request."""


class JointLooks:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._gathering: dict[Scope, _Gathering] = {}
        """The looks that have not begun."""

    async def look(self, shown: frozenset[Shown], *, scope: Scope) -> Look:
        """A look at these, and perhaps at others, begun after this call. Raises what the gate raises.

        Whoever leaves costs the others nothing; the look ends without them.
        """
        gathering = self._gathering.get(scope)
        if gathering is None or len(gathering.shown) + len(shown) > SHOWN_MAX:
            gathering = self._gathering[scope] = _Gathering()
            gathering.task = asyncio.create_task(self._look(gathering, scope), name="joint look")
            gathering.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # all may have left
        gathering.shown |= shown
        return await asyncio.shield(gathering.task)

    async def _look(self, gathering: "_Gathering", scope: Scope) -> Look:
        """It begins in a later turn of the event loop than those whom the same moment wakes."""
        await asyncio.sleep(0)
        if self._gathering.get(scope) is gathering:
            del self._gathering[scope]
        return await self._gate.look(gathering.shown, scope=scope)


class _Gathering:
    task: asyncio.Task[Look]

    def __init__(self) -> None:
        self.shown: set[Shown] = set()
