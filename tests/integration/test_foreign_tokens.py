"""`after` tells nothing of a document that one may not read: neither that it is there, nor its version."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from tests.support.desk import LEAVE, AnswerDesk, Here, own_desk, until

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal

OUTSIDER = Principal(id="oscar", groups=("sales",))
INSIDER = Principal(id="ines", groups=("hr",))
ADMINISTRATOR = Principal(id="ada", groups=("administrators",))
QUESTION = "How many days of paid leave do employees have?"
WAIT_S = 0.3
NEVER = f"{'0' * 32}@1"
"""Of a document that never was."""


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
    tokens = [NEVER]
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


async def test_while_nobody_can_say_who_may_read_it_nobody_waits_for_it(desk: AnswerDesk) -> None:
    """The Document Service is away: 503 at once for who could read it until then; to others it still was never there."""
    public = await desk.add("Lunch", "Lunch is served at noon.")
    async with desk.assistant_here(documents_url="http://127.0.0.1:9", wait_seconds_max=120) as here:
        await until(lambda: _is_found(here, f"{public}@1"))  # the record is current
        body = {"question": QUESTION, "after": [f"{desk.ids['there']}@1"]}
        async with asyncio.timeout(60):
            status, _, refused = await here.client(INSIDER).json("POST", "/api/answers", json=body)
        assert (status, refused["type"]) == (503, "unavailable"), refused
        assert refused["detail"].startswith("Nobody can say now what you may read")
        assert (await search(here, OUTSIDER, f"{desk.ids['there']}@1"))[0] == 409


async def _is_found(here: Here, token: str) -> bool:
    return (await search(here, OUTSIDER, token))[0] == 200


# how many wait


async def test_a_question_that_waits_is_counted_first(desk: AnswerDesk) -> None:
    """Otherwise one that never ends well would never count."""
    async with desk.assistant_here(requests_per_minute_max=2) as here:
        asked = [await answer(here, Principal(id="paul"), NEVER) for _ in range(5)]  # perhaps in two minutes
    assert asked[0][0] == 409
    assert 429 in [status for status, _ in asked]


async def test_one_principal_has_so_many_waiting_and_no_more(desk: AnswerDesk) -> None:
    """Questions and searches together; what is searchable already does not wait, and others do not wait for them."""
    async with desk.assistant_here(waiting_for_documents_per_principal_max=1) as here:
        client = here.client(INSIDER)
        changed = await desk.change(await desk.add("Keys", "Keys are in the safe."), "Keys are at the porter's.")
        awaited = {"question": QUESTION, "after": [changed["freshness_token"]], "wait_seconds": 30}
        waiting = asyncio.create_task(client.json("POST", "/api/answers", json=awaited))
        await until(lambda: _is_refused(here))
        status, headers, refused = await client.json("POST", "/api/answers", json=awaited)
        assert (status, refused["type"], refused["limit"], refused["actual"]) == (429, "rate-limited", 1, 1)
        assert "REFDESK_WAITING_FOR_DOCUMENTS_PER_PRINCIPAL_MAX" in refused["detail"]
        assert int(headers["retry-after"]) >= 1
        assert (await search(here, INSIDER, f"{desk.ids['there']}@1"))[0] == 200
        assert (await search(here, OUTSIDER, NEVER))[0] == 409
        await desk.put_into_index(changed, "Keys are at the porter's.")
        assert (await waiting)[0] == 200
        assert (await search(here, INSIDER, NEVER))[0] == 409


async def _is_refused(here: Here) -> bool:
    """Looked at by a search that does not wait, and so takes no place from the question that does."""
    asked = {"query": QUESTION, "after": [NEVER], "wait_seconds": 0}
    return bool((await here.client(INSIDER).json("POST", "/api/search", json=asked))[0] == 429)
