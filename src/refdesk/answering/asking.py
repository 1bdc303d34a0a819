"""From a question to the log that answers it, top to bottom.

    accept ─▶ replay? ─▶ find evidence ─▶ join? ─▶ write
      │         │              │            │        │
    refused   the log of an   refused     the log   a new log, once there is room for it
              equal question              of another

``ask`` returns as soon as the log exists and somebody writes it; `reading` follows it.
"""

from contextlib import AbstractAsyncContextManager
from functools import partial

import msgspec

from refdesk.answering.acceptance import Acceptance
from refdesk.answering.accepted_question import AcceptedQuestion
from refdesk.answering.brought import NOTHING, Brought
from refdesk.answering.conversations.keeping import Keeper
from refdesk.answering.conversations.turns import Conversations, as_messages
from refdesk.answering.curating.gap_finding import GapFinding
from refdesk.answering.evidence.retrieval import Evidence
from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import AnswerLog, AnswerRecord, new_id
from refdesk.answering.production import Job
from refdesk.answering.productions import Productions, Slot
from refdesk.answering.questions import Questions
from refdesk.answering.reuse.cache import Exact, Flight
from refdesk.answering.reuse.finding import Reuse
from refdesk.answering.reuse.sharing import Leaders
from refdesk.answering.usage.bookings import Bookings, shared
from refdesk.answering.usage.caps import Spender
from refdesk.answering.writing.writers import Assignment
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Accepted, CacheOutcome, Question, Usage
from refdesk.outside import telemetry


class Case(msgspec.Struct, frozen=True):
    """A question with the evidence on it, and the keys under which others find its answer."""

    question: AcceptedQuestion
    evidence: Evidence
    keys: Flight
    workflow: telemetry.Workflow

    def job(self, *, key: str | None, at_most: Usage, model: str) -> Job:
        """What is to be written, and by whom; ``key``: where others join it."""
        question, evidence = self.question, self.evidence
        return Job(
            assignment=Assignment(
                question=question.standalone,
                follow_up=question.follow_up,
                sources=evidence.sources(),
                history=as_messages(question.turns),
                style=question.style,
                output_tokens_max=question.output_tokens_max,
            ),
            fingerprint=key,
            at_most=at_most,
            model=model,
            principal_id=question.principal.id,
            scope=question.principal.scope,
            checked_at=evidence.checked_at,
            as_of=evidence.as_of,
            index_lag_seconds=evidence.index_lag_seconds,
            embed_s=evidence.embed_s,
            retrieve_s=evidence.retrieve_s,
            rewrite_s=question.rewrite_s,
            in_conversation=question.question.conversation_id is not None,
            prepared_s=question.elapsed_s,
        )


class Asking:
    """``model`` is the name that ``accepted`` gives the writer."""

    def __init__(
        self,
        *,
        acceptance: Acceptance,
        questions: Questions,
        reuse: Reuse,
        productions: Productions,
        journal: Journal,
        bookings: Bookings,
        gaps: GapFinding,
        conversations: Conversations,
        keeper: Keeper,
        model: str,
    ) -> None:
        self._acceptance = acceptance
        self._questions = questions
        self._reuse = reuse
        self._productions = productions
        self._journal = journal
        self._bookings = bookings
        self._gaps = gaps
        self._conversations = conversations
        self._keeper = keeper
        self._model = model
        self._leaders = Leaders[AnswerRecord]()

    async def ask(self, question: Question, principal: Principal, brought: Brought = NOTHING) -> AnswerRecord:
        """Begins an answer. Raises the refusal when there will be none."""
        accepted = await self._acceptance.accept(question, principal, brought)
        with telemetry.Workflow(question.conversation_id).underway() as workflow:
            known = await self._reuse.known(accepted)
            return await self._replay(accepted, known) or await self._answer(
                accepted, workflow, is_known=known is not None
            )

    async def _replay(self, question: AcceptedQuestion, known: Exact | None) -> AnswerRecord | None:
        """The fast path: the same question was answered, and nothing at all has changed since.

        A question that nobody has asked lately will need the model: it is refused here when there is no room.
        """
        if known is not None and known.epoch == await self._questions.epoch():
            log = await self._reuse.finished(known.log_id)
            if log is not None:
                return await self._share(question, log, "hit", layer="exact")
        telemetry.labelled(telemetry.cache_requests, "exact", "miss" if question.is_kept else "bypass").inc()
        if known is None:
            with telemetry.refusing_a_place():
                self._productions.check_room(question.principal.id)
        return None

    async def _answer(
        self, question: AcceptedQuestion, workflow: telemetry.Workflow, *, is_known: bool
    ) -> AnswerRecord:
        """Finds the evidence, then the log that stands on it: an existing one, or a new one."""
        with telemetry.refusing_a_place():  # when its turn to search comes, for a question that will need the model
            admit = None if is_known else partial(self._productions.check_room, question.principal.id)
            question, evidence = await self._questions.read(question, admit=admit)
        telemetry.retrieval_results.observe(len(evidence.passages))
        case = Case(question, evidence, self._reuse.keys(question, evidence), workflow)
        if question.question.cache == "bypass":
            return await self._write(case, "bypass")
        record = await self._leaders.lead_or_follow(
            (case.keys.own, evidence.vouched),
            lead=lambda: self._lead(case),
            follow=lambda leader: self._follow(case, leader),
        )
        with self._journal.expected(record.log_id):
            await self._reuse.keep(question, evidence, case.keys, log_id=record.log_id, outcome=record.accepted.cache)
        return record

    async def _lead(self, case: Case) -> AnswerRecord:
        """The log for all equal questions in this process; shared with other processes where the evidence is vouched for."""
        if not case.evidence.vouched:
            return await self._write(case, "miss")
        return (
            await self._reuse_similar(case) or await self._join(case, case.keys.own) or await self._write_or_join(case)
        )

    async def _follow(self, case: Case, leader: AnswerRecord) -> AnswerRecord:
        """The log that an equal question has just found or begun; a new one if that cannot be used any more."""
        layer = "semantic" if leader.accepted.cache == "semantic" else "fingerprint"
        log = await self._reuse.open(leader.log_id)
        return await self._join_log(case.question, log, layer=layer) or await self._write(case, "miss")

    async def _reuse_similar(self, case: Case) -> AnswerRecord | None:
        log = await self._reuse.similar(case.question, case.evidence, case.keys)
        return None if log is None else await self._share(case.question, log, "semantic", layer="semantic")

    async def _join(self, case: Case, key: str) -> AnswerRecord | None:
        """The log that holds this key, finished or running; None when the key is free, or its log cannot be used."""
        holder = await self._reuse.holder(key)
        if holder is None:
            return None
        record = await self._join_log(case.question, await self._reuse.open(holder))
        if record is None:
            await self._reuse.let_go(key, holder)
        return record

    async def _join_log(
        self, question: AcceptedQuestion, log: AnswerLog | None, *, layer: str = "fingerprint"
    ) -> AnswerRecord | None:
        """Shares a running log, or a finished one; None when there is none, or it cannot be used."""
        if log is None or (log.finished and not log.reusable):
            return None
        outcome: CacheOutcome = "semantic" if layer == "semantic" else "hit" if log.finished else "coalesced"
        with self._journal.expected(log.id):
            await self._journal.joining(log)
            return await self._share(question, log, outcome, layer=layer)

    async def _share(
        self, question: AcceptedQuestion, log: AnswerLog, outcome: CacheOutcome, *, layer: str
    ) -> AnswerRecord:
        """Points the asker at a log that exists."""
        self._productions.joined(log.id, question.principal.id)
        telemetry.labelled(telemetry.cache_requests, layer, "wait" if outcome == "coalesced" else "hit").inc()
        record = self._record(question, log.id, outcome)
        await self._save(record, log)
        self._bookings.note(shared(record, name=question.principal.name))
        asker = Spender(question.principal.id, question.principal.groups)
        self._gaps.note_ending(log, asker, question=question.standalone)
        return record

    async def _write_or_join(self, case: Case) -> AnswerRecord:
        """A new log that others may join, once there is room and budget for it; another asker's if that was faster."""
        key = case.keys.own
        async with self._slot(case) as slot:
            if await slot.claim(key):
                return await self._begin(case, "miss", slot)
        return await self._join(case, key) or await self._write(case, "miss")

    async def _write(self, case: Case, outcome: CacheOutcome) -> AnswerRecord:
        """A new log for this asker alone."""
        async with self._slot(case) as slot:
            return await self._begin(case, outcome, slot)

    def _slot(self, case: Case) -> AbstractAsyncContextManager[Slot]:
        question = case.question
        at_most = self._acceptance.at_most(question.question)
        return self._productions.slot(question.principal, at_most=at_most, is_counted=question.is_counted)

    async def _begin(self, case: Case, outcome: CacheOutcome, slot: Slot) -> AnswerRecord:
        question, log = case.question, slot.log
        job = case.job(key=slot.key, at_most=self._acceptance.at_most(question.question), model=self._model)
        record = self._record(question, log.id, outcome)
        await self._save(record, log, job=msgspec.json.encode(job))
        slot.begin(msgspec.structs.replace(job, prepared_s=question.elapsed_s), workflow=case.workflow)
        telemetry.labelled(telemetry.cache_requests, "fingerprint", outcome).inc()
        return record

    async def _save(self, record: AnswerRecord, log: AnswerLog, *, job: bytes | None = None) -> None:
        """The asker's record, and the turn where the next question finds it; and that it is to be kept, once it has ended."""
        notes = [*self._keeper.marks(record), *self._conversations.notes(record)]
        await self._journal.save(record, job=job, also=notes)
        self._keeper.expect(record, log)

    def _record(self, question: AcceptedQuestion, log_id: str, outcome: CacheOutcome) -> AnswerRecord:
        answer_id = new_id()
        return AnswerRecord(
            answer_id=answer_id,
            log_id=log_id,
            principal_id=question.principal.id,
            question=question.question.question,
            conversation_id=question.question.conversation_id,
            groups=question.principal.groups,
            accepted=Accepted(answer_id, self._model, outcome),
            read_as=question.standalone,
            told=tuple(sorted(question.told, key=lambda one: (one.document_id, one.version))),
        )
