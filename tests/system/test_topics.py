"""The topics that are offered below answers from the sample handbook are answered when they are asked."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tests.browser.conftest import DESKTOP
from tests.support.running import Refdesk, cited, running


@pytest.mark.timeout(400)
async def test_the_handbook_answers_each_topic_that_is_offered_below_its_starters(
    browser: Browser, tmp_path: Path
) -> None:
    """From the document that the answer cites, and as if nothing had been asked before. The desk has the handbook alone."""
    async with running(tmp_path) as desk:
        await desk.all_settled()
        starters = (await desk.call("GET", "/api/examples"))["questions"]
        offered = [topic for starter in starters for topic in await topics_below(browser, desk, starter)]
        assert len(offered) >= 2 * (len(starters) - 1), offered  # one of them cites a PDF without headings
        for section, document_ids, conversation_id in offered:
            answer = await desk.ask(section, conversation_id=conversation_id)
            read = {source["document_id"] for sentence in answer["sentences"] for source in cited(answer, sentence)}
            assert answer["finish_reason"] == "stop" and read & document_ids, (section, answer["text"])
            assert answer["text"] == (await desk.ask(section))["text"]


async def topics_below(browser: Browser, desk: Refdesk, starter: str) -> list[tuple[str, set[str], str]]:
    """What each of them asks, with the documents that the answer cites, and its conversation."""
    page = await browser.new_page(viewport=DESKTOP)
    await page.goto(desk.url)
    await page.get_by_test_id("example").filter(has_text=starter).click()
    turn = page.get_by_test_id("turn")
    await expect(turn).to_have_attribute("data-finish-reason", "stop")
    conversation_id = page.url.partition("#conversation/")[2]
    answer = await desk.call("GET", f"/api/answers/{await turn.get_attribute('data-answer-id')}")
    document_ids = {source["document_id"] for one in answer["sentences"] for source in cited(answer, one)}
    sections = await page.get_by_test_id("topic").evaluate_all("(all) => all.map((one) => one.dataset.asks)")
    await page.close()
    return [(section, document_ids, conversation_id) for section in sections]
