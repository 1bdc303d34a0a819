"""Another embedding model while people ask: built, compared, swapped, taken back, with searches running all the time."""

import asyncio
import contextlib
import json
import random
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.model_folders import export_embedder, write
from tests.support.running import Json, Refdesk, running, until

from refdesk.app.commands.reindex import OVERLAP_MIN

OLD, NEW = "all-MiniLM-L6-v2-int8", "all-MiniLM-L6-v2-fp32"
QUERY = "where are the spare lanterns of the harbour kept"
SEED = 20261125
WORDS = (
    "harbour crane rope tar anchor ledger cargo tide pilot bay signal watch storm repair permit crew depot customs berth"
).split()


def text_of(number: int, *, sections: int) -> str:
    """A document of so many chunks, the same for the same number."""
    chosen = random.Random(SEED + number)
    parts = [
        f"## Section {section}\n\n{' '.join(chosen.choices(WORDS, k=90)).capitalize()}." for section in range(sections)
    ]
    return f"# Depot {number}\n\nDepot {number} keeps the spare lanterns of the harbour.\n\n" + "\n\n".join(parts)


@dataclass
class Asking:
    """Searches one after another, by some at once; and what came of them."""

    refdesk: Refdesk
    asked: int = 0
    failed: list[str] = field(default_factory=list)
    empty: int = 0
    scores: set[float] = field(default_factory=set)
    """Of the best passage for one and the same question."""

    @contextlib.asynccontextmanager
    async def going_on(self, *, askers: int = 3) -> AsyncIterator[None]:
        stopping = asyncio.Event()

        async def ask() -> None:
            while not stopping.is_set():
                await self._once()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(askers):
                tasks.create_task(ask())
            try:
                yield
            finally:
                stopping.set()

    async def _once(self) -> None:
        self.asked += 1
        try:
            hits = await self.refdesk.search(QUERY, limit=5)
        except Exception as error:  # noqa: BLE001 (every failure counts)
            self.failed.append(repr(error))
            return
        self.empty += not hits
        self.scores |= {hit["score"] for hit in hits[:1]}

    def none_failed(self) -> None:
        assert self.asked > 20
        assert (self.failed, self.empty) == ([], 0)


async def fill(refdesk: Refdesk, *, documents: int, sections: int) -> list[Json]:
    stored = [
        await refdesk.upload(f"depot-{number}.md", text_of(number, sections=sections).encode())
        for number in range(documents)
    ]
    await refdesk.all_settled(within_s=600)
    return stored


async def generations(refdesk: Refdesk) -> list[Json]:
    listed: list[Json] = (await refdesk.call("GET", "/api/index/generations"))["generations"]
    return listed


async def finds(refdesk: Refdesk, word: str) -> list[str]:
    return [hit["document_id"] for hit in await refdesk.search(word, limit=20) if word in hit["passage"]]


async def replace(refdesk: Refdesk, document: Json, text: str) -> Json:
    return await refdesk.upload("depot.md", text.encode(), path=f"/api/documents/{document['id']}", method="PUT")


async def reindex_under_fire(refdesk: Refdesk, *, documents: int, sections: int, within_s: float) -> Asking:
    """The whole way there and back; the indexer is killed while it builds, documents change while it does."""
    stored = await fill(refdesk, documents=documents, sections=sections)
    asking = Asking(refdesk)
    async with asking.going_on():
        command = asyncio.create_task(refdesk.command("reindex", "--model", NEW, "--yes", "--json", within_s=within_s))

        async def building() -> bool:
            return command.done() or any(not each["active"] and each["chunks"] for each in await generations(refdesk))

        await until(building, what="the second generation has its first chunks")
        refdesk.child("indexer").kill()
        await replace(refdesk, stored[0], "# Depot 0\n\nThe zanzibarite is in bay 9.")
        await refdesk.delete(stored[1])
        said = await command
        assert said.code == 0, said.err
        assert said.last["swapped"] and said.last["generation"]["model"] == NEW
        assert said.last["comparison"]["overlap"] >= OVERLAP_MIN  # the texts are much alike: near ones change places
        await refdesk.all_settled()
    assert await finds(refdesk, "zanzibarite") == [stored[0]["id"]]
    assert stored[1]["id"] not in {hit["document_id"] for hit in await refdesk.search("Depot 1", limit=50)}
    return asking


async def there_and_back(refdesk: Refdesk, *, asking: Asking) -> None:
    """With nothing else changing, one question has one score per model: a mixture of the two would show as a third."""
    asking.scores.clear()
    async with asking.going_on():
        new = (await refdesk.search(QUERY, limit=1))[0]["score"]
        back = await refdesk.command("reindex", "--rollback", "--json")
        assert back.code == 0, back.err
        assert back.last["generation"]["model"] == OLD
        old = (await refdesk.search(QUERY, limit=1))[0]["score"]
        assert (await refdesk.command("reindex", "--swap", "--json")).last["generation"]["model"] == NEW
        assert (await refdesk.search(QUERY, limit=1))[0]["score"] == new
        assert old != new
        assert (await refdesk.command("reindex", "--rollback")).code == 0
    assert asking.scores == {old, new}


@pytest.mark.timeout(300)
async def test_another_model_while_people_ask(tmp_path: Path) -> None:
    """No search fails or comes back empty, no vector meets one of the other model, and both generations stay current."""
    async with running(tmp_path, "--no-samples") as refdesk:
        asking = await reindex_under_fire(refdesk, documents=24, sections=3, within_s=100)
        await there_and_back(refdesk, asking=asking)
        asking.none_failed()

        twice = await refdesk.command("reindex", "--rollback")
        assert twice.code == 1 and "searched already" in twice.err
        later = await refdesk.upload("later.md", b"# Later\n\nThe quixotrope is in bay 3.")
        await refdesk.settled(later)
        assert (await refdesk.command("reindex", "--swap")).code == 0
        assert await finds(refdesk, "quixotrope") == [later["id"]], "what is kept is kept up to date"
        assert "ready, kept up to date" in (await refdesk.command("status")).out
        assert (await refdesk.command("reindex", "--drop")).code == 0
        assert [each["model"] for each in await generations(refdesk)] == [NEW]
        assert await finds(refdesk, "quixotrope") == [later["id"]]
        await built_compared_and_cancelled(refdesk, tmp_path / "questions.jsonl")


async def built_compared_and_cancelled(refdesk: Refdesk, questions: Path) -> None:
    """On questions of one's own, with what is expected of some; what was built is discarded, and nothing was swapped."""
    asked = [{"question": "Where is the quixotrope?", "text": "quixotrope is in bay 3"}, {"question": QUERY}]
    questions.write_text("\n".join(json.dumps(question) for question in asked), "utf-8")
    said = await refdesk.command("reindex", "--model", OLD, "--questions", str(questions), "--json")
    assert said.code == 0, said.err
    compared = said.last["comparison"]
    assert (compared["questions"], compared["expected"]) == (2, 1)
    assert (compared["found_active"], compared["found_beside"]) == (1, 1)
    assert not said.last["swapped"]
    assert (await refdesk.command("reindex", "--cancel", "--json")).last["generation"]["model"] == NEW
    assert [each["model"] for each in await generations(refdesk)] == [NEW]
    again = await refdesk.command("reindex", "--cancel")
    assert again.code == 1 and "only the one" in again.err


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_another_model_for_five_thousand_chunks(tmp_path: Path) -> None:
    """The promise in full: 5,000 chunks are embedded anew."""
    async with running(tmp_path, "--no-samples") as refdesk:
        asking = await reindex_under_fire(refdesk, documents=250, sections=20, within_s=900)
        assert (await generations(refdesk))[0]["chunks"] >= 5_000 - 40
        await there_and_back(refdesk, asking=asking)
        asking.none_failed()


@pytest.mark.timeout(600)
async def test_a_model_in_a_folder_is_the_first_one_or_the_next(tmp_path: Path, models: Path) -> None:
    """By the setting on an empty database, by --model later; one that is not whole begins nothing."""
    first = await export_embedder(tmp_path / "first", models=models)
    async with running(tmp_path, "--no-samples", REFDESK_EMBEDDING_MODEL=str(first)) as refdesk:
        await refdesk.settled(await refdesk.upload("depot.md", text_of(1, sections=2).encode()))
        (active,) = (await refdesk.call("GET", "/api/index/generations"))["generations"]
        assert active["model"].startswith("first@")
        assert (active["dimensions"], active["embedding_url"]) == (384, first.as_uri())
        assert (await refdesk.search(QUERY))[0]["title"] == "Depot 1"
        broken = Path(shutil.copytree(first, tmp_path / "broken"))
        (broken / "tokenizer.json").unlink()
        refused = await refdesk.command("reindex", "--model", "broken")
        assert (refused.code, "has no tokenizer.json" in refused.err) == (1, True)
        shutil.copytree(first, tmp_path / "next")
        write(tmp_path / "next" / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})
        built = await refdesk.command("reindex", "--model", "next", "--yes", "--overlap-min", "0", "--json")
        assert built.code == 0, built.err
        assert built.last["swapped"]
        assert built.last["generation"]["model"].startswith("next@")
        assert (await refdesk.search(QUERY))[0]["title"] == "Depot 1"
