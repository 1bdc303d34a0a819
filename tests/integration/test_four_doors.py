"""One person gets the same passages at every door, and nobody gets a foreign one: search, answers, OpenAI's format, MCP.

No model is asked, since what is compared is what an answer stands on. Every fourth question is answered anew at each door; the
others may be remembered from the door before, as in life.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import pytest
from tests.support.desk import AnswerDesk, Here, own_desk

from refdesk.answering.quoting.extractive import PASSAGES_READ
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import EVERYONE, Principal

SEED = 20_261_130
GROUPS = tuple(f"group{n}" for n in range(12))
DOCUMENTS = 120
PRINCIPALS = 50
AT_ONCE = 16
FEW, MANY = 60, 20_000
ACCEPT = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
THINGS = ("ferries", "canteens", "bicycles", "printers", "gardens", "archives", "lifts", "ladders", "boilers", "tents")
ASKED = ("What is the rule for {} in region {}?", "Who looks after the {} of region {}?", "{} region {} price", "{} {}")


class Passage(NamedTuple):
    document_id: str
    version: int
    ordinal: int


@dataclass(frozen=True)
class Office:
    """Documents with their readers, and the people."""

    here: Here
    readers: dict[str, frozenset[str]]
    people: tuple[Principal, ...]

    def is_foreign(self, passage: Passage, person: Principal) -> bool:
        return self.readers[passage.document_id].isdisjoint({EVERYONE, f"principal:{person.id}", *person.groups})


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    unlimited = {"searches_per_minute_max": 10**6, "waiting_retrievals_max": 10**4, "retrieval_wait_s_max": 120.0}
    async with own_desk(servers, tmp_path_factory, valkey_number=9, llm_url=None, llm_model=None, **unlimited) as desk:
        yield desk


@pytest.fixture(scope="module")
async def office(desk: AnswerDesk, assistant_here: Here) -> Office:
    chance = random.Random(SEED)
    readers = {}
    for number in range(DOCUMENTS):
        thing, region = THINGS[number % len(THINGS)], number // len(THINGS)
        named = (EVERYONE,) if number % 6 == 0 else tuple(chance.sample(GROUPS, chance.randint(1, 3)))
        text = (
            f"The {thing} of region {region} are looked after by office {number}.\n\n"
            f"The rule for {thing} in region {region} is number {number * 7}; the price is {number * 3} euros."
        )
        document_id = await desk.add(f"{thing.title()}, region {region}", text, readers=named)
        readers[document_id] = frozenset(named)
    people = tuple(
        Principal(id=f"person{n}", groups=tuple(sorted(chance.sample(GROUPS, chance.randint(0, 4)))))
        for n in range(PRINCIPALS)
    )
    return Office(assistant_here, readers, people)


def questions(count: int, people: tuple[Principal, ...]) -> Iterator[tuple[int, str, Principal]]:
    """Mixed ones: of one's own documents, of foreign ones, of none."""
    chance = random.Random(SEED + 1)
    for number in range(count):
        asked = chance.choice(ASKED).format(chance.choice(THINGS), chance.randint(0, 15))
        yield number, asked, chance.choice(people)


async def at_search(office: Office, question: str, person: Principal, *, cache: str) -> list[Passage]:
    body = {"query": question, "limit": PASSAGES_READ}
    return passages((await reply_of(office, person, "/api/search", body))["hits"])


async def at_answers(office: Office, question: str, person: Principal, *, cache: str) -> list[Passage]:
    body = {"question": question, "cache": cache}
    return passages((await reply_of(office, person, "/api/answers", body))["sources"])


async def at_openai(office: Office, question: str, person: Principal, *, cache: str) -> list[Passage]:
    body = {"model": "refdesk", "messages": [{"role": "user", "content": question}], "refdesk": {"cache": cache}}
    reply = await reply_of(office, person, "/v1/chat/completions", body)
    found = passages(reply["refdesk"]["sources"])
    cited = {(one["url_citation"]["document_id"]) for one in reply["choices"][0]["message"]["annotations"]}
    assert cited <= {passage.document_id for passage in found}
    return found


async def at_mcp(office: Office, question: str, person: Principal, *, cache: str) -> list[Passage]:
    """`search_documents` and `ask`, which must agree."""
    searched = await tool(office, person, "search_documents", {"query": question, "limit": PASSAGES_READ})
    asked = await tool(office, person, "ask", {"question": question})
    found = passages(asked["sources"])
    assert passages(searched["hits"]) == found
    return found


DOORS = (at_search, at_answers, at_openai, at_mcp)


async def tool(office: Office, person: Principal, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    call = {"name": name, "arguments": arguments}
    reply = await reply_of(office, person, "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})
    assert not reply["result"].get("isError"), reply
    return dict(reply["result"]["structuredContent"])


async def reply_of(office: Office, person: Principal, path: str, body: dict[str, Any]) -> Any:
    async with office.here.client(person).call(
        "POST", path, json=body, headers=ACCEPT if path == "/mcp" else {}
    ) as response:
        text, is_stream = await response.text(), response.content_type == "text/event-stream"
    assert response.status == 200, text
    lines = text.splitlines() if is_stream else [f"data: {text}"]  # pings may stand before and behind what is said
    [said] = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return msgspec.json.decode(said)


def passages(listed: list[dict[str, Any]]) -> list[Passage]:
    return [Passage(one["document_id"], one["version"], one["ordinal"]) for one in listed]


async def compare(office: Office, count: int) -> tuple[int, list[str]]:
    """How many passages came, and every difference between two doors, and every foreign passage."""
    wrong: list[str] = []
    given = iter(list(questions(count, office.people)))
    shown = 0

    async def ask() -> None:
        nonlocal shown
        for number, question, person in given:
            cache = "bypass" if number % 4 == 0 else "use"
            found = [await door(office, question, person, cache=cache) for door in DOORS]
            shown += sum(map(len, found))
            if any(other != found[0] for other in found[1:]):
                wrong.append(f"{person.id} asks {question!r}: {found}")
            foreign = {one for door in found for one in door if office.is_foreign(one, person)}
            wrong.extend(f"{person.id} asks {question!r} and reads {one}" for one in foreign)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(ask())
    return shown, wrong


async def test_the_same_person_reads_the_same_at_every_door(office: Office) -> None:
    """And each of the people may read something, and not everything."""
    shown, wrong = await compare(office, FEW)
    assert wrong == []
    assert shown > FEW * len(DOORS)
    for person in office.people:
        mine = [one for one in office.readers if not office.is_foreign(Passage(one, 1, 0), person)]
        assert 0 < len(mine) < DOCUMENTS


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
async def test_the_same_person_reads_the_same_at_every_door_twenty_thousand_times(office: Office) -> None:
    shown, wrong = await compare(office, MANY)
    assert wrong == []
    assert shown > MANY * len(DOORS)
