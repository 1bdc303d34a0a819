"""Whether a service can do its work: every part that it needs is tried, again and again, beside the work.

    each part ──look, every 2 s──▶ verdict ──▶ /health/ready, at once, for however many ask

A look tries the part's *work* (write a file, read a key, ask for no documents at all) and not only its connection. One look that
fails is repeated at once before it counts, so that a single slow reply changes nothing; one that succeeds counts at once. A look
that hangs is not waited for, and not repeated, until it ends. Two slow ones in a row degrade a part. Verdicts are never more than
some seconds old: a fault is named within `EVERY_S + 2 × PATIENCE_S + AGAIN_S` = 6.5 s, a second later where a look costs somebody
something and is made less often.

A part that is not *needed* is there for the better: without it the service is degraded, and ready.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp

from refdesk.contracts.access import Principal
from refdesk.contracts.errors import RefdeskError
from refdesk.outside.valkey.client import ValkeyError
from refdesk.web.endpoints import Endpoint, Parameter
from refdesk.web.replies import Json

logger = logging.getLogger(__name__)

EVERY_S = 2.0
PATIENCE_S = 2.0
AGAIN_S = 0.5
SLOW_S = 1.5
"""A look that takes longer is slow; the time in which this process itself had no processor is not counted."""
OWN_WAITS = Path("/proc/thread-self/schedstat")
STALE_S = 4 * (EVERY_S + PATIENCE_S)
"""A verdict older than this is made anew for whoever asks: the watch is not running, or was held up."""
GIVEN_UP_S = 30.0
"""A look that hangs this long is cancelled, and a new one begun: what it waits for may have forgotten it."""
CAUSE_CHARACTERS_MAX = 200

VERBOSE = Parameter(name="verbose", meaning="Also each part, and facts")

Look = Callable[[], Awaitable[str | None]]
"""Try the part's work. None: all is well. A sentence: the work goes on, but less well. Raises what the work would raise."""
Fact = Callable[[], Awaitable[str]]
MaySee = Callable[[HTTPConnection], Awaitable[bool]]
Level = Literal["ok", "degraded", "unavailable"]


class Part(msgspec.Struct, frozen=True):
    """What a service stands on. Without a ``needed`` one it cannot do its work. It is looked at every ``EVERY_S``, or less often
    where ``every_s`` says so."""

    name: str
    look: Look
    needed: bool = True
    every_s: float = 0.0


class Verdict(msgspec.Struct, frozen=True):
    """How a part is; ``why`` is a sentence, empty when all is well."""

    level: Level
    why: str = ""


class HealthView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a service is; the rest is told when it is asked for: each part (``ok``, or a sentence), and facts."""

    status: Level
    parts: dict[str, str] | None = None
    degraded: list[str] | None = None
    unavailable: list[str] | None = None
    facts: dict[str, str] | None = None


class Health:
    """The verdicts on all parts. ``run`` keeps them fresh; without it, whoever asks waits for a look."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._watched = [_Watched(part) for part in parts]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for watched in self._watched:
                tasks.create_task(watched.watch())

    async def verdicts(self) -> dict[str, Verdict]:
        """By part. Waits only for parts that nobody has looked at lately, and never longer than two looks take."""
        await asyncio.gather(*(watched.refreshed() for watched in self._watched))
        return {watched.part.name: watched.verdict for watched in self._watched}


class _Watched:
    def __init__(self, part: Part) -> None:
        self.part = part
        self.verdict = Verdict("ok")
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._trying: asyncio.Task[str | None] | None = None
        self._tried_at = 0.0
        self._took_s = 0.0
        self._was_slow = False

    async def watch(self) -> None:
        try:
            while True:
                await self.look()
                await asyncio.sleep(self._pause_s())
        finally:
            if self._trying is not None:
                self._trying.cancel()

    def _pause_s(self) -> float:
        """A first slow look is soon followed by the second, which counts."""
        is_doubtful = self._was_slow and self.verdict.level == "ok"
        return AGAIN_S if is_doubtful else max(EVERY_S, self.part.every_s)

    async def refreshed(self) -> None:
        if time.monotonic() - self._looked_at > STALE_S:
            await self.look()

    async def look(self) -> None:
        came_at = time.monotonic()
        async with self._looking:
            if self._looked_at > came_at:
                return
            verdict = await self._try()
            if verdict.level == "unavailable" and self.verdict.level != "unavailable":
                await asyncio.sleep(AGAIN_S)
                verdict = await self._try()
            self._settle(verdict)

    def _settle(self, verdict: Verdict) -> None:
        if verdict.level == "unavailable" and not self.part.needed:
            verdict = Verdict("degraded", verdict.why)
        if verdict.level != self.verdict.level:
            level = logging.INFO if verdict.level == "ok" else logging.WARNING
            logger.log(level, "%s is %s %s", self.part.name, verdict.level, verdict.why)
        self.verdict = verdict
        self._looked_at = time.monotonic()

    async def _try(self) -> Verdict:
        if self._trying is None:
            self._trying, self._tried_at = asyncio.ensure_future(self._timed()), time.monotonic()
        done, _ = await asyncio.wait({self._trying}, timeout=PATIENCE_S)
        hung_s = time.monotonic() - self._tried_at
        if not done and hung_s < GIVEN_UP_S:
            return Verdict("unavailable", f"The {self.part.name} has not answered for {hung_s:.0f} s.")
        tried, self._trying = self._trying, None
        if not done:
            tried.cancel()
            return Verdict("unavailable", f"The {self.part.name} has not answered for {hung_s:.0f} s.")
        verdict = _outcome(tried)
        return self._judged_by_its_time() if verdict.level == "ok" else verdict

    async def _timed(self) -> str | None:
        """The look; ``_took_s`` is then how long it took."""
        began_s, starved_before_s = time.monotonic(), _starved_s()
        said = await self.part.look()
        self._took_s = time.monotonic() - began_s - (_starved_s() - starved_before_s)
        return said

    def _judged_by_its_time(self) -> Verdict:
        was_slow, self._was_slow = self._was_slow, self._took_s > SLOW_S
        if not (was_slow and self._was_slow):
            return Verdict("ok")
        return Verdict("degraded", f"The {self.part.name} answers slowly: only after {self._took_s:.1f} s.")


def _starved_s() -> float:
    """How long this thread, the event loop's, has waited for a processor; 0 where the system does not tell."""
    try:
        return int(OWN_WAITS.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _outcome(tried: asyncio.Future[str | None]) -> Verdict:
    try:
        said = tried.result()
    except (RefdeskError, ValkeyError, OSError) as error:
        return Verdict("unavailable", _sentence(error))
    except Exception as error:
        logger.exception("a look at a part failed")
        return Verdict("unavailable", _sentence(error))
    return Verdict("degraded", said) if said else Verdict("ok")


def _sentence(error: Exception) -> str:
    """The error's own, with the words of whoever caused it: operators read this."""
    cause = " ".join(str(error.__cause__ or "").split())[:CAUSE_CHARACTERS_MAX]
    said = str(error) or type(error).__name__
    return f"{said} ({cause})" if cause and cause not in said else said


async def anybody(connection: HTTPConnection) -> bool:
    """May see how the service does."""
    return True


def health_endpoints(
    health: Health, *, facts: Mapping[str, Fact] | None = None, insight: MaySee = anybody
) -> list[Endpoint]:
    """``/health/live`` says the process runs, whatever its parts do; ``/health/ready`` whether it can do its work.

    ``?verbose`` says which parts are not well, and why; ``facts`` are told with it and change nothing. Whoever has no
    ``insight`` gets the plain answer all the same: a probe must not fail for that.
    """

    async def live(request: Request, principal: Principal) -> ASGIApp:
        return Json(HealthView(status="ok"))

    async def ready(request: Request, principal: Principal) -> ASGIApp:
        verdicts = await health.verdicts()
        view = HealthView(status=_worst(verdicts))
        if VERBOSE.name in request.query_params and await insight(request):
            view = _described(verdicts, {name: await fact() for name, fact in (facts or {}).items()})
        return Json(view, status_code=503 if view.status == "unavailable" else 200)

    return [
        Endpoint(
            method="GET",
            path="/health/live",
            action="health.read",
            handler=live,
            summary="Whether the process runs",
            response=HealthView,
        ),
        Endpoint(
            method="GET",
            path="/health/ready",
            action="health.read",
            handler=ready,
            summary="Whether it can serve",
            parameters=(VERBOSE,),
            response=HealthView,
            also=(503,),
        ),
    ]


def _worst(verdicts: Mapping[str, Verdict]) -> Level:
    levels = {verdict.level for verdict in verdicts.values()}
    ranked: tuple[Level, ...] = ("unavailable", "degraded")
    return next((level for level in ranked if level in levels), "ok")


def _described(verdicts: Mapping[str, Verdict], facts: dict[str, str]) -> HealthView:
    def of(level: Level) -> list[str]:
        return [name for name, verdict in verdicts.items() if verdict.level == level]

    return HealthView(
        status=_worst(verdicts),
        parts={name: verdict.why or verdict.level for name, verdict in verdicts.items()},
        degraded=of("degraded"),
        unavailable=of("unavailable"),
        facts=facts,
    )
