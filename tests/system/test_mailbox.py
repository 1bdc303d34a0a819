"""A mailbox goes in, and every fact in it is found under the message, and the part of it, in which it stands."""

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.mailbox import Fact, boxes, message
from tests.support.running import Json, Refdesk

MESSAGES = 2_000
SEARCHES_AT_ONCE = 4


def is_right(fact: Fact, hit: Json) -> bool:
    """The answer stands in the passage, and the citation names the message and the part."""
    place = f"{hit['title']} › {hit.get('heading', '')}"
    return fact.value in hit["passage"] and f"{fact.subject} " in f"{place} " and fact.part in place


async def wrong(desk: Refdesk, facts: list[Fact]) -> list[str]:
    slots = asyncio.Semaphore(SEARCHES_AT_ONCE)

    async def one(fact: Fact) -> str | None:
        async with slots:
            hits = await desk.search(fact.question, limit=1)
        return None if hits and is_right(fact, hits[0]) else f"{fact}: {hits}"

    return [found for found in await asyncio.gather(*map(one, facts)) if found]


async def check(desk: Refdesk, folder: Path, numbers: range, *, within_s: float) -> None:
    """Every second message is a file; the others are in boxes."""
    messages = [message(number) for number in numbers]
    for place, single in enumerate(messages[::2]):
        (folder / f"{place}.eml").write_bytes(single.content)
    for place, box in enumerate(boxes(messages[1::2])):
        (folder / f"{place}.mbox").write_bytes(box)
    files = sorted(folder.iterdir())
    said = await desk.command("add", str(folder), "--json", within_s=within_s)
    assert (said.last["indexed"], said.last["failed"], said.last["notes"]) == (len(files), [], []), said.err
    facts = [fact for each in messages for fact in each.facts]
    missed = await wrong(desk, facts)
    sys.stdout.write(f"\n{len(messages)} messages: {len(facts) - len(missed)} of {len(facts)} facts\n")
    assert missed == []


@pytest.mark.timeout(600)
async def test_every_fact_of_a_mailbox_is_found_with_its_message(desk: Refdesk, tmp_path: Path) -> None:
    """A twentieth of the messages: each charset, transfer encoding and form."""
    await check(desk, tmp_path, range(0, MESSAGES, 20), within_s=240)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_every_fact_of_two_thousand_messages_is_found_with_its_message(desk: Refdesk, tmp_path: Path) -> None:
    """All of them."""
    await check(desk, tmp_path, range(MESSAGES), within_s=1200)
