"""Conversations: the last few questions of each and their answers, kept for their owner, so that a follow-up is understood.

A turn is kept when its answer begins, as the log it points at: a follow-up that comes with the answer's last word finds it, and
so does one whose answer was somebody else's log.

An answer that stands on a document which its owner may not read any more is left out (`withdrawal`): nothing of it reaches the
model again. The question stays, since it is the owner's own.

Valkey down: the question is answered as if it were the first.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from refdesk.answering.log import AnswerLog
from refdesk.answering.quotations import as_quotation
from refdesk.answering.sentences import without_citations
from refdesk.answering.withdrawal import Withdrawals
from refdesk.contracts.access import Principal
from refdesk.outside.llm.parameters import Message
from refdesk.outside.valkey.client import Valkey, ValkeyError

logger = logging.getLogger(__name__)

TURNS_MAX = 6
ANSWER_CHARACTERS_MAX = 2000
"""What is kept of an answer: enough to refer back to."""
WITHDRAWN = "This answer is not available any more."
"""What a follow-up has in place of an answer that may not be read any more."""


class Turn(msgspec.Struct, frozen=True):
    question: str
    answer: str
    read_as: str = ""
    """The question together with what it leaned on; empty when that is not known."""


class _Kept(msgspec.Struct, frozen=True):
    question: str
    log_id: str
    read_as: str = ""


class Conversations:
    def __init__(
        self,
        valkey: Valkey,
        *,
        retention_s: int,
        open_log: Callable[[str], Awaitable[AnswerLog | None]],
        withdrawals: Withdrawals,
    ) -> None:
        self._valkey = valkey
        self._retention_s = retention_s
        self._open_log = open_log
        self._withdrawals = withdrawals

    async def turns(self, conversation_id: str | None, principal: Principal) -> tuple[Turn, ...]:
        """The turns so far, oldest first; a conversation of another principal is empty. Raises AccessUnknown."""
        if conversation_id is None:
            return ()
        try:
            stored = await self._valkey.command("LRANGE", _key(conversation_id, principal.id), -TURNS_MAX, -1)
            kept = [msgspec.json.decode(turn, type=_Kept) for turn in stored]
            logs = [await self._open_log(turn.log_id) for turn in kept]
        except ValkeyError as error:
            logger.debug("a conversation could not be read: %s", error)
            return ()
        answered = [(turn, log) for turn, log in zip(kept, logs, strict=True) if log and log.text()]
        readable = await self._withdrawals.readable([log for _, log in answered], scope=principal.scope)
        return tuple(
            Turn(turn.question, log.text() if log.id in readable else WITHDRAWN, turn.read_as) for turn, log in answered
        )

    async def add(
        self, conversation_id: str | None, principal: Principal, *, question: str, read_as: str, log_id: str
    ) -> None:
        if conversation_id is None:
            return
        key = _key(conversation_id, principal.id)
        try:
            await self._valkey.commands(
                [
                    ("RPUSH", key, msgspec.json.encode(_Kept(question, log_id, read_as))),
                    ("LTRIM", key, -TURNS_MAX, -1),
                    ("EXPIRE", key, self._retention_s),
                ]
            )
        except ValkeyError as error:
            logger.debug("a turn could not be kept: %s", error)


def as_messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The turns as a model reads them. An answer repeats documents, so it is made harmless as they are (`quotations`).

    Citations are left out: their numbers meant other passages.
    """
    messages = []
    for turn in turns:
        messages.append(Message("user", turn.question))
        messages.append(Message("assistant", as_quotation(without_citations(turn.answer)[:ANSWER_CHARACTERS_MAX])))
    return tuple(messages)


def _key(conversation_id: str, principal_id: str) -> str:
    return f"refdesk:conversation:{principal_id}:{conversation_id}"
