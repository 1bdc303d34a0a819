"""Who may do what to what: every route and every message of a running desk, by everybody, upon everything."""

import re
from collections.abc import AsyncIterator
from itertools import chain, pairwise, repeat
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
from tests.support.access_matrix import (
    BETWEEN,
    EVERYBODY,
    ISSUER,
    LET_IN,
    MARK,
    NOBODY,
    PEOPLE,
    PROBES,
    READERS_OF_FOREIGN,
    SECRET,
    SOCKET_PROBES,
    TOOL_PROBES,
    Matrix,
    Probe,
    Target,
)
from tests.support.live_desk import live_desk

from refdesk.access.policy import POLICY, Action
from refdesk.answering.websocket import ACTIONS
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.services.generations import open_generations
from refdesk.outside.embedding.packaged import Turns
from refdesk.outside.postgres.database import open_pool
from refdesk.web import openapi
from refdesk.web.endpoints import Endpoint, SocketEndpoint

TARGETS: tuple[Target, ...] = ("own", "foreign", "missing")
WITHIN_POLICY_ALONE = {
    "answers.read_details",
    "documents.let_read",
    "documents.upload_freely",
    "feedback.read_all",
    "index.compare",
    "operations.read_content",
    "passages.read_scores",
    "sessions.end_all",
    "sessions.read_all",
    "syncs.read_all",
    "usage.read_all",
}
"""Actions that no route is named by: a use case asks for them."""
SHORTEST_ID = 8
"""What is shorter is a number, or a word that stands elsewhere, too."""
PROVIDER = {"oidc_issuer": ISSUER, "oidc_client_id": "refdesk"}
PARAMETER = re.compile(r"{[^}]+}")


class Cell(NamedTuple):
    """What came of one call; ``said`` without the id that it was about."""

    route: str
    who: str
    target: Target | None
    status: int
    said: bytes


@pytest.fixture(scope="module")
async def matrix(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Matrix]:
    async with (
        live_desk(servers, tmp_path_factory, valkey_number=11, **PROVIDER) as desk,
        open_pool(desk.settings.databases.index_url or "", name="test index", size_max=2) as pool,
        open_generations(pool, desk.settings, turns=Turns()) as generations,
    ):
        matrix = Matrix(desk, await generations.active())
        await matrix.prepare()
        yield matrix


def routes(matrix: Matrix) -> dict[str, Endpoint]:
    """What the desk serves, the page's files aside: they are one."""
    served = [one for one in matrix.desk.endpoints if isinstance(one, Endpoint)]
    return {f"{one.method} {one.path}": one for one in served if not one.path.startswith("/web/")}


def test_every_route_and_message_is_in_the_matrix(matrix: Matrix) -> None:
    """And every action that one is named by: an undeclared one is red here."""
    assert routes(matrix).keys() == PROBES.keys()
    assert [one.path for one in matrix.desk.endpoints if isinstance(one, SocketEndpoint)] == ["/api/answers/ws"]
    assert ACTIONS.keys() == SOCKET_PROBES.keys()
    named = {one.action for one in matrix.desk.endpoints} | set(ACTIONS.values())
    assert named == LET_IN.keys()
    assert POLICY.keys() - named == WITHIN_POLICY_ALONE
    assert all(openapi.is_page(one.path) for one in matrix.desk.endpoints if one.action == "page.read")


def expected(action: Action, probe: Probe, who: str, target: Target | None) -> int | None:
    """The refusal, None where it is allowed; by what is written down in the matrix."""
    if who not in LET_IN[action]:
        return 401 if who in NOBODY else 403
    return None if probe.rule is None or target is None else probe.rule.status(who, target)


async def test_every_cell_of_the_matrix_is_as_it_is_written_down(matrix: Matrix) -> None:
    """Nobody is let in who should not be, nobody kept out who should; what is foreign looks like what is not there."""
    cells: list[Cell] = []
    wrong: list[Any] = []
    for route, endpoint in routes(matrix).items():
        probe = PROBES[route]
        for who in matrix.people():
            for target in TARGETS if probe.of else (None,):
                refusal = expected(endpoint.action, probe, who, target)
                cell = await call(matrix, endpoint, probe, who, target, allowed=refusal is None)
                cells.append(cell)
                fine = cell.status < 300 or cell.status in probe.accepts if refusal is None else cell.status == refusal
                if not fine:
                    wrong.append((*cell[:4], "expected", refusal or "success", cell.said[:200]))
    assert not wrong, "\n".join(map(str, wrong))
    assert leaks(cells) == []
    assert differences(cells) == []
    assert {(cell.route, cell.who) for cell in cells} == {(route, who) for route in PROBES for who in EVERYBODY}
    await nothing_was_changed(matrix)


async def call(
    matrix: Matrix, endpoint: Endpoint, probe: Probe, who: str, target: Target | None, *, allowed: bool
) -> Cell:
    path, thing = endpoint.path, "-"
    if target is not None:
        thing = await matrix.target(probe.of, who, target, fresh=probe.changes and allowed and target != "missing")
    if probe.query:
        path = PARAMETER.sub("name", path) + "?" + probe.query.format(thing)
    parts = chain(thing.split(BETWEEN), repeat("1"))
    path = PARAMETER.sub(lambda _: next(parts), path)
    accept = {"Accept": "application/json, text/event-stream"} if endpoint.path == "/mcp" else {}
    body: dict[str, Any] = {"headers": {**accept, **await matrix.headers(who)}}
    if probe.json is not None:
        body["json"] = probe.json
    status, headers, said = await matrix.desk.call(endpoint.method, path, **body)
    kind = headers.get("content-type", "").encode()
    return Cell(f"{endpoint.method} {endpoint.path}", who, target, status, kind + b" " + _without(said, thing))


def _without(said: bytes, thing: str) -> bytes:
    """What was said, without the id that it repeats; a number is none that could be told from others."""
    for part in thing.split(BETWEEN):
        said = said if len(part) < SHORTEST_ID else said.replace(part.encode(), b"<it>")
    return said


def leaks(cells: list[Cell]) -> list[Any]:
    """Content that came to somebody who may not read it: any of it, to an operator; what is foreign, to a stranger."""
    blind = [cell for cell in cells if cell.who in ("operator", *NOBODY) and MARK.encode() in cell.said]
    strange = [cell for cell in cells if cell.who not in READERS_OF_FOREIGN and SECRET.encode() in cell.said]
    return [(*cell[:4], cell.said[:200]) for cell in blind + strange]


def differences(cells: list[Cell]) -> list[Any]:
    """Foreign things that were refused otherwise than missing ones, to somebody who may not see them."""
    found = []
    for foreign, missing in pairwise(cells):
        if (foreign.target, missing.target) != ("foreign", "missing"):
            continue
        rule = PROBES[foreign.route].rule
        hidden = rule is not None and foreign.who not in rule.sees
        if hidden and (foreign.status, foreign.said) != (missing.status, missing.said):
            found.append((foreign, missing))
    return found


async def nothing_was_changed(matrix: Matrix) -> None:
    """By any call that was refused: what they were about is as it was made."""
    for (of, _, _), thing in matrix.kept.items():
        if of == "document":
            address = f"/api/documents/{thing}"
            status, _, body = await matrix.desk.call("GET", address, key=matrix.keys["administrator"])
            if status != 404:  # a missing one
                assert msgspec.json.decode(body)["version"] == 1
    names = {key.name for key in await matrix.desk.keys.listing()}
    assert {thing for (of, _, target), thing in matrix.kept.items() if of == "key" and target != "missing"} <= names


@pytest.mark.parametrize("who", sorted(EVERYBODY))
async def test_every_message_of_the_socket_is_as_it_is_written_down(matrix: Matrix, who: str) -> None:
    """Those who may not ask do not even connect."""
    headers = {"X-Forwarded-For": "203.0.113.7", **await matrix.headers(who)}
    address = f"{matrix.desk.url}/api/answers/ws"
    if who not in LET_IN["answers.ask"]:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await matrix.desk.session.ws_connect(address, headers=headers)
        assert refused.value.status == (401 if who in NOBODY else 403)
        return
    async with matrix.desk.session.ws_connect(address, headers=headers) as socket:
        for kind, probe in SOCKET_PROBES.items():
            said = {}
            for target in TARGETS if probe.of else (None,):
                thing = "" if target is None else await matrix.target(probe.of, who, target, fresh=False)
                about = {"answer_id": thing} if thing else {}
                status, said[target] = await told(socket, {"type": kind, **(probe.json or {}), **about})
                assert status == expected(ACTIONS[kind], probe, who, target), (kind, target)
            if who != "owner":
                assert said.get("foreign") == said.get("missing")


async def told(socket: aiohttp.ClientWebSocketResponse, message: dict[str, Any]) -> tuple[int | None, Any]:
    """The status of what refuses the message, and the refusal; nothing where it is not refused. Answers are read to their end."""
    await socket.send_json({**message, "request_id": "it"})
    await socket.send_json({"type": "stop", "answer_id": "none", "request_id": "after"})
    refusal, told_after, follows = None, False, message["type"] != "stop"
    while not told_after or follows:
        said = await socket.receive_json(timeout=60)
        if said["event"] == "error" and said.get("request_id") == "it":
            refusal, follows = said["data"], False
        told_after = told_after or said.get("request_id") == "after"
        follows = follows and said["event"] != "done"
    return (None, None) if refusal is None else (refusal["status"], refusal)


async def test_every_tool_for_agents_is_as_it_is_written_down(matrix: Matrix) -> None:
    """Those that the desk lists, by everybody whom it lets in; what is foreign looks like what is not there."""
    listed = (await rpc(matrix, "administrator", "tools/list"))["result"]["tools"]
    assert {tool["name"] for tool in listed} == TOOL_PROBES.keys()
    for who in sorted(LET_IN["tools.call"]):
        for name, probe in TOOL_PROBES.items():
            said: dict[Target | None, Any] = {}
            for target in TARGETS if probe.of else (None,):
                thing = "-" if target is None else await matrix.target(probe.of, who, target, fresh=False)
                arguments = {**probe.json, **({} if target is None else {"document_id": thing})}
                reply = (await rpc(matrix, who, "tools/call", name=name, arguments=arguments))["result"]
                refused = reply.get("isError", False)
                assert refused == (expected("tools.call", probe, who, target) is not None), (who, name, target, reply)
                said[target] = str(reply).replace(thing, "<it>")
                assert who in READERS_OF_FOREIGN or SECRET not in said[target]
            if probe.of and who not in READERS_OF_FOREIGN:
                assert said["foreign"] == said["missing"]


async def rpc(matrix: Matrix, who: str, method: str, **params: Any) -> Any:
    headers = {"Accept": "application/json, text/event-stream", **await matrix.headers(who)}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    status, _, said = await matrix.desk.call("POST", "/mcp", headers=headers, json=body)
    assert status == 200, said
    data = said.partition(b"data: ")[2].partition(b"\n")[0] if said.startswith(b"event:") else said
    return msgspec.json.decode(data)


def test_people_of_every_role_are_in_the_matrix() -> None:
    """One of each, and those who are none."""
    roles = {person.role for person in PEOPLE.values()}
    assert roles == {"asker", "writer", "curator", "operator", "administrator"}
