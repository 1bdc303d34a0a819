"""A second look at what was found, by a model that reads the question and a passage together: an optional step after search.

    search ──▶ the best ``passages_max`` ──▶ reranker ──▶ in its order
                                               └─ away, slow, or failed a moment ago ──▶ in the order of the search

It never makes an error: without it the answer is what it would have been without the setting. That it was left out is counted
(``refdesk_rerankings_total``), logged when it begins and when it ends, and told by the readiness of the assistant, which tries
it when no question has done so for a while.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from refdesk.contracts.errors import RefdeskError, Unavailable
from refdesk.index.chunks import Passage
from refdesk.outside import telemetry
from refdesk.outside.reranking.server import Reranker

logger = logging.getLogger(__name__)

PAUSE_S = 10.0
"""How long a reranker that failed is left alone: no question waits for one that is known to be away."""
IDLE_S = 300.0
"""How long the last outcome is believed: a call may cost."""


class Reranking:
    """``passages_max`` are read, within ``timeout_s``."""

    def __init__(
        self,
        reranker: Reranker,
        *,
        passages_max: int,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.passages_max = passages_max
        self._reranker = reranker
        self._timeout_s = timeout_s
        self._clock = clock
        self._tried_at = float("-inf")
        self._problem: str | None = None

    async def ordered(self, question: str, passages: Sequence[Passage]) -> list[Passage]:
        """The same passages, the first ``passages_max`` of them in the reranker's order."""
        first, rest = passages[: self.passages_max], passages[self.passages_max :]
        if len(first) < 2:
            return list(passages)
        if self._problem is not None and self._tried_ago_s < PAUSE_S:
            telemetry.rerankings.labels("paused").inc()
            return list(passages)
        scores = await self._scores(question, [_read_text(passage) for passage in first])
        if scores is None:
            return list(passages)
        order = sorted(range(len(first)), key=lambda place: -scores[place])
        return [*(first[place] for place in order), *rest]

    async def check(self) -> None:
        """Raises Unavailable while it is left out. Tries it when nobody has for a while: sooner after a failure."""
        if self._tried_ago_s >= (IDLE_S if self._problem is None else PAUSE_S):
            await self._scores("ready?", ("yes", "no"))
        if self._problem is not None:
            raise Unavailable(f"{self._problem} Passages keep the order of the search.")

    @property
    def _tried_ago_s(self) -> float:
        return self._clock() - self._tried_at

    async def _scores(self, question: str, texts: Sequence[str]) -> list[float] | None:
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                scores = await self._reranker.score(question, texts)
        except TimeoutError:
            self._failed("slow", f"The reranker {self._reranker.name} took more than {self._timeout_s:g} s.")
        except RefdeskError as error:
            self._failed("away", error.message)
        else:
            self._worked()
            return scores
        return None

    def _failed(self, outcome: str, problem: str) -> None:
        telemetry.rerankings.labels(outcome).inc()
        self._tried_at = self._clock()
        if self._problem is None:
            logger.warning("%s Passages keep the order of the search until it is back.", problem)
        self._problem = problem

    def _worked(self) -> None:
        telemetry.rerankings.labels("ok").inc()
        if self._problem is not None:
            logger.info("The reranker %s is back.", self._reranker.name)
        self._problem = None


def _read_text(passage: Passage) -> str:
    """A passage with the place it stands in, as the embedding model reads it, too."""
    return "\n".join(part for part in (passage.title, passage.heading, passage.text) if part)
