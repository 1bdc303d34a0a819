"""Content-addressed files: bytes are named by their SHA-256 and lie under ``ab/cd/<sha256>``.

A blob appears whole or not at all: it is written beside its place while it is hashed, flushed to disk, and renamed.
Storing the same bytes again costs nothing but renews the file's age, which is what keeps the sweep honest:

    put    writes, then (shared lock)     renames into place, or renews the age of what is there
    sweep  lists old files, asks which are referenced, then (exclusive lock) looks at the age again and removes

so a file that somebody stored since the sweep asked is always young when the sweep comes to remove it, and a blob is
safe for ``grace_s`` after it was stored: the time a caller has to commit its reference. The lock is a file lock; it
holds between processes. All file work runs in threads.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from refdesk.contracts.errors import NotFound

PIECE_BYTES = 256 * 1024
"""How much is read or written at once."""

SWEEP_BATCH = 500

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
        return await asyncio.to_thread(self._file.read, PIECE_BYTES)


class Blobs:
    """A directory of blobs. Several processes may share it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"

    async def put(self, file: BinaryIO) -> Stored:
        """Store what is left to read of ``file``. On return the bytes are on disk, and safe from the sweep's grace."""
        return await asyncio.to_thread(self._put, file)

    async def open(self, sha256: str) -> OpenBlob:
        """Raises BlobMissing."""
        return OpenBlob(await asyncio.to_thread(self._open, sha256))

    async def sweep(self, unreferenced: Unreferenced, *, grace_s: float) -> int:
        """Remove blobs that nobody references and nobody stored within ``grace_s``; returns how many.

        ``unreferenced`` gets at most SWEEP_BATCH names and returns those that may go.
        """
        await asyncio.to_thread(self._remove_abandoned, grace_s)
        removed = 0
        old = self._old_names(grace_s)
        while batch := await asyncio.to_thread(_take, old, SWEEP_BATCH):
            removed += await asyncio.to_thread(self._remove, await unreferenced(batch), grace_s)
        return removed

    def _path(self, sha256: str) -> Path:
        return self._directory / sha256[:2] / sha256[2:4] / sha256

    def _open(self, sha256: str) -> BinaryIO:
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError as error:
            raise BlobMissing(
                f"The content {sha256} is not in the blob directory. Upload the document again."
            ) from error

    def _put(self, file: BinaryIO) -> Stored:
        self._incoming.mkdir(parents=True, exist_ok=True)
        temporary = self._incoming / os.urandom(16).hex()
        try:
            stored = _copy(file, temporary)
            self._settle(temporary, self._path(stored.sha256))
        finally:
            temporary.unlink(missing_ok=True)
        return stored

    def _settle(self, temporary: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_SH):
            if place.exists():
                os.utime(place)
            else:
                temporary.replace(place)
        _flush_directories(place.parent, self._directory)

    @contextlib.contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        with (self._directory / ".lock").open("ab") as lock:
            fcntl.flock(lock, mode)
            yield

    def _old_names(self, grace_s: float) -> Iterator[str]:
        for path in self._directory.glob("??/??/*"):
            if _is_older(path, grace_s):
                yield path.name

    def _remove(self, names: set[str], grace_s: float) -> int:
        removed = 0
        for name in names:
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
        while piece := source.read(PIECE_BYTES):
            digest.update(piece)
            target.write(piece)
            total += len(piece)
        target.flush()
        os.fsync(target.fileno())
    return Stored(sha256=digest.hexdigest(), bytes=total)


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
