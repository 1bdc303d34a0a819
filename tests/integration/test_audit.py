"""The audit log: what is in it, that it stays, and what happens while it cannot be written."""

import csv
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psycopg
import pytest
from prometheus_client import REGISTRY
from psycopg_pool import AsyncConnectionPool
from starlette.requests import Request
from starlette.types import ASGIApp
from tests.integration.documents_desk import eventually, running, serving
from tests.support.live_desk import OPERATOR_KEY, LiveDesk, live_desk
from tests.support.running import command

from refdesk.access import audit as auditing
from refdesk.access.audit import Audit, Entry, Wanted
from refdesk.access.authentication import Authentication
from refdesk.access.keys import MIGRATIONS, ApiKeys
from refdesk.app.audit_routes import audit_endpoints
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.key_routes import key_endpoints
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Unavailable
from refdesk.outside.postgres.database import migrate, open_pool
from refdesk.web.auditing import about
from refdesk.web.endpoints import Endpoint
from refdesk.web.http import create_app
from refdesk.web.replies import Json


@pytest.fixture
async def pool(fresh_database: str) -> AsyncIterator[AsyncConnectionPool]:
    async with open_pool(fresh_database, name="test audit", size_max=4) as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


def entry(number: int = 0, **fields: Any) -> Entry:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    told = {"principal_id": "ada", "principal_name": "Ada", "how": "key", "object_id": str(number)}
    return Entry(**({"at": at, "action": "documents.change", "did": "PUT /x", "result": "allowed"} | told | fields))


async def log_of(audit: Audit, **wanted: Any) -> list[tuple[str | None, str, str | None, str]]:
    """Oldest first: who, action, object, result."""
    entries = await audit.page(Wanted(**wanted), before=None, count=1000)
    return [(one.principal_name, one.action, one.object_id, one.result) for one in reversed(entries)]


READ: dict[str, Callable[[bytes], list[Any]]] = {
    "": lambda said: list(msgspec.json.decode(said)["entries"]),
    "/export": lambda said: [msgspec.json.decode(line) for line in said.splitlines()],
    ".csv": lambda said: list(csv.DictReader(io.StringIO(said.decode()))),
}
"""Entries by the end of the address that they come from."""


def lost() -> float:
    return REGISTRY.get_sample_value("refdesk_audit_lost_total") or 0.0


async def test_what_is_noted_is_written_together(pool: AsyncConnectionPool) -> None:
    """In its order, every field of it."""
    audit = Audit(pool)
    for number in range(1200):
        audit.note(entry(number, request_id="r", address="192.0.2.1"))
    await audit.write()
    kept = await audit.page(Wanted(), before=None, count=2000)
    assert [one.object_id for one in kept] == [str(number) for number in reversed(range(1200))]
    fields = {name: getattr(kept[-1], name) for name in Entry.__struct_fields__}
    assert Entry(**fields) == entry(0, request_id="r", address="192.0.2.1")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET result = 'denied'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "SELECT set_config('refdesk.retention', 'on', false); UPDATE audit_log SET result = 'denied'",
        "SELECT set_config('refdesk.retention', 'on', false); TRUNCATE audit_log",
        "SELECT set_config('refdesk.retention', 'on', false); DELETE FROM audit_log",
    ],
)
async def test_the_table_is_added_to_and_not_changed(
    pool: AsyncConnectionPool, fresh_database: str, statement: str
) -> None:
    """Not even by its owner; what is younger than a day cannot be removed in the name of retention either."""
    audit = Audit(pool)
    audit.note(entry(at=datetime.now(UTC)))
    await audit.write()
    async with await psycopg.AsyncConnection.connect(fresh_database) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not changed"):
            await connection.execute(statement.encode())
    assert len(await log_of(audit)) == 1


async def test_entries_go_when_they_are_old_enough(pool: AsyncConnectionPool) -> None:
    """By the setting, and no sooner."""
    audit, now = Audit(pool, retention_days=30), datetime.now(UTC)
    for days in (400, 31, 29, 0):
        audit.note(entry(days, at=now - timedelta(days=days)))
    await audit.write()
    assert await audit.forget() == 2
    assert [name for _, _, name, _ in await log_of(audit)] == ["29", "0"]


async def test_a_full_queue_loses_what_comes_next_and_counts_it(pool: AsyncConnectionPool) -> None:
    """Nobody waits; what was noted before is kept."""
    audit, before = Audit(pool, queue_max=3), lost()
    for number in range(5):
        audit.note(entry(number))
    assert lost() - before == 2
    await audit.write()
    assert [name for _, _, name, _ in await log_of(audit)] == ["0", "1", "2"]
    audit.note(entry(5))
    await audit.write()
    assert len(await log_of(audit)) == 4


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Nobody can write into the log meanwhile."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE")
        yield


async def test_what_was_noted_while_the_database_was_away_is_written_afterwards(fresh_database: str) -> None:
    """In its order, once; a log that takes nothing for longer than a statement may last is away, too."""
    async with open_pool(fresh_database, name="test audit", size_max=4, statement_timeout_s=0.2) as pool:
        await migrate(pool, MIGRATIONS)
        audit = Audit(pool)
        async with running(audit.run):
            async with locked(fresh_database):
                audit.note(entry(1))
                audit.note(entry(2))
                with pytest.raises(Unavailable):
                    await audit.write()
            await eventually(lambda: log_of(audit))
        assert [name for _, _, name, _ in await log_of(audit)] == ["1", "2"]


async def test_what_is_noted_last_is_written_at_the_end(pool: AsyncConnectionPool) -> None:
    """A process that is told to end writes what waits."""
    audit = Audit(pool)
    async with running(audit.run):
        audit.note(entry(1))
        await eventually(lambda: log_of(audit))
        audit.note(entry(2))
    assert [name for _, _, name, _ in await log_of(audit)] == ["1", "2"]


async def ask(request: Request, principal: Principal) -> ASGIApp:
    about(request, "answer-1")
    return Json({})


async def fail(request: Request, principal: Principal) -> ASGIApp:
    raise ValueError


ENDPOINTS = [
    Endpoint(method="POST", path="/api/answers", action="answers.ask", handler=ask, summary=""),
    Endpoint(method="GET", path="/api/answers", action="answers.ask", handler=ask, summary=""),
    Endpoint(method="POST", path="/api/documents/{id}", action="documents.change", handler=fail, summary=""),
    Endpoint(method="PUT", path="/api/by/{external_id}", action="documents.name", handler=fail, summary=""),
]


@pytest.fixture
async def door(pool: AsyncConnectionPool) -> AsyncIterator[tuple[str, Audit, ApiKeys]]:
    keys, audit = ApiKeys(pool), Audit(pool)
    authenticate = Authentication(keys, operator_key=OPERATOR_KEY)
    app = create_app(
        [*ENDPOINTS, *key_endpoints(keys), *audit_endpoints(audit)], authenticate=authenticate, audit=audit
    )
    async with serving(app) as url:
        yield url, audit, keys


async def call(url: str, method: str, path: str, *, key: str | None = OPERATOR_KEY, **request: Any) -> tuple[int, Any]:
    headers = {**({} if key is None else {"Authorization": f"Bearer {key}"}), **request.pop("headers", {})}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, headers=headers, **request) as said,
    ):
        return said.status, await said.read()


async def test_keys_are_in_the_log_before_they_are_changed(door: tuple[str, Audit, ApiKeys]) -> None:
    """Made, changed, rotated, revoked, by name; what did not come about is there as failed. Nothing of it is queued."""
    url, audit, _ = door
    for method, path, body in (
        ("POST", "", {"name": "ada"}),
        ("PATCH", "/ada", {"role": "asker"}),
        ("POST", "/ada/rotate", None),
        ("DELETE", "/ada", None),
        ("GET", "", None),
    ):
        assert (await call(url, method, f"/api/keys{path}", json=body))[0] < 300
    entries = await audit.page(Wanted(), before=None, count=100)
    assert [(one.did, one.object_id, one.result, one.how) for one in reversed(entries)] == [
        ("POST /api/keys", "ada", "allowed", "operator"),
        ("PATCH /api/keys/{name}", "ada", "allowed", "operator"),
        ("POST /api/keys/{name}/rotate", "ada", "allowed", "operator"),
        ("DELETE /api/keys/{name}", "ada", "allowed", "operator"),
    ]
    assert (await call(url, "DELETE", "/api/keys/ada"))[0] == 404
    await audit.write()
    assert (await log_of(audit))[-2:] == [
        ("operator", "keys.manage", "ada", "allowed"),
        ("operator", "keys.manage", "ada", "failed"),
    ]


async def test_what_cannot_be_recorded_is_not_done(
    door: tuple[str, Audit, ApiKeys], fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator's act is refused while the log takes no entry; asking goes on."""
    url, audit, keys = door
    await keys.create("ada")
    monkeypatch.setattr(auditing, "RECORD_S_MAX", 0.3)
    async with locked(fresh_database):
        for method, path, body in (("POST", "/api/keys", {"name": "bob"}), ("DELETE", "/api/keys/ada", None)):
            status, said = await call(url, method, path, json=body)
            assert (status, msgspec.json.decode(said)["type"]) == (503, "unavailable")
            assert b"Nothing was changed" in said
        assert (await call(url, "POST", "/api/answers"))[0] == 200
    assert [key.name for key in await keys.listing()] == ["ada"]
    await audit.write()
    assert ("operator", "answers.ask", "answer-1", "allowed") in await log_of(audit)


async def test_denials_and_failures_are_in_the_log(door: tuple[str, Audit, ApiKeys]) -> None:
    """Whatever was asked for; without any key nobody is told of, for anybody can come by."""
    url, audit, keys = door
    ada = (await keys.create("ada", role="asker")).key
    assert (await call(url, "GET", "/api/keys", key=ada))[0] == 403
    assert (await call(url, "POST", "/api/documents/7", key=ada))[0] == 403
    assert (await call(url, "GET", "/api/keys", key="rdk_wrong"))[0] == 401
    assert (await call(url, "GET", "/api/keys", key=None))[0] == 401
    assert (await call(url, "POST", "/api/documents/7"))[0] == 500
    assert (await call(url, "POST", "/api/answers", key=ada))[0] == 200
    assert (await call(url, "GET", "/api/answers", key=ada))[0] == 200
    await audit.write()
    assert await log_of(audit) == [
        ("ada", "keys.manage", None, "denied"),
        ("ada", "documents.change", "7", "denied"),
        (None, "keys.manage", None, "denied"),
        ("operator", "documents.change", "7", "failed"),
        ("ada", "answers.ask", "answer-1", "allowed"),
    ]


@pytest.mark.parametrize("name", ["%00", "%0A", "What%20is%20the%20code%20of%20the%20safe%3F", "é", "x" * 300])
async def test_what_is_no_id_is_not_repeated(door: tuple[str, Audit, ApiKeys], name: str) -> None:
    """A caller may write anything where an id belongs, and as an external id, which is a name of theirs."""
    url, audit, _ = door
    assert (await call(url, "POST", f"/api/documents/{name}"))[0] == 500
    assert (await call(url, "PUT", f"/api/by/{name}"))[0] == 500
    await audit.write()
    assert [name for _, _, name, _ in await log_of(audit)] == ["?", None]


async def test_an_entry_says_from_where_and_under_which_request_id(door: tuple[str, Audit, ApiKeys]) -> None:
    """The proxy's words, where it may speak; an id that is none is replaced."""
    url, audit, _ = door
    given = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7", "X-Request-Id": "trace-1"}
    await call(url, "POST", "/api/answers", headers=given)
    await call(url, "POST", "/api/answers", headers={"X-Request-Id": "a b"})
    await audit.write()
    second, first = await audit.page(Wanted(), before=None, count=2)
    assert (first.address, first.request_id) == ("203.0.113.7", "trace-1")
    assert second.address is None and second.request_id not in (None, "a b")


async def test_the_log_is_read_by_page_filter_and_line(door: tuple[str, Audit, ApiKeys]) -> None:
    """Newest first by page, oldest first as lines; a filter holds for both, and reading is in the log itself."""
    url, audit, _ = door
    for number in range(7):
        audit.note(entry(number, principal_id=f"p{number % 2}", result="denied" if number == 4 else "allowed"))
    await audit.write()
    seen, cursor = [], None
    while True:
        query = f"?limit=3&action=documents.change{'' if cursor is None else '&cursor=' + cursor}"
        status, said = await call(url, "GET", f"/api/audit{query}")
        assert status == 200
        page = msgspec.json.decode(said)
        seen += [one["object_id"] for one in page["entries"]]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]
    filters = {
        "principal=p1": ["5", "3", "1"],
        "object=2": ["2"],
        "result=denied": ["4"],
        "from=2026-01-01T00:00:05Z": ["6", "5"],
        "to=2026-01-01T00:00:02%2B00:00": ["1", "0"],
        "principal=p0&result=allowed": ["6", "2", "0"],
    }
    for query, found in filters.items():
        for path, order in (("", 1), ("/export", -1), (".csv", -1)):
            _, said = await call(url, "GET", f"/api/audit{path}?action=documents.change&{query}")
            lines = READ[path](said)
            assert [one["object_id"] for one in lines] == found[::order], (path, query)
    await audit.write()
    assert (await log_of(audit, action="audit.read"))[0] == ("operator", "audit.read", None, "allowed")


@pytest.mark.parametrize(
    "query",
    ["from=yesterday", "from=2026-01-01T00:00:00", "result=perhaps", "limit=0", "limit=1001", "cursor=x", "object=%00"],
)
async def test_a_filter_that_is_none_is_refused(door: tuple[str, Audit, ApiKeys], query: str) -> None:
    """422, naming it."""
    status, said = await call(door[0], "GET", f"/api/audit?{query}")
    assert (status, msgspec.json.decode(said)["field"]) == (422, query.partition("=")[0])


async def test_an_export_is_all_of_it(door: tuple[str, Audit, ApiKeys], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages that takes."""
    url, audit, _ = door
    monkeypatch.setattr(auditing, "PAGE", 10)
    for number in range(25):
        audit.note(entry(number))
    await audit.write()
    _, said = await call(url, "GET", "/api/audit/export?action=documents.change")
    assert [msgspec.json.decode(line)["object_id"] for line in said.splitlines()] == [str(n) for n in range(25)]
    assert (await call(url, "GET", "/api/audit/export?action=none"))[1] == b""


async def test_no_cell_of_the_table_is_a_formula(door: tuple[str, Audit, ApiKeys]) -> None:
    """Names are other people's."""
    url, audit, _ = door
    audit.note(entry(principal_name="=1+1", action="documents.create"))
    await audit.write()
    _, said = await call(url, "GET", "/api/audit.csv?action=documents.create")
    (row,) = READ[".csv"](said)
    assert row["principal_name"] == "'=1+1"
    assert set(row) == {"id", *Entry.__struct_fields__}


# a whole desk

RPC = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveDesk]:
    async with live_desk(servers, tmp_path_factory, valkey_number=12) as desk:
        yield desk


async def test_a_desk_tells_what_people_do_and_nothing_of_what_they_say(desk: LiveDesk, tmp_path: Path) -> None:
    """Documents by id, answers by id at both doors, readers apart; no title, text, name of a file or question."""
    ada = await desk.keys.create("ada", ("hr",))
    document = await asked(desk, ada.key, "POST", "/api/documents", {"title": "ZEBRA", "text": "ZEBRA"}, status=201)
    address = f"/api/documents/{document['id']}"
    await asked(desk, ada.key, "PUT", address, {"text": "ZEBRA stripes", "readers": ["hr"]})
    named = await asked(
        desk, ada.key, "PUT", "/api/documents/by-external-id/ZEBRA.md", {"title": "ZEBRA", "text": "ZEBRA"}, status=201
    )
    await asked(desk, ada.key, "DELETE", address, status=204)
    answer = await asked(desk, ada.key, "POST", "/api/answers", {"question": "What is a ZEBRA?"})
    headers = {"Authorization": f"Bearer {ada.key}"}
    async with desk.session.ws_connect(f"{desk.url}/api/answers/ws", headers=headers) as socket:
        await socket.send_json({"type": "ask", "question": "And a ZEBRA?"})
        spoken = (await socket.receive_json(timeout=30))["answer_id"]
    chat = {"model": "refdesk", "messages": [{"role": "user", "content": "What is a ZEBRA?"}]}
    chatted = await asked(desk, ada.key, "POST", "/v1/chat/completions", chat)
    call = {"name": "ask", "arguments": {"question": "What is a ZEBRA?"}}
    agent = await desk.call("POST", "/mcp", key=ada.key, json=RPC | {"params": call}, headers=ACCEPT)
    await asked(desk, ada.key, "GET", "/api/audit", status=403)
    expected = [
        ("documents.create", document["id"], "allowed"),
        ("documents.let_read", document["id"], "allowed"),
        ("documents.change", document["id"], "allowed"),
        ("documents.name", named["id"], "allowed"),
        ("documents.change", document["id"], "allowed"),
        ("answers.ask", answer["answer_id"], "allowed"),
        ("answers.ask", spoken, "allowed"),
        ("answers.ask", chatted["refdesk"]["answer_id"], "allowed"),
        ("answers.ask", re.search(rb"answer_id\W+(\w+)", agent[2])[1].decode(), "allowed"),  # type: ignore[index]
        ("audit.read", None, "denied"),
    ]

    async def told() -> list[tuple[str, Any, str]]:
        page = await asked(desk, OPERATOR_KEY, "GET", f"/api/audit?principal={ada.id}")
        return [(one["action"], one["object_id"], one["result"]) for one in reversed(page["entries"])]

    await eventually(lambda: told_all(told, len(expected)))
    assert await told() == expected
    said = await command("audit", "--principal", ada.id, "--url", desk.url, home=tmp_path, REFDESK_API_KEY=OPERATOR_KEY)
    assert said.code == 0 and said.out.count(document["id"]) == 4
    table = await command(
        "audit", "--principal", ada.id, "--csv", "--url", desk.url, home=tmp_path, REFDESK_API_KEY=OPERATOR_KEY
    )
    rows = [(row["action"], row["object_id"] or None, row["result"]) for row in READ[".csv"](table.out.encode())]
    assert rows == expected
    whole = (await desk.call("GET", "/api/audit/export", key=OPERATOR_KEY))[2]
    assert b"ZEBRA" not in whole and whole.count(b"\n") >= len(expected)


async def told_all(told: Any, count: int) -> bool:
    return len(await told()) >= count


async def asked(desk: LiveDesk, key: str | None, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
    code, _, said = await desk.call(method, path, key=key, json=body)
    assert code == status, said
    return msgspec.json.decode(said) if said else None
