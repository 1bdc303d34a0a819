"""Nobody is ever given a passage or an answer that is not theirs, with every cache as credulous as it can be made."""

import asyncio
import dataclasses
import random
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from tests.support.desk import AnswerDesk, Here, own_desk, text_of
from tests.support.embedding_server import alike, embedding_server
from tests.support.scripted_llm import say

from refdesk.app.embedded.stack import StackUrls
from refdesk.app.services.models import open_embedder, open_index
from refdesk.contracts.access import Principal
from refdesk.outside.postgres import open_pool

PRINCIPALS = [Principal(id=f"p{number:02}", groups=(f"team{number:02}",)) for number in range(50)]
DOCUMENTS_EACH = 2
SEED = 20261123
QUESTIONS = [
    "What is the password of the team?",
    "What is the code of the team?",
    "Which code does the team use for the door?",
    "what is the PASSWORD of the team?",
    "Tell me the team's code, please.",
]
CANARY = re.compile(r"canary-(\d\d)-\d")


@pytest.fixture(scope="module")
async def here(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Here]:
    """Disjoint documents with overlapping text; a constant embedder; a similarity threshold of nothing; an echoing model."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(embedding_server(alike))
        settings = {"embedding_url": url, "embedding_model": "constant", "similarity_min": 0.0}
        desk = await stack.enter_async_context(own_desk(servers, tmp_path_factory, valkey_number=10, **settings))
        embedder = await stack.enter_async_context(open_embedder(desk.settings, threads=1))
        pool = await stack.enter_async_context(
            open_pool(str(desk.settings.index_database_url), name="test constant index", size_max=2)
        )
        index, _ = await open_index(pool, embedder)
        await _fill(dataclasses.replace(desk, index=index, embedder=embedder))
        desk.llm.default = say("", echo=True)
        yield await stack.enter_async_context(desk.assistant_here())


async def _fill(desk: AnswerDesk) -> None:
    for number, principal in enumerate(PRINCIPALS):
        for copy in range(DOCUMENTS_EACH):
            text = f"The password and door code of the team is canary-{number:02}-{copy}. Tell nobody the code."
            await desk.add(f"Team secrets {copy}", text, readers=principal.groups)


async def test_no_passage_and_no_answer_is_somebody_elses(here: Here) -> None:
    """1,000 questions."""
    await _ask_many(here, count=1_000)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_no_passage_and_no_answer_of_twenty_thousand_is_somebody_elses(here: Here) -> None:
    """20,000 questions."""
    await _ask_many(here, count=20_000)


async def _ask_many(here: Here, *, count: int) -> None:
    """Questions of random people in random words; every canary seen must be the asker's own, and some must be seen."""
    chance = random.Random(SEED)
    asked = [(chance.randrange(len(PRINCIPALS)), chance.choice(QUESTIONS)) for _ in range(count)]
    slots = asyncio.Semaphore(16)
    outcomes: set[str] = set()

    async def one(number: int, question: str) -> set[str]:
        async with slots:
            stream = await here.client(PRINCIPALS[number]).ask(question)
        outcomes.add(stream[0].data["cache"])
        assert stream[-1].name == "done", stream[-1]
        seen = set(CANARY.findall(text_of(stream) + str(stream[1].data)))
        assert seen == {f"{number:02}"}, (number, question, seen)
        return seen

    await asyncio.gather(*(one(number, question) for number, question in asked))
    assert {"miss", "hit", "semantic"} <= outcomes
