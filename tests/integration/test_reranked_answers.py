"""A reranker in the whole: what is found comes in its order, and as before where it is away."""

from collections.abc import AsyncIterator

import pytest
from tests.support.desk import AnswerDesk, Client, own_desk
from tests.support.rerank_server import rerank_server

from refdesk.app.embedded.stack import StackUrls

QUESTION = "What hangs at the harbour gate?"
TEXTS = {
    "gate": "At the harbour gate hangs the bell of the first ferry.",
    "lamps": "At the harbour gate hangs a lantern, and beside the lantern another lantern.",
    "shed": "The shed has a lantern and a rope.",
    "menu": "Lunch is served at noon.",
}


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=1) as desk:
        desk.ids = {name: await desk.add(name.capitalize(), text) for name, text in TEXTS.items()}
        yield desk


async def found(client: Client, desk: AnswerDesk, *, limit: int = 4) -> list[str]:
    status, _, reply = await client.json("POST", "/api/search", json={"query": QUESTION, "limit": limit})
    assert status == 200
    names = {document_id: name for name, document_id in desk.ids.items()}
    return [names[hit["document_id"]] for hit in reply["hits"]]


async def test_passages_come_in_the_rerankers_order(desk: AnswerDesk) -> None:
    """It reads more than are asked for, so that the best of them may be one that the search had lower."""
    async with (
        rerank_server("jina") as server,
        desk.assistant_here(rerank_url=server.url, rerank_passages_max=4) as here,
    ):
        assert (await found(here.client(), desk))[:2] == ["lamps", "shed"]
        assert await found(here.client(), desk, limit=1) == ["lamps"]
        assert len(server.asked[-1]["documents"]) == 4
        stream = await here.client().ask(QUESTION, cache="bypass")
        sources = next(event.data for event in stream if event.name == "sources")
        assert sources[0]["document_id"] == desk.ids["lamps"]


async def test_without_its_reranker_a_desk_answers_as_it_did_before(desk: AnswerDesk) -> None:
    """Away, refusing, or slow: the order of the search, and no error."""
    async with desk.assistant_here() as here:
        before = await found(here.client(), desk)
    async with rerank_server("jina") as server:
        server.status = 500
        async with desk.assistant_here(rerank_url=server.url) as here:
            assert await found(here.client(), desk) == before
        server.status = 200
        server.gate.clear()
        async with desk.assistant_here(rerank_url=server.url, rerank_timeout_s=0.05) as here:
            assert await found(here.client(), desk) == before
            assert (await here.client().ask(QUESTION, cache="bypass"))[-1].name == "done"
        server.gate.set()
    async with desk.assistant_here(rerank_url="http://127.0.0.1:9/v1") as here:
        assert await found(here.client(), desk) == before
