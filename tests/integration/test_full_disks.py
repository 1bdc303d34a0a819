"""Uploads meet full disks: told as such, nothing of them stays, and the next one is taken once there is room."""

import io
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.chaos import faults
from tests.integration.documents_desk import Desk, Reply, open_desk

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")

DISK_BYTES = 4 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one."""
    faults.mount(tmp_path / "disk", size=DISK_BYTES)
    yield tmp_path / "disk"
    faults.unmount(tmp_path / "disk")


@pytest.fixture
async def desk(fresh_database: str, disk: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, disk / "content") as desk:
        yield desk


async def upload(desk: Desk, size: int) -> Reply:
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(os.urandom(size // 2).hex().encode()), filename="text.txt")
    return await desk.call("POST", data=form)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


async def test_a_full_content_directory_is_told(desk: Desk) -> None:
    """What was half written is gone; a smaller one still fits."""
    reply = await upload(desk, 2 * DISK_BYTES)
    assert (reply.status, reply.json["type"], reply.json["retryable"]) == (507, "insufficient-storage", True)
    assert int(reply.headers["Retry-After"]) >= 1
    assert files(desk.directory) == []
    assert (await upload(desk, 1 << 10)).status == 201


async def test_a_full_directory_for_temporary_files_is_told(
    fresh_database: str, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a form's file waits until it is whole."""
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    async with open_desk(fresh_database, tmp_path / "content") as desk:
        reply = await upload(desk, 2 * DISK_BYTES)
        assert (reply.status, reply.json["type"]) == (507, "insufficient-storage")
        assert files(disk) == []
        assert (await upload(desk, 1 << 10)).status == 201
