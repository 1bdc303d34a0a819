"""Whether an answer helped, in the asker's words. Kept in the AI Service's own database, with the question and what was cited."""

from collections.abc import Collection, Sequence
from datetime import datetime
from importlib import resources
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Principal
from refdesk.contracts.texts import Text
from refdesk.outside.postgres.database import load_queries, one_statement, transaction

Rating = Literal["up", "down"]


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rating: Rating
    comment: Annotated[Text, Meta(max_length=4000)] | None = None


class RatedQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and how it was rated, with the ids of the documents that the answer cited."""

    answer_id: str
    rated_at: datetime
    rating: Rating
    comment: str | None
    question: str
    documents: list[str]
    finish_reason: str | None


class RatedQuestions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Oldest first; ``next_cursor`` is absent on the last page."""

    rated: list[RatedQuestion]
    next_cursor: str | None = None


class FeedbackStore:
    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._queries = load_queries(resources.files("refdesk.answering.curating") / "feedback.sql")

    async def save(
        self,
        answer_id: str,
        feedback: Feedback,
        *,
        principal: Principal,
        question: str,
        documents: Sequence[str],
        finish_reason: str | None,
    ) -> None:
        """The asker's last word counts: saving again replaces."""
        async with transaction(self._pool) as connection:
            await connection.execute(
                self._queries.save_feedback,
                {
                    "answer_id": answer_id,
                    "principal_id": principal.id,
                    "rating": feedback.rating,
                    "comment": feedback.comment,
                    "question": question,
                    "documents": list(documents),
                    "finish_reason": finish_reason,
                },
            )

    async def erase(self, document_ids: Collection[str]) -> int:
        """Question, comment and evidence of ratings whose answers cited one of these; returns how many. Raises Unavailable."""
        async with one_statement(self._pool) as connection:
            return (
                await connection.execute(self._queries.erase_evidence, {"document_ids": list(document_ids)})
            ).rowcount

    async def is_rated(self, answer_id: str) -> bool:
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(self._queries.is_rated, {"answer_id": answer_id})
            [[found]] = await cursor.fetchall()
        return bool(found)

    async def forget(self, *, days: int) -> None:
        """Drops ratings that were kept for so long."""
        async with transaction(self._pool) as connection:
            await connection.execute(self._queries.forget, {"days": days})

    async def page(self, *, after: str | None, count: int, rating: Rating | None = None) -> RatedQuestions:
        """At most ``count`` rated questions, from the one after answer ``after`` on; of one rating where it is given."""
        async with transaction(self._pool) as connection:
            values = {"after": after, "count": count + 1, "rating": rating}
            cursor = await connection.execute(self._queries.rated, values)
            found = await cursor.fetchall()
        rated = [
            RatedQuestion(
                answer_id=answer_id,
                rated_at=rated_at,
                rating=rating,
                comment=comment,
                question=question,
                documents=documents,
                finish_reason=finish_reason,
            )
            for answer_id, rated_at, rating, comment, question, documents, finish_reason in found[:count]
        ]
        return RatedQuestions(rated, rated[-1].answer_id if len(found) > count else None)
