"""Conversations: the last few questions of each and their answers, for their owner, so that a follow-up is understood.

    a question ──▶ its turn in Valkey, as the log it points at ──▶ the last turns, at hand for the next question
                                                └──ended──▶ history in PostgreSQL (`keeping`): all of them, for as long as is set

A turn is in Valkey when its answer begins: a follow-up that comes with the answer's last word finds it, and so does one whose
answer was somebody else's log. What Valkey has forgotten, or does not say now, is read from history, and put back.

An answer that stands on a document which its owner may not read any more is left out (`withdrawal`): nothing of it reaches the
model again. The question stays, since it is the owner's own.

Both away: the question is answered as if it were the first.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from refdesk.answering.conversations.history import History, KeptAnswer
from refdesk.answering.evidence.truth import Shown
from refdesk.answering.logs.log import AnswerLog, AnswerRecord
from refdesk.answering.text.quotations import as_quotation
from refdesk.answering.text.sentences import without_citations
from refdesk.answering.withdrawal import Withdrawals
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Unavailable
from refdesk.outside.llm.parameters import Message
from refdesk.outside.valkey.client import Command, Valkey, ValkeyError

logger = logging.getLogger(__name__)

TURNS_MAX = 6
ANSWER_CHARACTERS_MAX = 2000
"""What is kept of an answer: enough to refer back to."""
HISTORY_S_MAX = 1.0
"""How long a question waits for the turns before it."""
WITHDRAWN = "This answer is not available any more."
"""What a follow-up has in place of an answer that may not be read any more."""


class Turn(msgspec.Struct, frozen=True):
    question: str
    answer: str
    read_as: str = ""
    """The question together with what it leaned on; empty when that is not known."""


class Recalled(msgspec.Struct, frozen=True):
    """The turns of a conversation, oldest first. ``told``: what the answers among them stand on, and stood on in turn."""

    turns: tuple[Turn, ...] = ()
    told: frozenset[Shown] = frozenset()


class Begun(msgspec.Struct, frozen=True):
    """A turn as Valkey has it. ``answer_id`` is empty in turns of earlier releases, ``log_id`` in those put back."""

    question: str
    log_id: str
    read_as: str = ""
    answer_id: str = ""
    told: tuple[Shown, ...] = ()


class _Said(msgspec.Struct, frozen=True):
    """A turn with what was said, what that stands on, and what its writer was told before."""

    turn: Turn
    stands_on: frozenset[Shown] = frozenset()
    told: frozenset[Shown] = frozenset()


class Conversations:
    """Without a ``history``, what Valkey forgets is forgotten."""

    def __init__(
        self,
        valkey: Valkey,
        *,
        retention_s: int,
        open_log: Callable[[str], Awaitable[AnswerLog | None]],
        withdrawals: Withdrawals,
        history: History | None = None,
    ) -> None:
        self._valkey = valkey
        self._retention_s = retention_s
        self._open_log = open_log
        self._withdrawals = withdrawals
        self._history = history

    async def recall(self, conversation_id: str | None, principal: Principal) -> Recalled:
        """The turns so far; a conversation of another principal is empty. Raises AccessUnknown."""
        if conversation_id is None:
            return Recalled()
        said = await self._said(conversation_id, principal)
        by_place = {str(place): one.stands_on for place, one in enumerate(said)}
        readable = await self._withdrawals.readable(by_place, scope=principal.scope)
        turns = tuple(
            one.turn if str(place) in readable else msgspec.structs.replace(one.turn, answer=WITHDRAWN)
            for place, one in enumerate(said)
        )
        return Recalled(turns, frozenset().union(*(one.stands_on | one.told for one in said)))

    async def begun(self, conversation_id: str, principal: Principal) -> list[Begun]:
        """What Valkey has of the conversation, oldest first. Raises ValkeyError."""
        stored = await self._valkey.command("LRANGE", _key(conversation_id, principal.id), -TURNS_MAX, -1)
        return [msgspec.json.decode(turn, type=Begun) for turn in stored]

    def notes(self, record: AnswerRecord) -> list[Command]:
        """What is to be sent along with the record of an answer in a conversation: that it has begun."""
        if record.conversation_id is None:
            return []
        turn = Begun(record.question, record.log_id, record.read_as, record.answer_id, record.told)
        return self._appending(_key(record.conversation_id, record.principal_id), [turn])

    async def forget(self, conversation_id: str, principal: Principal) -> bool:
        """Whether Valkey had any of it."""
        try:
            return bool(await self._valkey.command("DEL", _key(conversation_id, principal.id)))
        except ValkeyError as error:
            raise Unavailable("The conversation cannot be deleted right now. Try again in a moment.") from error

    async def forget_from(self, conversation_id: str, principal: Principal, answer_id: str) -> None:
        """Forgets a turn and those after it. Raises ValkeyError."""
        begun = await self.begun(conversation_id, principal)
        left = [turn for turn in begun if turn.answer_id < answer_id]
        if len(left) < len(begun):
            await self._valkey.command("DEL", _key(conversation_id, principal.id))
            await self._put(conversation_id, principal, left)

    async def _said(self, conversation_id: str, principal: Principal) -> list[_Said]:
        try:
            begun = await self.begun(conversation_id, principal)
            logs = {turn.log_id: await self._open_log(turn.log_id) for turn in begun if turn.log_id}
        except ValkeyError as error:
            logger.debug("a conversation is not in Valkey now: %s", error)
            return _with_words(_of_history(one) for one in await self._last_kept(conversation_id, principal))
        if not begun:
            kept = await self._last_kept(conversation_id, principal)
            if kept:
                await self._put(
                    conversation_id,
                    principal,
                    [Begun(one.question, "", "", one.answer_id, tuple(one.told)) for one in kept],
                )
            return _with_words(_of_history(one) for one in kept)
        is_whole = all(logs.get(turn.log_id) for turn in begun)
        kept = [] if is_whole else await self._last_kept(conversation_id, principal)
        by_id = {one.answer_id: one for one in kept}
        return _with_words(_recalled(turn, logs.get(turn.log_id), by_id.get(turn.answer_id)) for turn in begun)

    async def _last_kept(self, conversation_id: str, principal: Principal) -> list[KeptAnswer]:
        if self._history is None:
            return []
        try:
            async with asyncio.timeout(HISTORY_S_MAX):
                return await self._history.turns(principal.id, conversation_id, count=TURNS_MAX)
        except (Unavailable, TimeoutError) as error:
            logger.debug("a conversation could not be read: %r", error)
            return []

    async def _put(self, conversation_id: str, principal: Principal, turns: Sequence[Begun]) -> None:
        if not turns:
            return
        try:
            await self._valkey.commands(self._appending(_key(conversation_id, principal.id), turns))
        except ValkeyError as error:
            logger.debug("a turn could not be kept: %s", error)

    def _appending(self, key: str, turns: Sequence[Begun]) -> list[Command]:
        pushed: list[Command] = [("RPUSH", key, msgspec.json.encode(turn)) for turn in turns]
        return [*pushed, ("LTRIM", key, -TURNS_MAX, -1), ("EXPIRE", key, self._retention_s)]


def _recalled(turn: Begun, log: AnswerLog | None, kept: KeptAnswer | None) -> _Said:
    """From its log, or from history. Where neither has the answer (erased before it was kept), the question alone."""
    if log is not None:
        return _Said(
            Turn(turn.question, log.text(), turn.read_as), log.stands_on() or frozenset(), frozenset(turn.told)
        )
    if kept is not None:
        return _of_history(kept)
    return _Said(Turn(turn.question, WITHDRAWN, turn.read_as), told=frozenset(turn.told))


def _of_history(kept: KeptAnswer) -> _Said:
    said = WITHDRAWN if kept.answer is None else kept.answer.text
    return _Said(Turn(kept.question, said, kept.read_as), kept.stands_on, kept.told)


def _with_words(recalled: Iterable[_Said]) -> list[_Said]:
    """Those in which something was said."""
    return [one for one in recalled if one.turn.answer]


def as_messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The turns as a model reads them. An answer repeats documents, so it is made harmless as they are (`text.quotations`).

    Citations are left out: their numbers meant other passages.
    """
    messages = []
    for turn in turns:
        messages.append(Message("user", turn.question))
        messages.append(Message("assistant", as_quotation(without_citations(turn.answer)[:ANSWER_CHARACTERS_MAX])))
    return tuple(messages)


def _key(conversation_id: str, principal_id: str) -> str:
    return f"refdesk:conversation:{principal_id}:{conversation_id}"
