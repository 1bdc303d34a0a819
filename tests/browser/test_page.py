"""The web page in a real browser, on a real Refdesk; only the language model is played."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect
from tests.browser.conftest import PHONE, Open
from tests.support.patience import within
from tests.support.prefix_proxy import proxied
from tests.support.running import Json, Refdesk, until
from tests.support.scripted_llm import ScriptedLlm, refuse, say

FACT = "The Marlowe lighthouse was painted white in 1987."
QUESTION = "When was the Marlowe lighthouse painted white?"
ANSWER = f"{FACT} [1]"
HOSTILE_TITLE = "<img src=x onerror=window.stolen=1>"
HOSTILE = """The Gorse pump is oiled weekly. <img src="http://stray.invalid/pixel.png" onerror="window.stolen=1">

<script>window.stolen=1</script> ![picture](http://stray.invalid/picture.png) [Oil it](javascript:window.stolen=1) now.
Read http://stray.invalid/manual and <a href="http://stray.invalid/">this</a>. <iframe src="http://stray.invalid/"></iframe>
"""
SEEN_STATES = """() => {
    window.seen = [];
    const note = (row) => window.seen.push(row.dataset.state);
    new MutationObserver((changes) => changes.forEach(({ target, addedNodes }) => {
        if (target.matches(".document")) note(target);
        addedNodes.forEach((node) => node.matches?.(".document") && note(node));
    })).observe(document.getElementById("documents"), { childList: true, subtree: true, attributes: true,
                                                        attributeFilter: ["data-state"] });
}"""
ACTIVE = "main :is(img, iframe, object, embed, script, a[href^='javascript'], a[href*='stray']), dialog :is(img, iframe, script)"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
async def lighthouse(desk: Refdesk) -> Json:
    """A document that can be asked about."""
    text = f"# Marlowe\n\nThe rock lies two miles out.\n\n## The tower\n\n{FACT} Its lamp turns once in nine seconds."
    return await desk.settled(await desk.upload("lighthouse.md", text.encode()))


async def asked(page: Page, question: str = QUESTION) -> None:
    await page.locator("#question").fill(question)
    await page.locator("#question").press("Enter")


async def answered(page: Page, question: str = QUESTION) -> None:
    """Asked, and the answer is complete."""
    await asked(page, question)
    await expect(page.get_by_test_id("turn").last).to_have_attribute("data-state", "done")


async def overflows(page: Page) -> bool:
    found: bool = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return found


# asking


async def test_an_answer_is_seen_while_it_is_written(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """Its first words stand on the page before the model has said the last; whole sentences are read out."""
    gate = asyncio.Event()
    llm.default = say(f"{ANSWER} Its lamp turns once in nine seconds. [1]", gate=gate, gate_at=12)
    page = (await visit()).page
    await asked(page)
    turn = page.get_by_test_id("turn")
    await expect(turn.get_by_test_id("answer")).to_contain_text("The Marlowe lighthouse was painted white in 1987.")
    await expect(turn).to_have_attribute("data-state", "answering")
    await expect(turn.get_by_test_id("source").first).to_contain_text("Marlowe")
    await expect(page.locator("#stop-button")).to_be_visible()
    await expect(turn.get_by_test_id("answer")).not_to_contain_text("nine seconds")
    gate.set()
    await expect(turn).to_have_attribute("data-finish-reason", "stop")
    await expect(turn.get_by_test_id("answer")).to_contain_text("nine seconds")
    await expect(turn.get_by_test_id("sentence")).to_have_count(2)
    await expect(turn.get_by_test_id("citation")).to_have_count(2)
    await expect(turn.get_by_test_id("small-print")).to_contain_text("first words after")
    await expect(page.locator("#announcer")).to_contain_text(FACT)


async def test_a_stopped_answer_stops_the_model(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """What was written stays, and says that it was stopped."""
    llm.default = say(ANSWER, gate=asyncio.Event(), gate_at=4)
    page = (await visit()).page
    await asked(page)
    await expect(page.get_by_test_id("answer")).to_contain_text("The Marlowe")
    await page.locator("#stop-button").click()
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-finish-reason", "cancelled")
    await expect(page.get_by_test_id("answer")).to_contain_text("The Marlowe")
    async with within(10):
        await llm.calls[-1].closed.wait()


async def test_an_answer_whose_words_were_lost_is_told_again(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """Once, from its start: nothing of what was there before stays."""
    llm.default = say(f"{ANSWER} Its lamp turns once in nine seconds. [1]")
    page = (await visit()).page

    async def cut_off(route: Route) -> None:
        whole = await route.fetch()
        await route.fulfill(response=whole, body=(await whole.text()).partition("event: sentence")[0])

    async def after_what_was_lost(route: Route) -> None:
        await page.unroute("**/api/answers/*/events")
        await route.continue_(headers={**route.request.headers, "last-event-id": "999"})

    await page.route("**/api/answers", cut_off)
    await page.route("**/api/answers/*/events", after_what_was_lost)
    async with page.expect_response(lambda response: response.status == 409):
        await asked(page)
    turn = page.get_by_test_id("turn")
    await expect(turn).to_have_attribute("data-finish-reason", "stop")
    await expect(turn.get_by_test_id("sentence")).to_have_count(2)
    assert (await turn.get_by_test_id("answer").inner_text()).count("painted white") == 1


async def test_a_citation_opens_its_passage(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """In its document, marked and in view; the focus comes back to the citation."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    await answered(page)
    await page.get_by_test_id("citation").click()
    marked = page.locator("#reader-body .passage.cited")
    await expect(marked).to_contain_text(FACT)
    await expect(marked).to_be_in_viewport()
    await expect(marked).to_be_focused()
    await expect(page.locator("#reader-title")).to_have_text("Marlowe")
    await page.locator("#reader-close").click()
    await expect(page.locator("#reader")).to_be_hidden()
    await expect(page.get_by_test_id("citation")).to_be_focused()


async def test_an_answer_from_quotes_says_why(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """To an administrator, as everybody on this machine is here, in the words of the model's server."""
    llm.plan = [refuse(401, message="key 17 has expired")]
    page = (await visit()).page
    await answered(page)
    notice = page.get_by_test_id("degraded")
    await expect(notice).to_contain_text("Quoted from the documents, not written by the language model.")
    await expect(notice).to_contain_text("key 17 has expired")
    await expect(page.get_by_test_id("turn")).to_contain_text(FACT)


async def test_a_refused_question_says_why(visit: Open) -> None:
    """With the limit, in words."""
    page = (await visit()).page
    await asked(page, "why " * 1000)
    await expect(page.get_by_test_id("problem-text")).to_contain_text("the limit is 500")
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "failed")


# documents


async def test_a_chosen_file_becomes_ready_while_one_watches(visit: Open, fresh: Path) -> None:
    """Pending, then indexed, without a reload; deleted, it is gone."""
    (fresh / "pontoon.md").write_text("The Marlowe pontoon carries 40 tonnes.")
    page = (await visit("/#documents")).page
    await expect(page.locator("#documents-view")).to_be_visible()
    await page.evaluate(SEEN_STATES)
    await page.locator("#file-input").set_input_files(fresh / "pontoon.md")
    row = page.get_by_test_id("document").filter(has_text="pontoon")
    await expect(row).to_have_attribute("data-state", "indexed")
    await expect(row.get_by_test_id("document-state")).to_have_text("ready")
    assert list(dict.fromkeys(await page.evaluate("window.seen"))) == ["pending", "indexed"]
    await row.get_by_test_id("document-delete").click()
    await expect(page.locator("#toast")).to_contain_text("pontoon")
    await expect(row).to_have_count(0)
    await page.reload()
    await expect(page.locator("#documents-empty")).to_be_visible()


async def test_a_dropped_file_is_added(visit: Open, desk: Refdesk) -> None:
    """Anywhere on the page, also while asking."""
    page = (await visit()).page
    transfer = await page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["The Marlowe slipway is 60 metres long."], "slipway.md"));
            return transfer;
        }"""
    )
    await page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    await expect(page.locator("#drop-target")).to_be_visible()
    await page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    row = page.get_by_test_id("document").filter(has_text="slipway")
    await expect(row).to_have_attribute("data-state", "indexed")
    await desk.empty()
    await expect(row).to_have_count(0)  # deleted elsewhere, gone here


async def test_a_file_that_cannot_be_read_says_why(visit: Open, fresh: Path) -> None:
    """Refused at the door, or failed with a reason and a way to try again."""
    (fresh / "tool.exe").write_bytes(b"MZ\x90\x00" + bytes(500))
    (fresh / "broken.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 4)
    page = (await visit("/#documents")).page
    await page.locator("#file-input").set_input_files([fresh / "tool.exe", fresh / "broken.pdf"])
    await expect(page.get_by_test_id("upload").filter(has_text="tool.exe")).to_contain_text("is a program")
    row = page.get_by_test_id("document").filter(has_text="broken")
    await expect(row).to_have_attribute("data-state", "failed")
    await expect(row.get_by_test_id("document-failure")).not_to_be_empty()
    await expect(row.get_by_test_id("document-retry")).to_be_visible()


async def test_the_list_is_filtered_by_title(visit: Open, desk: Refdesk, lighthouse: Json) -> None:
    """As one types."""
    await desk.upload("quay.md", b"The quay is long.")
    page = (await visit("/#documents")).page
    await expect(page.get_by_test_id("document")).to_have_count(2)
    await page.locator("#filter").fill("LIGHT")
    await expect(page.get_by_test_id("document")).to_have_count(1)
    await expect(page.get_by_test_id("document")).to_contain_text("lighthouse")


# freshness


async def test_an_answer_says_what_it_may_not_know_yet(
    visit: Open, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """While the indexer stands still: how far the index is behind, which source has a newer version, and who waits for what."""
    llm.default = say(ANSWER)
    indexer = desk.child("indexer")
    indexer.suspend()
    try:
        text = f"# Marlowe\n\n{FACT} It was painted red in 2024."
        path = f"/api/documents/{lighthouse['id']}"
        await desk.upload("lighthouse.md", text.encode(), path=path, method="PUT")
        await desk.upload("second.md", b"The quay is long.")

        async def behind() -> bool:
            return bool((await desk.backlog())["index_lag_seconds"] > 2)

        await until(behind, what="the index to be two seconds behind")
        page = (await visit()).page
        await answered(page)
        notice = page.get_by_test_id("freshness")
        await expect(notice).to_contain_text("behind")
        await expect(notice).to_contain_text("A newer version of 1 cited source is on its way.")
        await expect(page.get_by_test_id("source-stale").first).to_be_visible()
        await page.locator("#nav-documents").click()
        waiting = page.get_by_test_id("document").filter(has_text="second").get_by_test_id("document-state")
        await expect(waiting).to_contain_text("1 ahead")
    finally:
        indexer.resume()
    await desk.all_settled()
    await expect(page.get_by_test_id("document").first).to_have_attribute("data-state", "indexed")
    await page.locator("#nav-ask").click()
    await answered(page)
    await expect(page.get_by_test_id("freshness").last).to_be_hidden()


# what syncs came to


async def test_the_receipt_of_a_sync_is_shown_above_the_documents(visit: Open, desk: Refdesk, tmp_path: Path) -> None:
    """Its numbers at once; its files by name when it is opened, those that failed in the index later among them."""
    folder = tmp_path / "synced <b>folder"
    folder.mkdir()
    (folder / "page.md").write_text("# Synced\n\nText.")
    (folder / "nothing.md").write_text("&nbsp;")
    (folder / "~$lock.docx").write_text("Alice")
    said = await desk.command("sync", str(folder), "--json")
    assert (said.code, said.last["added"], len(said.last["skipped"])) == (0, 2, 1), said.err
    await desk.all_settled()
    page = (await visit("/#documents")).page
    sync = page.get_by_test_id("sync").first
    await expect(sync.get_by_test_id("sync-source")).to_contain_text("synced <b>folder/")
    await expect(sync.get_by_test_id("sync-about")).to_contain_text("2 added · 1 skipped")
    await sync.locator("summary").click()
    await expect(sync.get_by_test_id("sync-sum")).to_contain_text("3 found in the source · now 1 searchable")
    await expect(sync.get_by_test_id("sync-entries")).to_contain_text("not searchable nothing.md")
    await expect(sync.get_by_test_id("sync-entries")).to_contain_text(
        "skipped ~$lock.docx: ignored by the default list"
    )
    assert not await overflows(page)
    for document in (await desk.call("GET", "/api/documents", params={"q": "nothing"}))["documents"]:
        await desk.delete(document)


# what was given up


async def given_up(desk: Refdesk, count: int = 1) -> list[Json]:
    """Documents in which there is nothing to read; nothing else was given up."""

    async def nothing() -> bool:
        return bool((await desk.call("GET", "/api/dead-letters"))["open"] == 0)

    await until(nothing, what="the dead letters of other tests to be forgotten")
    return [await desk.settled(await desk.upload(f"blank-{number}.md", b"&nbsp;")) for number in range(count)]


async def test_what_was_given_up_is_explained_retried_and_discarded(visit: Open, desk: Refdesk) -> None:
    """With its reason, its attempts, its event and its log; a retry really tries again."""
    retried, _ = await given_up(desk, 2)
    page = (await visit("/#documents")).page
    await page.locator("#dead-letters-link").click()
    letters = page.get_by_test_id("dead-letter")
    await expect(letters).to_have_count(2)
    await expect(letters.first.get_by_test_id("dead-letter-reason")).to_contain_text("contains no text")
    await expect(letters.first.get_by_test_id("dead-letter-about")).to_contain_text("1 attempt")
    await letters.first.locator("summary").click()
    await expect(letters.first.get_by_test_id("dead-letter-event")).to_contain_text("documents.changed")
    await expect(letters.first.get_by_test_id("dead-letter-log")).to_contain_text("DocumentRejected")
    await letters.first.get_by_test_id("dead-letter-discard").click()
    await expect(letters).to_have_count(1)
    await letters.get_by_test_id("dead-letter-retry-reason").click()
    await expect(page.locator("#dead-letters-note")).to_contain_text("1 document queued")
    assert (await desk.settled(retried))["state"] == "failed"  # tried, and failed again
    await page.reload()
    await expect(letters).to_have_count(1)
    await letters.get_by_test_id("dead-letter-discard").click()
    await expect(page.locator("#dead-letters-empty")).to_be_visible()


async def test_what_was_given_up_can_be_handled_by_keyboard_on_a_phone(visit: Open, desk: Refdesk) -> None:
    """Nothing is wider than the screen, and the focus stays where the work is."""
    await given_up(desk, 2)
    page = (await visit("/#dead-letters", viewport=PHONE)).page
    await expect(page.get_by_test_id("dead-letter")).to_have_count(2)
    await page.locator("summary").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("dead-letter-log").first).to_be_visible()
    assert not await overflows(page)
    await tab_to(page, "dead-letter-discard")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("dead-letter")).to_have_count(1)
    await expect(page.get_by_test_id("dead-letter-retry")).to_be_focused()
    await page.get_by_test_id("dead-letter-discard").click()
    await expect(page.locator("#dead-letters-empty")).to_be_visible()


# everybody


async def test_everything_can_be_done_by_keyboard(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """Ask, read the cited passage, come back, and delete a document."""
    llm.default = say(ANSWER)
    page = (await visit()).page
    keys = page.keyboard
    await expect(page.locator("#question")).to_be_focused()
    await keys.type(QUESTION)
    await keys.press("Enter")
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "done")
    await tab_to(page, "citation", backwards=True)
    await keys.press("Enter")
    await expect(page.locator("#reader-body .passage.cited")).to_be_focused()
    await keys.press("Escape")
    await expect(page.locator("#reader")).to_be_hidden()
    await expect(page.get_by_test_id("citation")).to_be_focused()
    await page.goto(f"{page.url.partition('#')[0]}#documents")
    await expect(page.get_by_test_id("document")).to_have_count(1)
    await tab_to(page, "document-delete")
    await keys.press("Enter")
    await expect(page.get_by_test_id("document")).to_have_count(0)
    await expect(page.locator("#filter")).to_be_focused()


async def tab_to(page: Page, test_id: str, *, backwards: bool = False) -> None:
    """Press Tab until the focus is on an element with this test id."""
    for _ in range(40):
        await page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if await page.evaluate("document.activeElement.dataset.testid") == test_id:
            return
    raise AssertionError(f"{test_id} cannot be reached by keyboard")


async def test_it_fits_a_phone(visit: Open, llm: ScriptedLlm, lighthouse: Json) -> None:
    """Nothing is wider than the screen; the reader covers it and closes again."""
    llm.default = say(ANSWER)
    page = (await visit(viewport=PHONE)).page
    await answered(page)
    assert not await overflows(page)
    await page.get_by_test_id("citation").click()
    await expect(page.locator("#reader-body .passage.cited")).to_be_in_viewport()
    assert not await overflows(page)
    box = await page.locator("#reader").bounding_box()
    assert box is not None and box["width"] >= 0.9 * PHONE["width"]
    await page.locator("#reader-close").click()
    await page.locator("#nav-documents").click()
    await expect(page.get_by_test_id("document")).to_have_count(1)
    assert not await overflows(page)


# strangers


async def test_hostile_text_never_becomes_active(visit: Open, desk: Refdesk, llm: ScriptedLlm) -> None:
    """Whether a document or the model says it: HTML, pictures, links and scripts stay text."""
    text = {"title": HOSTILE_TITLE, "text": HOSTILE}
    await desk.settled(await desk.call("POST", "/api/documents", json=text, expect=(201,)))
    llm.default = say(" ".join(HOSTILE.split()) + " [1]")
    page = (await visit()).page
    await answered(page, "How often is the Gorse pump oiled?")
    await expect(page.get_by_test_id("answer")).to_contain_text("<script>window.stolen=1</script>")
    assert await page.locator(ACTIVE).count() == 0
    await page.get_by_test_id("source").first.locator("a").click()
    await expect(page.locator("#reader-body")).to_contain_text("Gorse pump")
    assert await page.locator(ACTIVE).count() == 0
    await page.locator("#reader-close").click()
    await page.locator("#nav-documents").click()
    await expect(page.get_by_test_id("document")).to_contain_text(HOSTILE_TITLE)
    assert await page.locator(ACTIVE).count() == 0
    assert await page.evaluate("window.stolen") is None


async def test_the_page_may_load_from_its_own_origin_only(desk: Refdesk) -> None:
    """Its content security policy says so, and nothing in it is inline."""
    async with desk.open("GET", "/") as reply:
        policy, html = reply.headers["Content-Security-Policy"], await reply.text()
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "object-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|\sstyle=|javascript:", html)


# below a path


async def test_the_page_works_below_the_path_of_a_proxy(
    browser: Browser, desk: Refdesk, llm: ScriptedLlm, lighthouse: Json
) -> None:
    """Its files, its calls, its uploads and its links: the proxy takes the path away, and nobody told the desk of it."""
    llm.reset()
    llm.default = say(ANSWER)
    async with proxied(desk.url, prefix="/desk", strip=True) as origin, await browser.new_context() as context:
        page = await context.new_page()
        missed: list[str] = []
        page.on("response", lambda reply: missed.append(reply.url) if reply.status == 404 else None)
        await page.goto(f"{origin}/desk/")
        await answered(page)
        await expect(page.get_by_test_id("answer")).to_contain_text(FACT)
        await page.goto(f"{origin}/desk/#document/{lighthouse['id']}")
        original = page.locator("#reader-original")
        await expect(original).to_have_attribute("href", re.compile(f"^/desk/api/documents/{lighthouse['id']}/content"))
        assert missed == []
    await desk.empty()


# documents


async def test_a_document_says_how_it_was_read(visit: Open, desk: Refdesk) -> None:
    """What whoever relies on it should know stands below its name."""
    await desk.settled(await desk.upload("plan.txt", "Zebranie w piątek".encode("cp1250")))
    page = (await visit("/#documents")).page
    notes = page.get_by_test_id("document-notes")
    await expect(notes).to_have_text("plan.txt does not say how its text is encoded: read as Windows-1250, 0.50 sure.")
