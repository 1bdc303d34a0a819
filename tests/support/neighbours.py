"""Requests of an ordinary writer that carry a text which is hard to read: one for every place where a text may come in."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle, islice
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from tests.support.growth import pumped
from tests.support.pumps import PUMPS

JSON = "application/json"
REQUEST_S_MAX = 60.0
FORMATS = "md html txt csv json xml rst ipynb yaml eml rtf tex".split()
CONTAINERS = {
    "pdf": b"%PDF-1.7\n",
    "docx": b"PK\x03\x04",
    "doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "png": b"\x89PNG\r\n",
}
ADDRESS_CHARACTERS_MAX = 1 << 13
"""A longer one is refused before it is read."""
SEED = 20261130

Send = Callable[["Sender", str], Awaitable[int]]


@dataclass
class Sender:
    """Someone with a key. Each request is a status below 500, or a refusal in the middle of too long a request."""

    session: aiohttp.ClientSession
    url: str
    headers: dict[str, str]

    async def call(self, method: str, path: str, body: bytes = b"", *, kind: str = JSON) -> int:
        headers = {**self.headers, "Content-Type": kind}
        async with self.session.request(method, self.url + path, headers=headers, data=BytesIO(body)) as response:
            await response.read()
            return response.status

    async def json(self, method: str, path: str, value: Any) -> int:
        return await self.call(method, path, msgspec.json.encode(value))

    async def upload(self, content: bytes, *, filename: str = "neighbour", kind: str = "text/plain") -> int:
        form = aiohttp.FormData()
        form.add_field("file", BytesIO(content), filename=filename, content_type=kind)
        path = self.url + "/api/documents"
        async with self.session.post(path, headers=self.headers, data=form) as response:
            return response.status

    async def say(self, *messages: str) -> int:
        """On a socket, until it answers or ends."""
        async with self.session.ws_connect(f"{self.url}/api/answers/ws", headers=self.headers) as socket:
            for message in messages:
                await socket.send_str(message)
                await socket.receive()
        return 101


def _json(method: str, path: str, field: str, *, listed: bool = False, **others: Any) -> Send:
    async def send(sender: Sender, text: str) -> int:
        return await sender.json(method, path, {**others, field: [text] if listed else text})

    return send


def _file(suffix: str, magic: bytes = b"") -> Send:
    async def send(sender: Sender, text: str) -> int:
        return await sender.upload(
            magic + _encoded(text), filename=f"neighbour.{suffix}", kind="application/octet-stream"
        )

    return send


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _in_address(path: str, *, method: str = "GET", body: bytes = b"") -> Send:
    async def send(sender: Sender, text: str) -> int:
        return await sender.call(method, path + quote(text[:ADDRESS_CHARACTERS_MAX], safe=""), body)

    return send


async def _plain(sender: Sender, text: str) -> int:
    return await sender.upload(_encoded(text))


async def _filename(sender: Sender, text: str) -> int:
    return await sender.upload(b"# A file", filename=text + ".md")


async def _broken_form(sender: Sender, text: str) -> int:
    return await sender.call(
        "POST", "/api/documents", b"--b\r\n" + _encoded(text), kind="multipart/form-data; boundary=b"
    )


async def _broken_json(sender: Sender, text: str) -> int:
    return await sender.call("POST", "/api/answers", _encoded(text))


async def _message(sender: Sender, text: str) -> int:
    return await sender.say(text.encode("utf-8", "replace").decode())


async def _many_tags(sender: Sender, text: str) -> int:
    return await sender.json("POST", "/api/documents", {"title": "a", "text": "b", "tags": list(text)})


NOTE = {"title": "A note", "text": "The bell is rung at noon."}
WAYS: dict[str, Send] = {
    "a file without a name that says what it is": _plain,
    **{f"a .{suffix} file": _file(suffix) for suffix in FORMATS},
    **{f"a .{suffix} file that begins like one": _file(suffix, magic) for suffix, magic in CONTAINERS.items()},
    "a text": _json("POST", "/api/documents", "text", title="A note"),
    "a plain text": _json("POST", "/api/documents", "text", title="A note", media_type="text/plain"),
    "a title": _json("POST", "/api/documents", "title", text="The bell is rung at noon."),
    "a media type": _json("POST", "/api/documents", "media_type", **NOTE),
    "an address": _json("POST", "/api/documents", "url", **NOTE),
    "an external id": _json("POST", "/api/documents", "external_id", **NOTE),
    "a reader": _json("POST", "/api/documents", "readers", listed=True, **NOTE),
    "a tag": _json("POST", "/api/documents", "tags", listed=True, **NOTE),
    "many tags": _many_tags,
    "a file's name": _filename,
    "a broken form": _broken_form,
    "broken JSON": _broken_json,
    "a question": _json("POST", "/api/answers", "question"),
    "a conversation": _json("POST", "/api/answers", "conversation_id", question="When is the bell rung?"),
    "a token in a question": _json("POST", "/api/answers", "after", listed=True, question="When is the bell rung?"),
    "a search": _json("POST", "/api/search", "query"),
    "a token in a search": _json("POST", "/api/search", "after", listed=True, query="bell"),
    "a message": _message,
    "a name in the address": _in_address(
        "/api/documents/by-external-id/", method="PUT", body=msgspec.json.encode(NOTE)
    ),
    "a prefix of names": _in_address("/api/documents/by-external-id?prefix="),
    "a part of a title": _in_address("/api/documents?title_part="),
    "a cursor": _in_address("/api/documents?cursor="),
}


@dataclass(frozen=True)
class Neighbour:
    """One request: what is repeated, to which length, in which place."""

    pump: str
    characters: int
    way: str

    async def send(self, sender: Sender) -> int:
        """The status; raises when there is none in time."""
        text = pumped(self.pump)(self.characters)
        async with asyncio.timeout(REQUEST_S_MAX):
            with contextlib.suppress(aiohttp.ClientConnectionError):
                return await WAYS[self.way](sender, text)
        return 0


def neighbours(count: int, *, sizes: tuple[int, ...]) -> Iterator[Neighbour]:
    """So many, each in another place and with another text than the one before; a place has another size each time."""
    chance = random.Random(SEED)
    ways, pumps = (chance.sample(every, len(every)) for every in (list(WAYS), PUMPS))
    for number, (way, pump) in enumerate(islice(zip(cycle(ways), cycle(pumps), strict=False), count)):
        yield Neighbour(pump, sizes[(number + number // len(ways)) % len(sizes)], way)
