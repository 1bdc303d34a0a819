"""MCP with the official client, on the real services, in both forms of the protocol; only the language model is scripted."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx2
import msgspec
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.support.desk import LEAVE, AnswerDesk, Here, own_desk
from tests.support.patience import within
from tests.support.scripted_llm import ANSWER, say

from refdesk.app.embedded.stack import StackUrls

QUESTION = "How many days of paid leave do employees have?"
MINUTES = "\n\n".join(f"Point {n} of the minutes is about matter {n}." for n in range(12))
Mode = Literal["legacy", "auto"]
MODES: tuple[Mode, ...] = ("legacy", "auto")
"""With the handshake of earlier revisions, and with what the client finds by itself: no session at all."""


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=6) as desk:
        desk.ids = {
            "leave": await desk.add("Leave", LEAVE, tags=["hr"]),
            "minutes": await desk.add("Minutes", MINUTES),
            "salaries": await desk.add(
                "Salaries", "The board's salary is a secret of seven figures.", readers=("board",)
            ),
        }
        yield desk


@contextlib.asynccontextmanager
async def agent(here: Here, *, key: str = "asker", mode: Mode = "auto") -> AsyncIterator[Client]:
    """The official client, with this key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{here.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def text_of(result: Any) -> str:
    [block] = result.content
    return str(block.text)


@pytest.mark.parametrize("mode", MODES)
async def test_the_tools_say_what_they_take_and_give(here: Here, mode: Mode) -> None:
    async with agent(here, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert tools.keys() == {"search_documents", "read_passage", "ask"}
    for tool in tools.values():
        assert tool.input_schema["type"] == "object" and tool.input_schema["required"]
        assert tool.output_schema is not None and tool.output_schema["type"] == "object"
        assert tool.annotations is not None and tool.annotations.read_only_hint


@pytest.mark.parametrize("mode", MODES)
async def test_an_agent_searches_and_reads_on(here: Here, desk: AnswerDesk, mode: Mode) -> None:
    """The client checks what comes against the tools' schemas."""
    async with agent(here, mode=mode) as client:
        found = await client.call_tool("search_documents", {"query": "Point 7 of the minutes", "limit": 3})
        assert found.structured_content is not None
        hit = next(hit for hit in found.structured_content["hits"] if hit["ordinal"] == 7)
        assert "score" not in hit
        assert f"document_id {desk.ids['minutes']}, ordinal 7" in text_of(found)
        read = await client.call_tool(
            "read_passage", {"document_id": hit["document_id"], "ordinal": hit["ordinal"], "around": 1}
        )
    passages = read.structured_content
    assert passages is not None
    assert [passage["ordinal"] for passage in passages["passages"]] == [6, 7, 8]
    assert (passages["total"], passages["title"]) == (12, "Minutes")
    assert passages["url"] == f"{here.url}/#document/{desk.ids['minutes']}/7"
    assert text_of(read).split("\n\n")[1] == "Point 7 of the minutes is about matter 7."


@pytest.mark.parametrize("mode", MODES)
async def test_an_answer_comes_with_progress_and_citations(here: Here, desk: AnswerDesk, mode: Mode) -> None:
    """Progress is there before the answer is: the model is held back until the agent has heard of the passages."""
    gate, heard = asyncio.Event(), list[tuple[float, str]]()
    desk.llm.default = say(gate=gate)

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message or ""))
        gate.set()

    async with agent(here, mode=mode) as client:
        asked = {"question": f"{QUESTION} ({mode})"}
        answered = await client.call_tool("ask", asked, progress_callback=on_progress)
    steps = [step for step, _ in heard]
    assert steps == sorted(set(steps))
    assert heard[0][1].startswith("Found ") and heard[-1][1] == ANSWER
    said = answered.structured_content
    assert said is not None
    assert (said["answer"], said["finish_reason"], said["degraded"]) == (ANSWER, "stop", False)
    [cited] = said["citations"]
    assert said["answer"][cited["start"] : cited["end"]] == "[1]"
    assert (cited["document_id"], cited["title"], cited["n"]) == (desk.ids["leave"], "Leave", 1)
    assert text_of(answered) == f"{ANSWER}\n\nSources:\n[1] Leave"
    status, _, own = await here.client().json("GET", f"/api/answers/{said['answer_id']}")
    assert status == 200
    assert own["sources"] == said["sources"]


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_tool_cannot_do_it_says(here: Here, desk: AnswerDesk, mode: Mode) -> None:
    """As its own error, which a model can read; only a tool that is not there is the protocol's."""
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("search_documents", {"query": " "}, "invalid-request"),
        ("search_documents", {"query": "leave", "limit": 1000}, "invalid-request"),
        ("search_documents", {"question": "leave"}, "invalid-request"),
        ("search_documents", {"query": "a\0b"}, "invalid-request"),
        ("read_passage", {"document_id": desk.ids["leave"], "ordinal": 99}, "invalid-request"),
        ("read_passage", {"document_id": desk.ids["salaries"]}, "not-found"),
        ("read_passage", {"document_id": "nothing"}, "not-found"),
        ("ask", {"question": "leave " * 2000}, "question-too-long"),
    ]
    async with agent(here, mode=mode) as client:
        for name, arguments, code in wrong:
            result = await client.call_tool(name, arguments)
            assert result.is_error, (name, arguments)
            assert (result.meta or {})["refdesk/problem"]["type"] == code, (name, arguments)
            assert result.structured_content is None
        with pytest.raises(MCPError):
            await client.call_tool("delete_everything", {})


async def test_a_foreign_document_is_a_missing_one(here: Here, desk: AnswerDesk) -> None:
    """Word for word."""
    async with agent(here) as client:
        foreign = await client.call_tool("read_passage", {"document_id": desk.ids["salaries"]})
        missing = await client.call_tool("read_passage", {"document_id": "nothing"})
    assert foreign.model_dump() == missing.model_dump()


@pytest.mark.parametrize("mode", MODES)
async def test_an_agent_reads_what_its_caller_may(here: Here, desk: AnswerDesk, mode: Mode) -> None:
    found = []
    for key in ("asker", "boris board"):
        async with agent(here, key=key, mode=mode) as client:
            result = await client.call_tool("search_documents", {"query": "What is the board's salary?"})
        assert result.structured_content is not None
        found.append({hit["document_id"] for hit in result.structured_content["hits"]})
    assert desk.ids["salaries"] not in found[0] and desk.ids["salaries"] in found[1]


async def test_a_model_that_fails_midway_is_the_tools_error(here: Here, desk: AnswerDesk) -> None:
    desk.llm.default = say(ending="cut", after=3)
    async with agent(here) as client:
        result = await client.call_tool("ask", {"question": "How long is the leave, and when does it end?"})
    assert result.is_error
    assert (result.meta or {})["refdesk/problem"]["type"] == "model-failed"


@pytest.mark.parametrize("mode", MODES)
async def test_an_agent_that_leaves_stops_the_model(here: Here, desk: AnswerDesk, mode: Mode) -> None:
    desk.llm.default = say(gate=asyncio.Event(), gate_at=3)

    async def ask() -> None:
        async with agent(here, mode=mode) as client:
            await client.call_tool("ask", {"question": f"Which days of leave expire? ({mode})"})

    asking = asyncio.create_task(ask())
    call = await desk.llm.called()
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    async with within(20):
        await call.closed.wait()
    assert not call.completed


LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = {"Accept": "application/json, text/event-stream"}


async def test_without_a_key_an_agent_learns_where_to_sign_in(here: Here, desk: AnswerDesk) -> None:
    """The 401 names the metadata, and the metadata what is protected (RFC 9728)."""
    async with desk.session.post(f"{here.url}/mcp", json=LIST_TOOLS, headers=ACCEPT) as response:
        assert response.status == 401
        challenge = response.headers["www-authenticate"]
    address = f"{here.url}/.well-known/oauth-protected-resource"
    assert challenge == f'Bearer realm="refdesk", resource_metadata="{address}/mcp"'
    for suffix, resource in (("/mcp", f"{here.url}/mcp"), ("", here.url)):
        async with desk.session.get(address + suffix) as response:
            assert response.status == 200
            told = msgspec.json.decode(await response.read())
        assert told == {"resource": resource, "resource_name": "Refdesk", "bearer_methods_supported": ["header"]}
    with pytest.raises((BaseExceptionGroup, MCPError, httpx2.HTTPStatusError)):
        async with agent(here, key="") as client:
            await client.list_tools()


@pytest.mark.parametrize(
    ("method", "headers", "body", "status"),
    [
        ("GET", ACCEPT, None, 405),
        ("DELETE", ACCEPT, None, 405),
        ("POST", {**ACCEPT, "Origin": "https://evil.example"}, LIST_TOOLS, 403),
        ("POST", {**ACCEPT, "Origin": "null"}, LIST_TOOLS, 403),
        ("POST", ACCEPT, {"x": "y" * (1 << 20)}, 413),
        ("POST", {"Accept": "text/plain"}, LIST_TOOLS, 406),
        ("POST", ACCEPT, [LIST_TOOLS], 400),
        ("POST", ACCEPT, {"jsonrpc": "2.0"}, 400),
    ],
)
async def test_what_is_no_call_is_refused(
    here: Here, method: str, headers: dict[str, str], body: Any, status: int
) -> None:
    arguments = {} if body is None else {"data": io.BytesIO(msgspec.json.encode(body))}
    headers = {"Content-Type": "application/json", **headers}
    async with here.client().call(method, "/mcp", headers=headers, **arguments) as response:
        assert response.status == status, await response.text()


async def test_a_page_of_the_desk_may_call(here: Here) -> None:
    """Its origin is the desk's own."""
    headers = {**ACCEPT, "Origin": here.url}
    async with here.client().call("POST", "/mcp", headers=headers, json=LIST_TOOLS) as response:
        assert response.status == 200
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-request-id"]
