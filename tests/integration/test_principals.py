"""A principal is an id: who gets a name that somebody else had, and who keeps what when a key changes."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool
from tests.support.desk import AnswerDesk, own_desk
from tests.support.open_connections import Door, open_door

from refdesk.access.keys import MIGRATIONS, ApiKeys
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import InvalidRequest
from refdesk.outside.postgres.database import migrate, open_pool

QUESTION = "What is the code of the blue locker?"
TEXT = "The blue locker has the code 4711."


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=14) as desk:
        yield desk


@pytest.fixture
async def door(desk: AnswerDesk) -> AsyncIterator[Door]:
    desk.llm.reset()
    async with open_door(desk) as door:
        yield door
        for key in await door.elsewhere.listing():
            await door.elsewhere.revoke(key.name)


async def write(door: Door, headers: dict[str, str], **fields: Any) -> dict[str, Any]:
    """A new document, searchable at once."""
    body = {"title": "Lockers", "text": TEXT, **fields}
    status, document = await door.json("POST", "/api/documents", headers, json=body)
    assert status == 201, document
    readers = (*document["readers"], f"principal:{document['owner']}")
    await door.desk.put_into_index({**document, "readers": readers}, TEXT)
    return dict(document)


async def holdings(door: Door, headers: dict[str, str], made: dict[str, str]) -> dict[str, Any]:
    """What somebody finds of what was made: every way to it."""
    found: dict[str, Any] = {}
    for name in ("own", "shared"):
        found[name] = (await door.json("GET", f"/api/documents/{made[name]}", headers))[0]
    for path in ("", "/events"):
        async with door.call("GET", f"/api/answers/{made['answer']}{path}", headers) as response:
            found[f"answer{path}"] = response.status
    rating = {"rating": "up"}
    found["feedback"] = (await door.json("POST", f"/api/answers/{made['answer']}/feedback", headers, json=rating))[0]
    listed = (await door.json("GET", "/api/documents", headers))[1]["documents"]
    found["listed"] = len({document["id"] for document in listed} & set(made.values()))
    mirrored = (await door.json("GET", "/api/documents/by-external-id?prefix=wiki/", headers))[1]["documents"]
    found["external"] = len(mirrored)
    hits = (await door.json("POST", "/api/search", headers, json={"query": QUESTION}))[1]["hits"]
    found["searched"] = len({hit["document_id"] for hit in hits} & set(made.values()))
    calls = len(door.desk.llm.calls)
    again = {"question": "And why is that so?", "conversation_id": "c", "cache": "bypass"}
    assert (await door.json("POST", "/api/answers", headers, json=again))[0] == 200
    messages = [call.body["messages"] for call in door.desk.llm.calls[calls:]]
    found["conversation"] = sum(QUESTION in str(message) for message in messages)
    return found


EVERYTHING = {
    "own": 200, "shared": 200, "answer": 200, "answer/events": 200, "feedback": 204, "listed": 2, "external": 1,
    "searched": 2, "conversation": 1,
}  # fmt: skip
NOTHING = {
    "own": 404, "shared": 404, "answer": 404, "answer/events": 404, "feedback": 404, "listed": 0, "external": 0,
    "searched": 0, "conversation": 0,
}  # fmt: skip


async def test_who_gets_a_name_again_inherits_nothing(door: Door) -> None:
    """Neither documents, nor what was shared with the name, nor answers and conversations; a rotated key keeps them all."""
    alice, bob = await door.key("alice"), await door.key("bob")
    own = await write(door, alice, readers=[], external_id="wiki/lockers")
    shared = await write(door, bob, readers=["principal:alice"])
    asked = {"question": QUESTION, "conversation_id": "c"}
    status, answer = await door.json("POST", "/api/answers", alice, json=asked)
    assert status == 200
    made = {"own": own["id"], "shared": shared["id"], "answer": answer["answer_id"]}

    rotated = {"Authorization": f"Bearer {(await door.elsewhere.rotate('alice')).key}"}
    assert await holdings(door, rotated, made) == EVERYTHING
    assert (await door.json("GET", "/api/documents", alice))[0] == 401
    await door.elsewhere.revoke("alice")
    another = await door.key("alice")
    assert await holdings(door, another, made) == NOTHING


async def test_a_reader_given_by_name_is_kept_by_id(door: Door) -> None:
    """The reply shows it; ids, and names that no key has, stay as they came; and sending it back changes nothing."""
    bob = await door.key("bob")
    alice = await door.elsewhere.create("alice", ())
    document = await write(door, bob, readers=["principal:alice", "principal:nobody", "everyone"])
    assert document["readers"] == sorted(["everyone", f"principal:{alice.id}", "principal:nobody"])
    address = f"/api/documents/{document['id']}"
    for readers in (document["readers"], ["everyone", "principal:alice", "principal:nobody"]):
        status, same = await door.json("PUT", address, bob, json={"readers": readers})
        assert (status, same["version"], same["readers"]) == (200, 1, document["readers"])
    await door.elsewhere.revoke("alice")
    another = await door.elsewhere.create("alice", ())
    _, same = await door.json("PUT", address, bob, json={"readers": document["readers"]})
    assert same["version"] == 1
    _, given = await door.json("PUT", address, bob, json={"readers": ["principal:alice"]})
    assert given["readers"] == [f"principal:{another.id}"]


async def test_a_key_from_before_keeps_its_name_as_id(fresh_database: str, tmp_path: Path) -> None:
    """And so what it owns; one made under its name later is another principal."""
    before = tmp_path / "0001_api_keys.sql"
    shutil.copy(str(MIGRATIONS / before.name), before)
    async with open_pool(fresh_database, name="test keys", size_max=2) as pool:
        await migrate(pool, tmp_path)
        await insert_as_before(pool)
        await migrate(pool, MIGRATIONS)
        keys = ApiKeys(pool)
        assert [(key.id, key.name, key.role) for key in await keys.listing()] == [("alice", "alice", "writer")]
        rotated = await keys.rotate("alice")
        assert await keys.principal(rotated.key or "") == Principal(id="alice", groups=("hr",), name="alice")
        await keys.revoke("alice")
        another = await keys.create("alice", ("hr",))
        assert another.id != "alice"
        assert await keys.named("alice") == another.id
        with pytest.raises(InvalidRequest):
            await keys.create(another.id, ())


async def insert_as_before(pool: AsyncConnectionPool) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO api_keys (id, name, groups, key_sha256) VALUES ('00000000', 'alice', '{hr}', '')"
        )
