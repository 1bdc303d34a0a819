"""Content-addressed files: bytes are named by their SHA-256 and lie under ``ab/cd/<sha256>``.

A blob appears whole or not at all: it is written beside its place while it is hashed, flushed to disk, and renamed.
Storing the same bytes again costs nothing but renews the file's age, which is what keeps the sweep honest:

    put    writes, then (shared lock)     renames into place, or renews the age of what is there
    sweep  lists old files, asks which are referenced, then (exclusive lock) looks at the age again and removes

so a file that somebody stored since the sweep asked is always young when the sweep comes to remove it, and a blob is
safe for ``grace_s`` after it was stored: the time a caller has to commit its reference. The lock is a file lock; it
holds between processes. All file work runs in threads.

Where the directory's identity is known (`blob_identity`), nothing is written to, missed in or swept from another directory that
stands in its place. The file system's refusals end here: they become the kinds of `Unavailable` that they are.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import msgspec

from refdesk.contracts.errors import NotFound
from refdesk.outside.blob_identity import require_identity
from refdesk.outside.storage_errors import translated

PIECE_BYTES = 256 * 1024
"""How much is read or written at once."""

SWEEP_BATCH = 500
TRIAL_BYTES = 64 * 1024
"""What `look` writes: more than what is left on a disk that calls itself full."""

PLACE = "The content directory"

Fault = Literal["missing", "damaged"]

Unreferenced = Callable[[list[str]], Awaitable[set[str]]]


class Stored(msgspec.Struct, frozen=True):
    """What a stored blob is: its name and its length."""

    sha256: str
    bytes: int


class BlobMissing(NotFound):
    """The content is not in the blob directory."""


class OpenBlob:
    """A blob being read. It stays readable until closed, even when it is removed meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = os.fstat(file.fileno()).st_size

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    async def read(self) -> bytes:
        """The next piece; empty at the end."""
        return await asyncio.to_thread(self._read)

    async def read_all(self) -> bytes:
        """What is left of it; the blob is closed then."""
        async with self:
            pieces = []
            while piece := await self.read():
                pieces.append(piece)
        return b"".join(pieces)

    def _read(self) -> bytes:
        with translated(PLACE):
            return self._file.read(PIECE_BYTES)


class Blobs:
    """A directory of blobs. Several processes may share it.

    Raises Unavailable when the directory cannot be used, ReadOnly and InsufficientStorage where that is why. ``identity``:
    the one it must have; unset, any directory will do.
    """

    def __init__(self, directory: Path, *, identity: str | None = None) -> None:
        self.directory = directory
        self._identity = identity
        self._incoming = directory / "incoming"

    async def put(self, file: BinaryIO) -> Stored:
        """Store what is left to read of ``file``. On return the bytes are on disk, and safe from the sweep's grace."""
        return await asyncio.to_thread(self._put, file)

    async def open(self, sha256: str) -> OpenBlob:
        """Raises BlobMissing."""
        return OpenBlob(await asyncio.to_thread(self._open, sha256))

    async def look(self) -> int:
        """Write something, and take it away again: returns how many bytes are free."""
        return await asyncio.to_thread(self._look)

    async def faults(self, names: list[str], *, verify: bool = False) -> dict[str, Fault]:
        """What is wrong with these blobs; sound ones are absent. ``verify`` reads them, and puts damaged ones aside.

        What was put aside (under ``damaged``) is missing from then on: the same bytes can be stored anew.
        """
        return await asyncio.to_thread(self._faults, names, verify=verify)

    async def sweep(self, unreferenced: Unreferenced, *, grace_s: float) -> int:
        """Remove blobs that nobody references and nobody stored within ``grace_s``; returns how many.

        ``unreferenced`` gets at most SWEEP_BATCH names and returns those that may go.
        """
        await asyncio.to_thread(self._own)
        await asyncio.to_thread(self._remove_abandoned, grace_s)
        removed = 0
        old = self._old_names(grace_s)
        while batch := await asyncio.to_thread(_take, old, SWEEP_BATCH):
            removed += await asyncio.to_thread(self._remove, await unreferenced(batch), grace_s)
        return removed

    async def erase(self, names: set[str], *, grace_s: float) -> set[str]:
        """Remove those that nobody stored within ``grace_s``; returns which of all of them are not there, or not any more.

        The caller knows that nobody references them, as ``unreferenced`` of `sweep` says it.
        """
        return await asyncio.to_thread(self._erase, names, grace_s)

    def _erase(self, names: set[str], grace_s: float) -> set[str]:
        with translated(PLACE):
            self._own()
            self._remove({name for name in names if self._path(name).exists()}, grace_s)
            return {name for name in names if not self._path(name).exists()}

    def _path(self, sha256: str) -> Path:
        return self.directory / sha256[:2] / sha256[2:4] / sha256

    def _own(self) -> None:
        if self._identity is not None:
            require_identity(self.directory, self._identity)

    def _open(self, sha256: str) -> BinaryIO:
        with translated(PLACE):
            try:
                return self._path(sha256).open("rb")
            except FileNotFoundError as error:
                self._own()
                raise BlobMissing(f"The content {sha256} is not in the content directory.") from error

    def _look(self) -> int:
        with translated(PLACE):
            self._own()
            trial = self._temporary()
            try:
                trial.write_bytes(bytes(TRIAL_BYTES))
            finally:
                _remove_quietly(trial)
            return shutil.disk_usage(self.directory).free

    def _faults(self, names: list[str], *, verify: bool) -> dict[str, Fault]:
        with translated(PLACE):
            self._own()
            found = {name: self._fault(name, verify=verify) for name in names}
            self._own()  # the volume may have been unmounted meanwhile
        return {name: fault for name, fault in found.items() if fault is not None}

    def _fault(self, name: str, *, verify: bool) -> Fault | None:
        path = self._path(name)
        if not path.is_file():
            return "missing"
        if not verify or _digest(path) == name:
            return None
        aside = self.directory / "damaged"
        aside.mkdir(exist_ok=True)
        path.replace(aside / name)
        return "damaged"

    def _temporary(self) -> Path:
        self._incoming.mkdir(parents=self._identity is None, exist_ok=True)
        return self._incoming / os.urandom(16).hex()

    def _put(self, file: BinaryIO) -> Stored:
        with translated(PLACE):
            self._own()
            temporary = self._temporary()
            try:
                stored = _copy(file, temporary)
                self._settle(temporary, self._path(stored.sha256))
            finally:
                _remove_quietly(temporary)
        return stored

    def _settle(self, temporary: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_SH):
            if place.exists():
                os.utime(place)
            else:
                temporary.replace(place)
        _flush_directories(place.parent, self.directory)

    @contextlib.contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        with (self.directory / ".lock").open("ab") as lock:
            fcntl.flock(lock, mode)
            yield

    def _old_names(self, grace_s: float) -> Iterator[str]:
        for path in self.directory.glob("??/??/*"):
            if _is_older(path, grace_s):
                yield path.name

    def _remove(self, names: set[str], grace_s: float) -> int:
        removed = 0
        for name in names:
            self._own()
            with self._locked(fcntl.LOCK_EX):
                if _is_older(self._path(name), grace_s):
                    self._path(name).unlink(missing_ok=True)
                    removed += 1
        return removed

    def _remove_abandoned(self, grace_s: float) -> None:
        for path in self._incoming.glob("*"):
            if _is_older(path, grace_s):
                path.unlink(missing_ok=True)


def _copy(source: BinaryIO, place: Path) -> Stored:
    digest, total = hashlib.sha256(), 0
    with place.open("xb") as target:
        while piece := _piece(source):
            digest.update(piece)
            target.write(piece)
            total += len(piece)
        target.flush()
        os.fsync(target.fileno())
    return Stored(sha256=digest.hexdigest(), bytes=total)


def _piece(source: BinaryIO) -> bytes:
    with translated("The file that was uploaded"):
        return source.read(PIECE_BYTES)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_quietly(path: Path) -> None:
    """Why it was to be removed says more than that it could not be; a sweep takes what stays."""
    with contextlib.suppress(OSError):
        path.unlink()


def _flush_directories(directory: Path, top: Path) -> None:
    """Make a rename into a possibly new directory survive a power cut: every level up to ``top`` is flushed."""
    while True:
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if directory == top:
            return
        directory = directory.parent


def _is_older(path: Path, age_s: float) -> bool:
    try:
        return path.stat().st_mtime < time.time() - age_s
    except FileNotFoundError:
        return False


def _take(names: Iterator[str], count: int) -> list[str]:
    return list(itertools.islice(names, count))
