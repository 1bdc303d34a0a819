"""Finding a log that answers a question already: of the same question, of one on the same passages, or of a similar one.

A log that cannot be read right now is passed over: the answer is then written anew.
"""

import logging

from refdesk.answering.accepted_question import AcceptedQuestion
from refdesk.answering.evidence.retrieval import Evidence
from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import AnswerLog
from refdesk.answering.reuse.cache import Cache, Exact, Flight
from refdesk.answering.reuse.similar import SimilarQuestions
from refdesk.contracts.answers import CacheOutcome
from refdesk.outside import telemetry
from refdesk.outside.valkey.client import ValkeyError

logger = logging.getLogger(__name__)


class Reuse:
    """``shape`` names everything about this desk that shapes an answer, beside the question and its passages."""

    def __init__(self, journal: Journal, cache: Cache, *, similar: SimilarQuestions | None, shape: str) -> None:
        self._journal = journal
        self._cache = cache
        self._similar = similar
        self._shape = shape

    def keys(self, question: AcceptedQuestion, evidence: Evidence) -> Flight:
        """The keys under which the question is known together with its evidence."""
        return question.flight(evidence, shape=self._shape)

    async def known(self, question: AcceptedQuestion) -> Exact | None:
        """The log that the same question had lately, for whatever documents there were."""
        return await self._cache.exact(question.exact_key(shape=self._shape)) if question.is_kept else None

    async def finished(self, log_id: str) -> AnswerLog | None:
        """That log, if it may be replayed."""
        log = await self.open(log_id)
        return log if log is not None and log.reusable else None

    async def similar(self, question: AcceptedQuestion, evidence: Evidence, keys: Flight) -> AnswerLog | None:
        """The answer to a similar question on the same evidence, where that is switched on."""
        if self._similar is None:
            return None
        log_id = await self._similar.find(question.question.question, evidence.vector, key=keys.shared)
        if log_id is None:
            return None
        if (log := await self.finished(log_id)) is None:
            telemetry.labelled(telemetry.cache_requests, "semantic", "miss").inc()
        return log

    async def holder(self, key: str) -> str | None:
        """The log that holds this place, finished or running, if any."""
        return await self._cache.holder(key)

    async def let_go(self, key: str, holder: str) -> None:
        """Frees a key whose log cannot be used."""
        await self._cache.release(key, holder)

    async def open(self, log_id: str) -> AnswerLog | None:
        try:
            return await self._journal.open(log_id)
        except ValkeyError as error:
            logger.debug("log %s cannot be joined: %s", log_id, error)
            return None

    async def keep(
        self, question: AcceptedQuestion, evidence: Evidence, keys: Flight, *, log_id: str, outcome: CacheOutcome
    ) -> None:
        """Remembers which log answers the question: as it was asked, and for similar ones.

        Nothing is kept unless the Document Service vouched for the evidence.
        """
        if not evidence.vouched:
            return
        if evidence.epoch is not None and outcome != "semantic":
            await self._cache.keep_exact(question.exact_key(shape=self._shape), Exact(log_id, evidence.epoch))
        if outcome == "miss" and self._similar is not None:
            await self._similar.remember(question.question.question, evidence.vector, key=keys.shared, log_id=log_id)
