"""Whether an answer helped, in the asker's words. Kept in the AI Service's own database."""

from importlib import resources
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.access import Principal
from refdesk.contracts.texts import Text
from refdesk.outside.postgres import load_queries, transaction

MIGRATIONS = resources.files("refdesk.answering") / "migrations"


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rating: Literal["up", "down"]
    comment: Annotated[Text, Meta(max_length=4000)] | None = None


class FeedbackStore:
    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._queries = load_queries(resources.files("refdesk.answering") / "feedback.sql")

    async def save(self, answer_id: str, feedback: Feedback, *, principal: Principal) -> None:
        """The asker's last word counts: saving again replaces."""
        async with transaction(self._pool) as connection:
            await connection.execute(
                self._queries.save_feedback,
                {
                    "answer_id": answer_id,
                    "principal_id": principal.id,
                    "rating": feedback.rating,
                    "comment": feedback.comment,
                },
            )
