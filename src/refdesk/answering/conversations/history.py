"""The history of conversations, in the AI Service's own database: who asked what, and what was answered on which evidence.

It is written when an answer has ended, off the asking path (`keeping`); the last turns of a conversation are in Valkey as well,
where the next question finds them (`conversations`). Whatever is read here is one principal's own, or shared by its owner.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import msgspec
from psycopg_pool import AsyncConnectionPool

from refdesk.answering.evidence.truth import Shown
from refdesk.answering.logs.finished import FinishedAnswer
from refdesk.answering.logs.log import ID_TIME_DIGITS, AnswerRecord
from refdesk.contracts.hidden_characters import clean
from refdesk.outside.postgres.database import load_queries, one_statement, transaction

TITLE_CHARACTERS_MAX = 120
"""Of the title that a conversation has from its first question."""
DROPPED_MAX = 100
"""Dropped turns that a conversation remembers: more than are begun and not kept at any moment."""
LAST = "~"
"""Behind every id of an answer."""


class Conversation(msgspec.Struct, frozen=True):
    """``turns``: how many of its questions are kept."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    turns: int


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a list of conversations goes on: behind this one."""

    updated_at: datetime
    id: str


NEWEST = Place(datetime.max.replace(tzinfo=UTC), LAST)


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A question and its answer. ``answer`` is absent where it was erased with a document that it stands on (``erased``)."""

    answer_id: str
    asked_at: datetime
    question: str
    read_as: str
    answer: FinishedAnswer | None
    erased: bool
    shared: bool
    told: frozenset[Shown]
    """What the answers before it stand on, which it may repeat."""

    @property
    def stands_on(self) -> frozenset[Shown]:
        return frozenset() if self.answer is None else self.answer.stands_on()


class History:
    """Every method raises Unavailable when PostgreSQL does not answer. ``turns_max``: of one conversation."""

    def __init__(self, pool: AsyncConnectionPool, *, turns_max: int) -> None:
        self._pool = pool
        self._turns_max = turns_max
        self._queries = load_queries(resources.files("refdesk.answering.conversations") / "history.sql")

    async def keep(self, record: AnswerRecord, answer: FinishedAnswer) -> None:
        """Keeps an answer that has ended; saying it again changes nothing."""
        values = {
            "principal_id": record.principal_id,
            "conversation_id": record.conversation_id,
            "title": title_of(record.question),
            "answer_id": record.answer_id,
            "asked_at": asked_at(record.answer_id),
            "question": record.question,
            "read_as": record.read_as,
            "answer": msgspec.json.encode(answer).decode(),
            "told": msgspec.json.encode(record.told).decode(),
            "document_ids": sorted({one.document_id for one in answer.stands_on()}),
            "turns_max": self._turns_max,
        }
        async with one_statement(self._pool) as connection:
            await connection.execute(self._queries.keep, values)

    # reading

    async def conversations(
        self, principal_id: str, *, words: str = "", after: Place = NEWEST, count: int
    ) -> list[Conversation]:
        """Newest first; those with these words in their title or a question."""
        found = await self._rows(
            "conversations",
            principal_id=principal_id,
            words=words,
            before=after.updated_at,
            before_id=after.id,
            count=count,
        )
        return [Conversation(*row) for row in found]

    async def conversation(self, principal_id: str, conversation_id: str) -> Conversation | None:
        found = await self._rows("conversation", principal_id=principal_id, id=conversation_id)
        return Conversation(*found[0]) if found else None

    async def turns(
        self, principal_id: str, conversation_id: str, *, before: str = LAST, count: int
    ) -> list[KeptAnswer]:
        """The newest of the conversation, oldest first; those before answer ``before``."""
        found = await self._rows("turns", principal_id=principal_id, id=conversation_id, before=before, count=count)
        return [_kept(row) for row in reversed(found)]

    async def answer(self, answer_id: str, principal_id: str) -> tuple[KeptAnswer, str] | None:
        """An answer that is the principal's own, or shared, and the id of its owner."""
        found = await self._rows("answer", answer_id=answer_id, principal_id=principal_id)
        return (_kept(found[0][:-1]), found[0][-1]) if found else None

    async def anybodys_answer(self, answer_id: str) -> KeptAnswer | None:
        """Whoever's it is."""
        found = await self._rows("anybodys_answer", answer_id=answer_id)
        return _kept(found[0]) if found else None

    # changing

    async def rename(self, principal_id: str, conversation_id: str, title: str) -> bool:
        """False when there is no such conversation."""
        return bool(await self._rows("rename", principal_id=principal_id, id=conversation_id, title=title))

    async def remove(self, principal_id: str, conversation_id: str, *, is_begun: bool = False) -> bool:
        """Removes a conversation, kept or only begun, and all its answers; those still being written are not kept.

        False when there is none.
        """
        values = {"principal_id": principal_id, "id": conversation_id}
        async with transaction(self._pool) as connection:
            removed = await (await connection.execute(self._queries.remove, values)).fetchone()
            if removed is None and is_begun:
                await connection.execute(self._queries.remove_begun, values)
            await connection.execute(self._queries.remove_answers, values)
        return removed is not None or is_begun

    async def remove_turns(
        self, principal_id: str, conversation_id: str, answer_id: str, *, begun: Collection[str]
    ) -> bool:
        """Removes a turn and those after it, kept or only ``begun``: what comes to be kept later than this is not.

        False when there is no such turn.
        """
        values = {"principal_id": principal_id, "id": conversation_id, "answer_id": answer_id}
        async with transaction(self._pool) as connection:
            if answer_id not in begun:
                kept = await (await connection.execute(self._queries.turn, values)).fetchone()
                if kept is None:
                    return False
            await connection.execute(self._queries.hold, values | {"asked_at": asked_at(answer_id)})
            dropped = {"begun": list(begun), "dropped_max": DROPPED_MAX}
            await connection.execute(self._queries.remove_turns, values | dropped)
        return True

    async def share(self, answer_id: str, principal_id: str, *, shared: bool) -> bool:
        """False when the principal has no such answer here."""
        return bool(await self._rows("share", answer_id=answer_id, principal_id=principal_id, shared=shared))

    # erasing

    async def evidence_after(self, document_id: str, *, count: int) -> list[str]:
        """Ids of documents that answers stand on, in their order."""
        return [row[0] for row in await self._rows("evidence_after", after=document_id, count=count)]

    async def evidence_among(self, document_ids: Collection[str]) -> list[str]:
        """Those of these documents that answers stand on."""
        return [row[0] for row in await self._rows("evidence_among", document_ids=list(document_ids))]

    async def erase(self, document_ids: Collection[str]) -> int:
        """Erases every answer that stands on one of these documents; how many that were."""
        return len(await self._rows("erase", document_ids=list(document_ids)))

    async def forget(self, *, retention_s: float, deleted_s: float, count: int) -> int:
        """Deletes at most so many answers and conversations that are older; how many there were."""
        answers = await self._change("forget_answers", retention_s=retention_s, count=count)
        return answers + await self._change(
            "forget_conversations", retention_s=retention_s, deleted_s=deleted_s, count=count
        )

    async def _rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        async with one_statement(self._pool) as connection:
            cursor = await connection.execute(self._queries[query], values)
            return await cursor.fetchall()

    async def _change(self, query: str, **values: Any) -> int:
        async with one_statement(self._pool) as connection:
            return (await connection.execute(self._queries[query], values)).rowcount


def title_of(question: str) -> str:
    """A conversation's name until it is given one: its first question, on one line."""
    line = " ".join(clean(question[: 8 * TITLE_CHARACTERS_MAX]).split())
    return line if len(line) <= TITLE_CHARACTERS_MAX else line[: TITLE_CHARACTERS_MAX - 1].rstrip() + "…"


def asked_at(answer_id: str) -> datetime:
    """An id begins with its time."""
    return datetime.fromtimestamp(int(answer_id[:ID_TIME_DIGITS], 16) / 1000, UTC)


def _kept(row: tuple[Any, ...]) -> KeptAnswer:
    answer_id, asked, question, read_as, answer, erased, shared, told = row
    return KeptAnswer(
        answer_id=answer_id,
        asked_at=asked,
        question=question,
        read_as=read_as,
        answer=None if answer is None else msgspec.json.decode(answer, type=FinishedAnswer),
        erased=erased,
        shared=shared,
        told=frozenset(msgspec.json.decode(told, type=list[Shown])),
    )
