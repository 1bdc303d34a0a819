"""The life of an answer, top to bottom.

``ask`` takes a question to the point where its log exists and somebody is writing it; ``reading`` follows the log. Every
transport (SSE, WebSocket, JSON, the command line) is an encoding of the two.

    ask ─ limits ─ replay? ─ evidence ─ join? ─ a place in line, budget ─ write ─┐
             │        │                   │               │                      │
          refused    the log of an earlier question     refused              a new log ──▶ read
"""

import asyncio
import logging
import time
from functools import partial

import msgspec

from refdesk.answering.accepted_question import Asked
from refdesk.answering.admission import Admission, Ticket
from refdesk.answering.budget import Budget, Reservation
from refdesk.answering.cache import Cache, Exact, Flight
from refdesk.answering.conversations import Conversations, as_messages
from refdesk.answering.freshness import Freshness
from refdesk.answering.journal import Journal
from refdesk.answering.limits import AnswerLimits
from refdesk.answering.log import AnswerLog, AnswerRecord, new_id
from refdesk.answering.questions import Questions
from refdesk.answering.reading import Reading
from refdesk.answering.retrieval import Evidence, Retrieval, Sought
from refdesk.answering.rewriting import Rewriter
from refdesk.answering.sharing import Leaders
from refdesk.answering.similar import SimilarQuestions
from refdesk.answering.stops import Stop, Stops
from refdesk.answering.withdrawal import Withdrawals
from refdesk.answering.writers import Assignment, Writer
from refdesk.answering.production import Check, Job, ShuttingDown, Writing
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Accepted, CacheOutcome, Question
from refdesk.contracts.documents import FreshnessToken
from refdesk.contracts.errors import Unavailable
from refdesk.outside import telemetry, tracing
from refdesk.outside.valkey.client import Valkey, ValkeyError

logger = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.1


class Assistant:
    """Answers questions. ``fallback`` writes when ``writer`` fails before its first word.

    ``grace_s`` is how long an answer that nobody reads any more is kept going, in case its reader comes back.
    """

    def __init__(
        self,
        *,
        retrieval: Retrieval,
        freshness: Freshness,
        withdrawals: Withdrawals,
        writer: Writer,
        fallback: Writer,
        valkey: Valkey,
        budget: Budget,
        admission: Admission,
        limits: AnswerLimits,
        similar: SimilarQuestions | None = None,
        rewriter: Rewriter | None = None,
        retention_s: int,
        grace_s: float,
    ) -> None:
        self._retrieval = retrieval
        self._questions = Questions(retrieval, budget=budget, passages=writer.passages_read, rewriter=rewriter)
        self._freshness = freshness
        self._writer = writer
        self._fallback = fallback
        self._budget = budget
        self._admission = admission
        self._limits = limits
        self._similar = similar
        self._grace_s = grace_s
        self._journal = Journal(valkey, retention_s=retention_s, take_over=self._take_over)
        self._cache = Cache(valkey, retention_s=retention_s)
        self._withdrawals = withdrawals
        self.reading = Reading(self._journal, withdrawals=withdrawals, retention_s=retention_s, stop=self.stop)
        self._conversations = Conversations(
            valkey, retention_s=retention_s, open_log=self._journal.open, withdrawals=withdrawals
        )
        self._stops = Stops(valkey, hear=self._stop_here)
        self._leaders = Leaders[AnswerRecord]()
        self._writings: dict[str, Writing] = {}

    # asking

    async def ask(self, question: Question, principal: Principal) -> AnswerRecord:
        """Begins an answer; follow it with ``reading.of``. Raises the refusal when there will be none."""
        asked = await self._admit(question, principal)
        with tracing.current(asked.workflow.span):
            try:
                exact = await self._known(asked)
                return await self._replay(asked, exact) or await self._answer(asked, is_known=exact is not None)
            except BaseException as error:
                asked.workflow.end(error=error)
                raise

    async def search(self, question: Question, principal: Principal, *, limit: int) -> Evidence:
        """The passages that match, without an answer."""
        self._limits.check_question(question.question)
        await self.count_search(principal)
        await self._wait_until_fresh(question, principal)
        return await self._retrieval.gather(
            Sought(text=question.question, scope=principal.scope, filters=question.filters, limit=limit),
            principal_id=principal.id,
        )

    async def count_search(self, principal: Principal) -> None:
        """Counts a search, or a look into a document; raises TooManyRequests."""
        await self._budget.count_search(principal.id)

    async def _admit(self, question: Question, principal: Principal) -> Asked:
        """What can refuse a question before any work is done for it."""
        started = time.monotonic()
        with telemetry.refusing():
            self._limits.check_question(question.question)
            output_tokens_max = self._limits.output_tokens(question)
        is_counted = await self._budget.count_request(principal.id)
        with telemetry.refusing():
            await self._wait_until_fresh(question, principal)
        turns = await self._conversations.turns(question.conversation_id, principal)
        workflow = telemetry.Workflow(question.conversation_id)
        return Asked(question, principal, output_tokens_max, turns, workflow, started, is_counted)

    async def _wait_until_fresh(self, question: Question, principal: Principal) -> None:
        tokens = [FreshnessToken.parse(text) for text in question.after]
        await self._freshness.wait_until_searchable(
            tokens, principal=principal, wait_seconds=self._limits.wait_seconds(question)
        )

    async def _known(self, asked: Asked) -> Exact | None:
        """The log that the same question had lately."""
        return await self._cache.exact(asked.exact_key(model=self._writer.model)) if asked.is_kept else None

    async def _replay(self, asked: Asked, exact: Exact | None) -> AnswerRecord | None:
        """The fast path: the same question was answered, and nothing at all has changed since.

        A question that nobody has asked lately will need the model: it is refused here when there is no room.
        """
        if exact is not None and exact.epoch == await self._retrieval.epoch():
            log = await self._joinable(exact.log_id)
            if log is not None and log.reusable:
                return await self._share(asked, log, "hit", layer="exact")
        telemetry.labelled(telemetry.cache_requests, "exact", "miss" if asked.is_kept else "bypass").inc()
        if exact is None:
            with telemetry.refusing_a_place():
                self._admission.check(asked.principal.id)
        return None

    async def _answer(self, asked: Asked, *, is_known: bool) -> AnswerRecord:
        """Evidence first; then the log that stands on it: somebody's, or a new one."""
        principal_id = asked.principal.id
        with telemetry.refusing_a_place():  # when its turn to search comes, for a question that will need the model
            admit = None if is_known else partial(self._admission.check, principal_id)
            asked, evidence = await self._questions.read(asked, admit=admit)
        telemetry.retrieval_results.observe(len(evidence.passages))
        if asked.question.cache == "bypass":
            return await self._write(asked, evidence, "bypass")
        keys = asked.flight(evidence, model=self._writer.model)
        record = await self._leaders.lead_or_follow(
            (keys.own, evidence.vouched),
            lead=lambda: self._lead(asked, evidence, keys),
            follow=lambda leader: self._follow(asked, evidence, leader),
        )
        with self._journal.expected(record.log_id):
            await self._keep(asked, evidence, keys, record)
        return record

    async def _keep(self, asked: Asked, evidence: Evidence, keys: Flight, record: AnswerRecord) -> None:
        """Remembers which log answers the question: as it was asked, and for similar ones."""
        outcome = record.accepted.cache
        if evidence.vouched and evidence.epoch is not None and outcome != "semantic":
            await self._cache.keep_exact(
                asked.exact_key(model=self._writer.model), Exact(record.log_id, evidence.epoch)
            )
        if evidence.vouched and outcome == "miss" and self._similar is not None:
            question = asked.question.question
            await self._similar.remember(question, evidence.vector, key=keys.shared, log_id=record.log_id)

    async def _lead(self, asked: Asked, evidence: Evidence, keys: Flight) -> AnswerRecord:
        """The log for everybody here who asks the same now. What nobody vouches for is not shared with other processes."""
        if not evidence.vouched:
            return await self._write(asked, evidence, "miss")
        return (
            await self._reuse_similar(asked, evidence, keys)
            or await self._join(asked, keys.own)
            or await self._write(asked, evidence, "miss", keys=keys)
        )

    async def _follow(self, asked: Asked, evidence: Evidence, leader: AnswerRecord) -> AnswerRecord:
        """The log that an equal question has just found or begun; one's own if that is of no use any more."""
        semantic = leader.accepted.cache == "semantic"
        return await self._share_with(
            asked, await self._joinable(leader.log_id), layer="semantic" if semantic else "fingerprint"
        ) or await self._write(asked, evidence, "miss")

    async def _reuse_similar(self, asked: Asked, evidence: Evidence, keys: Flight) -> AnswerRecord | None:
        """The answer to a similar question on the same evidence, where that is switched on."""
        if self._similar is None:
            return None
        log_id = await self._similar.find(asked.question.question, evidence.vector, key=keys.shared)
        if log_id is None:
            return None
        log = await self._joinable(log_id)
        if log is None or not log.reusable:
            telemetry.labelled(telemetry.cache_requests, "semantic", "miss").inc()
            return None
        return await self._share(asked, log, "semantic", layer="semantic")

    async def _join(self, asked: Asked, key: str) -> AnswerRecord | None:
        """The log that holds this place, finished or running; None when it is free, or held by one that is of no use."""
        holder = await self._cache.holder(key)
        if holder is None:
            return None
        record = await self._share_with(asked, await self._joinable(holder))
        if record is None:
            await self._cache.release(key, holder)
        return record

    async def _share_with(
        self, asked: Asked, log: AnswerLog | None, *, layer: str = "fingerprint"
    ) -> AnswerRecord | None:
        """A log that is read live, or again; None when there is none or it is of no use."""
        if log is None or (log.finished and not log.reusable):
            return None
        outcome: CacheOutcome = "semantic" if layer == "semantic" else "hit" if log.finished else "coalesced"
        with self._journal.expected(log.id):
            await self._journal.joining(log)
            return await self._share(asked, log, outcome, layer=layer)

    async def _share(self, asked: Asked, log: AnswerLog, outcome: CacheOutcome, *, layer: str) -> AnswerRecord:
        """Points the asker at a log that exists."""
        if (writing := self._writings.get(log.id)) is not None:
            writing.wanted_by_also(asked.principal.id)
        telemetry.labelled(telemetry.cache_requests, layer, "wait" if outcome == "coalesced" else "hit").inc()
        record = self._record(asked, log.id, outcome)
        await self._journal.save(record)
        await self._converse(asked, log)
        asked.workflow.end()
        return record

    async def _write(
        self, asked: Asked, evidence: Evidence, outcome: CacheOutcome, *, keys: Flight | None = None
    ) -> AnswerRecord:
        """A new log, once there is room and budget for it; with ``keys``, one that others may join."""
        ticket, reservation = await self._take_place(asked)
        log = self._new_log()
        try:
            if keys is not None and not await self._claim(keys.own, log):
                self._journal.forget(log.id)
                ticket.leave()
                await self._budget.settle(reservation, used=0)
                return await self._join(asked, keys.own) or await self._write(asked, evidence, outcome)
            job = self._job(asked, evidence, fingerprint=None if keys is None else keys.own)
            record = self._record(asked, log.id, outcome)
            await self._journal.save(record, job=msgspec.json.encode(job))
            await self._converse(asked, log)
        except BaseException:
            self._journal.forget(log.id)
            ticket.leave()
            await self._budget.settle(reservation, used=0)
            if keys is not None:
                await self._cache.release(keys.own, log.id)
            raise
        job = msgspec.structs.replace(job, prepared_s=asked.elapsed_s)
        self._begin(log, job, ticket=ticket, reservation=reservation, workflow=asked.workflow)
        telemetry.labelled(telemetry.cache_requests, "fingerprint", outcome).inc()
        return record

    async def _take_place(self, asked: Asked) -> tuple[Ticket, Reservation]:
        with telemetry.refusing_a_place():
            ticket = self._admission.enter(asked.principal.id)
        try:
            tokens = self._limits.tokens_at_most(asked.question)
            reservation = await self._budget.reserve(asked.principal.id, tokens, is_counted=asked.is_counted)
        except BaseException:
            ticket.leave()
            raise
        telemetry.labelled(telemetry.admission, "admitted", "").inc()
        return ticket, reservation

    async def _claim(self, key: str, log: AnswerLog) -> bool:
        """Whether the place is now the log's; False when somebody was faster."""
        return await self._cache.claim(key, log.id, lease=self._journal.lease(log.id)) == log.id

    def _new_log(self) -> AnswerLog:
        log_id = new_id()
        return self._journal.start(log_id, on_superseded=lambda: self._cancel(log_id, as_error=ShuttingDown))

    def _job(self, asked: Asked, evidence: Evidence, *, fingerprint: str | None) -> Job:
        return Job(
            assignment=Assignment(
                question=asked.standalone,
                follow_up=asked.follow_up,
                sources=evidence.sources(),
                history=as_messages(asked.turns),
                output_tokens_max=asked.output_tokens_max,
            ),
            fingerprint=fingerprint,
            principal_id=asked.principal.id,
            scope=asked.principal.scope,
            checked_at=evidence.checked_at,
            as_of=evidence.as_of,
            index_lag_seconds=evidence.index_lag_seconds,
            embed_s=evidence.embed_s,
            retrieve_s=evidence.retrieve_s,
            rewrite_s=asked.rewrite_s,
            prepared_s=asked.elapsed_s,
        )

    def _begin(
        self,
        log: AnswerLog,
        job: Job,
        *,
        ticket: Ticket,
        reservation: Reservation | None,
        workflow: telemetry.Workflow,
        check: Check | None = None,
    ) -> None:
        log.expect()

        async def on_end(writing: Writing) -> None:
            self._writings.pop(log.id, None)  # so that nobody stops what follows
            workflow.end(error=writing.failure)
            if reservation is not None:
                used = writing.usage.input_tokens + writing.usage.output_tokens
                await self._budget.settle(reservation, used=used)
            if job.fingerprint is not None and not log.reusable:
                await self._cache.release(job.fingerprint, log.id)

        self._writings[log.id] = Writing(
            log,
            job,
            journal=self._journal,
            writer=self._writer,
            fallback=self._fallback,
            ticket=ticket,
            on_end=on_end,
            check=check,
        )

    def _take_over(self, log: AnswerLog, payload: bytes) -> None:
        """Goes on with the log of a process that died. Its budget was reserved there and returns by its lease.

        Who asked may have lost a right since: what they may not read now is not given to the model. Raises msgspec.MsgspecError
        for a job that this release cannot read.
        """
        job = msgspec.json.decode(payload, type=Job)
        self._journal.superseded_by(log, lambda: self._cancel(log.id, as_error=ShuttingDown))
        workflow, ticket = telemetry.Workflow(), self._admission.enter_late(job.principal_id)
        with tracing.current(workflow.span):
            self._begin(
                log,
                job,
                ticket=ticket,
                reservation=None,
                workflow=workflow,
                check=lambda: self._withdrawals.check(job.stands_on(), scope=job.scope),
            )

    # stopping

    async def stop(self, record: AnswerRecord) -> None:
        """This asker wants no more: their readings end, and the model stops at once unless somebody else reads on."""
        stop = Stop(record.log_id, record.answer_id)
        await self._stop_here(stop)
        await self._stops.tell(stop)

    async def run(self) -> None:
        """Background work of the process: copying logs, hearing stops, ending answers that nobody reads."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._journal.run())
            tasks.create_task(self._budget.run())
            tasks.create_task(self._stops.run())
            tasks.create_task(self._watch_readers())

    def writes(self, log_id: str) -> bool:
        """Whether this process writes that answer now."""
        return log_id in self._writings

    async def close(self) -> None:
        """Ends every answer that this process still writes, each with a terminal event that says to ask again."""
        tasks = [writing.task for writing in self._writings.values()]
        for log_id in list(self._writings):
            self._cancel(log_id, as_error=ShuttingDown)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._journal.flush()

    async def _stop_here(self, stop: Stop) -> None:
        log = self._journal.known(stop.log_id)
        if log is None:
            return
        log.stop(stop.answer_id)
        if stop.log_id not in self._writings:
            await self._journal.tell_presence(log)
        elif not log.readers and not await self._journal.followed_elsewhere(stop.log_id):
            self._cancel(stop.log_id)

    async def _watch_readers(self) -> None:
        """Stops the model for answers whose readers have all left and not come back within the grace."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            now = asyncio.get_running_loop().time()
            for log_id, writing in list(self._writings.items()):
                log = writing.log
                alone = not log.readers and now - log.idle_since >= self._grace_s
                if alone and not await self._journal.followed_elsewhere(log_id):
                    self._cancel(log_id)

    def _cancel(self, log_id: str, *, as_error: type[Unavailable] | None = None) -> None:
        if log_id in self._writings:
            self._writings[log_id].stop(as_error=as_error)

    # small things

    async def _joinable(self, log_id: str) -> AnswerLog | None:
        """A log to be shared, if it can be read: otherwise this answer is written on its own."""
        try:
            return await self._journal.open(log_id)
        except ValkeyError as error:
            logger.debug("log %s cannot be joined: %s", log_id, error)
            return None

    async def _converse(self, asked: Asked, log: AnswerLog) -> None:
        question = asked.question
        await self._conversations.add(
            question.conversation_id,
            asked.principal,
            question=question.question,
            read_as=asked.standalone,
            log_id=log.id,
        )

    def _record(self, asked: Asked, log_id: str, outcome: CacheOutcome) -> AnswerRecord:
        answer_id = new_id()
        return AnswerRecord(
            answer_id=answer_id,
            log_id=log_id,
            principal_id=asked.principal.id,
            question=asked.question.question,
            conversation_id=asked.question.conversation_id,
            accepted=Accepted(answer_id, self._writer.model, outcome),
        )
