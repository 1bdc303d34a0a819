"""Uploads are bounded while they are read, and leave nothing behind when they are refused."""

import asyncio
import io
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.integration.documents_desk import ADMINISTRATOR, ALICE, EDITOR, Desk, eventually, key, open_desk
from tests.support.patience import within

from refdesk.documents.changes import Limits
from refdesk.settings.documents import UploadLimits

LIMIT = 300_000


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    limits = Limits(upload_bytes_max=LIMIT, text_bytes_max=LIMIT)
    async with open_desk(fresh_database, tmp_path / "blobs", limits=limits) as desk:
        yield desk


def form(content: bytes) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("file", io.BytesIO(content), filename="a.md")
    return data


async def test_an_upload_at_the_limit_is_taken(desk: Desk) -> None:
    """The limit is inclusive, and counts the file, not the form around it."""
    reply = await desk.call("POST", data=form(b"x" * LIMIT))
    assert (reply.status, reply.json["content_bytes"]) == (201, LIMIT)


@pytest.mark.parametrize("over", [1, 100_000, 5_000_000])
async def test_a_larger_upload_is_refused_with_limit_and_actual(desk: Desk, over: int) -> None:
    """413 names both numbers and the setting."""
    reply = await desk.call("POST", data=form(b"x" * (LIMIT + over)))
    assert (reply.status, reply.json["type"], reply.json["limit"]) == (413, "body-too-large", LIMIT)
    assert reply.json["actual"] >= LIMIT + over
    assert "REFDESK_UPLOAD_BYTES_MAX" in reply.json["detail"]
    assert not list(desk.directory.glob("*/*/*"))


async def test_what_one_principal_uploads_is_bounded(fresh_database: str, tmp_path: Path) -> None:
    """429 with the limit, what there was, and when to go on; others and administrators are not touched."""
    uploads = UploadLimits(at_once=2, per_minute=2, bytes_per_day=LIMIT)
    async with open_desk(fresh_database, tmp_path / "blobs", uploads=uploads) as desk:
        replies = [await desk.call("POST", json={"title": "A", "text": f"{number}"}) for number in range(3)]
        assert [reply.status for reply in replies] == [201, 201, 429]
        assert (replies[2].json["type"], replies[2].json["limit"], replies[2].json["actual"]) == ("rate-limited", 2, 2)
        assert 1 <= replies[2].json["retry_after"] <= 60
        reply = await desk.call("POST", data=form(b"x" * LIMIT), by=EDITOR)
        assert (reply.status, "REFDESK_UPLOAD_BYTES_PER_DAY_MAX" in reply.json["detail"]) == (429, True)
        for number in range(5):
            body = {"title": "A", "text": f"{number}"}
            assert (await desk.call("POST", json=body, by=ADMINISTRATOR)).status == 201


FILE_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\n\r\n'


async def test_an_endless_upload_is_cut_off(desk: Desk) -> None:
    """A chunked body without a length is refused at the first piece too many, not read to its end."""
    async with chunked_upload(desk) as (reader, writer):
        writer.write(chunk(FILE_PART))
        status, problem = await send_until_refused(writer, reader, b"x" * 65536)
    assert (status, problem["limit"]) == (413, LIMIT)
    assert LIMIT < problem["actual"] <= LIMIT + (1 << 20)


async def test_a_form_of_countless_parts_is_refused_at_one_too_many(desk: Desk) -> None:
    """Long before its 100,000 parts have been read."""
    part = b'--b\r\nContent-Disposition: form-data; name="tags"\r\n\r\nx\r\n'
    async with chunked_upload(desk) as (reader, writer):
        status, problem = await send_until_refused(writer, reader, part * 100_000, pieces_max=1)
    assert status == 422
    assert "Too many fields" in problem["detail"]


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (Limits(upload_pause_s_max=0.3), "REFDESK_UPLOAD_PAUSE_SECONDS_MAX"),
        (Limits(upload_s_max=0.3), "REFDESK_UPLOAD_SECONDS_MAX"),
    ],
)
async def test_an_upload_that_drips_is_ended(fresh_database: str, tmp_path: Path, limits: Limits, setting: str) -> None:
    """408, whether it stands still or goes on for ever; nothing is left of it."""
    async with open_desk(fresh_database, tmp_path / "slow", limits=limits) as desk:
        async with chunked_upload(desk) as (reader, writer):
            writer.write(chunk(FILE_PART))
            drop = b"" if limits.upload_pause_s_max < 1 else b"x"
            status, problem = await send_until_refused(writer, reader, drop)
        assert (status, problem["type"]) == (408, "upload-too-slow")
        assert setting in problem["detail"]
        assert (await desk.call("GET")).json["documents"] == []


@asynccontextmanager
async def chunked_upload(desk: Desk) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which a form without a length has begun."""
    place = urlsplit(desk.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"POST /api/documents HTTP/1.1\r\nHost: x\r\nAuthorization: {key(ALICE)['Authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    writer.write(head.encode())
    try:
        yield reader, writer
    finally:
        writer.close()


async def send_until_refused(
    writer: asyncio.StreamWriter, reader: asyncio.StreamReader, piece: bytes, *, pieces_max: int = 1_000_000
) -> tuple[int, dict[str, Any]]:
    """Send the piece over and over (an empty one: nothing) until there is an answer: its status and body."""
    answer = asyncio.create_task(_answer(reader))
    async with within(20):
        for _ in range(pieces_max if piece else 0):
            if answer.done():
                break
            writer.write(chunk(piece))
            await asyncio.wait([answer, asyncio.ensure_future(writer.drain())], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        return await answer


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None
    return int(head.split()[1]), json.loads(await reader.readexactly(int(length[1])))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_a_json_text_has_its_own_limit(desk: Desk) -> None:
    """413, and the advice to upload a file."""
    reply = await desk.call("POST", json={"title": "T", "text": "x" * (LIMIT + 1)})
    assert (reply.status, reply.json["limit"]) == (413, LIMIT)
    assert "file" in reply.json["detail"]


async def test_a_client_that_leaves_while_uploading_leaves_nothing(desk: Desk) -> None:
    """No document, no blob, no temporary file."""
    place = urlsplit(desk.url)
    _, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"POST /api/documents HTTP/1.1\r\nHost: x\r\nAuthorization: {key(ALICE)['Authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\n\r\nhalf'
    )
    writer.write(head.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await desk.call("GET")).json["documents"] == []
    assert not [path for path in desk.directory.rglob("*") if path.is_file() and path.name != ".lock"]


async def test_a_truncated_form_is_refused(desk: Desk) -> None:
    """A file part that was never finished is no file."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\n\r\nhalf'
    reply = await desk.call("POST", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert reply.status == 422


async def test_an_upload_nobody_may_make_is_refused_before_it_is_read(desk: Desk) -> None:
    """A PUT to a document that is not there answers 404 although its body never comes."""
    place = urlsplit(desk.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"PUT /api/documents/{'0' * 32} HTTP/1.1\r\nHost: x\r\nAuthorization: {key(ALICE)['Authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n"
    )
    writer.write(head.encode())
    async with within(10):
        assert b"404" in await reader.readline()
    writer.close()


async def test_unreferenced_content_is_swept(desk: Desk) -> None:
    """What was replaced goes after the grace; what is current stays, and so does what is shared."""
    kept, dropped = await desk.add("Kept"), await desk.add("Dropped")
    await desk.call("DELETE", f"/{dropped['id']}")
    assert await desk.service.contents.sweep(grace_s=3600) == 0
    assert await desk.service.contents.sweep(grace_s=-1) == 1
    assert (await desk.call("GET", f"/{kept['id']}/content")).status == 200
    assert await desk.service.contents.sweep(grace_s=-1) == 0


async def test_the_contents_of_the_last_versions_are_kept(fresh_database: str, tmp_path: Path) -> None:
    """As many as the limit says, the current one included; of deleted documents none."""
    async with open_desk(fresh_database, tmp_path / "few", limits=Limits(versions_kept=2)) as desk:
        document = await desk.add()
        for number in range(3):
            await desk.call("PUT", f"/{document['id']}", json={"text": f"Version {number}."})
        assert await desk.service.contents.sweep(grace_s=-1) == 2
        assert await desk.service.contents.sweep(grace_s=-1) == 0
        await desk.call("DELETE", f"/{document['id']}")
        assert await desk.service.contents.sweep(grace_s=-1) == 2


async def test_uploads_and_sweeps_at_once_lose_nothing(desk: Desk) -> None:
    """The same bytes are stored, dropped and swept over and over; a committed document always has its content."""

    grace_s = 1.5  # more than an upload takes, on a slow machine, too

    async def sweep_on(stop: asyncio.Event) -> None:
        while not stop.is_set():
            await desk.service.contents.sweep(grace_s=grace_s)

    stop, began = asyncio.Event(), time.monotonic()
    sweeping = asyncio.create_task(sweep_on(stop))
    while time.monotonic() - began < 2 * grace_s:
        document = await desk.add("Same")
        assert (await desk.call("GET", f"/{document['id']}/content")).status == 200
        await desk.call("DELETE", f"/{document['id']}")
    stop.set()
    await sweeping
    await eventually(lambda: desk.service.contents.sweep(grace_s=-1))
