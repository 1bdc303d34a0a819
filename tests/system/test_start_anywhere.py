"""A desk starts wherever it is put, and serves below whatever path its proxy has for it."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.support.prefix_proxy import proxied
from tests.support.running import Refdesk, free_port, running
from yarl import URL

PREFIX = "/team/desk"
FOLDER = "Žofie – Übung 机 'x' %20"


@pytest.fixture(scope="module")
def proxy_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
async def odd_desk(tmp_path_factory: pytest.TempPathFactory, proxy_port: int) -> AsyncIterator[Refdesk]:
    """Its home and its data directory have names that no configuration file should have to spell."""
    home = tmp_path_factory.mktemp("odd") / FOLDER
    home.mkdir()
    public = f"http://127.0.0.1:{proxy_port}{PREFIX}/"
    async with running(home, "--no-samples", REFDESK_PUBLIC_URL=public) as refdesk:
        yield refdesk


async def test_a_desk_starts_in_a_folder_of_any_name(odd_desk: Refdesk, tmp_path: Path) -> None:
    """Documents go in, are found, and the commands find the desk."""
    file = tmp_path / "Schlüssel 钥匙.md"
    file.write_text("# Keys\n\nThe key to the Marlowe tower hangs behind the clock.\n", encoding="utf-8")
    said = await odd_desk.command("add", str(file), "--json")
    assert (said.code, said.last["indexed"]) == (0, 1), said.err
    [hit, *_] = await odd_desk.search("Where is the key to the Marlowe tower?")
    assert "behind the clock" in hit["passage"]
    assert (await odd_desk.command("status")).code == 0


async def test_files_of_any_name_are_added(odd_desk: Refdesk, tmp_path: Path) -> None:
    """Also where bytes of the name are no UTF-8: alone, and among others of its folder."""
    names = [b"latin1-\xe9t\xe9.md", b"two\nlines.md", b"half \xf0\x9f.txt", b"plain.md"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text(f"Tower {name.hex()} is painted green.")
    alone = await odd_desk.command("add", os.fsdecode(os.fsencode(tmp_path) + b"/" + names[0]), "--json")
    assert (alone.code, alone.last["indexed"], alone.last["failed"]) == (0, 1, []), alone.err
    said = await odd_desk.command("add", str(tmp_path), "--json")
    assert (said.code, said.last["indexed"], said.last["unchanged"]) == (0, len(names), 1), said.err
    [hit, *_] = await odd_desk.search(f"What colour is tower {names[0].hex()}?")
    assert hit["title"] == "latin1-été" and names[0].hex() in hit["passage"]


@pytest.mark.parametrize("strip", [False, True], ids=["passed on", "taken away"])
async def test_a_desk_serves_below_the_path_of_its_proxy(odd_desk: Refdesk, proxy_port: int, *, strip: bool) -> None:
    """The page's own addresses, those of new documents, and those of citations lead back to it."""
    async with (
        proxied(odd_desk.url, prefix=PREFIX, strip=strip, port=proxy_port) as origin,
        aiohttp.ClientSession(origin) as session,
    ):
        async with session.get(f"{PREFIX}/") as reply:
            page, address = await reply.text(), reply.url
        assert reply.status == 200
        for relative in re.findall(r'(?:src|href)="([^"#]+)"', page):
            async with session.get(address.join(URL(relative))) as reply:
                assert reply.status == 200, relative
        async with session.post(f"{PREFIX}/api/documents", json={"title": "Tide", "text": "The tide turns."}) as reply:
            location = reply.headers["Location"]
            document = await reply.json()
        assert location == f"{PREFIX}/api/documents/{document['id']}"
        async with session.get(location) as reply:
            assert reply.status == 200
        await odd_desk.settled(document)
        [hit, *_] = await odd_desk.search("When does the tide turn?", after=[document["freshness_token"]])
        assert hit["url"] == f"{origin}{PREFIX}/#document/{hit['document_id']}/0"
        await odd_desk.delete(document)


async def test_the_prefix_without_its_slash_leads_to_the_page(odd_desk: Refdesk) -> None:
    """Relative addresses would lead beside it."""
    async with odd_desk.open("GET", PREFIX, allow_redirects=False) as reply:
        assert (reply.status, reply.headers["Location"]) == (308, f"{PREFIX}/")
