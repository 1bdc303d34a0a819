"""A follow-up that the language model writes out in full."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis
from tests.support.desk import LEAVE, PATIENT, VALKEY_PATIENCE_S, AnswerDesk, Here, fresh_valkey, own_desk
from tests.support.scripted_llm import Behaviour, refuse, say

from refdesk.answering.accepted_question import AcceptedQuestion
from refdesk.answering.conversations.turns import Turn
from refdesk.answering.evidence.retrieval import Evidence, Sought
from refdesk.answering.questions import Questions
from refdesk.answering.rewriting import Written
from refdesk.answering.usage.budget import Budget, BudgetLimits
from refdesk.answering.usage.prices import Prices
from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import Principal
from refdesk.contracts.answers import Question, Usage
from refdesk.outside.valkey.client import open_valkey

QUESTION = "How many days of paid leave do employees have?"
FOLLOW_UP = "And who gets it?"
IN_FULL = "Who gets thirty days of paid leave a year?"


@pytest.fixture(scope="module")
async def desk(servers: StackUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnswerDesk]:
    async with own_desk(servers, tmp_path_factory, valkey_number=4, **PATIENT) as desk:
        await desk.add("Leave", LEAVE)
        yield desk


@pytest.fixture(scope="module")
async def rewriting(desk: AnswerDesk) -> AsyncIterator[Here]:
    """Allowed a second for it."""
    async with desk.assistant_here(follow_up_rewrite_s=1.0, llm_failures_max=1000) as here:
        yield here


async def asked(
    here: Here, desk: AnswerDesk, written: Behaviour, *, talk: str, question: str = FOLLOW_UP
) -> tuple[str, float | None]:
    """What the model was asked in the end, and what the rewriting took; ``written`` is what it says to that."""
    client = here.client()
    desk.llm.reset()
    await client.ask(QUESTION, conversation_id=talk)
    desk.llm.reset()
    desk.llm.plan = [written]
    stream = await client.ask(question, conversation_id=talk, cache="bypass")
    assert stream[-1].name == "done"
    return desk.llm.calls[-1].prompt.rpartition("Question: ")[2], stream[-1].data["timings"].get("rewrite")


async def test_a_follow_up_is_read_as_the_model_writes_it(rewriting: Here, desk: AnswerDesk) -> None:
    """It is shown the conversation; what that took is told."""
    question, seconds = await asked(rewriting, desk, say(f" {IN_FULL}\n"), talk="full")
    assert question == IN_FULL
    assert seconds is not None and seconds > 0
    rewriting_call, _ = desk.llm.calls
    assert [message["content"] for message in rewriting_call.body["messages"]][1:3:2] == [QUESTION]
    assert rewriting_call.prompt == FOLLOW_UP


async def test_a_new_topic_stays_as_it_is(rewriting: Here, desk: AnswerDesk) -> None:
    """The model repeats it."""
    topic = "And when is lunch?"
    assert (await asked(rewriting, desk, say(topic), talk="topic", question=topic))[0] == topic


@pytest.mark.parametrize(
    "written",
    [
        refuse(500),
        Behaviour(silent=True),
        say("word " * 400),
        say("Two\nlines?"),
        Behaviour(words=("",)),
    ],
    ids=["refused", "silent", "endless", "lines", "nothing"],
)
async def test_without_a_question_in_time_what_is_found_tells(
    rewriting: Here, desk: AnswerDesk, written: Behaviour, request: pytest.FixtureRequest
) -> None:
    """It is read together with the question before it, and answered."""
    async with asyncio.timeout(30):
        question, _ = await asked(rewriting, desk, written, talk=request.node.name)
    assert question == f"{QUESTION} {FOLLOW_UP}"


async def test_nobody_is_asked_for_a_question_that_cannot_lean(rewriting: Here, desk: AnswerDesk) -> None:
    """Nor for the first of a conversation."""
    whole = "Until which day of the year may unused days of leave be taken by employees?"
    _, seconds = await asked(rewriting, desk, say("An answer. [1]"), talk="whole", question=whole)
    assert seconds is None
    assert len(desk.llm.calls) == 1


class Recorded:
    """Retrieval that finds nothing, and a rewriter that makes ``calls`` of a hundred tokens or has no room for one."""

    model = "recorded"

    def __init__(self, *, room: bool) -> None:
        self.room = room
        self.calls = 0
        self.searched: list[str] = []
        self.noted: list[tuple[str, Usage, bool]] = []

    async def gather(self, sought: Sought, **_: Any) -> Evidence:
        self.searched.append(sought.text)
        return Evidence(
            vector=np.zeros(1, np.float32),
            generation=1,
            passages=(),
            stale=frozenset(),
            as_of=datetime.now(UTC),
            index_lag_seconds=0.0,
            embed_s=0.0,
        )

    def note_rewriting(self, principal: Principal, *, model: str, usage: Usage, is_counted: bool) -> None:
        self.noted.append((model, usage, is_counted))

    async def rewrite(self, question: str, turns: Sequence[Turn]) -> Written:
        self.calls += self.room
        return Written(IN_FULL, Usage(60, 40)) if self.room else Written()


@pytest.mark.parametrize(
    ("tokens_max", "room", "booked", "searched"),
    [
        (10_000, True, 100, [IN_FULL]),
        (10_000, False, 0, [FOLLOW_UP, f"{QUESTION} {FOLLOW_UP}"]),
        (1, True, 0, [FOLLOW_UP, f"{QUESTION} {FOLLOW_UP}"]),
    ],
    ids=["called", "no room", "budget spent"],
)
async def test_only_a_call_is_booked_and_a_spent_budget_makes_none(
    valkey_url: str, tokens_max: int, room: bool, booked: int, searched: list[str]
) -> None:
    """The question is read as it is then: the budget refuses the answer, if it must."""
    url = await fresh_valkey(valkey_url, number=4)
    async with open_valkey(url, name="test-rewriting", timeout_s=VALKEY_PATIENCE_S) as valkey:
        limits = BudgetLimits(
            concurrent=1,
            requests_per_minute=1,
            searches_per_minute=1,
            tokens_per_minute=tokens_max,
            tokens_per_day=tokens_max,
        )
        recorded: Any = Recorded(room=room)
        questions = Questions(
            recorded,
            budget=Budget(valkey, limits),
            bookings=recorded,
            prices=Prices(),
            passages=1,
            rewriter=recorded,
        )
        asked = AcceptedQuestion(
            Question(question=FOLLOW_UP),
            Principal(id="ann"),
            100,
            (Turn(QUESTION, "Thirty days."),),
            0.0,
            is_counted=True,
        )
        await questions.read(asked, admit=None)
    async with Redis.from_url(url) as redis:
        days = [int(await redis.get(day)) async for day in redis.scan_iter("refdesk:budget:*:tokens:d*")]
    assert sum(days) == booked
    assert recorded.noted == ([("recorded", Usage(60, 40), True)] if booked else [])
    assert recorded.searched == searched
    assert recorded.calls == (booked > 0)
