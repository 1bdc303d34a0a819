"""Answers and hits name the page, the slide or the sheet on which their words stand."""

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.running import Json, Refdesk
from tests.support.short_pages import DOCUMENTS, FACTS, Planted, ShortPages, documents

SEARCHES_AT_ONCE = 4


def is_right(fact: Planted, hit: Json) -> bool:
    """The passage has the answer, and its place is the fact's."""
    if hit["title"] != Path(fact.file).stem or fact.answer not in hit["passage"]:
        return False
    return hit.get("page") == fact.page and (fact.sheet is None or fact.sheet in hit.get("heading", ""))


async def check(desk: Refdesk, folder: Path, chosen: list[ShortPages]) -> None:
    for document in chosen:
        (folder / document.name).write_bytes(document.content)
    said = await desk.command("add", str(folder), "--json", within_s=240)
    assert (said.last["indexed"], said.last["failed"], said.last["notes"]) == (len(chosen), [], []), said.err
    slots = asyncio.Semaphore(SEARCHES_AT_ONCE)

    async def wrong(fact: Planted) -> str | None:
        async with slots:
            hits = await desk.search(fact.question, limit=1)
        return None if hits and is_right(fact, hits[0]) else f"{fact}: {hits}"

    facts = [fact for document in chosen for fact in document.facts]
    missed = [found for found in await asyncio.gather(*map(wrong, facts)) if found]
    sys.stdout.write(f"\n{len(chosen)} documents: {len(facts) - len(missed)} of {len(facts)} places right\n")
    assert len(missed) <= len(facts) // 100, missed


@pytest.mark.timeout(600)
async def test_a_citation_names_the_short_page_it_stands_on(desk: Refdesk, tmp_path: Path) -> None:
    """A few documents of each kind."""
    await check(desk, tmp_path, documents()[:8])


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_five_hundred_citations_name_their_short_pages(desk: Refdesk, tmp_path: Path) -> None:
    """500 facts in 60 documents, 99 in a hundred at least."""
    chosen = documents()
    assert (len(chosen), sum(len(each.facts) for each in chosen)) == (DOCUMENTS, FACTS)
    await check(desk, tmp_path, chosen)
