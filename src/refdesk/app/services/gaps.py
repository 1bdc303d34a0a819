"""Gaps, put together from the settings."""

import asyncio
import logging
from functools import partial

import msgspec

from refdesk.answering.curating.feedback import FeedbackStore
from refdesk.answering.curating.gap_finding import GapFinding
from refdesk.answering.curating.gap_routes import GapRoutes
from refdesk.answering.curating.gaps import GapStore
from refdesk.answering.evidence.gate import Gate
from refdesk.app.server import Background
from refdesk.contracts.errors import Unavailable
from refdesk.index.ledger.news import IndexNews
from refdesk.index.open_generations import OpenGenerations
from refdesk.outside.postgres.pool import Pool
from refdesk.settings.tree import Settings

logger = logging.getLogger(__name__)

TIDY_INTERVAL_S = 3600.0


class GapParts(msgspec.Struct, frozen=True, kw_only=True):
    finding: GapFinding
    routes: GapRoutes
    tidy: Background


def open_gaps(
    settings: Settings,
    pool: Pool,
    *,
    feedback: FeedbackStore,
    generations: OpenGenerations,
    gate: Gate,
    news: IndexNews,
) -> GapParts:
    """``feedback`` is kept for a time of its own."""
    store = GapStore(pool, limits=settings.gaps)
    finding = GapFinding(
        store,
        generations=generations,
        news=news,
        certainty_min=settings.answers.certainty_min,
        interval_s=settings.gaps.interval_s,
        keeps=settings.gaps.kept,
    )
    return GapParts(
        finding=finding,
        routes=GapRoutes(store, generations=generations, gate=gate),
        tidy=partial(_keep_tidy, store, feedback, feedback_days=settings.keeping.feedback_days_kept),
    )


async def _keep_tidy(store: GapStore, feedback: FeedbackStore, *, feedback_days: int) -> None:
    """Also where no more questions are kept: those from before are forgotten in time."""
    while True:
        try:
            await store.forget()
            await feedback.forget(days=feedback_days)
        except Unavailable as error:
            logger.debug("old questions are still there: %s", error)
        await asyncio.sleep(TIDY_INTERVAL_S)
