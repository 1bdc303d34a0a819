"""pgvector in a database: whether it is there, new enough and in sight, and who has to do what where it is not.

not on the server, or too old there   install the package; nobody can do that in SQL
on the server, not in the database    CREATE EXTENSION, by us where we may, else by a superuser
older in the database than there      ALTER EXTENSION … UPDATE, by its owner
"""

from importlib import resources

import msgspec
from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.postgres.database import Queries, load_queries, one_statement

MIN = (0, 8)
"""halfvec came with 0.7, iterative scans of HNSW with 0.8 (pgvector's changelog)."""
MIN_TEXT = ".".join(map(str, MIN))

CREATE = "CREATE EXTENSION vector;"
UPDATE = "ALTER EXTENSION vector UPDATE;"


class Vector(msgspec.Struct, frozen=True):
    """What a database says of pgvector. Versions are None where there is none; ``major`` is PostgreSQL's."""

    database: str
    major: int
    installed: str | None
    available: str | None
    schema: str | None
    may_create: bool
    """Whether our user may install it in this database."""
    visible: bool
    """Whether its types are found without naming their schema; True while it is not installed."""

    @property
    def wants(self) -> str | None:
        """What is to be done in SQL: None when nothing is, or nothing helps."""
        if _version(self.available) < MIN:
            return None
        if self.installed is None:
            return CREATE
        return UPDATE if _version(self.installed) < MIN else None

    def problem(self, *, database: str | None = None) -> str | None:
        """One sentence on why it cannot be used, with what to do and as whom; None when it can.

        ``database``: the one to do it in, where that is not the one that was asked.
        """
        where = f'the database "{database or self.database}"'
        if self.installed is None and self.available is None:
            return (
                f"The PostgreSQL server has no pgvector. Install it there (the package is often named postgresql-{self.major}-"
                f"pgvector), then run as a superuser in {where}: {CREATE}"
            )
        if max(_version(self.installed), _version(self.available)) < MIN:
            return (
                f"pgvector {self.available or self.installed} is too old: Refdesk needs {MIN_TEXT} or newer. Install a newer "
                f"one on the PostgreSQL server, then run as a superuser in {where}: {UPDATE if self.installed else CREATE}"
            )
        if self.installed is None:
            return None if self.may_create else self._needs_superuser(where)
        if _version(self.installed) < MIN:
            return (
                f"pgvector {self.installed} is installed in {where}; Refdesk needs {MIN_TEXT} or newer, and the server has "
                f"{self.available}. Run there as the extension's owner or a superuser: {UPDATE}"
            )
        if not self.visible:
            return (
                f'pgvector is in the schema "{self.schema}" of {where}, where Refdesk\'s user does not look. Run there as the '
                "extension's owner or a superuser: ALTER EXTENSION vector SET SCHEMA public;"
            )
        return None

    def _needs_superuser(self, where: str) -> str:
        return (
            f"Refdesk's user may not install pgvector in {where}. Run there as a superuser (such as postgres): {CREATE}"
        )


async def look_at_vector(connection: AsyncConnection) -> Vector:
    """Changes nothing."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_queries().look_at_vector)
        return msgspec.convert(await cursor.fetchone(), Vector)


async def require_vector(pool: AsyncConnectionPool) -> None:
    """Install or update it where we may. Raises ConfigurationError saying what to run, and as whom."""
    async with one_statement(pool) as connection:
        vector = await look_at_vector(connection)
        if vector.wants is not None:
            try:
                await connection.execute(_queries()["create_vector" if vector.wants == CREATE else "update_vector"])
            except InsufficientPrivilege as error:
                denied = msgspec.structs.replace(vector, may_create=False)
                raise ConfigurationError(denied.problem()) from error
            vector = await look_at_vector(connection)
    if (problem := vector.problem()) is not None:
        raise ConfigurationError(problem)


def _queries() -> Queries:
    return load_queries(resources.files("refdesk.index.pgvector") / "extension.sql")


def _version(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (text or "").split(".") if part.isdigit())
