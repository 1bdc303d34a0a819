"""Content-addressed files: whole or absent, safe from a sweep while somebody is about to refer to them."""

import hashlib
import io
import os
import time
from pathlib import Path

import pytest

from refdesk.contracts.errors import Unavailable
from refdesk.outside.blobs import PIECE_BYTES, BlobMissing, Blobs

HELLO = hashlib.sha256(b"hello").hexdigest()


def place(directory: Path, name: str) -> Path:
    return directory / name[:2] / name[2:4] / name


def age(path: Path, age_s: float) -> None:
    then = time.time() - age_s
    os.utime(path, (then, then))


async def test_bytes_come_back_under_their_hash(tmp_path: Path) -> None:
    """In pieces, however large."""
    data = os.urandom(PIECE_BYTES * 2 + 7)
    blobs = Blobs(tmp_path)
    stored = await blobs.put(io.BytesIO(data))
    assert (stored.sha256, stored.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    async with await blobs.open(stored.sha256) as blob:
        pieces = []
        while piece := await blob.read():
            pieces.append(piece)
    assert b"".join(pieces) == data
    assert place(tmp_path, stored.sha256).exists()


async def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """Half a file is never seen, under any name."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("gone")

    with pytest.raises(Unavailable, match="gone"):
        await Blobs(tmp_path).put(Broken())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_missing_blob_says_so(tmp_path: Path) -> None:
    """Its own error, so that a caller can look again."""
    with pytest.raises(BlobMissing):
        await Blobs(tmp_path).open(HELLO)


async def test_a_sweep_removes_what_is_old_and_unreferenced(tmp_path: Path) -> None:
    """Young ones and referenced ones stay; abandoned temporary files go."""
    blobs = Blobs(tmp_path)
    names = [(await blobs.put(io.BytesIO(text))).sha256 for text in (b"hello", b"kept", b"young")]
    for name in names[:2]:
        age(place(tmp_path, name), 100)
    abandoned = tmp_path / "incoming" / "abandoned"
    abandoned.write_bytes(b"half")
    age(abandoned, 100)

    async def unreferenced(candidates: list[str]) -> set[str]:
        assert sorted(candidates) == sorted(names[:2])
        return {HELLO}

    assert await blobs.sweep(unreferenced, grace_s=50) == 1
    assert [place(tmp_path, name).exists() for name in names] == [False, True, True]
    assert not abandoned.exists()


async def test_a_blob_stored_again_during_a_sweep_stays(tmp_path: Path) -> None:
    """The sweep asked, somebody stored the same bytes, the sweep comes to remove: it looks at the age again."""
    blobs = Blobs(tmp_path)
    await blobs.put(io.BytesIO(b"hello"))
    age(place(tmp_path, HELLO), 100)

    async def store_again(candidates: list[str]) -> set[str]:
        await blobs.put(io.BytesIO(b"hello"))
        return set(candidates)

    assert await blobs.sweep(store_again, grace_s=50) == 0
    assert place(tmp_path, HELLO).exists()


async def test_an_open_blob_outlives_its_removal(tmp_path: Path) -> None:
    """A reader finishes what it began."""
    blobs = Blobs(tmp_path)
    await blobs.put(io.BytesIO(b"hello"))
    async with await blobs.open(HELLO) as blob:
        place(tmp_path, HELLO).unlink()
        assert await blob.read() == b"hello"
