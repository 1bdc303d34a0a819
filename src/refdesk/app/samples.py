"""The sample handbook: what a first start has to show."""

import asyncio
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from urllib.parse import quote

import aiohttp
import msgspec

from refdesk.contracts.errors import Unavailable

EXTERNAL_ID_PREFIX = "sample:"
TAG = "sample"
MARK = "samples-loaded"
SEARCHABLE_TIMEOUT_S = 60.0
LOOK_AGAIN_S = 0.2


def is_loaded(data_dir: Path) -> bool:
    """Whether a first start on this data directory has loaded the handbook."""
    return (data_dir / MARK).exists()


def mark_loaded(data_dir: Path) -> None:
    (data_dir / MARK).touch()


def examples(data_dir: Path) -> list[str]:
    """Questions to begin with: none when the handbook is not there to answer them."""
    file = resources.files("refdesk") / "samples" / "examples.json"
    return msgspec.json.decode(file.read_bytes(), type=list[str]) if is_loaded(data_dir) else []


def documents() -> list[tuple[str, bytes]]:
    """Each sample's path inside the handbook, and its content."""
    return sorted(_below(resources.files("refdesk") / "samples" / "handbook", ""))


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry.read_bytes()


async def load(url: str, *, operator_key: str) -> int:
    """Uploads every sample to the Document Service at ``url`` and waits until they are searchable; returns how many.

    Repeating it changes nothing. Raises Unavailable when one is not taken or they take too long.
    """
    found = documents()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator_key}"}) as session:
        for path, content in found:
            form = aiohttp.FormData({"tags": TAG}, quote_fields=False)
            form.add_field("file", content, filename=path.rpartition("/")[2])
            address = f"{url}/api/documents/by-external-id/{quote(EXTERNAL_ID_PREFIX + path, safe='')}"
            async with session.put(address, data=form) as response:
                if response.status >= 300:
                    raise Unavailable(f"The sample {path} was not taken: {await response.text()}")
        await _wait_until_indexed(session, url)
    return len(found)


async def _wait_until_indexed(session: aiohttp.ClientSession, url: str) -> None:
    try:
        async with asyncio.timeout(SEARCHABLE_TIMEOUT_S):
            while True:
                async with session.get(f"{url}/api/documents/backlog") as response:
                    if (await response.json())["documents_pending"] == 0:
                        return
                await asyncio.sleep(LOOK_AGAIN_S)
    except TimeoutError as error:
        raise Unavailable(f"They are not all searchable after {SEARCHABLE_TIMEOUT_S:g} s; indexing goes on.") from error
