"""`after` tells nothing of a document that one may not read: neither that it is there, nor its version."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from tests.support.desk import LEAVE, AnswerDesk, Here, own_desk

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal

OUTSIDER = Principal(id="oscar", groups=("sales",))
INSIDER = Principal(id="ines", groups=("hr",))
ADMINISTRATOR = Principal(id="ada", groups=("administrators",))
QUESTION = "How many days of paid leave do employees have?"
WAIT_S = 0.3


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=12) as desk:
        desk.ids["there"] = await desk.add("Leave", LEAVE, readers=("hr",))
        desk.ids["closed since"] = await desk.add("Closed", LEAVE, readers=("hr", "sales"))
        await close(desk, desk.ids["closed since"])
        desk.ids["deleted"] = await desk.add("Deleted", LEAVE)
        await desk.documents.call("DELETE", f"/{desk.ids['deleted']}", by=ADMINISTRATOR)
        yield desk


async def close(desk: AnswerDesk, document_id: str) -> None:
    """In the Document Service; the index still shows it to those who could read it."""
    reply = await desk.documents.call("PUT", f"/{document_id}", by=ADMINISTRATOR, json={"readers": ["hr"]})
    assert reply.status == 200


Ask = Callable[[Here, Principal, str], Awaitable[tuple[Any, bytes]]]


async def answer(here: Here, by: Principal, token: str, *, accept: str = "*/*") -> tuple[Any, bytes]:
    asked = {"question": QUESTION, "after": [token], "wait_seconds": WAIT_S}
    async with here.client(by).call("POST", "/api/answers", json=asked, headers={"Accept": accept}) as response:
        return response.status, await response.read()


async def stream(here: Here, by: Principal, token: str) -> tuple[Any, bytes]:
    return await answer(here, by, token, accept="text/event-stream")


async def search(here: Here, by: Principal, token: str) -> tuple[Any, bytes]:
    asked = {"query": QUESTION, "after": [token], "wait_seconds": WAIT_S}
    async with here.client(by).call("POST", "/api/search", json=asked) as response:
        return response.status, await response.read()


async def socket(here: Here, by: Principal, token: str) -> tuple[Any, bytes]:
    headers = here.client(by).headers
    async with here.session.ws_connect(f"{here.url}/api/answers/ws", headers=headers) as websocket:
        await websocket.send_json({"type": "ask", "question": QUESTION, "after": [token], "wait_seconds": WAIT_S})
        said = await websocket.receive_str()
        return msgspec.json.decode(said)["event"], said.encode()


@pytest.mark.parametrize("ask", [answer, stream, search, socket], ids=lambda ask: ask.__name__)
async def test_what_may_not_be_read_looks_like_what_never_was(here: Here, desk: AnswerDesk, ask: Ask) -> None:
    """The same bytes but for the token itself, after the same wait; whatever version is asked for."""
    clock = asyncio.get_running_loop().time
    tokens = [f"{'0' * 32}@1"]
    tokens += [f"{desk.ids[name]}@{version}" for name in desk.ids for version in (1, 2, 999)]
    told = set()
    for token in tokens:
        asked_at = clock()
        status, body = await ask(here, OUTSIDER, token)
        assert clock() - asked_at >= WAIT_S, token
        document_id, _, version = token.partition("@")
        told.add((status, body.replace(document_id.encode(), b"ID").replace(b"@" + version.encode(), b"@N")))
    assert len(told) == 1, told
    assert b"not-yet-searchable" in told.pop()[1]


async def test_who_may_read_it_is_answered(here: Here, desk: AnswerDesk) -> None:
    """At once, where the version is searchable."""
    status, body = await search(here, INSIDER, f"{desk.ids['there']}@1")
    assert status == 200 and desk.ids["there"] in body.decode()
    assert (await search(here, ADMINISTRATOR, f"{desk.ids['there']}@1"))[0] == 200
