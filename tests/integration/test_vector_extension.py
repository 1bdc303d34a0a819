"""A database without a usable pgvector is told in one sentence, with the SQL to run and as whom, at the start and by doctor."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from refdesk.app.commands.checks.databases import check_databases
from refdesk.contracts.errors import ConfigurationError
from refdesk.index.ledger.generations import MIGRATIONS
from refdesk.index.pgvector.extension import CREATE, UPDATE, require_vector
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.settings.loading import load

OLD = "default_version = '0.7.4'\nrelocatable = true\n"


@dataclass(frozen=True)
class Database:
    """An empty one, owned by a role that may do nothing else; and the superuser's way to it."""

    url: str
    superuser_url: str
    name: str

    async def sql(self, statement: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.superuser_url, autocommit=True) as connection:
            await connection.execute(statement.encode())

    async def look_for_extensions_in(self, place: str) -> None:
        """Instead of where the server's installation has them."""
        await self.sql(f"ALTER DATABASE {self.name} SET extension_control_path = '{place}'")

    async def problem(self) -> str:
        """What the start says."""
        async with open_pool(self.url, name="test extension", size_max=1) as pool:
            with pytest.raises(ConfigurationError) as raised:
                await require_vector(pool)
        told = [finding async for finding in check_databases(load({"index_database_url": self.url}, environ={}))]
        assert (told[0].level, told[0].mend) == ("FAIL", raised.value.message)
        assert "\n" not in raised.value.message
        return raised.value.message


@pytest.fixture
async def database(fresh_database: str) -> AsyncIterator[Database]:
    name = conninfo_to_dict(fresh_database)["dbname"]
    role = f"plain_{name}"
    found = Database(make_conninfo(fresh_database, user=role), fresh_database, str(name))
    await found.sql("DROP EXTENSION vector")
    await found.sql(f"CREATE ROLE {role} LOGIN")
    await found.sql(f"ALTER DATABASE {name} OWNER TO {role}")
    yield found
    await found.sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """That every user of this machine can read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def installation(folder: Path, control: str) -> str:
    """Extensions as a server's package would bring them."""
    place = folder / "share"
    (place / "extension").mkdir(parents=True)
    (place / "extension" / "vector.control").write_text(control)
    (place / "extension" / "vector--0.7.4.sql").write_text("CREATE DOMAIN vector AS text;")
    for part in (folder, place, place / "extension"):
        part.chmod(0o755)  # the server runs as another user
    return str(place)


async def test_a_user_who_may_not_install_it_is_told_who_may(database: Database) -> None:
    """Once a superuser has done so, the service starts: nothing else needs rights."""
    problem = await database.problem()
    assert CREATE in problem and "superuser" in problem and database.name in problem
    await database.sql(CREATE)
    async with open_pool(database.url, name="test extension", size_max=1) as pool:
        await require_vector(pool)
        assert await migrate(pool, MIGRATIONS)


async def test_a_user_who_may_install_it_does(database: Database) -> None:
    """As the embedded server's, and most people's at home."""
    async with open_pool(database.superuser_url, name="test extension", size_max=1) as pool:
        await require_vector(pool)
        await require_vector(pool)


async def test_a_server_without_it_is_told(database: Database) -> None:
    """It has to be installed there first."""
    await database.look_for_extensions_in("/nowhere")
    problem = await database.problem()
    assert "has no pgvector" in problem and "postgresql-18-pgvector" in problem and CREATE in problem


async def test_a_server_with_an_old_one_is_told(database: Database, open_folder: Path) -> None:
    """With what is needed."""
    await database.look_for_extensions_in(installation(open_folder, OLD))
    problem = await database.problem()
    assert "0.7.4 is too old" in problem and "0.8" in problem


async def test_an_old_one_in_a_database_is_to_be_updated(database: Database, open_folder: Path) -> None:
    """By its owner, for we may not."""
    await database.look_for_extensions_in(installation(open_folder, OLD))
    await database.sql(CREATE)
    await database.look_for_extensions_in("$system")
    problem = await database.problem()
    assert "0.7.4" in problem and UPDATE in problem and "owner" in problem


async def test_one_that_is_out_of_sight_is_told(database: Database) -> None:
    """In a schema where nobody looks."""
    await database.sql("CREATE SCHEMA hidden; CREATE EXTENSION vector SCHEMA hidden")
    problem = await database.problem()
    assert 'schema "hidden"' in problem and "ALTER EXTENSION vector SET SCHEMA public;" in problem
