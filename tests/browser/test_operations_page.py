"""The pages for those who run the desk: what they show is what the API says; and the notice to askers."""

from typing import Any

import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import PHONE, Open
from tests.support.desk import until
from tests.support.running import Refdesk
from tests.support.scripted_llm import ScriptedLlm, say

from refdesk.answering.writing.prompting import NOT_FOUND

pytestmark = pytest.mark.timeout(400)


async def shown(page: Page, selector: str) -> list[str | None]:
    """The exact numbers that stand in the elements there, in their order."""
    return [await element.get_attribute("value") for element in await page.locator(f"{selector} data").all()]


def exactly(value: float | None) -> str:
    """As the page's own engine writes it."""
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


async def test_operations_show_what_the_api_says(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """Parts, figures of now, the plots' tables; nothing is drawn by a script of others, and it fits a phone."""
    llm.reset()
    opened = await visit("/#operations")
    page = opened.page
    await until(lambda: _plots_told(page), within_s=90)
    async with page.expect_response(lambda reply: reply.url.endswith("/api/operations")) as told:
        await page.locator("#operations-range").select_option("15m")
    overview: dict[str, Any] = await (await told.value).json()
    await expect(page.get_by_test_id("operations-status")).to_have_attribute("data-level", overview["status"])
    rows = page.locator("#operations-parts tr")
    said = {(part["name"], part["level"], part.get("why")) for part in overview["parts"]}
    await expect(rows).to_have_count(len(said))
    assert {part["process"] for part in overview["parts"]} == {"desk", "indexer"}
    for plot in overview["plots"]:
        figure = page.locator(f'[data-metric="{plot["metric"]}"]')
        await expect(figure.locator("svg")).to_have_attribute("role", "img")
        assert await shown(page, f'[data-metric="{plot["metric"]}"] [data-part="now"]') == [
            exactly(value) for value in plot["now"].values()
        ], plot["metric"]
    memory = page.locator('[data-metric="memory"]')
    await memory.locator("summary").click()
    await expect(memory.get_by_test_id("plot-table").locator("thead")).to_contain_text("indexer")
    await page.locator("#operations-settings summary").click()
    await expect(page.locator("#operations-settings-rows")).to_contain_text("REFDESK_LLM_URL")
    secret = (desk.data_dir / "operator.key").read_text().strip()
    assert secret and secret not in await page.content()


async def _plots_told(page: Page) -> bool:
    """Whether two samples were taken, so that there is something to tell."""
    return bool(await page.locator('[data-metric="memory"] svg .dot, [data-metric="memory"] svg .line').count())


async def test_the_index_is_compared_with_the_documents_page_by_page(visit: Open, desk: Refdesk) -> None:
    """And it says how far it is."""
    page = (await visit("/#operations")).page
    await page.locator("#operations-compare").click()
    await expect(page.get_by_test_id("operations-care")).to_contain_text("Done.")
    await expect(page.get_by_test_id("operations-care")).to_contain_text("differ")


async def test_usage_shows_what_the_api_says(visit: Open, llm: ScriptedLlm, desk: Refdesk) -> None:
    """Tokens as the model has counted them, and what is left; on a phone, too."""
    llm.reset()
    await desk.settled(await desk.upload("lighthouse.md", b"The lighthouse costs nothing."))
    page = (await visit("/", viewport=PHONE)).page
    await page.locator("#question").fill("What does the lighthouse cost?")
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("small-print")).not_to_be_empty()
    await page.locator("#preferences-button").click()
    await page.locator("#usage-link").click()
    await until(lambda: _has_rows(page), within_s=60)
    async with page.expect_response(lambda reply: "by=model" in reply.url) as told:
        await page.locator('[name="by"]').select_option("model")
    rows = (await (await told.value).json())["rows"]
    names = ("answers", "shared", "input_tokens", "output_tokens", "cost")
    await expect(page.locator("#usage-rows tr")).to_have_count(len(rows))
    assert await shown(page, "#usage-rows") == [exactly(row.get(name)) for row in rows for name in names]
    await expect(page.locator("#usage-left li").first).to_contain_text("tokens a minute")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def _has_rows(page: Page) -> bool:
    await page.locator('[name="by"]').select_option("day")
    await page.locator('[name="by"]').select_option("day,model")
    return bool(await page.locator("#usage-rows tr").count())


async def test_a_gap_is_shown_and_its_asker_told_once_a_document_answers_it(
    visit: Open, desk: Refdesk, llm: ScriptedLlm
) -> None:
    """Curators see the question; the asker, a notice with the document, until it is put away."""
    llm.reset()
    llm.default = say(NOT_FOUND)
    page = (await visit("/")).page
    await desk.settled(await desk.upload("lighthouse.md", b"The lighthouse costs nothing."))
    await page.locator("#question").fill("When does the ferry to Norderney leave?")
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("small-print")).not_to_be_empty()
    await until(lambda: _listed(page, "Norderney"), within_s=90)
    ferries = {"title": "Ferries", "text": "The ferry to Norderney leaves at nine."}
    await desk.call("POST", "/api/documents", expect=(201,), json=ferries)
    await until(lambda: _told(page), within_s=120)
    notice = page.get_by_test_id("answered-gap")
    await expect(notice.get_by_role("link")).to_have_text("Ferries")
    await notice.get_by_role("button").click()
    await expect(notice).to_have_count(0)


async def _listed(page: Page, word: str) -> bool:
    await page.goto(f"{page.url.partition('#')[0]}#gaps")
    await page.reload()
    await expect(page.locator("#gaps-view")).to_be_visible()
    return word in await page.locator("#gaps").inner_text()


async def _told(page: Page) -> bool:
    await page.goto(f"{page.url.partition('#')[0]}#ask")
    await page.reload()
    await expect(page.locator("#question")).to_be_visible()
    return bool(await page.get_by_test_id("answered-gap").count())


async def test_a_rating_is_read_with_its_answer_and_what_that_stands_on(
    visit: Open, desk: Refdesk, llm: ScriptedLlm
) -> None:
    """By curators, as plain text."""
    llm.reset()
    llm.default = say("The bell was cast in 1921. <b>[1]</b> [1]")
    await desk.settled(await desk.upload("bell.md", b"The bell was cast in 1921."))
    page = (await visit("/")).page
    await page.locator("#question").fill("When was the bell cast?")
    await page.locator("#question").press("Enter")
    await page.get_by_test_id("thumb-down").click()
    await page.get_by_test_id("comment-input").fill("It was 1912.")
    await page.get_by_test_id("comment-send").click()
    await page.goto(f"{page.url.partition('#')[0]}#feedback")
    rating = page.get_by_test_id("rating").filter(has_text="When was the bell cast?")
    await expect(rating).to_contain_text("It was 1912.")
    await rating.locator("summary").click()
    await expect(rating.get_by_test_id("rating-answer")).to_contain_text("The bell was cast in 1921.")
    await expect(rating.get_by_test_id("rating-sources")).to_contain_text("bell")
