"""The pages for those who run the desk: what they show is what the API says; and the notice to askers."""

import asyncio
import csv
import io
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import PHONE, Open
from tests.support.desk import until
from tests.support.running import Refdesk
from tests.support.scripted_llm import ScriptedLlm, say

from refdesk.answering.writing.prompting import NOT_FOUND
from refdesk.app.embedded.postgres import USER
from refdesk.app.embedded.stack import socket_folder

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


async def test_an_answer_under_way_is_shown_without_a_word_of_it(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """Who waits, and for how long; gone when it has ended."""
    gate = asyncio.Event()
    llm.plan = [say("It costs nothing. [1]", gate=gate, gate_at=1)]
    await desk.settled(await desk.upload("lighthouse.md", b"The lighthouse costs nothing."))
    asking = asyncio.create_task(desk.ask("What does the lighthouse cost?", cache="bypass"))
    await llm.called()
    page = (await visit("/#operations")).page
    slow = page.locator("#operations-slow li")
    await expect(slow).to_contain_text("writing")
    assert "lighthouse" not in await page.locator("#operations-view").inner_text()
    gate.set()
    await asking
    await page.locator("#operations-range").select_option("6h")
    await expect(slow).to_have_count(0)


async def test_the_index_is_compared_with_the_documents_page_by_page(visit: Open, desk: Refdesk) -> None:
    """And it says how far it is; before it mends, what that costs."""
    page = (await visit("/#operations")).page
    said = page.get_by_test_id("operations-care")
    await page.locator("#operations-compare").click()
    await expect(said).to_contain_text("differ")
    await expect(said).to_contain_text("Done.")
    await page.get_by_test_id("mend").click()
    await expect(page.get_by_role("dialog")).to_contain_text("What differs is indexed anew")
    await page.get_by_test_id("sure-yes").click()
    await expect(said).to_contain_text("mended. Done.")


async def test_the_index_is_built_anew_compared_exchanged_and_the_old_one_discarded(visit: Open, desk: Refdesk) -> None:
    """With its progress; what each step costs is said before, and nothing is done without a yes."""
    await desk.settled(await desk.upload("lighthouse.md", b"The lighthouse costs nothing."))
    (before,) = await generations(desk)
    page = (await visit("/#operations")).page
    await expect(page.get_by_test_id("generations").get_by_role("listitem")).to_have_count(1)
    await expect(page.get_by_test_id("rebuild")).to_be_hidden()  # it would change nothing
    await made_by_an_earlier_release(desk)
    await page.reload()
    await expect(page.get_by_test_id("generations-why")).to_contain_text("An earlier release")
    indexer = desk.child("indexer")
    indexer.suspend()
    try:
        for answer in ("sure-no", "sure-yes"):
            assert await generations(desk) == [before]
            await page.get_by_test_id("rebuild").click()
            dialog = page.get_by_role("dialog")
            await expect(dialog).to_contain_text(f"{before['documents']} document")
            await expect(dialog).to_contain_text(before["model"])
            await page.get_by_test_id(answer).click()
        await expect(page.get_by_test_id("generations-progress")).to_be_visible()
        await expect(page.get_by_test_id("generations-so-far")).to_contain_text(f"0 of {before['documents']} document")
        await expect(page.get_by_test_id("swap")).to_be_hidden()
    finally:
        indexer.resume()
    await page.get_by_test_id("generations-compare").click()
    await expect(page.get_by_test_id("generations-said")).to_contain_text("best passages are the same")
    await expect(page.get_by_test_id("generations-progress")).to_be_hidden()
    await page.get_by_test_id("swap").click()
    await page.get_by_test_id("sure-yes").click()
    await expect(page.get_by_test_id("generations-said")).to_contain_text("is searched from now on")
    await expect(page.get_by_test_id("swap")).to_have_text(f"Search generation {before['id']} again")
    await page.get_by_test_id("discard").click()
    await page.get_by_test_id("sure-yes").click()
    await expect(page.get_by_test_id("generations").get_by_role("listitem")).to_have_count(1)
    (after,) = await generations(desk)
    assert after["id"] > before["id"] and after["active"]
    await expect(page.get_by_test_id("rebuild")).to_be_hidden()
    assert await desk.search("What does the lighthouse cost?")


async def made_by_an_earlier_release(desk: Refdesk) -> None:
    """The index is as that one has made it."""
    server = f"postgresql://{USER}@/index?host={quote(str(socket_folder(desk.data_dir) / 'postgres'), safe='')}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        await connection.execute("UPDATE generations SET chunking = 'earlier' WHERE active")


async def generations(desk: Refdesk) -> list[dict[str, Any]]:
    told = await desk.call("GET", "/api/index/generations")
    return list(told["generations"])


async def test_usage_shows_what_the_api_says(visit: Open, llm: ScriptedLlm, desk: Refdesk, tmp_path: Path) -> None:
    """Tokens as the model has counted them, and what is left; on a phone, and as a table to take away."""
    llm.reset()
    await desk.settled(await desk.upload("lighthouse.md", b"The lighthouse costs nothing."))
    page = (await visit("/", viewport=PHONE)).page
    await page.locator("#question").fill("What does the lighthouse cost?")
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("small-print")).not_to_be_empty()
    await page.locator("#preferences-button").click()
    await page.locator("#usage-link").click()
    await until(lambda: _has_rows(page), within_s=60)
    await expect(page.locator("#usage-left li").first).to_contain_text("tokens a minute")

    async def agree() -> bool:
        """Page, API and table; what earlier tests have used is booked meanwhile, in one of them and not in the others."""
        await page.locator('[name="by"]').select_option("day")
        async with page.expect_response(lambda reply: "by=model" in reply.url) as told:
            await page.locator('[name="by"]').select_option("model")
        rows = (await (await told.value).json())["rows"]
        await expect(page.locator("#usage-rows tr")).to_have_count(len(rows))
        names = ("answers", "shared", "input_tokens", "output_tokens", "cost")
        on_page = await shown(page, "#usage-rows") == [exactly(row.get(name)) for row in rows for name in names]
        async with page.expect_download() as download:
            await page.locator("#usage-csv").click()
        await (await download.value).save_as(tmp_path / "usage.csv")
        table = list(csv.DictReader(io.StringIO((tmp_path / "usage.csv").read_text())))
        in_table = [(row["model"], row["answers"]) for row in table] == [
            (row["model"], str(row["answers"])) for row in rows
        ]
        return on_page and in_table

    await until(agree, within_s=60)
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
