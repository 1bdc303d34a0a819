"""Pages of PDFs as they look: drawn in fenced processes, for whoever may read them, with what was cited found on them."""

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.documents_desk import ALICE, STRANGER, Desk, authenticate, key, open_desk, serving
from tests.support.pdfs import pdf

from refdesk.app.services.page_drawing import open_drawing
from refdesk.documents.look_routes import LookRoutes
from refdesk.documents.looks import Drawing, Looks
from refdesk.settings.documents import PageImages
from refdesk.settings.tree import Settings
from refdesk.web.http import create_app

FACT = "The lighthouse was painted white in 1987 by the keeper."
PAGE = [(60.0, 700.0, "Another line, above."), (60.0, 640.0, FACT[:32]), (60.0, 626.0, FACT[33:])]
SETTINGS = Settings.of(page_image_pixels_max=300_000)


class Pages:
    def __init__(self, desk: Desk, url: str, drawn: list[int]) -> None:
        self.desk = desk
        self.drawn = drawn
        """The pages that were drawn, so far."""
        self._url = url

    async def get(self, path: str, *, by: Any = ALICE, **headers: str) -> tuple[int, Any, bytes]:
        address = f"{self._url}/api/documents/{path}"
        async with self.desk.session.get(address, headers={**key(by), **headers}) as reply:
            return reply.status, reply.headers, await reply.read()

    async def upload(self, name: str, content: bytes) -> str:
        form = aiohttp.FormData({"readers": "hr"})
        form.add_field("file", content, filename=name)
        reply = await self.desk.call("POST", data=form)
        assert reply.status == 201, reply.body
        return str(reply.json["id"])


@pytest.fixture
async def pages(fresh_database: str, tmp_path: Path) -> AsyncIterator[Pages]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk, open_drawing(SETTINGS) as real:
        drawn = list[int]()

        async def draw(content: bytes, page: int, width: int) -> bytes:
            drawn.append(page)
            return await real.draw(content, page, width)

        limits = PageImages(cache_bytes_max=1 << 20, at_once=1, waiting_max=8)
        looks = Looks(desk.service, Drawing(draw=draw, find=real.find, read=real.read), limits=limits)
        app = create_app(LookRoutes(looks, width_max=2000).endpoints(), authenticate=authenticate)
        async with serving(app) as url:
            yield Pages(desk, url, drawn)


def size(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def dark(png: bytes) -> int:
    """Pixels that are not nearly white; the image is RGB, without filters."""
    width, height = size(png)
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        data += png[at + 8 : at + 8 + length] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    rows = zlib.decompress(data)
    stride = 1 + 3 * width
    return sum(value < 200 for row in range(height) for value in rows[row * stride + 1 : (row + 1) * stride : 3])


async def test_a_page_is_drawn_once_and_kept(pages: Pages) -> None:
    """As wide as was asked for; whoever has it already is told so."""
    document = await pages.upload("tower.pdf", pdf(PAGE, [(60.0, 700.0, "Second.")]))
    replies = await asyncio.gather(*(pages.get(f"{document}/pages/1.png?width=300") for _ in range(3)))
    status, headers, png = replies[0]
    assert status == 200, png
    assert (headers["Content-Type"], size(png)) == ("image/png", (300, 400))
    assert 100 < dark(png) < 300 * 400 / 10
    assert {reply[2] for reply in replies} == {png} and pages.drawn == [1]
    assert (await pages.get(f"{document}/pages/1.png?width=300", **{"If-None-Match": headers["ETag"]}))[0] == 304
    assert (await pages.get(f"{document}/pages/2.png?width=300"))[2] != png
    assert pages.drawn == [1, 2]


async def test_a_text_is_found_where_it_stands(pages: Pages) -> None:
    """A rectangle for each of its lines, also where the text has other spaces; none for what is not there."""
    document = await pages.upload("tower.pdf", pdf(PAGE))

    async def marks(text: str) -> list[dict[str, float]]:
        status, _, body = await pages.get(f"{document}/pages/1/marks?text={text.replace(' ', '+')}")
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return list(found["marks"])

    first, second = await marks(FACT.replace(" ", "  "))
    assert first["left"] == second["left"] == pytest.approx(0.1, abs=0.005)
    assert [round(one["top"] * 800) for one in (first, second)] == pytest.approx([151, 165], abs=3)
    assert all(8 < one["height"] * 800 < 14 for one in (first, second))
    assert len(await marks("Another line")) == 1
    assert len(await marks(f"{FACT} and what is not on this page at all")) == 2  # by its beginning
    assert await marks("nowhere on this page") == [] and await marks("") == []


async def test_pages_are_for_whoever_may_read_the_document(pages: Pages) -> None:
    """To anybody else it looks like one that never was."""
    document = await pages.upload("tower.pdf", pdf(PAGE))
    missing = await pages.get(f"{'0' * 32}/pages/1.png", by=STRANGER)
    foreign = await pages.get(f"{document}/pages/1.png", by=STRANGER)
    assert (foreign[0], foreign[2]) == (missing[0], missing[2]) and foreign[0] == 404
    assert (await pages.get(f"{document}/pages/1/marks?text=line", by=STRANGER))[0] == 404
    assert pages.drawn == []


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        ("2.png", 404),
        ("0.png", 404),
        ("x.png", 404),
        ("99999999999999999999.png", 404),
        ("1.png?width=1", 422),
        ("1.png?width=2001", 422),
        ("1.png?version=7", 409),
        ("2/marks?text=line", 404),
        ("1/marks?text=" + "a" * 2001, 422),
    ],
)
async def test_what_is_not_there_or_too_much_is_refused(pages: Pages, rest: str, status: int) -> None:
    """With a sentence."""
    document = await pages.upload("tower.pdf", pdf(PAGE))
    assert (await pages.get(f"{document}/pages/{rest}"))[0] == status


async def test_a_large_page_is_drawn_with_fewer_pixels(pages: Pages) -> None:
    """Below the ceiling, whatever its size."""
    document = await pages.upload("poster.pdf", pdf(PAGE))
    _, _, png = await pages.get(f"{document}/pages/1.png?width=2000")
    width, height = size(png)
    assert 280_000 < width * height <= 301_500


async def test_a_hostile_file_is_refused_and_the_next_one_drawn(pages: Pages) -> None:
    """It takes at most its own process along; a text has no pages."""
    broken = await pages.upload("broken.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 40)
    text = await pages.upload("text.md", b"# Text")
    fine = await pages.upload("fine.pdf", pdf(PAGE))
    assert (await pages.get(f"{broken}/pages/1.png"))[0] == 404
    assert (await pages.get(f"{text}/pages/1.png"))[0] == 404
    assert (await pages.get(f"{fine}/pages/1.png"))[0] == 200
