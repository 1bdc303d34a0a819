"""The examples of docs/howto/clients.md, run as they stand there: with curl, Python and Node, and other people's packages."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.support.desk import LEAVE, AnswerDesk, Here, own_desk
from tests.support.scripted_llm import ANSWER

from refdesk.app.embedded.stack import StackUrls

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "clients.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RUN_S_MAX = 60
NPM_S_MAX = 240


def examples(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=7) as desk:
        await desk.add("Leave", LEAVE, tags=["hr"])
        await desk.add("Canteen", "The canteen serves lunch from noon until two o'clock.")
        yield desk


async def run(here: Here, *command: str, folder: Path, within_s: float = RUN_S_MAX) -> str:
    """What the command prints; it ends well."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REFDESK_", "OPENAI_"))}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=kept | {"REFDESK_URL": here.url, "REFDESK_API_KEY": "asker"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(within_s):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def test_the_page_has_an_example_for_everybody() -> None:
    """And every block of it is one that is run below."""
    assert [kind for kind, _ in BLOCKS] == ["sh"] * 4 + ["python"] * 4 + ["js", "json"]


@pytest.mark.parametrize("number", range(1, 4))
async def test_an_example_with_curl(here: Here, tmp_path: Path, number: int) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    said = await run(here, "sh", "-c", examples("sh")[number], folder=tmp_path)
    assert ("thirty days" if number == 3 else "Thirty") in said


@pytest.mark.parametrize("number", range(4))
async def test_an_example_in_python(here: Here, tmp_path: Path, number: int) -> None:
    said = await run(here, sys.executable, "-c", examples("python")[number], folder=tmp_path)
    assert ANSWER in said
    if number == 1:
        assert f"Leave {here.url}/#document/" in said
    if number == 2:
        assert "2 vectors of 384 dimensions" in said


async def test_the_example_in_javascript(here: Here, tmp_path: Path) -> None:
    """With the package as npm has it now."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node: OpenAI's JavaScript client is not tried")
    install = ("npm", "install", "--no-audit", "--no-fund", "--silent", "openai")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    try:
        await run(here, *install, folder=tmp_path, within_s=NPM_S_MAX)
    except AssertionError as error:
        pytest.skip(f"npm cannot install openai: OpenAI's JavaScript client is not tried ({error})")
    (tmp_path / "example.js").write_text(examples("js")[0])
    said = await run(here, "node", "example.js", folder=tmp_path)
    assert ANSWER in said
    assert "2 vectors" in said


async def test_the_configuration_leads_to_the_door(here: Here) -> None:
    """Its address and header, with this desk's own in their places."""
    server = msgspec.json.decode(examples("json")[0])["mcpServers"]["refdesk"]
    url = server["url"].replace("http://127.0.0.1:8080", here.url)
    headers = {name: value.replace("rdk_…", "asker") for name, value in server["headers"].items()}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}
    async with here.session.post(url, json=body, headers=headers | accept) as response:
        assert response.status == 200
        assert "search_documents" in await response.text()
