"""The generations of the index: which one is searched, and which one stands beside it.

    generation 1  ████████████████████████████████████░░░░░░░░░░  active, then kept to return to, then dropped
    generation 2        ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒██████████  built beside it, ready, then active
                        begin                         activate

A generation is what makes vectors and postings comparable: embedding model, dimensions, chunking, language. Exactly one is
*active*: it is searched, and events are applied to it. At most one more stands *beside* it and follows it: whatever the
active one has in a newer version is made anew from the Document Service (`indexing.reembedding`). So building, keeping
ready and keeping for a return are one state, told apart only by how many documents the other is behind.

`activate` exchanges the two. Every change to a document checks, in its own transaction, that its generation still is what
its writer takes it for, and holds a shared lock that the exchange waits for: no change is ever made to the wrong one. The
exchange itself happens only when nothing is behind. So that this comes about while documents keep changing, changes wait
for the last few documents (``draining_until``, which passes by itself should the process die). Searches check the same, and
wait for nothing.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.resources import files
from typing import Any, Literal

import msgspec
from psycopg import AsyncConnection, AsyncCursor, ProgrammingError
from psycopg.errors import LockNotAvailable
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.errors import ConfigurationError, Conflict, NotFound, Unavailable
from refdesk.index.ledger.statements import one, row, rows
from refdesk.outside.postgres.database import load_queries, one_statement, transaction

MIGRATIONS = files("refdesk.index.ledger") / "migrations"
READ = b"SELECT EXISTS (SELECT 1 FROM generations LIMIT 1)"
"""Reads a table of ours: what tries a database runs it."""

PGVECTOR_VERSION_MIN = (0, 8, 0)
"""The first with iterative index scans, without which a filtered search comes back short."""

BEHIND_MAX = 1_000
"""Documents behind from which on nobody waits for the exchange: it is still being built."""
DRAIN_S = 30.0
"""How long changes may wait for the last documents of the generation to be activated; the statements know of a minute at most."""
LOCK_TIMEOUT_MS = 3_000
GAPS_SHOWN_MAX = 20

Role = Literal["active", "beside"]
Engine = Literal["pgvector", "qdrant"]
"""What keeps a generation's vectors and text; the ledger of each is in PostgreSQL."""

_queries = load_queries(files("refdesk.index.ledger") / "generations.sql")


class GenerationMoved(Unavailable):
    """The generation is not what it was taken for any more: look again which one is active."""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What makes vectors and words comparable, where they are, and the schema of its ledger.

    ``text_search`` is a PostgreSQL text search configuration: stemming and stop words. ``url`` is where the model is served,
    without any secret, and ``tokens_max`` what it reads of a text; both None for a packaged model. ``token`` is no secret: it
    tells what belongs to this generation from what others have given the same name.
    """

    id: int
    engine: Engine = "pgvector"
    token: str = ""
    model: str
    dimensions: int
    chunking: str
    text_search: str
    url: str | None = None
    tokens_max: int | None = None

    @property
    def name(self) -> str:
        """What facts about its documents call it."""
        return f"generation_{self.id}"

    @property
    def schema(self) -> str:
        """Where its ledger's tables are."""
        return f"generation_{self.id}"


class Live(Generation, frozen=True, kw_only=True):
    """A generation as it stands. ``problem`` is why building it does not get on."""

    active: bool
    created_at: datetime
    problem: str | None = None


class Behind(msgspec.Struct, frozen=True):
    """A document that the active generation has at this version, and another one does not."""

    document_id: str
    version: int
    removed: bool


class Gap(msgspec.Struct, frozen=True):
    """A document that a generation cannot hold, and why."""

    document_id: str
    version: int
    reason: str


async def enter(connection: AsyncConnection, generation: Generation, *, role: Role | None = None) -> None:
    """The transaction's tables are the generation's from here on. Raises GenerationMoved when it has not that role."""
    await _check_role(await connection.execute(_queries.enter, _place(generation)), generation, role)


@asynccontextmanager
async def within(
    connection: AsyncConnection, generation: Generation, *, role: Role | None = None
) -> AsyncIterator[None]:
    """The same in a pipeline, where nothing waits for the answer: GenerationMoved is raised at the end of the block.

    It is raised, too, for what failed in the block because the tables are gone with their generation.
    """
    entered = await connection.execute(_queries.enter, _place(generation))
    try:
        yield
    except ProgrammingError:
        await _check_role(entered, generation, role)
        raise
    await _check_role(entered, generation, role)


async def enter_to_change(connection: AsyncConnection, generation: Generation, *, role: Role | None = None) -> None:
    """The same; and no swap happens until the transaction ends. Raises GenerationMoved also while changes have to wait."""
    async with connection.pipeline():
        await connection.execute(_queries.hold_roles)
        entered = await connection.execute(_queries.enter, _place(generation))
    await _check_role(entered, generation, role, changing=True)


async def open_generation(
    pool: AsyncConnectionPool,
    *,
    model: str,
    dimensions: int,
    chunking: str,
    text_search: str = "english",
    engine: Engine = "pgvector",
    served: tuple[str, int] | None = None,
) -> Generation:
    """Find the generation of these settings, or create it. Needs the migrations. Safe from many processes at once.

    The first one of a database is active. ``served`` is the URL and the window, in tokens, of a model that is not packaged.
    Raises `ConfigurationError` when pgvector is too old or the text search configuration does not exist.
    """
    settings: dict[str, Any] = {
        "engine": engine,
        "model": model,
        "dimensions": dimensions,
        "chunking": chunking,
        "text_search": text_search,
    }
    url, tokens_max = served or (None, None)
    async with transaction(pool) as connection:
        await connection.execute(_queries.lock_generations)
        await _check_server(connection, text_search)
        found = await row(connection, _queries.find_generation, settings)
        if found is None:
            added = settings | {"url": url, "tokens_max": tokens_max}
            found = (*await one(connection, _queries.add_generation, added), url, tokens_max)
            create = _queries.create_generation if engine == "pgvector" else _queries.create_ledger
            await connection.execute(create, {"generation": found[0], "dimensions": dimensions})
    generation, token, url, tokens_max = found
    return Generation(id=generation, token=token, url=url, tokens_max=tokens_max, **settings)


async def tokens_of(connection: AsyncConnection, engine: Engine) -> dict[int, str]:
    """Each generation's token, by its id."""
    return dict(await rows(connection, _queries.tokens, {"engine": engine}))


class Generations:
    """The record of all generations. Every method raises `Unavailable` when PostgreSQL does not answer."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def live(self) -> list[Live]:
        """The active one first; empty before the first one was opened."""
        async with one_statement(self._pool) as connection:
            return await _live(connection)

    async def beside(self) -> Live | None:
        """The one beside the active one, if there is one."""
        return next((generation for generation in await self.live() if not generation.active), None)

    async def begin(
        self,
        *,
        engine: Engine = "pgvector",
        model: str,
        dimensions: int,
        chunking: str,
        served: tuple[str, int] | None = None,
    ) -> Generation:
        """The generation beside the active one, created unless it is there. Raises Conflict when another one is."""
        wanted = (engine, model, dimensions, chunking)
        for generation in await self.live():
            same = (generation.engine, generation.model, generation.dimensions, generation.chunking) == wanted
            if same and generation.active:
                raise Conflict(
                    f"The active index (generation {generation.id}) has the model {model} in {engine} already."
                )
            if not same and not generation.active:
                raise Conflict(
                    f"Generation {generation.id} ({generation.model}) stands beside the active one. Discard it first: "
                    "`refdesk reindex --drop`."
                )
        return await open_generation(
            self._pool, engine=engine, model=model, dimensions=dimensions, chunking=chunking, served=served
        )

    async def behind(self, generation_id: int, *, after: str = "", count: int) -> list[Behind]:
        """What the active generation has and this one lacks, in the order of document ids above ``after``."""
        async with transaction(self._pool) as connection:
            values = {"id": generation_id, "after": after, "count": count}
            return [Behind(*found) for found in await rows(connection, _queries.behind, values)]

    async def count_behind(self, generation_id: int, *, count_max: int | None = None) -> int:
        async with transaction(self._pool) as connection:
            return await _count_behind(connection, generation_id, count_max)

    async def gaps(self, generation_id: int) -> tuple[int, list[Gap]]:
        """How many documents it cannot hold, and the first of them."""
        async with transaction(self._pool) as connection:
            found = await rows(connection, _queries.gaps, {"id": generation_id, "count": GAPS_SHOWN_MAX})
            (count,) = await one(connection, _queries.count_gaps, {"id": generation_id})
            return int(count), [Gap(*each) for each in found]

    async def add_gap(self, generation_id: int, gap: Gap) -> None:
        await self._execute(_queries.add_gap, {"id": generation_id, **msgspec.structs.asdict(gap)})

    async def forget_gap(self, generation_id: int, document_id: str) -> None:
        await self._execute(_queries.forget_gap, {"id": generation_id, "document_id": document_id})

    async def forget_gaps(self, generation_id: int) -> None:
        """Have every document that could not be held tried again."""
        await self._execute(_queries.forget_gaps, {"id": generation_id})

    async def say_problem(self, generation_id: int, problem: str | None) -> None:
        await self._execute(_queries.say_problem, {"id": generation_id, "problem": problem})

    async def drain(self) -> None:
        """Have changes wait, ``DRAIN_S`` at most, until a generation has been activated."""
        await self._execute(_queries.drain, {"seconds": DRAIN_S})

    async def draining(self) -> bool:
        """Whether changes have to wait just now."""
        async with transaction(self._pool) as connection:
            (draining,) = await one(connection, _queries.draining, {})
            return bool(draining)

    async def stop_draining(self) -> None:
        await self._execute(_queries.drain, {"seconds": 0.0})

    async def activate(self, generation_id: int, *, with_gaps: bool = False) -> int:
        """Make this the generation that is searched, if it lacks nothing; how many documents it is behind, else.

        Nothing is done when it is active already. Raises NotFound; and Conflict when it has gaps, unless ``with_gaps``.
        """
        try:
            async with transaction(self._pool) as connection:
                return await _activate(connection, generation_id, with_gaps=with_gaps)
        except Unavailable as error:
            raise _said_of(
                error, "Documents are being changed just now, and the swap does not wait for long."
            ) from error

    async def drop(self, generation_id: int) -> None:
        """Discard a generation with all it has. Raises NotFound, and Conflict for the active one."""
        try:
            async with transaction(self._pool) as connection:
                await connection.execute(_queries.lock_generations)
                if (await _find(connection, generation_id)).active:
                    raise Conflict(f"Generation {generation_id} is the one that is searched. Swap it out first.")
                await connection.execute(_queries.wait_shortly, {"lock_timeout_ms": LOCK_TIMEOUT_MS})
                await connection.execute(_queries.lock_changes)
                await connection.execute(_queries.lock_use, {"id": generation_id})
                await connection.execute(_queries.drop_generation, {"id": generation_id})
        except Unavailable as error:
            raise _said_of(error, "Somebody uses this generation just now.") from error

    async def _execute(self, query: bytes, values: Mapping[str, Any]) -> None:
        async with transaction(self._pool) as connection:
            await connection.execute(query, values)


def _place(generation: Generation) -> dict[str, Any]:
    return {"schema": generation.schema, "id": generation.id}


async def _check_role(
    entered: AsyncCursor[tuple[Any, ...]], generation: Generation, role: Role | None, *, changing: bool = False
) -> None:
    ((*_, active, draining),) = await entered.fetchall()
    check_role(generation, role, active=active, waits=changing and draining)


def check_role(generation: Generation, role: Role | None, *, active: bool | None, waits: bool = False) -> None:
    """Raises GenerationMoved when the database says otherwise: whether it is ``active``, None when it is gone."""
    now = None if active is None else "active" if active else "beside"
    if role is not None and (now != role or waits):
        raise moved(generation)


def moved(generation: Generation) -> GenerationMoved:
    return GenerationMoved(f"Generation {generation.id} is being swapped. It is tried again by itself.")


async def _activate(connection: AsyncConnection, generation_id: int, *, with_gaps: bool) -> int:
    await connection.execute(_queries.lock_generations)
    if (await _find(connection, generation_id)).active:
        return 0
    (gaps,) = await one(connection, _queries.count_gaps, {"id": generation_id})
    if gaps and not with_gaps:
        raise Conflict(
            f"{gaps} documents cannot be held by generation {generation_id}; `refdesk reindex` lists them. "
            "Mend or delete them, or swap without them: --force."
        )
    await connection.execute(_queries.wait_shortly, {"lock_timeout_ms": LOCK_TIMEOUT_MS})
    await connection.execute(_queries.lock_changes)
    behind = await _count_behind(connection, generation_id, BEHIND_MAX)
    if not behind:
        await connection.execute(_queries.deactivate)
        await connection.execute(_queries.activate, {"id": generation_id})
    return behind


def _said_of(error: Unavailable, words: str) -> Unavailable:
    """A lock that was not to be had in time is no database that is away."""
    return Unavailable(f"{words} Try again.") if isinstance(error.__cause__, LockNotAvailable) else error


async def _live(connection: AsyncConnection) -> list[Live]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_queries.live)
        return [msgspec.convert(found, Live) for found in await cursor.fetchall()]


async def _find(connection: AsyncConnection, generation_id: int) -> Live:
    for generation in await _live(connection):
        if generation.id == generation_id:
            return generation
    raise NotFound(f"There is no generation {generation_id}.")


async def _count_behind(connection: AsyncConnection, generation_id: int, count_max: int | None) -> int:
    (count,) = await one(connection, _queries.count_behind, {"id": generation_id, "count": count_max})
    return int(count)


async def _check_server(connection: AsyncConnection, text_search: str) -> None:
    found = await row(connection, _queries.extension_version, {})
    version = tuple(int(part) for part in str(found[0]).split(".")) if found else ()
    if version < PGVECTOR_VERSION_MIN:
        raise ConfigurationError(
            f"The database has pgvector {found[0] if found else 'not at all'}; 0.8.0 is the least."
        )
    (exists,) = await one(connection, _queries.text_search_exists, {"text_search": text_search})
    if not exists:
        raise ConfigurationError(
            f"PostgreSQL has no text search configuration {text_search!r}; \\dF in psql lists them."
        )
