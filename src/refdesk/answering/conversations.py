"""Conversations: the last few turns of each, kept for their owner, so that a follow-up is understood.

Valkey down: the question is answered as if it were the first.
"""

import logging
import re
from collections.abc import Sequence

import msgspec

from refdesk.answering.grounding import content_words, without_citations
from refdesk.contracts.access import Principal
from refdesk.outside.llm import Message
from refdesk.outside.valkey import Valkey, ValkeyError

logger = logging.getLogger(__name__)

TURNS_MAX = 6
ANSWER_CHARACTERS_MAX = 2000
"""What is kept of an answer: enough to refer back to."""
SHORT_QUESTION_WORDS = 3
"""A question with no more content words than this leans on the one before it."""

_LEANS_BACK = re.compile(
    r"\s*(and|or|but|also|so|then|what about|how about|what if|why|same)\b|.*\b(it|its|that|this|those|these|they|them|there)\b",
    re.IGNORECASE,
)


class Turn(msgspec.Struct, frozen=True):
    question: str
    answer: str


class Conversations:
    def __init__(self, valkey: Valkey, *, retention_s: int) -> None:
        self._valkey = valkey
        self._retention_s = retention_s

    async def turns(self, conversation_id: str | None, principal: Principal) -> tuple[Turn, ...]:
        """The turns so far, oldest first; a conversation of somebody else is simply empty."""
        if conversation_id is None:
            return ()
        try:
            stored = await self._valkey.lrange(_key(conversation_id, principal), -TURNS_MAX, -1)
        except ValkeyError as error:
            logger.warning("a conversation could not be read: %s", error)
            return ()
        return tuple(msgspec.json.decode(turn, type=Turn) for turn in stored)

    async def add(self, conversation_id: str | None, principal_id: str, turn: Turn) -> None:
        if conversation_id is None:
            return
        key = _key_of(conversation_id, principal_id)
        try:
            async with self._valkey.pipeline(transaction=False) as pipeline:
                pipeline.rpush(key, msgspec.json.encode(turn))
                pipeline.ltrim(key, -TURNS_MAX, -1)
                pipeline.expire(key, self._retention_s)
                await pipeline.execute()
        except ValkeyError as error:
            logger.warning("a turn could not be kept: %s", error)


def standalone(question: str, turns: Sequence[Turn]) -> str:
    """The question as retrieval should read it: a follow-up together with the question it leans on."""
    if not turns:
        return question
    leans = len(content_words(question)) <= SHORT_QUESTION_WORDS or _LEANS_BACK.match(question)
    return f"{turns[-1].question} {question}" if leans else question


def as_messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The turns as a model reads them. Citations are left out: their numbers meant other passages."""
    messages = []
    for turn in turns:
        messages.append(Message("user", turn.question))
        messages.append(Message("assistant", without_citations(turn.answer)[:ANSWER_CHARACTERS_MAX]))
    return tuple(messages)


def _key(conversation_id: str, principal: Principal) -> str:
    return _key_of(conversation_id, principal.id)


def _key_of(conversation_id: str, principal_id: str) -> str:
    return f"refdesk:conversation:{principal_id}:{conversation_id}"
