"""Everything that a caller can hold open at a desk with real keys, and how each of them ends.

The Document Service's addresses and the AI Service's are behind one door, as in `refdesk up`; keys are changed from elsewhere.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from starlette.requests import HTTPConnection

from refdesk.access.authentication import Authentication
from refdesk.access.keys import ApiKeys
from refdesk.access.permission import Permission
from refdesk.access.permissions import Permissions
from refdesk.app.services import assistant
from refdesk.app.services.common import open_keys
from refdesk.contracts.access import Principal
from refdesk.documents.contents import Contents
from refdesk.documents.feed import DocumentFeed
from refdesk.documents.quotas import UploadQuotas
from refdesk.documents.routes import endpoints
from refdesk.documents.service import DocumentService
from refdesk.outside.blobs import Blobs
from refdesk.web.http import create_app
from tests.integration.documents_desk import UNLIMITED, running, serving
from tests.support.desk import AnswerDesk, until
from tests.support.patience import within
from tests.support.scripted_llm import say

QUESTION = "How many days of paid leave do employees have?"
NEVER = "0" * 32 + "@1"
"""The freshness token of a document that never was."""
CONVERSATION = "a-talk"
END_S_MAX = 20.0
TRACE = "X-Trace"


@dataclass
class Door:
    """A desk with real keys. ``elsewhere`` changes them as another process would."""

    url: str
    desk: AnswerDesk
    elsewhere: ApiKeys
    session: aiohttp.ClientSession
    awaited: dict[str, asyncio.Event]
    """By the trace of a request: what is set once it is let in."""

    def traced(self, headers: dict[str, str], let_in: asyncio.Event) -> dict[str, str]:
        """These headers, for one request that is waited for."""
        trace = secrets.token_hex(8)
        self.awaited[trace] = let_in
        return {**headers, TRACE: trace}

    async def key(self, name: str, *groups: str, **rights: Any) -> dict[str, str]:
        """The header of a new key."""
        return {"Authorization": f"Bearer {(await self.elsewhere.create(name, groups, **rights)).key}"}

    def call(self, method: str, path: str, headers: dict[str, str], **request: Any) -> Any:
        return self.session.request(method, self.url + path, headers=headers, **request)

    async def json(self, method: str, path: str, headers: dict[str, str], **request: Any) -> tuple[int, Any]:
        async with self.call(method, path, headers, **request) as response:
            body = await response.read()
            return response.status, msgspec.json.decode(body) if body else None


@contextlib.asynccontextmanager
async def open_door(desk: AnswerDesk, *, silence_s_max: float = 4.0, **settings: Any) -> AsyncIterator[Door]:
    changed = desk.with_settings(**settings)
    url = changed.databases.access_url or ""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        keys = await enter(open_keys(changed))
        service = await enter(assistant.open_service(changed))
        store = desk.documents.store
        contents = Contents(Blobs(desk.documents.directory), store=store)
        documents = DocumentService(store, contents=contents, principal_named=keys.named)
        feed = DocumentFeed(store, database_url=desk.documents.database_url)
        permissions = Permissions(keys, database_url=url, silence_s_max=silence_s_max)
        awaited: dict[str, asyncio.Event] = {}

        def permit(connection: HTTPConnection, principal: Principal) -> Permission:
            permission = permissions(connection, principal)
            if trace := connection.headers.get(TRACE):
                awaited[trace].set()
            return permission

        app = create_app(
            [
                *endpoints(documents, feed=feed, check=desk.documents.check, quotas=UploadQuotas(UNLIMITED)),
                *service.endpoints,
                *service.sockets,
            ],
            authenticate=Authentication(keys, operator_key="the-operators-own-key"),
            permit=permit,
        )
        await enter(running(*service.background, feed.run, permissions.run))
        session = await enter(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield Door(await enter(serving(app)), desk, desk.keys, session, awaited)


@dataclass
class Opened:
    """Something that is open. ``ended`` is done when it has ended and tells how; ``heard`` is what came, and when."""

    ended: asyncio.Task[str]
    heard: list[tuple[float, Any]] = field(default_factory=list)

    async def ending(self) -> str:
        async with within(END_S_MAX):
            return await asyncio.shield(self.ended)


Reader = Callable[[list[tuple[float, Any]], asyncio.Event], Any]
"""Reads to the end, sets the event when it is open, and returns how it ended."""


@contextlib.asynccontextmanager
async def opened(read: Reader) -> AsyncIterator[Opened]:
    heard: list[tuple[float, Any]] = []
    is_open = asyncio.Event()
    task = asyncio.ensure_future(read(heard, is_open))
    try:
        async with within(END_S_MAX):
            await asyncio.wait({task, opening := asyncio.ensure_future(is_open.wait())}, return_when="FIRST_COMPLETED")
            opening.cancel()
        yield Opened(task, heard)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def kinds(door: Door, headers: dict[str, str]) -> dict[str, Reader]:
    """A reader of each kind of thing that can be open. The model's words must be held back by the test."""
    asked = {"question": QUESTION, "cache": "bypass"}
    stream = {**headers, "Accept": "text/event-stream"}
    waits = {"after": [NEVER], "wait_seconds": 30}

    def events(method: str, path: str, **request: Any) -> Reader:
        async def read(heard: list[tuple[float, Any]], is_open: asyncio.Event) -> str:
            async with door.call(method, path, stream, **request) as response:
                return await _read_events(response, heard, is_open)

        return read

    def reply(method: str, path: str, **request: Any) -> Reader:
        async def read(heard: list[tuple[float, Any]], is_open: asyncio.Event) -> str:
            status, body = await door.json(method, path, door.traced(headers, is_open), **request)
            return str(body["type"]) if status >= 400 else f"done {status}"

        return read

    async def resume(heard: list[tuple[float, Any]], is_open: asyncio.Event) -> str:
        async with door.call("POST", "/api/answers", stream, json=asked) as response:
            answer_id = ""
            async for line in response.content:
                if b"answer_id" in line:
                    answer_id = msgspec.json.decode(line.partition(b": ")[2])["answer_id"]
                    break
            async with door.call("GET", f"/api/answers/{answer_id}/events", headers) as again:
                return await _read_events(again, heard, is_open)

    async def socket(heard: list[tuple[float, Any]], is_open: asyncio.Event) -> str:
        async with door.session.ws_connect(f"{door.url}/api/answers/ws", headers=headers) as websocket:
            await websocket.send_json({"type": "ask", **asked})
            async for message in websocket:
                said = msgspec.json.decode(message.data)
                heard.append((asyncio.get_running_loop().time(), said["event"]))
                if said["event"] == "delta":
                    is_open.set()
            return f"{websocket.close_code}"

    async def upload(heard: list[tuple[float, Any]], is_open: asyncio.Event) -> str:
        async def body() -> AsyncIterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="slow.md"\r\n\r\n# Slow'
            is_open.set()
            await asyncio.Event().wait()

        form = {**headers, "Content-Type": "multipart/form-data; boundary=x"}
        async with door.call("POST", "/api/documents", form, data=body()) as response:
            return str(msgspec.json.decode(await response.read())["type"])

    async def completion(heard: list[tuple[float, Any]], is_open: asyncio.Event) -> str:
        anew = {"cache": "bypass"}
        chat = {
            "model": "refdesk",
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": True,
            "refdesk": anew,
        }
        last = ""
        async with door.call("POST", "/v1/chat/completions", headers, json=chat) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    said = msgspec.json.decode(line.removeprefix(b"data: "))
                    last = said["error"]["code"] if "error" in said else "a chunk"
                    heard.append((asyncio.get_running_loop().time(), last))
                    is_open.set()
        return "unauthenticated" if last == "invalid_api_key" else last

    async def agent(heard: list[tuple[float, Any]], is_open: asyncio.Event) -> str:
        asks = {"name": "ask", "arguments": {"question": f"{QUESTION} Tell an agent."}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": asks}
        mcp = {**headers, "Accept": "application/json, text/event-stream"}
        async with door.call("POST", "/mcp", mcp, json=call) as response:
            is_open.set()  # once its reply has begun, it has no words for why it ends
            text = await response.text()
        return str(msgspec.json.decode(text)["type"]) if response.status >= 400 else text or "ended"

    return {
        "a completion's stream": completion,
        "an agent's question": agent,
        "an answer's stream": events("POST", "/api/answers", json=asked),
        "a conversation": events("POST", "/api/answers", json={**asked, "conversation_id": CONVERSATION}),
        "a stream that goes on": resume,
        "an answer waited for": reply("POST", "/api/answers", json=asked),
        "a question that waits": reply("POST", "/api/answers", json={**asked, **waits}),
        "a search that waits": reply("POST", "/api/search", json={"query": QUESTION, **waits}),
        "a socket": socket,
        "a feed of documents": events("GET", "/api/documents/events"),
        "an upload": upload,
    }


async def _read_events(response: aiohttp.ClientResponse, heard: list[tuple[float, Any]], is_open: asyncio.Event) -> str:
    """The type of the problem that the stream ends with, or the name of its last event."""
    name, last, clock = "", "", asyncio.get_running_loop().time
    async for line in response.content:
        kind, _, value = line.rstrip(b"\n").partition(b": ")
        if kind == b"event":
            name = value.decode()
        elif kind == b"data":
            heard.append((clock(), name))
            last = msgspec.json.decode(value)["type"] if name == "error" else name
        if name == "delta" or line.startswith(b": watching"):
            is_open.set()
    return last


@contextlib.asynccontextmanager
async def everything_open(door: Door, headers: dict[str, str]) -> AsyncIterator[dict[str, Opened]]:
    """All kinds at once, while the model says two words and no more."""
    door.desk.llm.reset()
    door.desk.llm.default = say(gate=asyncio.Event(), gate_at=2)
    async with contextlib.AsyncExitStack() as stack:
        yield {kind: await stack.enter_async_context(opened(read)) for kind, read in kinds(door, headers).items()}


async def model_is_left(door: Door) -> None:
    """Returns when nobody waits for the model any more."""
    await until(lambda: door.desk.llm.open_calls == 0)
