"""The desk as an operator sees it: how every part is, what happens now and what has happened, who waits for long.

It names principals and no more of anybody: no question, no title, no text.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Unavailable
from refdesk.operations.history import RANGES, History, Point
from refdesk.operations.peers import Level, Peers
from refdesk.operations.series import BY_NAME, PLOTS, Kind, Unit
from refdesk.web.endpoints import Endpoint, Handler, Parameter
from refdesk.web.replies import Json

WINDOW_S = 900
"""What counts as lately."""
SLOW_SHOWN = 10
PLOTS_S_MAX = 2.0
"""How long the figures may take: whoever looks while a database is away wants to hear that."""

Range = Literal["15m", "1h", "6h", "24h", "7d", "30d"]
Metric = Literal[
    "first_token",
    "answers",
    "refused",
    "tokens",
    "cost",
    "cache",
    "in_flight",
    "wait",
    "budget",
    "index_lag",
    "documents",
    "dead_letters",
    "processors",
    "memory",
]

METRIC = Parameter(name="metric", kind=Metric, default="first_token", meaning="Which plot")
RANGE = Parameter(name="range", kind=Range, default="1h", meaning="How far back")


class PartView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the desk, as the process that stands on it sees it; ``why`` is a sentence, empty when all is well."""

    name: str
    process: str
    level: Level
    why: str = ""


class SlowView(msgspec.Struct, frozen=True, kw_only=True):
    """An answer under way in this process, by whom, and for how long."""

    principal_id: str
    state: Literal["waiting", "writing"]
    seconds: float


class PlotView(msgspec.Struct, frozen=True, kw_only=True):
    """``now``: by line, what was counted in the last ``window_seconds``, or what is."""

    metric: str
    title: str
    unit: Unit
    kind: Kind
    now: dict[str, float | None]


class OperationsView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``culprits`` are the parts that are not well, the worst first. ``plots`` are absent while their database is away."""

    at: datetime
    status: Level
    culprits: list[str]
    parts: list[PartView]
    slow: list[SlowView]
    currency: str
    window_seconds: int = WINDOW_S
    plots: list[PlotView] | None = None


class HistoryView(msgspec.Struct, frozen=True, kw_only=True):
    metric: str
    title: str
    unit: Unit
    kind: Kind
    range_seconds: int
    step_seconds: int
    points: list[Point]


class SettingView(msgspec.Struct, frozen=True):
    """Secrets are dots."""

    name: str
    value: str
    origin: str


class SettingsView(msgspec.Struct, frozen=True):
    settings: list[SettingView]


Parts = Callable[[], Awaitable[Sequence[PartView]]]


class Overview:
    """``parts``: how those of this process are; ``slow``: its answers, the oldest first."""

    def __init__(
        self,
        *,
        history: History,
        peers: Peers,
        parts: Parts,
        slow: Callable[[], Sequence[SlowView]],
        settings: Callable[[], list[SettingView]],
        currency: str,
    ) -> None:
        self._history = history
        self._peers = peers
        self._parts = parts
        self._slow = slow
        self._settings = settings
        self._currency = currency

    def endpoints(self) -> list[Endpoint]:
        return [
            _endpoint("", self.show, "How the desk does", response=OperationsView),
            _endpoint("/history", self.history, "A plot of it", parameters=(METRIC, RANGE), response=HistoryView),
            _endpoint("/settings", self.settings, "The settings, and where each comes from", response=SettingsView),
        ]

    async def show(self, _: Request, __: Principal) -> ASGIApp:
        parts = [*await self._parts(), *await self._parts_of_peers()]
        parts.sort(key=lambda part: _ORDER[part.level])
        return Json(
            OperationsView(
                at=datetime.now(UTC),
                status=parts[0].level if parts else "ok",
                culprits=list(dict.fromkeys(part.name for part in parts if part.level != "ok")),
                parts=parts,
                slow=list(self._slow()[:SLOW_SHOWN]),
                currency=self._currency,
                plots=await self._plots(),
            )
        )

    async def history(self, request: Request, _: Principal) -> ASGIApp:
        plot, (range_s, step_s) = BY_NAME[METRIC.of(request)], RANGES[RANGE.of(request)]
        points = await self._history.points(plot, range_s=range_s, step_s=step_s)
        return Json(
            HistoryView(
                metric=plot.name,
                title=plot.title,
                unit=plot.unit,
                kind=plot.kind,
                range_seconds=range_s,
                step_seconds=step_s,
                points=points,
            )
        )

    async def settings(self, _: Request, __: Principal) -> ASGIApp:
        return Json(SettingsView(self._settings()))

    async def _plots(self) -> list[PlotView] | None:
        """What is broken must not hide what is broken."""
        try:
            async with asyncio.timeout(PLOTS_S_MAX):
                lately = await self._history.recent(range_s=WINDOW_S)
        except (Unavailable, TimeoutError):
            return None
        return [
            PlotView(metric=plot.name, title=plot.title, unit=plot.unit, kind=plot.kind, now=lately[plot.name])
            for plot in PLOTS
        ]

    async def _parts_of_peers(self) -> list[PartView]:
        return [
            PartView(
                name=part,
                process=name,
                level="unavailable" if part in health.unavailable else "degraded" if part in health.degraded else "ok",
                why="" if said == "ok" else said,
            )
            for name, health in (await self._peers.health()).items()
            for part, said in health.parts.items()
        ]


_ORDER: Mapping[Level, int] = {"unavailable": 0, "degraded": 1, "ok": 2}


def _endpoint(path: str, handler: Handler, summary: str, **told: Any) -> Endpoint:
    address = f"/api/operations{path}"
    return Endpoint(method="GET", path=address, action="operations.read", handler=handler, summary=summary, **told)
