"""A desk moves its index to Qdrant and back, and outlives its absence."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.chaos.links import Link
from tests.support.qdrant import as_variables, own_qdrant
from tests.support.running import Json, Refdesk, command, running, until
from tests.system.test_sample_questions import holding_sentences, rows

from refdesk.index.qdrant.server import Qdrant

TEXT = "# Depot {0}\n\nDepot {0} keeps the spare lanterns of the harbour in bay {0}."


@pytest.fixture
async def qdrant() -> AsyncIterator[Qdrant]:
    async with own_qdrant() as qdrant:
        yield qdrant


async def engines(refdesk: Refdesk) -> list[str]:
    """Of the generations, the active one's first."""
    listed = await refdesk.call("GET", "/api/index/generations")
    return [generation["engine"] for generation in listed["generations"]]


async def upload(refdesk: Refdesk, number: int) -> Json:
    return await refdesk.upload(f"depot-{number}.md", TEXT.format(number).encode())


async def found(refdesk: Refdesk) -> set[str]:
    return {hit["title"] for hit in await refdesk.search("Where are the spare lanterns?", limit=20)}


@pytest.mark.timeout(600)
async def test_an_index_moves_to_qdrant_and_back_by_one_setting(tmp_path: Path, qdrant: Qdrant) -> None:
    """Nothing is lost on the way; what changed in Qdrant's time is there afterwards."""
    variables = as_variables(qdrant.settings)
    async with running(tmp_path, "--no-samples") as refdesk:
        for number in range(3):
            await upload(refdesk, number)
        await refdesk.all_settled()
        assert await engines(refdesk) == ["pgvector"]
    async with running(tmp_path, "--no-samples", **variables) as refdesk:
        assert await engines(refdesk) == ["pgvector"], "nothing moves by itself"
        moved = await refdesk.command("reindex", "--yes", "--json", within_s=200)
        assert moved.code == 0, moved.err
        assert moved.last["swapped"] and moved.last["comparison"]["overlap"] == 1.0
        await upload(refdesk, 3)
        await refdesk.all_settled()
        assert await engines(refdesk) == ["qdrant", "pgvector"]
        assert await found(refdesk) == {f"Depot {number}" for number in range(4)}
        reconciled = await refdesk.command("reconcile", "--json")
        assert reconciled.last["drift"] == []

        async def followed() -> bool:
            listed = await refdesk.call("GET", "/api/index/generations")
            return bool(listed["generations"][1]["documents_behind"] == 0)

        await until(followed, what="the index in PostgreSQL has followed")
    async with running(tmp_path, "--no-samples") as refdesk:
        assert await engines(refdesk) == ["pgvector", "qdrant"]
        assert await found(refdesk) == {f"Depot {number}" for number in range(4)}


@pytest.mark.timeout(600)
async def test_while_qdrant_is_away_answers_wait_and_documents_stay_pending(tmp_path: Path, qdrant: Qdrant) -> None:
    """503 with Retry-After; everything resumes by itself."""
    parts = urlsplit(qdrant.settings.url)
    variables = as_variables(qdrant.settings) | {"REFDESK_QDRANT_TIMEOUT_S": "1"}
    link = Link(lambda: asyncio.open_connection(parts.hostname, parts.port))
    async with link.open():
        variables["REFDESK_QDRANT_URL"] = f"http://127.0.0.1:{link.port}"
        variables.pop("REFDESK_QDRANT_GRPC_PORT", None)
        async with running(tmp_path, "--no-samples", **variables) as refdesk:
            await upload(refdesk, 0)
            await refdesk.all_settled()
            with link.silent():
                link.reset()
                json = {"query": "Where are the spare lanterns?"}
                async with refdesk.open("POST", "/api/search", json=json) as refused:
                    assert refused.status == 503
                    assert int(refused.headers["Retry-After"]) > 0
                    assert "Qdrant" in (await refused.json())["detail"]
                late = await upload(refdesk, 1)
                assert (await refdesk.document(late["id"]))["state"] == "pending"
            await refdesk.all_settled()
            assert await found(refdesk) == {"Depot 0", "Depot 1"}


async def test_a_qdrant_that_cannot_be_used_is_one_sentence(tmp_path: Path, qdrant: Qdrant) -> None:
    """Of `refdesk doctor`: nothing there; the wrong key."""
    away = await command("doctor", home=tmp_path, REFDESK_QDRANT_URL="http://127.0.0.1:1")
    assert "FAIL Qdrant: Qdrant does not do its work" in away.out
    well = await command("doctor", home=tmp_path, **as_variables(qdrant.settings))
    assert "ok   Qdrant: answers, Qdrant 1." in well.out
    if qdrant.settings.api_key is not None:
        wrong = as_variables(qdrant.settings) | {"REFDESK_QDRANT_API_KEY": "wrong"}
        refused = await command("doctor", home=tmp_path, **wrong)
        assert "FAIL Qdrant: answers, and refuses the key" in refused.out


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_the_sample_questions_are_answered_as_well(tmp_path: Path, desk: Refdesk, qdrant: Qdrant) -> None:
    """By a cited sentence, as many as with the index in PostgreSQL, or one less."""

    async def answered(refdesk: Refdesk) -> int:
        count = 0
        for row in rows("sample_questions.jsonl"):
            count += bool(holding_sentences(await refdesk.ask(row["question"]), row["expected"]))
        return count

    async with running(tmp_path, **as_variables(qdrant.settings)) as refdesk:
        await refdesk.all_settled(within_s=600)
        counts = (await answered(refdesk), await answered(desk))
    assert counts[0] >= counts[1] - 1
