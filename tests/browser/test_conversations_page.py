"""Conversations on the page: they survive a reload, another device and a lost line; and what one does with them."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect
from tests.browser.conftest import PHONE, Open
from tests.support.running import Json, Refdesk, until
from tests.support.scripted_llm import ScriptedLlm, refuse, say

FACT = "The Marlowe lighthouse was painted white in 1987."
QUESTION = "When was the Marlowe lighthouse painted white?"
LAMP = "Its lamp turns once in nine seconds."
ANSWER = f"{FACT} [1]"
WHOLE = f"{FACT} [1] {LAMP} [1]"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
async def lighthouse(desk: Refdesk) -> Json:
    """A document that can be asked about."""
    text = f"# Marlowe\n\nThe rock lies two miles out.\n\n## The tower\n\n{FACT} {LAMP}"
    return await desk.settled(await desk.upload("lighthouse.md", text.encode()))


async def asked(page: Page, question: str = QUESTION) -> None:
    await page.locator("#question").fill(question)
    await page.locator("#question").press("Enter")


async def answered(page: Page, question: str = QUESTION) -> None:
    """Asked, and the answer is complete."""
    await asked(page, question)
    await expect(page.get_by_test_id("turn").last).to_have_attribute("data-state", "done")


async def kept(desk: Refdesk, page: Page, turns: int) -> None:
    """The conversation on the page is in the history with so many turns."""
    conversation_id = page.url.partition("#conversation/")[2]

    async def listed() -> bool:
        found = (await desk.call("GET", "/api/conversations?limit=200"))["conversations"]
        return any(one["id"] == conversation_id and one["turns"] == turns for one in found)

    await until(listed, what=f"{turns} turns are kept")


# what survives


async def test_a_reload_in_the_middle_of_an_answer_goes_on_with_it(
    visit: Open, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """The turns before it, and the running one to its end; the model is not asked again."""
    gate = asyncio.Event()
    llm.plan = [say(ANSWER), say(WHOLE, gate=gate, gate_at=8)]
    page = (await visit()).page
    await answered(page)
    await asked(page, "And what about its lamp?")
    await expect(page.get_by_test_id("answer").last).to_contain_text("The Marlowe")
    await page.reload()
    turns = page.get_by_test_id("turn")
    await expect(turns).to_have_count(2)
    await expect(turns.first.get_by_test_id("answer")).to_contain_text(FACT)
    await expect(turns.last).to_have_attribute("data-state", "answering")
    await expect(page.locator("#stop-button")).to_be_visible()
    gate.set()
    await expect(turns.last).to_have_attribute("data-finish-reason", "stop")
    await expect(turns.last.get_by_test_id("answer")).to_contain_text("nine seconds")
    assert len(llm.calls) == 2
    assert await page.title() == f"{QUESTION} · Refdesk"


async def test_another_device_finds_the_conversation(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """In the list, with its sources; a follow-up there belongs to it."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await answered(page)
    await kept(desk, page, 1)
    phone = (await visit(viewport=PHONE)).page
    await phone.locator("#history-button").click()
    await phone.get_by_test_id("conversation-title").first.click()
    await expect(phone.get_by_test_id("answer")).to_contain_text(FACT)
    await expect(phone.locator("#history")).to_be_hidden()
    await phone.get_by_test_id("citation").click()
    await expect(phone.get_by_test_id("used")).to_have_text(FACT)
    await phone.locator("#reader-close").click()
    await answered(phone, "And its lamp?")
    await kept(desk, phone, 2)
    await page.reload()
    await expect(page.get_by_test_id("turn")).to_have_count(2)


async def test_a_lost_line_is_taken_up_after_the_last_event(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """By Last-Event-ID: nothing is there twice."""
    llm.default = say(WHOLE)
    page = (await visit()).page
    resumed: list[str | None] = []

    async def cut_off(route: Route) -> None:
        whole = await route.fetch()
        await route.fulfill(response=whole, body=(await whole.text()).partition("event: sentence")[0])

    async def noted(route: Route) -> None:
        resumed.append(await route.request.header_value("last-event-id"))
        await route.continue_()

    await page.route("**/api/answers", cut_off)
    await page.route("**/api/answers/*/events", noted)
    await answered(page)
    assert len(resumed) == 1 and int(resumed[0] or 0) > 1
    assert (await page.get_by_test_id("answer").inner_text()).count("painted white") == 1


# the drawer


async def test_a_conversation_is_found_renamed_and_deleted_with_a_way_back(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """Undone in time, the service never hears of it; else it is gone, also from another page."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await answered(page, "When was the zebra lighthouse painted?")
    await kept(desk, page, 1)
    await page.locator("#history-button").click()
    await page.locator("#history-search").fill("ZEBRA")
    rows = page.get_by_test_id("conversation")
    await expect(rows).to_have_count(1)
    await rows.get_by_test_id("conversation-menu").locator("summary").click()
    await rows.get_by_test_id("conversation-rename").click()
    await rows.get_by_test_id("conversation-name").fill("Zebra paint")
    await rows.get_by_test_id("conversation-name").press("Enter")
    await expect(rows.get_by_test_id("conversation-title")).to_have_text("Zebra paint")
    await rows.get_by_test_id("conversation-menu").locator("summary").click()
    await rows.get_by_test_id("conversation-delete").click()
    await expect(rows).to_have_count(0)
    await expect(page.get_by_test_id("turn")).to_have_count(0)
    await page.locator("#toast-undo").click()
    await expect(rows.get_by_test_id("conversation-title")).to_have_text("Zebra paint")
    await rows.get_by_test_id("conversation-menu").locator("summary").click()
    await rows.get_by_test_id("conversation-delete").click()
    await page.reload()

    async def is_gone() -> bool:
        return (await desk.call("GET", "/api/conversations", params={"q": "zebra"}))["conversations"] == []

    await until(is_gone, what="the deleted conversation is gone")
    await page.locator("#history-button").click()
    await page.locator("#history-search").fill("zebra")
    await expect(page.locator("#history-empty")).to_be_visible()


async def test_a_conversation_is_exported(visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json) -> None:
    """As a file with its question, its answer and its source."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await answered(page, "When was the exported lighthouse painted?")
    await kept(desk, page, 1)
    await page.locator("#history-button").click()
    row = page.get_by_test_id("conversation").filter(has_text="exported lighthouse")
    await row.get_by_test_id("conversation-menu").locator("summary").click()
    async with page.expect_download() as markdown:
        await row.get_by_test_id("conversation-markdown").click()
    text = Path(await (await markdown.value).path()).read_text()
    assert "## When was the exported lighthouse painted?" in text and "[^1-1]: Marlowe" in text
    await row.get_by_test_id("conversation-menu").locator("summary").click()
    async with page.expect_download() as as_json:
        await row.get_by_test_id("conversation-json").click()
    exported = json.loads(Path(await (await as_json.value).path()).read_text())
    assert exported["turns"][0]["sources"][0]["document_id"] == lighthouse["id"]


async def test_hostile_words_in_a_conversation_stay_text(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """In its title, in the drawer, in what is asked before a deletion, and as a shared answer."""
    hostile = "<img src=http://stray.invalid/x.png onerror=window.stolen=1> [paint](javascript:window.stolen=1)"
    llm.default = say(f"{hostile} [1]")
    page = (await visit()).page
    await desk.settled(await desk.upload("paint.md", f"# Paint\n\n{FACT} {hostile}".encode()))
    await answered(page, f"Paint {hostile}")
    await kept(desk, page, 1)
    await page.reload()
    await expect(page.get_by_test_id("turn-question")).to_have_text(f"Paint {hostile}")
    await page.locator("#history-button").click()
    row = page.get_by_test_id("conversation").filter(has_text="onerror")
    await row.get_by_test_id("conversation-menu").locator("summary").click()
    await row.get_by_test_id("conversation-delete").click()
    await expect(page.locator("#toast-text")).to_contain_text("<img src=")
    assert (
        await page.locator(
            "main :is(img, script, a[href^='javascript']), #history :is(img, script), #toast img"
        ).count()
        == 0
    )
    assert await page.evaluate("window.stolen") is None


# sharing


async def test_a_shared_answer_opens_by_its_link(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """With its evidence; no longer shared, it is not there, in the page's words."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await answered(page)
    await page.get_by_test_id("share").click()
    await expect(page.get_by_test_id("link")).to_have_value(re.compile(r"\?answer="))
    link = await page.get_by_test_id("link").input_value()
    elsewhere = (await visit(link.removeprefix(desk.url))).page
    await expect(elsewhere.get_by_test_id("answer")).to_contain_text(FACT)
    await expect(elsewhere.get_by_test_id("turn-question")).to_have_text(QUESTION)
    await elsewhere.get_by_test_id("citation").click()
    await expect(elsewhere.get_by_test_id("used")).to_have_text(FACT)
    await desk.delete(lighthouse)
    missing = (await visit(link.removeprefix(desk.url))).page
    await expect(missing.locator("#dialogue")).to_contain_text("There is no answer here that you may read")


# asking


async def test_a_question_is_edited_and_answered_anew(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """Either takes the place of what was there, on the page and in the history."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await answered(page)
    await answered(page, "And its lamp?")
    await kept(desk, page, 2)
    llm.default = say(f"{LAMP} [1]")
    await page.get_by_test_id("regenerate").last.click()
    await expect(page.get_by_test_id("answer").last).to_contain_text(LAMP)
    await expect(page.get_by_test_id("turn")).to_have_count(2)
    await page.get_by_test_id("edit").first.click()
    await expect(page.locator("#question")).to_have_value(QUESTION)
    await answered(page, "When was the lighthouse at Marlowe painted?")
    await expect(page.get_by_test_id("turn")).to_have_count(1)
    await kept(desk, page, 1)
    await page.reload()
    await expect(page.get_by_test_id("turn-question")).to_have_text(["When was the lighthouse at Marlowe painted?"])


async def test_a_stopped_answer_says_so_and_blames_no_source(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """Half a sentence contradicts nothing."""
    llm.default = say(ANSWER.replace("1987", "1899"), gate=asyncio.Event(), gate_at=8)
    page = (await visit()).page
    await asked(page)
    await expect(page.get_by_test_id("answer")).to_contain_text("1899")
    await page.locator("#stop-button").click()
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-finish-reason", "cancelled")
    await expect(page.get_by_test_id("notice")).to_have_text("You stopped this answer.")
    await expect(page.locator(".contradicted-mark")).to_have_count(0)


async def test_a_question_waits_for_the_answer_before_it(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """Enter while an answer comes says so, and asks when it is complete."""
    gate = asyncio.Event()
    llm.plan = [say(ANSWER, gate=gate, gate_at=4)]
    llm.default = say(f"{LAMP} [1]")
    page = (await visit()).page
    await asked(page)
    await expect(page.get_by_test_id("answer")).to_contain_text("The Marlowe")
    await asked(page, "And its lamp?")
    await expect(page.locator("#composer-line")).to_contain_text("And its lamp?")
    await asked(page, "And the rock?")
    await expect(page.locator("#composer-line")).to_contain_text("One question waits already")
    await expect(page.locator("#question")).to_have_value("And the rock?")
    await page.locator("#question").fill("")
    gate.set()
    await expect(page.get_by_test_id("turn")).to_have_count(2)
    await expect(page.get_by_test_id("answer").last).to_contain_text(LAMP)
    await expect(page.locator("#composer-line")).to_be_hidden()


async def test_a_refused_question_comes_back_into_the_box(visit: Open) -> None:
    """To be shortened."""
    page = (await visit()).page
    await asked(page, "why " * 1000)
    await expect(page.get_by_test_id("problem-text")).to_contain_text("the limit is 500")
    assert (await page.locator("#question").input_value()).startswith("why why")


async def test_an_answer_at_its_length_limit_is_gone_on_with(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """In the same conversation."""
    llm.plan = [say(f"{ANSWER} Its lamp", finish_reason="length")]
    llm.default = say(f"{LAMP} [1]")
    page = (await visit()).page
    await answered(page)
    await expect(page.get_by_test_id("notice")).to_contain_text("length limit")
    await page.get_by_test_id("continue").click()
    await expect(page.get_by_test_id("answer").last).to_contain_text(LAMP)
    assert QUESTION in str(llm.calls[-1].body["messages"])


async def test_an_answer_is_copied_with_its_citations(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """As text that says where each number leads."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await answered(page)
    await page.get_by_test_id("copy").click()
    await expect(page.get_by_test_id("action-note")).to_contain_text("Copied")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == f"{QUESTION}\n\n{ANSWER}\n\n[1] Marlowe"


async def test_a_link_asks_a_question(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """`?q=`, once: a reload shows it again and does not ask."""
    llm.default = say(ANSWER)
    page = (await visit("/?q=When+was+the+Marlowe+lighthouse+painted+white%3F")).page
    await expect(page.get_by_test_id("answer")).to_contain_text(FACT)
    assert "?q=" not in page.url
    await page.reload()
    await expect(page.get_by_test_id("answer")).to_contain_text(FACT)
    assert len(llm.calls) == 1


async def test_a_question_is_answered_from_what_was_chosen(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """A tag and a document, as chips that can be taken away."""
    body = {"title": "Rates", "text": f"{FACT} So say the rates.", "tags": ["rates"]}
    rates = await desk.settled(await desk.call("POST", "/api/documents", json=body, expect=(201,)))
    llm.default = say(ANSWER)
    page = (await visit()).page
    await page.locator("#filter-button").click()
    await page.locator("#filter-words").fill("rat")
    await page.get_by_test_id("filter-choice").filter(has_text="#rates").click()
    await expect(page.get_by_test_id("filter-chip")).to_have_text("#rates")
    async with page.expect_request("**/api/answers") as asking:
        await answered(page)
    assert json.loads((await asking.value).post_data or "")["filters"] == {"tags": ["rates"]}
    await expect(page.get_by_test_id("source")).to_have_count(1)
    await page.get_by_test_id("filter-chip").click()
    await page.locator("#filter-button").click()
    await page.get_by_test_id("filter-choice").filter(has_text=re.compile("^Rates$")).click()
    async with page.expect_request("**/api/answers") as asking:
        await answered(page, "What do the rates say?")
    assert json.loads((await asking.value).post_data or "")["filters"]["document_ids"] == [rates["id"]]


async def test_a_question_is_answered_from_a_source_and_from_some_days(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """From its folder, and not from what was changed on other days; a day chosen again takes the place of the first.

    Escape in the search field leaves the choice, and does not only empty the field.
    """
    body = {"title": "Rates", "text": f"{FACT} So say the rates.", "external_id": "island/office/rates.md"}
    await desk.settled(await desk.call("POST", "/api/documents", json=body, expect=(201,)))
    llm.default = say(ANSWER)
    page = (await visit()).page
    await page.locator("#filter-button").click()
    await page.locator("#filter-words").fill("island")
    await expect(page.get_by_test_id("filter-choice")).to_have_text(["island/", "island/office/"])
    await page.locator("#filter-words").press("Escape")
    await expect(page.locator("#filter-panel")).to_be_hidden()
    await expect(page.locator("#filter-button")).to_be_focused()
    await page.locator("#filter-button").click()
    await page.locator("#filter-words").fill("island")
    await expect(page.get_by_test_id("filter-choice")).to_have_text(["island/", "island/office/"])
    await page.get_by_test_id("filter-choice").last.click()
    await answered(page)
    await expect(page.get_by_test_id("source-title")).to_have_text(["Rates"])
    await page.locator("#filter-button").click()
    await page.locator("#filter-since").fill("2020-01-31")
    await page.locator("#filter-until").fill("2020-02-01")
    await page.locator("#filter-since").fill("2020-02-01")
    await expect(page.get_by_test_id("filter-chip")).to_have_text(
        ["island/office/", "until Feb 1, 2020", "since Feb 1, 2020"]
    )
    await page.keyboard.press("Escape")
    async with page.expect_request("**/api/answers") as asking:
        await page.locator("#question").fill(QUESTION)
        await page.locator("#question").press("Enter")
    filters = {"sources": ["island/office"], "since": "2020-02-01", "until": "2020-02-01"}
    assert json.loads((await asking.value).post_data or "")["filters"] == filters
    await expect(page.get_by_test_id("answer").last).to_contain_text("not")
    await expect(page.get_by_test_id("turn").last).to_have_attribute("data-state", "done")
    await expect(page.get_by_test_id("turn").last.get_by_test_id("source")).to_have_count(0)


async def test_what_is_typed_before_the_choices_have_come_counts(visit: Open, lighthouse: Json) -> None:
    """The first time, when the page still fetches how to choose; the next time the box is empty."""
    page = (await visit()).page
    gate = asyncio.Event()

    async def hold(route: Route) -> None:
        await gate.wait()
        await route.continue_()

    await page.route("**/filter_picker.js", hold)
    await page.locator("#filter-button").click()
    await page.locator("#filter-words").fill("nowhere")
    gate.set()
    await expect(page.locator("#filter-found")).to_have_text("Nothing has these letters.")
    await expect(page.locator("#filter-words")).to_have_value("nowhere")
    await page.locator("#filter-button").click()
    await expect(page.locator("#filter-panel")).to_be_hidden()
    await page.locator("#filter-button").click()
    await expect(page.get_by_test_id("filter-choice")).to_have_text(["Marlowe"])


async def test_a_choice_that_is_being_pressed_is_not_replaced_by_the_same_one(visit: Open, lighthouse: Json) -> None:
    """The list is read again after each letter; a button that went in between would lose the click."""
    page = (await visit()).page
    await page.locator("#filter-button").click()
    await page.locator("#filter-words").fill("mar")
    choice = page.get_by_test_id("filter-choice")
    await expect(choice).to_have_text(["Marlowe"])
    place = await choice.bounding_box()
    assert place
    await page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    await page.mouse.down()
    async with page.expect_response("**/api/documents?*q=marl") as reading:
        await page.locator("#filter-words").fill("marl")
    await (await reading.value).finished()
    await page.evaluate("new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))")
    await page.mouse.up()
    await expect(page.get_by_test_id("filter-chip")).to_have_text(["Marlowe"])


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 640)], ids=["desk", "phone"])
async def test_the_filter_never_lies_on_its_own_button(visit: Open, lighthouse: Json, width: int, height: int) -> None:
    """In the empty view the box stands in the middle, and the starters move it: who opens the filter can close it there."""
    page = (await visit()).page
    await page.set_viewport_size({"width": width, "height": height})
    button, panel = page.locator("#filter-button"), page.locator("#filter-panel")
    await expect(page.get_by_test_id("example")).to_have_count(1)
    await button.click()
    await expect(page.get_by_test_id("filter-choice")).to_have_text(["Marlowe"])
    opened, covering = await button.bounding_box(), await panel.bounding_box()
    assert opened and covering
    assert covering["y"] >= 0 and covering["y"] + covering["height"] <= height
    assert covering["y"] + covering["height"] <= opened["y"] or covering["y"] >= opened["y"] + opened["height"]
    await button.click()
    await expect(panel).to_be_hidden()


async def test_starters_are_about_the_documents_of_the_desk(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """By their titles; one is asked with a click."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await expect(page.get_by_test_id("example")).to_have_text(["What does “Marlowe” say?"])
    await page.get_by_test_id("example").click()
    await expect(page.get_by_test_id("turn-question")).to_have_text("What does “Marlowe” say?")


# languages and colours


async def test_the_page_speaks_german(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """When somebody chooses it; it stays so, and so do chosen colours. Why something is refused is said in German, too."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await page.locator("#preferences-button").click()
    await page.locator("#theme").select_option("dark")
    dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.locator("#language").select_option("de")
    await expect(page.locator("#ask-button")).to_have_text("Fragen")
    await expect(page.locator("html")).to_have_attribute("lang", "de")
    llm.plan = [refuse(401, message="key 17 has expired")]
    await answered(page)
    await expect(page.get_by_test_id("sources")).to_contain_text("Quellen")
    why = page.get_by_test_id("degraded")
    await expect(why).to_contain_text("Der Server des Sprachmodells nimmt den Schlüssel nicht an.")
    await expect(why).to_contain_text("key 17 has expired")
    await page.reload()
    await expect(page.locator("#nav-documents")).to_have_text("Dokumente")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == dark == "rgb(25, 24, 21)"
    await page.locator("#question").fill("why " * 1000)
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("problem-text").last).to_have_text(
        re.compile("^Die Frage ist zu lang .höchstens 500 Token.\\.")
    )
    await page.evaluate(f'location.hash = "#document/{"0" * 32}"')
    await expect(page.locator("#reader-body")).to_have_text("Hier ist nichts, oder Sie dürfen es nicht sehen.")


async def test_text_runs_in_the_direction_of_its_script(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """A Hebrew question and answer in an English page."""
    fact = "המגדלור נצבע לבן בשנת 1987."
    await desk.settled(await desk.upload("hebrew.md", fact.encode()))
    llm.default = say(f"{fact} [1]")
    page = (await visit()).page
    await answered(page, "מתי נצבע המגדלור?")
    direction = "(element) => getComputedStyle(element).direction"
    assert await page.get_by_test_id("turn-question").evaluate(direction) == "rtl"
    assert await page.get_by_test_id("answer").locator("p").first.evaluate(direction) == "rtl"
    assert await page.locator("#ask-view").evaluate(direction) == "ltr"


async def test_a_question_that_cannot_be_sent_comes_back(visit: Open, llm: ScriptedLlm) -> None:
    """The service is not there: it says so, and the words are not lost."""
    page = (await visit()).page
    await page.route("**/api/answers", lambda route: route.abort())
    await asked(page)
    await expect(page.get_by_test_id("problem-text")).to_contain_text("cannot be reached")
    await expect(page.locator("#question")).to_have_value(QUESTION)
    assert not llm.calls
