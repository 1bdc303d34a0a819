"""Topics below a whole answer: other sections of a document that it cites, each of which the desk answers when it is asked."""

import asyncio
import re

import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import Open
from tests.support.running import Json, Refdesk
from tests.support.scripted_llm import Behaviour, ScriptedLlm, say

from refdesk.answering.writing.prompting import NOT_FOUND

FACT = "The Marlowe lighthouse was painted white in 1987."
QUESTION = "When was the Marlowe lighthouse painted white?"
LAMP = "Its lamp turns once in nine seconds."
ANSWER = f"{FACT} [1]"
SECTIONS = {"The tower": FACT, "The lamp": LAMP, "The keepers": "Two keepers live on the rock."}

pytestmark = pytest.mark.timeout(400)


def section(heading: str, fact: str) -> str:
    """Long enough to be a passage of its own."""
    log = " ".join(f"Entry {n} in the book about {heading} was made in week {n}." for n in range(1, 16))
    return f"## {heading}\n\n{fact} {log}\n\n"


@pytest.fixture
async def lighthouse(desk: Refdesk) -> Json:
    text = "# Marlowe\n\n" + "".join(section(heading, fact) for heading, fact in SECTIONS.items())
    return await desk.settled(await desk.upload("lighthouse.md", text.encode()))


async def asked(page: Page, *, finish_reason: str = "stop") -> None:
    """And the answer has ended so."""
    await page.locator("#question").fill(QUESTION)
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("turn").last).to_have_attribute("data-finish-reason", finish_reason)


async def test_a_topic_is_asked_by_keyboard_in_the_same_conversation(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """By the words of its document; what was read already is not offered again, and an answer above offers nothing."""
    gate = asyncio.Event()
    llm.plan = [say(ANSWER, gate=gate, gate_at=4), say(f"{LAMP} [1]")]
    page = (await visit()).page
    topics = page.get_by_test_id("topics")
    await page.locator("#question").fill(QUESTION)
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("answer")).to_contain_text("The Marlowe")
    await expect(topics).to_be_hidden()
    gate.set()
    await expect(topics.get_by_role("heading")).to_have_text("More in “Marlowe”")
    assert set(await topics.get_by_role("button").all_inner_texts()) == {"The lamp", "The keepers"}
    await topics.get_by_role("button", name="The lamp").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("turn-question")).to_have_text([QUESTION, "Marlowe › The lamp"])
    await expect(page.get_by_test_id("answer").last).to_contain_text(LAMP)
    await expect(topics.first).to_be_hidden()
    await expect(topics.last.get_by_role("button")).to_have_text(["The keepers"])
    await expect(page.locator("#question")).to_be_focused()
    conversation = await desk.call("GET", f"/api/conversations/{page.url.partition('#conversation/')[2]}")
    assert [turn["question"] for turn in conversation["turns"]] == [QUESTION, "Marlowe › The lamp"]


@pytest.mark.parametrize(
    ("finish_reason", "behaviour"),
    [
        ("not_found", say(NOT_FOUND)),
        ("length", say(f"{ANSWER} Its lamp", finish_reason="length")),
        ("stop", say("That is a matter of taste.")),
    ],
)
async def test_without_a_whole_cited_answer_no_topic_is_offered(
    visit: Open, llm: ScriptedLlm, lighthouse: Json, finish_reason: str, behaviour: Behaviour
) -> None:
    llm.default = behaviour
    page = (await visit()).page
    await asked(page, finish_reason=finish_reason)
    await expect(page.get_by_test_id("sources")).to_be_visible()
    await expect(page.get_by_test_id("topics")).to_be_hidden()


async def test_a_stopped_answer_offers_no_topic(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    llm.default = say(f"{ANSWER} {LAMP} [1]", gate=asyncio.Event(), gate_at=11)
    page = (await visit()).page
    await page.locator("#question").fill(QUESTION)
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("citation")).to_be_visible()
    await page.locator("#stop-button").click()
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-finish-reason", "cancelled")
    await expect(page.get_by_test_id("topics")).to_be_hidden()


async def test_topics_are_offered_to_the_asker_alone_and_while_the_answer_stands(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """After a reload as before it; not where the answer is shared, and not where it is withdrawn."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await asked(page)
    await page.get_by_test_id("share").click()
    await expect(page.get_by_test_id("link")).to_have_value(re.compile(r"\?answer="))
    link = await page.get_by_test_id("link").input_value()
    await page.reload()
    await expect(page.get_by_test_id("topics").get_by_role("button")).to_have_count(2)
    shared = (await visit(link.removeprefix(desk.url))).page
    await expect(shared.get_by_test_id("answer")).to_contain_text(FACT)
    await expect(shared.get_by_test_id("turn")).to_have_attribute("data-finish-reason", "stop")
    await expect(shared.get_by_test_id("topics")).to_be_hidden()
    await desk.delete(lighthouse)
    await page.reload()
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-finish-reason", "withdrawn")
    await expect(page.get_by_test_id("topics")).to_be_hidden()


async def test_topics_are_offered_in_german(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """The page's words; those of the document stay as they are."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await page.locator("#preferences-button").click()
    await page.locator("#language").select_option("de")
    await expect(page.locator("#ask-button")).to_have_text("Fragen")
    await asked(page)
    await expect(page.get_by_test_id("topics").get_by_role("heading")).to_have_text("Mehr aus „Marlowe“")
    await expect(page.get_by_test_id("topics").get_by_role("button", name="The lamp")).to_be_visible()
