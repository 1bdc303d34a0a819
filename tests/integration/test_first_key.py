"""The first key where nobody calls from loopback: into the database by hand, or out of a file at each start."""

import asyncio
from pathlib import Path

import pytest
from psycopg_pool import AsyncConnectionPool
from tests.support.running import command

from refdesk.access.first_key import adopt_key_file, read_key_file
from refdesk.access.keys import MIGRATIONS, ApiKeys, key_id_of, new_key, open_api_keys
from refdesk.app.services.common import open_keys
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.settings.loading import load


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(new_key() + "\n")
    return file


async def test_a_key_is_made_in_a_database_without_a_running_service(tmp_path: Path, fresh_database: str) -> None:
    """Its table, too; it is shown once, and opens."""
    arguments = ("keys", "create", "ada", "--groups", "administrators", "--database", fresh_database)
    made = await command(*arguments, "--json", home=tmp_path)
    assert made.code == 0, made
    async with open_api_keys(fresh_database, setting="--database") as keys:
        principal = await keys.principal(made.last["key"])
        assert principal is not None and principal.administrator
    again = await command(*arguments, home=tmp_path)
    assert again.code == 1 and "ada" in again.err and "Traceback" not in again.err


async def test_a_key_is_made_offline(tmp_path: Path) -> None:
    """One on a line, another each time."""
    said = [(await command("keys", "generate", home=tmp_path)).out.strip() for _ in range(2)]
    assert all(key_id_of(key) for key in said) and said[0] != said[1]


async def test_the_key_of_the_file_is_an_administrators_from_the_first_start(
    fresh_database: str, key_file: Path
) -> None:
    """As a service opens its keys; and so it is after the second."""
    environ = {"REFDESK_ACCESS_DATABASE_URL": fresh_database, "REFDESK_BOOTSTRAP_KEY_FILE": str(key_file)}
    for _ in range(2):
        async with open_keys(load(environ=environ).settings) as keys:
            principal = await keys.principal(key_file.read_text().strip())
            assert principal is not None and principal.administrator
            assert len(await keys.listing()) == 1


async def test_many_replicas_may_start_at_once_with_one_file(fresh_database: str, key_file: Path) -> None:
    """One key comes of it, and no error."""

    async def start() -> None:
        async with open_api_keys(fresh_database, setting="x", wait_s=10) as keys:
            await adopt_key_file(keys, key_file)

    await asyncio.gather(*(start() for _ in range(8)))
    async with open_api_keys(fresh_database, setting="x") as keys:
        assert len(await keys.listing()) == 1


async def test_another_key_takes_the_files_place(fresh_database: str, key_file: Path) -> None:
    """Both work until the first is revoked: a secret can be changed without a gap."""
    first = key_file.read_text().strip()
    async with open_pool(fresh_database, name="test first key") as pool:
        keys = await _migrated(pool)
        await adopt_key_file(keys, key_file)
        key_file.write_text(new_key())
        await adopt_key_file(keys, key_file)
        assert await keys.principal(first) is not None and await keys.principal(key_file.read_text()) is not None
        await keys.revoke(f"bootstrap-{key_id_of(first)}")
        assert await keys.principal(first) is None and await keys.principal(key_file.read_text()) is not None


async def test_a_start_goes_on_when_the_files_key_was_rotated(
    fresh_database: str, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file's key stays dead, the one in its place works, and the log says that the file can go."""
    old = key_file.read_text().strip()
    async with open_pool(fresh_database, name="test first key") as pool:
        keys = await _migrated(pool)
        await adopt_key_file(keys, key_file)
        rotated = await keys.rotate(f"bootstrap-{key_id_of(old)}")
        await adopt_key_file(keys, key_file)
        assert await keys.principal(old) is None
        assert rotated.key and await keys.principal(rotated.key) is not None
        assert len(await keys.listing()) == 1
    assert "was rotated" in caplog.text and "remove the file" in caplog.text


async def test_a_file_cannot_take_another_keys_id(fresh_database: str, key_file: Path) -> None:
    """The key that has it stays what it is."""
    async with open_pool(fresh_database, name="test first key") as pool:
        keys = await _migrated(pool)
        await adopt_key_file(keys, key_file)
        async with pool.connection() as connection:
            await connection.execute("UPDATE api_keys SET key_sha256 = sha256('another')")
        with pytest.raises(ConfigurationError, match="Another key"):
            await adopt_key_file(keys, key_file)


async def _migrated(pool: AsyncConnectionPool) -> ApiKeys:
    await migrate(pool, MIGRATIONS)
    return ApiKeys(pool)


BAD = {
    "empty": b"",
    "another text": b"not a key",
    "no text": b"\xff\xfe",
    "a mistyped key": b"rdk_00000000_" + b"0" * 64 + b"00000000",
    "far too long": b"x" * 100_000,
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_holds_no_key_is_refused_unread(tmp_path: Path, case: str) -> None:
    """What stands in it is not repeated: it may be a secret."""
    (tmp_path / "key").write_bytes(BAD[case])
    with pytest.raises(ConfigurationError, match="refdesk keys generate") as refusal:
        read_key_file(tmp_path / "key")
    assert "rdk_" not in str(refusal.value) and "not a key" not in str(refusal.value)


@pytest.mark.parametrize("there", ["nothing", "a folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, there: str) -> None:
    """With the system's reason."""
    if there == "a folder":
        (tmp_path / "key").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_key_file(tmp_path / "key")
