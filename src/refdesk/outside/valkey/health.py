"""Whether Valkey answers: found out once, not by every question anew.

    up ──a command is not answered in time, or no connection opens──▶ away ──a probe succeeds──▶ up
    up ──a reply that says why it cannot (read-only, full, …)───────▶ refusing ──a probe succeeds──▶ up

While it is away, commands fail at once, without being sent: a question waits for it one time at most. Meanwhile a probe is
sent again and again: a write, over a new connection to wherever the address leads now, so that a server that came back as a
replica, or a primary that moved, is not taken for one that is well. While it refuses, commands are still sent: refusals
come at once, and what it does not refuse is of use.

Whatever changes is logged once, here; who goes without Valkey for a question need not say so.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from refdesk.outside import telemetry
from refdesk.outside.valkey.errors import Away, NoReply, Refusal, Unreachable, ValkeyError

logger = logging.getLogger(__name__)

PROBE_AFTER_S = (0.1, 0.25, 0.5, 1.0)
"""Pauses before the first probes; the last one goes on."""


class ValkeyState(msgspec.Struct, frozen=True):
    """How Valkey is, since when, and why."""

    state: Literal["up", "refusing", "away"]
    since: datetime
    reason: str = ""


class Health:
    """``probe`` raises ValkeyError as long as Valkey is not well."""

    def __init__(self, probe: Callable[[], Awaitable[None]]) -> None:
        self._probe = probe
        self._ill = asyncio.Event()
        self.state = ValkeyState("up", datetime.now(UTC))
        telemetry.valkey_up.set(1)

    def check(self) -> None:
        """Raises Away when there is no use in sending anything."""
        if self.state.state == "away":
            raise Away(f"Valkey is away: {self.state.reason}")

    def note(self, error: ValkeyError) -> None:
        """A command has failed with this."""
        if isinstance(error, NoReply | Unreachable):
            self._change("away", str(error))
        elif isinstance(error, Refusal):
            self._change("refusing", str(error))

    async def run(self) -> None:
        """Probes whenever Valkey is not well."""
        while True:
            await self._ill.wait()
            await self._recover()

    async def _recover(self) -> None:
        tries = 0
        while self._ill.is_set():
            await asyncio.sleep(PROBE_AFTER_S[min(tries, len(PROBE_AFTER_S) - 1)])
            tries += 1
            try:
                await self._probe()
            except ValkeyError as error:
                self.note(error)
            else:
                self._change("up", "")

    def _change(self, state: Literal["up", "refusing", "away"], reason: str) -> None:
        before, now = self.state, datetime.now(UTC)
        if before.state == state:
            return
        self.state = ValkeyState(state, now, reason)
        telemetry.valkey_up.set(state == "up")
        if state == "up":
            self._ill.clear()
            logger.warning("Valkey is well again, after %.1f s", (now - before.since).total_seconds())
        else:
            self._ill.set()
            logger.warning(
                "Valkey is %s: %s. Meanwhile answers go on: not kept, not shared across processes, budgets unchecked",
                state,
                reason.rstrip("."),
            )
