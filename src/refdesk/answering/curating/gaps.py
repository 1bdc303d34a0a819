"""Gaps: questions that the documents did not answer, those that are alike together, in the AI Service's database.

Alike is told by the desk's own embedder. A gap's centre is the mean of its questions; one more joins the nearest centre, or
begins a gap of its own. Their number has a bound, and questions are forgotten after a while, with the gaps that have none left.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from importlib import resources
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from refdesk.outside.embedding.vectors import Vectors
from refdesk.outside.postgres.database import load_queries, one_statement, transaction
from refdesk.settings.answers import GapLimits

Reason = Literal["not_found", "closest", "rated_down"]
State = Literal["open", "answered", "all"]

OPEN_LOOKED_AT = 200
"""Gaps that are asked whether a new document answers them, those asked last."""
QUESTIONS_SHOWN = 200
NOTICES_SHOWN = 20


class Unanswered(msgspec.Struct, frozen=True, kw_only=True):
    """A question that got no answer, or a bad one; of the same asker and answer, it has the same name."""

    name: str
    principal_id: str
    question: str
    reason: Reason
    at: datetime
    groups: list[str] = []
    """Of its asker: their curators may read it."""
    documents: list[str] = []
    """What the answer had cited, if there was one."""


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``question`` is the first of its ``questions``, of so many ``askers``. ``answered_by``: a document that became searchable
    since and may answer it."""

    id: int
    question: str
    questions: int
    askers: int
    first_at: datetime
    last_at: datetime
    answered_by: str | None = None
    answered_at: datetime | None = None


class GapQuestion(msgspec.Struct, frozen=True, kw_only=True):
    question: str
    reason: Reason
    asked_at: datetime


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """To an asker: a document may answer their question by now."""

    id: int
    question: str
    document_id: str
    answered_at: datetime


class Place(NamedTuple):
    """Of a gap in the order of their sizes."""

    questions: int
    id: int


class Sight(NamedTuple):
    """Whose questions may be read: everybody's, or those of people in these groups."""

    everything: bool
    groups: list[str]


class GapStore:
    """Every method raises Unavailable when PostgreSQL does not answer."""

    def __init__(self, pool: AsyncConnectionPool, *, limits: GapLimits) -> None:
        self._pool = pool
        self._limits = limits
        self._queries = load_queries(resources.files("refdesk.answering.curating") / "gaps.sql")

    async def add(self, questions: Sequence[Unanswered], vectors: Vectors, *, model: str) -> None:
        """vectors: (n, dimensions) float32, L2-normalised; n = len(questions), same order. Adding one again changes nothing."""
        async with transaction(self._pool) as connection:
            await connection.execute(self._queries.lock)
            known = await self._rows(connection, "known", {"names": [question.name for question in questions]})
            there = {name for (name,) in known}
            centres = _Centres(
                await self._rows(connection, "centres", {"model": model, "count": self._limits.gaps_max}),
                dimensions=vectors.shape[1],
            )
            for question, vector in zip(questions, vectors, strict=True):
                if question.name not in there:
                    there.add(question.name)
                    await self._add(connection, question, vector, centres, model=model)

    async def _add(
        self, connection: AsyncConnection, question: Unanswered, vector: Vectors, centres: "_Centres", *, model: str
    ) -> None:
        gap_id = centres.nearest(vector, similarity_min=self._limits.similarity_min)
        values = {"model": model, "question": question.question, "at": question.at}
        if gap_id is None:
            values["centre"] = vector.astype("<f4").tobytes()
            [[gap_id]] = await self._rows(connection, "add_gap", values)
            centres.add(gap_id, vector)
        else:
            values |= {"id": gap_id, "centre": centres.join(gap_id, vector)}
            await connection.execute(self._queries.grow_gap, values)
        told = msgspec.structs.asdict(question) | {"id": gap_id}
        await connection.execute(self._queries.add_question, told)

    async def open(self) -> list[tuple[int, str]]:
        """Ids and questions of those that nothing answers yet."""
        async with one_statement(self._pool) as connection:
            return [(gap_id, text) for gap_id, text in await self._rows(connection, "open", {"count": OPEN_LOOKED_AT})]

    async def answered(self, gap_id: int, *, by: str) -> None:
        async with one_statement(self._pool) as connection:
            await connection.execute(self._queries.answer, {"id": gap_id, "document_id": by})

    async def dismiss(self, gap_id: int) -> bool:
        """Whether there was one."""
        async with one_statement(self._pool) as connection:
            return bool(await self._rows(connection, "dismiss", {"id": gap_id}))

    async def page(self, sight: Sight, *, state: State, after: Place | None, count: int) -> list[Gap]:
        """Of the gaps what may be seen: of those without a question to be seen, nothing."""
        values = {
            **sight._asdict(),
            "state": state,
            "after_size": None if after is None else after.questions,
            "after_id": None if after is None else after.id,
            "count": count,
        }
        async with one_statement(self._pool) as connection:
            found = await self._rows(connection, "page", values)
        return [_struct(Gap, row) for row in found]

    async def questions_of(self, gap_id: int, sight: Sight) -> list[GapQuestion]:
        values = {"id": gap_id, "count": QUESTIONS_SHOWN, **sight._asdict()}
        async with one_statement(self._pool) as connection:
            found = await self._rows(connection, "questions_of", values)
        return [_struct(GapQuestion, row) for row in found]

    async def notices(self, principal_id: str) -> list[Notice]:
        async with one_statement(self._pool) as connection:
            found = await self._rows(connection, "mine", {"principal_id": principal_id, "count": NOTICES_SHOWN})
        return [_struct(Notice, row) for row in found]

    async def see(self, gap_id: int, *, principal_id: str) -> bool:
        """The asker has seen it. Whether there was something to see."""
        async with one_statement(self._pool) as connection:
            return bool(await self._rows(connection, "see", {"id": gap_id, "principal_id": principal_id}))

    async def counts(self) -> tuple[int, int]:
        """How many are open, and answered."""
        async with one_statement(self._pool) as connection:
            [[still_open, answered]] = await self._rows(connection, "counts", {})
        return int(still_open), int(answered)

    async def erase(self, document_ids: Collection[str]) -> int:
        """Questions about deleted documents; how many gaps had some."""
        async with transaction(self._pool) as connection:
            await connection.execute(self._queries.lock)
            found = await self._rows(connection, "erase", {"document_ids": list(document_ids)})
            touched = {"ids": [gap_id for (gap_id,) in found]}
            await connection.execute(self._queries.speak_anew, touched)
            await connection.execute(self._queries.drop_empty, touched)
        return len(found)

    async def forget(self) -> None:
        """Drops what was kept long enough, and what is too many."""
        async with transaction(self._pool) as connection:
            await connection.execute(self._queries.forget_questions, {"days": self._limits.days_kept})
            await connection.execute(self._queries.forget_gaps, {"gaps_max": self._limits.gaps_max})

    async def _rows(self, connection: AsyncConnection, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        cursor = await connection.execute(self._queries[name], values)
        return await cursor.fetchall()


class _Centres:
    """The centres of one model's gaps, in memory."""

    def __init__(self, found: Sequence[tuple[int, bytes, int]], *, dimensions: int) -> None:
        fitting = [row for row in found if len(row[1]) == 4 * dimensions]
        self._ids = [gap_id for gap_id, _, _ in fitting]
        self._sizes = [size for _, _, size in fitting]
        self._centres = [np.frombuffer(centre, dtype="<f4") for _, centre, _ in fitting]

    def nearest(self, vector: Vectors, *, similarity_min: float) -> int | None:
        if not self._ids:
            return None
        likeness = np.stack(self._centres) @ vector
        place = int(np.argmax(likeness))
        return self._ids[place] if likeness[place] >= similarity_min else None

    def add(self, gap_id: int, vector: Vectors) -> None:
        self._ids.append(gap_id)
        self._sizes.append(1)
        self._centres.append(vector)

    def join(self, gap_id: int, vector: Vectors) -> bytes:
        """The new centre."""
        place = self._ids.index(gap_id)
        mean = self._centres[place] * self._sizes[place] + vector
        self._sizes[place] += 1
        self._centres[place] = mean / np.linalg.norm(mean)
        return self._centres[place].astype("<f4").tobytes()


def _struct(kind: Any, row: Sequence[Any]) -> Any:
    return kind(**dict(zip(kind.__struct_fields__, row, strict=True)))
