"""A deleted document leaves every place that it was in, and whoever could delete it sees that."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from redis.asyncio import Redis
from tests.integration.documents_desk import eventually
from tests.support.desk import index_text
from tests.support.live_desk import OPERATOR_KEY, LiveDesk, live_desk

from refdesk.answering import erasures
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.services.generations import open_generations
from refdesk.contracts.access import readers_with_owner
from refdesk.documents.erasure import Erasure
from refdesk.index.open_generations import Opened
from refdesk.outside.blobs import Blobs
from refdesk.outside.embedding.packaged import Turns
from refdesk.outside.postgres.database import open_pool

TEXT = "The zebra fund pays forty-two coconuts for every day of leave."
QUESTION = "How many coconuts does the zebra fund pay for a day of leave?"
AI_PLACES = {"index", "answers", "feedback"}


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveDesk]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasures, "AGAIN_S", 1.0)
        patch.setattr(erasures, "RETRY_S", 0.2)
        async with live_desk(servers, tmp_path_factory, valkey_number=10) as desk:
            yield desk


@pytest.fixture(scope="module")
async def generation(desk: LiveDesk) -> AsyncIterator[Opened]:
    """The index, in place of an indexer."""
    async with (
        open_pool(desk.settings.databases.index_url or "", name="test index", size_max=2) as pool,
        open_generations(pool, desk.settings, turns=Turns()) as generations,
    ):
        yield await generations.active()


@pytest.fixture
async def erasure(desk: LiveDesk) -> AsyncIterator[Erasure]:
    """That of another process."""
    async with open_pool(desk.settings.databases.documents_url or "", name="test erasure", size_max=2) as pool:
        yield Erasure(pool, Blobs(desk.settings.places.content_path))


@pytest.fixture
async def people(desk: LiveDesk) -> AsyncIterator[dict[str, tuple[str, str]]]:
    """Name to key and id."""
    wanted: dict[str, Any] = {
        "owner": {"groups": ("hr",)},
        "curator": {"groups": ("hr",), "role": "curator"},
        "colleague": {"groups": ("hr",)},
        "asker": {"groups": ("hr",), "role": "asker"},
        "operator": {"groups": ("hr",), "role": "operator"},
        "stranger": {},
    }
    made = {name: await desk.keys.create(f"the-{name}", **rights) for name, rights in wanted.items()}
    yield {name: (key.key or "", key.id) for name, key in made.items()}
    for name in made:
        await desk.keys.revoke(f"the-{name}")


async def call(
    desk: LiveDesk, key: str, method: str, path: str, json: Any = None, *, status: int | None = None
) -> tuple[int, Any]:
    code, _, said = await desk.call(method, path, key=key, json=json)
    assert status in (None, code), said
    return code, msgspec.json.decode(said) if said else None


async def added(desk: LiveDesk, generation: Opened, owner: tuple[str, str], text: str = TEXT) -> dict[str, Any]:
    """A document that is searchable."""
    body = {"title": "Coconuts", "text": text, "readers": ["hr"]}
    _, document = await call(desk, owner[0], "POST", "/api/documents", body, status=201)
    await index_text(generation, {**document, "readers": list(readers_with_owner(["hr"], owner[1]))}, text)
    return dict(document)


async def deleted(desk: LiveDesk, generation: Opened, key: str, document_id: str) -> None:
    """From the index, too, as an indexer would."""
    await call(desk, key, "DELETE", f"/api/documents/{document_id}", status=204)
    assert await generation.index.remove(document_id, 2)


def contents(desk: LiveDesk) -> set[str]:
    return {file.name for file in Path(desk.settings.places.content_path).glob("??/??/*")}


async def in_valkey(desk: LiveDesk) -> str:
    """Everything that is kept there, as text."""
    async with Redis.from_url(desk.settings.valkey.url) as valkey:
        found = []
        async for key in valkey.scan_iter("refdesk:*", count=1000):
            kind = await valkey.type(key)
            found.append(str(await (valkey.xrange(key) if kind == b"stream" else valkey.dump(key))))
    return "\n".join(found)


async def ratings(desk: LiveDesk) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(desk.settings.databases.index_url or "") as connection:
        return await (
            await connection.execute("SELECT rating, question, comment, documents FROM answer_feedback")
        ).fetchall()


async def test_a_deleted_document_leaves_every_place(
    desk: LiveDesk, generation: Opened, erasure: Erasure, people: dict[str, tuple[str, str]]
) -> None:
    """Each is pending until it is so; the proof has the times, and is complete at the end."""
    owner = people["owner"]
    document = await added(desk, generation, owner)
    proof = f"/api/documents/{document['id']}/erasure"
    assert (await call(desk, owner[0], "GET", proof))[0] == 409
    _, answer = await call(
        desk, owner[0], "POST", "/api/answers", {"question": QUESTION, "conversation_id": "c"}, status=200
    )
    assert "coconuts" in str(answer) and answer["sources"][0]["document_id"] == document["id"]
    rated = {"rating": "up", "comment": "Coconuts!"}
    await call(desk, owner[0], "POST", f"/api/answers/{answer['answer_id']}/feedback", rated, status=204)
    await eventually(lambda: in_valkey_has(desk, "forty-two coconuts"))
    before = contents(desk)
    await call(desk, owner[0], "DELETE", f"/api/documents/{document['id']}", status=204)
    _, view = await call(desk, owner[0], "GET", proof, status=200)
    states = {place["place"]: place["state"] for place in view["places"]}
    assert not view["complete"] and states["versions"] == "erased" and states["content"] == "pending"
    assert {place for place, state in states.items() if state == "pending"} >= AI_PLACES
    assert await generation.index.remove(document["id"], 2)
    view = await eventually(lambda: told(desk, owner[0], proof))
    removed = {place["place"]: place.get("removed", 0) for place in view["places"]}
    assert (removed["answers"], removed["feedback"]) == (1, 1)
    assert any(place.startswith("index generation") for place in removed)
    assert await erasure.erase(grace_s=3600.0) == 0 and contents(desk) == before
    assert await erasure.erase(grace_s=0.0) == 1
    _, view = await call(desk, owner[0], "GET", proof, status=200)
    assert view["complete"] and all(place["state"] == "erased" for place in view["places"]), view
    assert len(before - contents(desk)) == 1
    assert "forty-two" not in await in_valkey(desk)
    assert await ratings(desk) == [("up", None, None, [])]
    _, gone = await call(desk, owner[0], "GET", f"/api/answers/{answer['answer_id']}", status=410)
    assert gone["type"] == "answer-withdrawn"


async def in_valkey_has(desk: LiveDesk, words: str) -> bool:
    return words in await in_valkey(desk)


async def told(desk: LiveDesk, key: str, proof: str) -> Any:
    """The proof, once the AI side has told of everything."""
    _, view = await call(desk, key, "GET", proof, status=200)
    pending = {place["place"] for place in view["places"] if place["state"] == "pending"}
    return None if pending & AI_PLACES else view


async def test_content_that_another_document_has_stays_with_that_one(
    desk: LiveDesk, generation: Opened, erasure: Erasure, people: dict[str, tuple[str, str]]
) -> None:
    """It is shared, and goes with the last of them."""
    owner, text = people["owner"], "Two documents say the very same of walruses."
    first, second = [await added(desk, generation, owner, text) for _ in range(2)]
    await deleted(desk, generation, owner[0], first["id"])
    await erasure.erase(grace_s=0.0)
    proofs = [f"/api/documents/{document['id']}/erasure" for document in (first, second)]
    view = await eventually(lambda: told(desk, owner[0], proofs[0]))
    assert view["complete"] and "shared" in str(view["places"])
    assert (await call(desk, owner[0], "GET", f"/api/documents/{second['id']}/versions"))[0] == 200
    await deleted(desk, generation, owner[0], second["id"])
    assert await erasure.erase(grace_s=0.0) == 1
    for proof in proofs:
        _, view = await call(desk, owner[0], "GET", proof, status=200)
        assert next(one for one in view["places"] if one["place"] == "content")["state"] == "erased"


async def test_only_those_who_could_delete_it_see_the_proof(
    desk: LiveDesk, generation: Opened, people: dict[str, tuple[str, str]]
) -> None:
    """To all others it is like one that never was, byte for byte."""
    document = await added(desk, generation, people["owner"])
    await deleted(desk, generation, people["owner"][0], document["id"])
    keys = {name: key for name, (key, _) in people.items()} | {"administrator": OPERATOR_KEY}
    for name, status in {
        "owner": 200,
        "curator": 200,
        "administrator": 200,
        "colleague": 404,
        "stranger": 404,
        "asker": 403,
        "operator": 403,
    }.items():
        said = []
        for document_id in (document["id"], "0" * 32):
            code, _, body = await desk.call("GET", f"/api/documents/{document_id}/erasure", key=keys[name])
            said.append((code, body))
        assert said[0][0] == status, name
        if status != 200:
            assert said[0] == said[1]
