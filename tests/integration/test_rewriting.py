"""A follow-up that the language model writes out in full."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.desk import LEAVE, PATIENT, AnswerDesk, Here, own_desk
from tests.support.scripted_llm import Behaviour, refuse, say

from refdesk.app.embedded.stack import StackUrls

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
