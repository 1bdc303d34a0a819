"""Conversations as their owner looks at them: listed, read, renamed, deleted; and single answers, one's own or shared.

What is kept comes from history; turns that are not written there yet, the running one among them, from Valkey. An answer that
stands on what its reader may not read is withdrawn: of one's own the question stays, and another's is not there at all.
"""

from contextlib import suppress
from datetime import datetime
from typing import Literal

import msgspec

from refdesk.answering.conversations.history import (
    LAST,
    NEWEST,
    Conversation,
    History,
    KeptAnswer,
    Place,
    asked_at,
    title_of,
)
from refdesk.answering.conversations.keeping import Keeper, answer_of
from refdesk.answering.conversations.turns import TURNS_MAX, Begun, Conversations
from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.journal import Journal
from refdesk.answering.logs.log import AnswerLog, AnswerRecord
from refdesk.answering.withdrawal import Withdrawals
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import AnswerWithdrawn, Conflict, NotFound, Unavailable
from refdesk.outside.valkey.client import ValkeyError


class ConversationTurn(FinishedAnswer, kw_only=True):
    """A question and its answer, when it was asked, and whether its owner shares it.

    ``withdrawn``: it stands on what its owner may not read any more, so that nothing of it is here but the question.
    """

    status: Literal["running", "done", "failed", "withdrawn"]  # type: ignore[assignment]
    asked_at: datetime
    shared: bool = False

    @classmethod
    def of(cls, answer: FinishedAnswer, *, asked: datetime, shared: bool = False) -> "ConversationTurn":
        return cls(**msgspec.structs.asdict(answer), asked_at=asked, shared=shared)

    @classmethod
    def withdrawn(cls, answer_id: str, question: str, *, asked: datetime, shared: bool = False) -> "ConversationTurn":
        nothing = FinishedAnswer.nothing(answer_id, question)
        return cls(**{**msgspec.structs.asdict(nothing), "status": "withdrawn"}, asked_at=asked, shared=shared)


class ConversationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation with its newest turns, oldest first; ``next_cursor`` leads to those before, if there are any."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    turns: list[ConversationTurn]
    next_cursor: str | None = None


class BrowsingParts(msgspec.Struct, frozen=True, kw_only=True):
    history: History
    conversations: Conversations
    journal: Journal
    keeper: Keeper
    withdrawals: Withdrawals


class Browsing:
    """Every method raises NotFound for what is not the principal's own, as for what never was; and Unavailable."""

    def __init__(self, parts: BrowsingParts) -> None:
        self._history = parts.history
        self._conversations = parts.conversations
        self._journal = parts.journal
        self._keeper = parts.keeper
        self._withdrawals = parts.withdrawals

    async def page(
        self, principal: Principal, *, words: str = "", after: Place = NEWEST, count: int
    ) -> list[Conversation]:
        """The principal's conversations, newest first."""
        return await self._history.conversations(principal.id, words=words, after=after, count=count)

    async def show(
        self, conversation_id: str, principal: Principal, *, before: str = LAST, count: int
    ) -> ConversationPage:
        """A conversation with at most ``count`` turns: the newest, or those before answer ``before``. Raises AccessUnknown."""
        known = await self._history.conversation(principal.id, conversation_id)
        wanted = max(count, TURNS_MAX) + 1
        kept = await self._history.turns(principal.id, conversation_id, before=before, count=wanted) if known else []
        unwritten = await self._unwritten(conversation_id, principal, kept) if before == LAST else []
        if known is None and not unwritten:
            raise NotFound
        shown = kept[-count:]
        turns = [*await self._readable(shown, principal), *unwritten]
        first = known or _unknown(conversation_id, unwritten)
        return ConversationPage(
            id=first.id,
            title=first.title,
            created_at=first.created_at,
            updated_at=max(first.updated_at, *(turn.asked_at for turn in turns)) if turns else first.updated_at,
            turns=turns,
            next_cursor=shown[0].answer_id if len(kept) > count else None,
        )

    async def rename(self, conversation_id: str, principal: Principal, title: str) -> Conversation:
        if await self._history.rename(principal.id, conversation_id, title):
            known = await self._history.conversation(principal.id, conversation_id)
            if known is not None:
                return known
        raise NotFound

    async def remove(self, conversation_id: str, principal: Principal) -> None:
        """Deletes all of it; what is still being written is not kept."""
        is_begun = await self._conversations.forget(conversation_id, principal)
        if not await self._history.remove(principal.id, conversation_id, is_begun=is_begun):
            raise NotFound

    async def remove_turns(self, conversation_id: str, principal: Principal, answer_id: str) -> None:
        """Drops a turn and those after it, so that the conversation goes on from before. What runs is not kept."""
        try:
            begun = await self._conversations.begun(conversation_id, principal)
            later = [one.answer_id for one in begun if one.answer_id >= answer_id]
            if not await self._history.remove_turns(principal.id, conversation_id, answer_id, begun=later):
                raise NotFound
            await self._conversations.forget_from(conversation_id, principal, answer_id)
        except ValkeyError as error:
            raise Unavailable("The conversation cannot be changed right now. Try again in a moment.") from error

    # single answers

    async def share(self, answer_id: str, principal: Principal, *, shared: bool) -> None:
        """Lets whoever may read all the evidence of one's own answer read it, or ends that. Raises Conflict while it runs."""
        if await self._history.share(answer_id, principal.id, shared=shared):
            return
        record = await self._record(answer_id)
        if record is None or record.principal_id != principal.id:
            raise NotFound
        if not shared:
            return
        log = await self._log(record)
        if log is not None and not log.finished:
            raise Conflict("This answer is still being written. Share it when it has ended.")
        if log is None:
            raise NotFound
        await self._keeper.keep_now(record, log)
        if not await self._history.share(answer_id, principal.id, shared=True):
            raise NotFound

    async def answer(self, answer_id: str, principal: Principal) -> FinishedAnswer | None:
        """A kept answer that is the principal's own, or shared and all of its evidence readable; None when there is none.

        Of a shared one, that is also what the answers before it stand on: its writer has read them.

        Raises AnswerWithdrawn for one's own, and AccessUnknown.
        """
        found = await self._history.answer(answer_id, principal.id)
        if found is None:
            return None
        kept, owner = found
        is_own = owner == principal.id
        try:
            if kept.answer is None:
                raise AnswerWithdrawn
            evidence = kept.stands_on if is_own else kept.stands_on | kept.told
            await self._withdrawals.check(evidence, scope=principal.scope)
        except AnswerWithdrawn:
            if is_own:
                raise
            return None
        if not is_own:
            kept.answer.conversation_id = None
        return kept.answer

    async def keep_rated(self, record: AnswerRecord) -> None:
        """Keeps an answer that its asker has rated, as long as answers of conversations are; not where none are kept."""
        log = await self._log(record)
        if log is not None and log.finished:
            with suppress(Conflict):
                await self._keeper.keep_now(record, log)

    async def rated(self, answer_id: str, curator: Principal) -> FinishedAnswer:
        """An answer that somebody has rated, with its evidence, if the curator may read all of that.

        Raises NotFound, AnswerWithdrawn and AccessUnknown.
        """
        kept = await self._history.anybodys_answer(answer_id)
        if kept is None:
            raise NotFound
        if kept.answer is None:
            raise AnswerWithdrawn
        await self._withdrawals.check(kept.stands_on | kept.told, scope=curator.scope)
        kept.answer.conversation_id = None
        return kept.answer

    # turns

    async def _readable(self, kept: list[KeptAnswer], principal: Principal) -> list[ConversationTurn]:
        evidence = {one.answer_id: one.stands_on for one in kept}
        readable = await self._withdrawals.readable(evidence, scope=principal.scope)
        return [_turn(one, is_readable=one.answer_id in readable) for one in kept]

    async def _unwritten(
        self, conversation_id: str, principal: Principal, kept: list[KeptAnswer]
    ) -> list[ConversationTurn]:
        """The turns that history does not have yet; none while Valkey does not answer."""
        written = {one.answer_id for one in kept}
        try:
            begun = await self._conversations.begun(conversation_id, principal)
            fresh = [turn for turn in begun if turn.log_id and turn.answer_id and turn.answer_id not in written]
            answers = [await self._running(turn) for turn in fresh]
        except ValkeyError:
            return []
        found = [one for one in answers if one is not None]
        evidence = {one.answer_id: one.stands_on() for one in found}
        readable = await self._withdrawals.readable(evidence, scope=principal.scope)
        return [
            ConversationTurn.of(one, asked=asked_at(one.answer_id))
            if one.answer_id in readable
            else ConversationTurn.withdrawn(one.answer_id, one.question, asked=asked_at(one.answer_id))
            for one in found
        ]

    async def _running(self, turn: Begun) -> FinishedAnswer | None:
        """As far as it is now."""
        record = await self._journal.record(turn.answer_id)
        log = await self._journal.open(turn.log_id)
        return None if record is None or log is None else answer_of(record, log)

    async def _record(self, answer_id: str) -> AnswerRecord | None:
        try:
            return await self._journal.record(answer_id)
        except ValkeyError as error:
            raise Unavailable("Answers cannot be looked up right now. Try again in a moment.") from error

    async def _log(self, record: AnswerRecord) -> AnswerLog | None:
        try:
            return await self._journal.open(record.log_id)
        except ValkeyError as error:
            raise Unavailable("Answers cannot be read right now. Try again in a moment.") from error


def _turn(kept: KeptAnswer, *, is_readable: bool) -> ConversationTurn:
    if kept.answer is None or not is_readable:
        return ConversationTurn.withdrawn(kept.answer_id, kept.question, asked=kept.asked_at, shared=kept.shared)
    return ConversationTurn.of(kept.answer, asked=kept.asked_at, shared=kept.shared)


def _unknown(conversation_id: str, turns: list[ConversationTurn]) -> Conversation:
    """A conversation of which nothing is written yet."""
    first, last = turns[0], turns[-1]
    return Conversation(conversation_id, title_of(first.question), first.asked_at, last.asked_at, len(turns))
