"""Nobody is ever given a passage or an answer that is not theirs, with every cache as credulous as it can be made."""

import asyncio
import dataclasses
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from tests.support.desk import AnswerDesk, Here, own_desk, text_of
from tests.support.embedding_server import alike, embedding_server
from tests.support.scripted_llm import say

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal

PRINCIPALS = [Principal(id=f"p{number:02}", groups=(f"team{number:02}",)) for number in range(50)]
DOCUMENTS_EACH = 2
SEED = 20261123
PARTS = 10
RETOLD_EVERY = 200
"""After so many questions a document changes, so that answers are sought by their passages and by likeness again."""
LEAVING_SHARE = 0.05
"""Of those who ask, so many leave in the middle: their commands to Valkey are cancelled."""
QUESTIONS = [
    "What is the password of the team?",
    "What is the code of the team?",
    "Which code does the team use for the door?",
    "what is the PASSWORD of the team?",
    "Tell me the team's code, please.",
]
CANARY = re.compile(r"canary-(\d\d)-\d")


@dataclasses.dataclass(frozen=True)
class Secrets:
    """The assistant, and the documents with the number of each one's team."""

    here: Here
    desk: AnswerDesk
    documents: dict[str, str]

    async def retell(self, document_id: str, edition: int) -> None:
        text = f"{self.documents[document_id]} Edition {edition}."
        await self.desk.put_into_index(await self.desk.change(document_id, text), text)


@pytest.fixture(scope="module")
async def secrets(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secrets]:
    """Disjoint documents with overlapping text; a constant embedder; a similarity threshold of nothing; an echoing model."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(embedding_server(alike))
        settings = {"embedding_url": url, "embedding_model": "constant", "similarity_min": 0.0}
        desk = await stack.enter_async_context(own_desk(servers, tmp_path_factory, valkey_number=10, **settings))
        documents = await _fill(desk)
        desk.llm.default = say("", echo=True)
        yield Secrets(await stack.enter_async_context(desk.assistant_here()), desk, documents)


async def _fill(desk: AnswerDesk) -> dict[str, str]:
    documents = {}
    for number, principal in enumerate(PRINCIPALS):
        for copy in range(DOCUMENTS_EACH):
            text = f"The password and door code of the team is canary-{number:02}-{copy}. Tell nobody the code."
            documents[await desk.add(f"Team secrets {copy}", text, readers=principal.groups)] = text
    return documents


async def test_no_passage_and_no_answer_is_somebody_elses(secrets: Secrets) -> None:
    """1,000 questions."""
    await _ask_many(secrets, count=1_000)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
async def test_no_passage_and_no_answer_of_twenty_thousand_is_somebody_elses(secrets: Secrets, part: int) -> None:
    """20,000 questions, in parts that can be run apart."""
    await _ask_many(secrets, count=20_000 // PARTS, seed=SEED + part)


async def _ask_many(secrets: Secrets, *, count: int, seed: int = SEED) -> None:
    """Questions of random people in random words; every canary seen must be the asker's own, and some must be seen."""
    chance = random.Random(seed)
    slots = asyncio.Semaphore(16)
    outcomes: Counter[str] = Counter()

    async def whole(number: int, question: str) -> None:
        stream = await secrets.here.client(PRINCIPALS[number]).ask(question)
        outcomes[stream[0].data["cache"]] += 1
        assert stream[-1].name == "done", stream[-1]
        seen = set(CANARY.findall(text_of(stream) + str(stream[1].data)))
        assert seen == {f"{number:02}"}, (number, question, seen)

    async def leaving(number: int, question: str) -> None:
        async with secrets.here.client(PRINCIPALS[number]).stream(question) as response:
            text = (await response.content.readany()).decode()
            response.close()
        outcomes["left"] += 1
        assert set(CANARY.findall(text)) <= {f"{number:02}"}

    async def one(turn: int, ask: Callable[[int, str], Awaitable[None]], number: int, question: str) -> None:
        async with slots:
            if turn % RETOLD_EVERY == 0:
                await secrets.retell(list(secrets.documents)[turn % len(secrets.documents)], edition=seed + turn)
            await ask(number, question)

    async with asyncio.TaskGroup() as tasks:
        for turn in range(count):
            ask = leaving if chance.random() < LEAVING_SHARE else whole
            tasks.create_task(one(turn, ask, chance.randrange(len(PRINCIPALS)), chance.choice(QUESTIONS)))
    print(f"{count} questions of {len(PRINCIPALS)} principals: 0 foreign; {dict(outcomes)}")  # noqa: T201
    assert min(outcomes[kind] for kind in ("miss", "hit", "semantic", "left")) > 0
