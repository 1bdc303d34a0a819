"""Sources on the page: the sentence that was used, in its passage, its table and its page; and documents without text."""

import io

import docx
import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import Open
from tests.support.pdfs import pdf
from tests.support.running import Json, Refdesk, until
from tests.support.scripted_llm import ScriptedLlm, say

FACT = "The Marlowe lighthouse was painted white in 1987."
OTHER = "Its lamp turns once in nine seconds."
QUESTION = "When was the Marlowe lighthouse painted white?"

pytestmark = pytest.mark.timeout(400)


async def answered(page: Page, question: str = QUESTION) -> None:
    await page.locator("#question").fill(question)
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("turn").last).to_have_attribute("data-state", "done")


async def added(desk: Refdesk, name: str, content: bytes) -> Json:
    return await desk.settled(await desk.upload(name, content))


async def test_the_cited_sentence_is_marked_in_its_document(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """And stands on the card of its source; the title is not repeated before the headings, and headings are there once."""
    text = f"# Marlowe\n\nThe rock lies two miles out.\n\n## The tower\n\n{OTHER} {FACT} It is open in summer."
    await added(desk, "lighthouse.md", text.encode())
    llm.default = say(f"{FACT} [1]")
    page = (await visit()).page
    await answered(page)
    card = page.get_by_test_id("source").first
    await expect(card.get_by_test_id("source-passage")).to_have_text(FACT)
    await expect(card.get_by_test_id("source-title")).to_have_text("Marlowe")
    await expect(card.get_by_test_id("source-place")).to_be_hidden()
    await page.get_by_test_id("citation").click()
    await expect(page.get_by_test_id("used")).to_have_text(FACT)
    await expect(page.get_by_test_id("used")).to_be_in_viewport()
    shown = await page.locator("#reader-body").inner_text()
    assert shown.count("The tower") == 1 and shown.count("Marlowe\n") == 0
    await page.reload()  # the address says which sentence
    await expect(page.get_by_test_id("used")).to_have_text(FACT)


async def test_each_citation_marks_its_own_sentence(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """Of one passage."""
    await added(desk, "lighthouse.md", f"# Marlowe\n\n{FACT} {OTHER}".encode())
    llm.default = say(f"{FACT} [1] {OTHER} [1]")
    page = (await visit()).page
    await answered(page)
    for place, sentence in enumerate((FACT, OTHER)):
        await page.get_by_test_id("citation").nth(place).click()
        await expect(page.get_by_test_id("used")).to_have_text(sentence)


async def test_a_table_is_shown_as_a_table(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """With the row that was used marked."""
    rows = "| Ship | Berth | Tonnes |\n|---|---|---|\n| Alder | North quay | 412 |\n| Birch | South quay | 977 |"
    await added(desk, "berths.md", f"# Berths\n\n{rows}\n".encode())
    llm.default = say("The Birch lies at the South quay with 977 tonnes. [1]")
    page = (await visit()).page
    await answered(page, "Where does the Birch lie?")
    await page.get_by_test_id("citation").click()
    await expect(page.locator("#reader-body th")).to_have_text(["Ship", "Berth", "Tonnes"])
    await expect(page.get_by_test_id("used").locator("td")).to_have_text(["Birch", "South quay", "977"])


async def test_the_cited_sentence_is_marked_in_a_word_file(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """Paragraphs, and a row of a table."""
    file, word = io.BytesIO(), docx.Document()
    word.add_heading("Marlowe", 1)
    word.add_paragraph(f"{OTHER} {FACT}")
    table = word.add_table(rows=0, cols=3)
    for cells in (("Ship", "Berth", "Tonnes"), ("Alder", "North quay", "412"), ("Birch", "South quay", "977")):
        for place, cell in enumerate(table.add_row().cells):
            cell.text = cells[place]
    word.save(file)
    await added(desk, "lighthouse.docx", file.getvalue())
    llm.default = say(f"{FACT} [1] The Birch lies at the South quay with 977 tonnes. [1]")
    page = (await visit()).page
    await answered(page)
    await page.get_by_test_id("citation").first.click()
    await expect(page.get_by_test_id("used")).to_have_text(FACT)
    await page.get_by_test_id("citation").last.click()
    await expect(page.get_by_test_id("used").locator("td")).to_have_text(["Birch", "South quay", "977"])


async def test_a_pdf_is_shown_as_it_looks_with_its_sentence_marked(
    visit: Open, desk: Refdesk, llm: ScriptedLlm
) -> None:
    """On its page; its text is one click away, and so is the original."""
    plain = [[(60.0, 700.0, "The rock lies two miles out at sea and is bare.")]]
    second = [(60.0, 640.0, OTHER), (60.0, 600.0, FACT), (60.0, 560.0, "It is open to visitors in summer only.")]
    document = await added(desk, "tower.pdf", pdf(*plain, second))
    llm.default = say(f"{FACT} [1]")
    page = (await visit()).page
    await answered(page)
    await page.get_by_test_id("citation").click()
    mark = page.get_by_test_id("pdf-mark")
    await expect(mark).to_have_count(1)
    await expect(mark).to_be_in_viewport()
    shown = page.locator('[data-testid="pdf-page"][data-page="2"]')
    marked_at = """(page) => {
        const whole = page.getBoundingClientRect(), mark = page.querySelector("[data-testid=pdf-mark]").getBoundingClientRect();
        return (mark.top + mark.height / 2 - whole.top) / whole.height;
    }"""
    dark = """(canvas) => {
        const { width, height } = canvas, data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        let dark = 0;
        for (let at = 0; at < data.length; at += 4) if (data[at] < 160) dark += 1;
        return dark / (width * height);
    }"""

    async def looks_right() -> bool:
        """The mark is where its letters stand, and there are letters on paper."""
        place = await shown.evaluate(marked_at)
        ink = await shown.locator("canvas").evaluate(dark)
        return bool(abs(place - (800 - 603.5) / 800) < 0.01 and 0 < ink < 0.1)

    await until(looks_right, what="the page is drawn and its sentence marked")
    await page.locator("#reader-look").click()
    await expect(page.get_by_test_id("used")).to_have_text(FACT)
    async with desk.open("GET", f"/api/documents/{document['id']}/content") as reply:
        assert reply.headers["Content-Disposition"].startswith("attachment") and (await reply.read())[:5] == b"%PDF-"


async def test_a_document_that_failed_opens_with_its_reason(visit: Open, desk: Refdesk) -> None:
    """Not as nothing."""
    document = await added(desk, "broken.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 4)
    page = (await visit(f"/#document/{document['id']}")).page
    await expect(page.locator("#reader-title")).to_have_text("broken")
    await expect(page.get_by_test_id("reader-state")).to_contain_text("could not be read")
    await expect(page.get_by_test_id("reader-state")).to_contain_text("broken.pdf")
    await expect(page.locator("#reader-original")).to_be_visible()


async def test_a_document_that_waits_opens_with_its_state(visit: Open, desk: Refdesk) -> None:
    """While the indexer stands still."""
    indexer = desk.child("indexer")
    indexer.suspend()
    try:
        document = await desk.upload("waiting.md", b"# Waiting\n\nIt waits.")
        page = (await visit(f"/#document/{document['id']}")).page
        await expect(page.get_by_test_id("reader-state")).to_have_text("This document is not searchable yet.")
        await expect(page.locator("#reader-title")).to_have_text("waiting")
    finally:
        indexer.resume()
    await desk.settled(document)


async def test_a_document_that_is_not_there_says_so(visit: Open) -> None:
    """Or is not open to this reader, which looks the same."""
    page = (await visit("/#document/0123456789abcdef0123456789abcdef")).page
    await expect(page.locator("#reader-body")).to_contain_text("There is nothing here under this id")
