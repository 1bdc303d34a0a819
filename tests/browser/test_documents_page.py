"""The documents on the page: added, followed, found, changed, compared, deleted; of a long list only what is near."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect
from tests.browser.conftest import PHONE, Open
from tests.support.running import Json, Refdesk, until

HOSTILE = "<img src=x onerror=window.stolen=1>"
FILES = 50
MANY = 160
ROWS_MAX = 120
"""Three pieces of the list: what is on the screen, and one before and behind."""
DROP_A_FOLDER = """() => {
    const file = (name, text) => ({ name, isDirectory: false, fullPath: `/minutes/${name}`,
                                    file: (resolve) => resolve(new File([text], name)) });
    const folder = (name, children) => ({ name, isDirectory: true, fullPath: `/${name}`, createReader: () => {
        const rest = [...children];
        return { readEntries: (resolve) => resolve(rest.splice(0, 1)) };
    } });
    const entry = folder("minutes", [file("may.md", "The Marlowe tower was painted."), folder(".git", []),
                                     file("june.md", "The Marlowe lamp was cleaned."), file(".hidden", "x")]);
    const transfer = new DataTransfer();
    transfer.items.add(new File([""], "minutes"));
    DataTransferItem.prototype.webkitGetAsEntry = () => entry;
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""

pytestmark = pytest.mark.timeout(400)


def row(page: Page, title: str) -> Locator:
    return page.get_by_test_id("document").filter(has_text=title)


def upload(page: Page, name: str) -> Locator:
    return page.get_by_test_id("upload").filter(has_text=name)


async def titles(page: Page) -> list[str]:
    return await page.get_by_test_id("document-title").all_text_contents()


async def documents(desk: Refdesk, **query: Any) -> list[Json]:
    found: list[Json] = (await desk.call("GET", "/api/documents", params=query))["documents"]
    return found


async def made(desk: Refdesk, title: str, **fields: Any) -> Json:
    return await desk.call(
        "POST", "/api/documents", json={"title": title, "text": f"{title}.", **fields}, expect=(201,)
    )


async def gone(desk: Refdesk, document: Json) -> bool:
    async with desk.open("GET", f"/api/documents/{document['id']}") as reply:
        return reply.status == 404


async def test_a_file_is_followed_until_it_is_searchable_and_replaced_by_the_next(
    visit: Open, desk: Refdesk, fresh: Path
) -> None:
    """With the readers and tags that were asked for; it says how long each step took. The same file again is its next version."""
    path = fresh / "pontoon.md"
    path.write_text("The Marlowe pontoon carries 40 tonnes.")
    page = (await visit("/#documents")).page
    await page.locator(".upload-options summary").click()
    await page.locator("#upload-fields [name=readers]").fill("harbour, everyone")
    await page.locator("#upload-fields [name=tags]").fill("marlowe,2026")
    await page.locator("#file-input").set_input_files(path)
    note = upload(page, "pontoon").get_by_test_id("upload-note")
    await expect(note).to_contain_text("searchable after")
    for step in ("queued", "parsing", "embedding", "storing"):
        await expect(note).to_contain_text(f"{step} ")
    await expect(page.get_by_test_id("uploads-summary")).to_have_text("1 of 1 searchable")
    [first] = await documents(desk, q="pontoon")
    assert (first["readers"], first["tags"]) == (["everyone", "harbour"], ["2026", "marlowe"])
    path.write_text("The Marlowe pontoon carries 50 tonnes.")
    await page.locator("#file-input").set_input_files(path)
    await expect(upload(page, "pontoon").last.get_by_test_id("upload-note")).to_contain_text("version 2")
    await expect(row(page, "pontoon")).to_have_count(1)
    await expect(row(page, "pontoon").get_by_test_id("document-about")).to_contain_text("version 2")
    assert [one["id"] for one in await documents(desk, q="pontoon")] == [first["id"]]
    await expect(page.get_by_test_id("uploads-summary")).to_have_text("2 of 2 searchable")
    await page.locator("#uploads-clear").click()
    await expect(page.get_by_test_id("upload")).to_have_count(0)


async def test_a_folder_comes_with_all_that_is_in_it(visit: Open, desk: Refdesk, fresh: Path) -> None:
    """Chosen or dropped, without what is hidden; equal names in two folders are two documents."""
    for year in ("2025", "2026"):
        (fresh / "wiki" / year).mkdir(parents=True)
        (fresh / "wiki" / year / "may.md").write_text(f"Minutes of May {year}.")
    page = (await visit("/#documents")).page
    await page.locator("#folder-input").set_input_files(fresh / "wiki")
    await expect(page.get_by_test_id("uploads-summary")).to_have_text("2 of 2 searchable")
    await page.evaluate(DROP_A_FOLDER)
    await expect(page.get_by_test_id("uploads-summary")).to_have_text("4 of 4 searchable")
    assert sorted(one["external_id"] for one in await documents(desk)) == [
        "upload:minutes/june.md", "upload:minutes/may.md", "upload:wiki/2025/may.md", "upload:wiki/2026/may.md",
    ]  # fmt: skip


async def test_a_file_that_fails_says_why_and_can_be_tried_again(visit: Open, desk: Refdesk, fresh: Path) -> None:
    """Beside the file and in the list; fifty others go on meanwhile."""
    (fresh / "broken.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 4)
    for number in range(FILES - 1):
        (fresh / f"note{number}.md").write_text(f"The Marlowe note {number}.")
    page = (await visit("/#documents")).page
    await page.locator("#file-input").set_input_files(sorted(fresh.iterdir()))
    broken = upload(page, "broken.pdf")
    await expect(broken).to_have_attribute("data-state", "failed", timeout=120_000)
    await expect(broken.get_by_test_id("upload-note")).not_to_be_empty()
    await expect(page.get_by_test_id("uploads-summary")).to_have_text(
        f"{FILES - 1} of {FILES} searchable, 1 failed", timeout=120_000
    )
    await page.locator("#documents-filter [name=state]").select_option("failed")
    await expect(row(page, "broken").get_by_test_id("document-failure")).not_to_be_empty()
    async with page.expect_response(lambda reply: reply.url.endswith("/retry")) as retried:
        await broken.get_by_test_id("upload-again").click()
    assert (await retried.value).status == 202
    await expect(broken).to_have_attribute("data-state", "failed")


async def test_the_list_is_narrowed_sorted_and_counted(visit: Open, desk: Refdesk) -> None:
    """By tag, source, owner, state and day; one button lifts all filters."""
    for title, tag in (("beta", "x"), ("alpha", "y"), ("gamma", "x")):
        await made(desk, title, tags=[tag], external_id=f"wiki:{title}")
    await made(desk, "other")
    page = (await visit("/#documents")).page
    total = page.get_by_test_id("documents-total")
    await expect(total).to_have_text("4 documents")
    form = page.locator("#documents-filter")
    await form.locator("[name=sort]").select_option("title")
    await expect(page.get_by_test_id("document-title")).to_have_text(["alpha", "beta", "gamma", "other"])
    await form.locator(".more-filters summary").click()
    await form.locator("[name=tag]").fill("x")
    await expect(total).to_have_text("2 documents")
    assert await titles(page) == ["beta", "gamma"]
    await form.locator("[name=source]").fill("wiki:g")
    await expect(total).to_have_text("1 document")
    await form.locator("[name=owner]").select_option("me")
    await form.locator("[name=to]").fill("2001-01-01")
    await expect(page.locator("#documents-empty")).to_have_text("No document matches these filters.")
    await page.locator("#filters-clear").click()
    await expect(total).to_have_text("4 documents")
    assert await titles(page) == ["other", "gamma", "alpha", "beta"]


async def test_of_a_long_list_only_what_is_near_is_on_the_page(visit: Open, desk: Refdesk) -> None:
    """It goes on as one scrolls, says where in it one is, and comes back to the top as it was."""
    for begin in range(0, MANY, 20):
        await asyncio.gather(*(made(desk, f"Number {number:03}") for number in range(begin, begin + 20)))
    page = (await visit("/#documents")).page
    await expect(page.get_by_test_id("documents-total")).to_have_text(f"{MANY} documents")
    rows = page.get_by_test_id("document")
    last = page.locator(f'[aria-posinset="{MANY}"]')
    most = 0

    async def at_the_end() -> bool:
        nonlocal most
        await page.mouse.wheel(0, 2500)
        most = max(most, await rows.count())
        return bool(await last.count())

    await until(at_the_end, what="the last document to be on the page")
    await expect(last).to_have_attribute("aria-setsize", str(MANY))
    await expect(page.locator("#load-more")).to_be_hidden()
    assert most <= ROWS_MAX
    first = page.locator('[aria-posinset="1"]')

    async def at_the_top() -> bool:
        """Turns of the wheel from before may still be under way."""
        await page.evaluate("scrollTo(0, 0)")
        return bool(await first.count()) and await first.evaluate(
            "row => row.getBoundingClientRect().top < innerHeight"
        )

    await until(at_the_top, what="the first document to be on the page again")
    await expect(last).to_have_count(0)
    assert await rows.count() <= ROWS_MAX


async def test_several_documents_are_changed_at_once(visit: Open, desk: Refdesk) -> None:
    """Tags are added to what each has and taken away; readers are what is said."""
    for title in ("one", "two", "three"):
        await made(desk, title, tags=[title, "old"])
    page = (await visit("/#documents")).page
    for title in ("one", "two"):
        await row(page, title).get_by_test_id("document-chosen").check()
    await expect(page.locator("#bulk-count")).to_have_text("2 documents selected")
    await page.locator("#bulk-change").click()
    await page.locator("#bulk-form [name=add]").fill("new")
    await page.locator("#bulk-form [name=drop]").fill("old")
    await page.locator("#bulk-form [name=readers]").fill("hr")
    await page.get_by_test_id("bulk-save").click()
    await expect(page.locator("#bulk")).to_be_hidden()
    await expect(row(page, "one").get_by_test_id("document-about")).to_contain_text("for hr · #new · #one")
    told = {one["title"]: (one["tags"], one["readers"]) for one in await documents(desk)}
    assert told == {
        "one": (["new", "one"], ["hr"]), "two": (["new", "two"], ["hr"]), "three": (["old", "three"], ["everyone"]),
    }  # fmt: skip
    await page.locator("#bulk-all").click()
    await expect(page.locator("#bulk-count")).to_have_text("3 documents selected")
    await row(page, "two").get_by_test_id("document-chosen").uncheck()
    await page.locator("#bulk-delete").click()
    await expect(page.get_by_test_id("document")).to_have_count(1)
    await page.locator("#toast-undo").click()
    await expect(page.get_by_test_id("document")).to_have_count(3)
    assert len(await documents(desk)) == 3


async def test_a_deletion_can_be_taken_back_for_a_moment(visit: Open, desk: Refdesk) -> None:
    """Then it is final, also when the page is left before; what somebody else changed meanwhile stays."""
    kept, dropped, changed = [await made(desk, title) for title in ("kept", "dropped", "changed")]
    page = (await visit("/#documents")).page
    await row(page, "kept").get_by_test_id("document-delete").click()
    await expect(row(page, "kept")).to_have_count(0)
    await page.locator("#toast-undo").click()
    await expect(row(page, "kept")).to_have_count(1)
    await row(page, "changed").get_by_test_id("document-delete").click()
    await expect(row(page, "changed")).to_have_count(0)
    await desk.call("PUT", f"/api/documents/{changed['id']}", json={"tags": ["new"]})
    await row(page, "dropped").get_by_test_id("document-delete").click()  # the deletion before is final now
    await expect(page.locator("#documents-problem")).to_contain_text("is at version 2")
    await expect(row(page, "changed")).to_have_count(1)
    await page.goto("about:blank")
    await until(lambda: gone(desk, dropped), what="the deletion")
    assert not await gone(desk, kept) and not await gone(desk, changed)


async def test_details_change_a_document_and_show_what_changed(visit: Open, desk: Refdesk, fresh: Path) -> None:
    """Title, tags and readers; another file in its place; each version against the one before."""
    await made(desk, "Policy", text="Leave is 28 days.\nAsk early.")
    page = (await visit("/#documents")).page
    await row(page, "Policy").get_by_test_id("document-details").click()
    form = page.locator("#document-form")
    await form.locator("[name=title]").fill("Leave policy")
    await form.locator("[name=tags]").fill("hr, 2026")
    await page.get_by_test_id("document-save").click()
    versions = page.get_by_test_id("version")
    await expect(versions).to_have_count(2)
    await expect(versions.first).to_contain_text("title “Leave policy”")
    await expect(versions.first.get_by_test_id("version-compare")).to_be_hidden()
    (fresh / "policy.md").write_text("Leave is 30 days.\nAsk early.")
    await page.locator("#replace-input").set_input_files(fresh / "policy.md")
    await expect(versions).to_have_count(3)
    await versions.first.get_by_test_id("version-compare").click()
    changes = versions.first.get_by_test_id("version-changes")
    await expect(changes.locator("del")).to_have_text("Leave is 28 days.")
    await expect(changes.locator("ins")).to_have_text("Leave is 30 days.")
    await expect(changes).to_contain_text("Ask early.")
    await page.locator("#document-close").click()
    await expect(row(page, "Leave policy").get_by_test_id("document-about")).to_contain_text("#2026 · #hr")


async def test_hostile_names_and_texts_stay_text(visit: Open, desk: Refdesk) -> None:
    """In rows, details, versions and their changes, on a phone too."""
    document = await made(desk, HOSTILE, tags=[HOSTILE[:60]], external_id=f"{HOSTILE}/x", text=f"# {HOSTILE}")
    await desk.call("PUT", f"/api/documents/{document['id']}", json={"text": "<script>window.stolen=1</script>"})
    page = (await visit("/#documents", viewport=PHONE)).page
    await row(page, HOSTILE).get_by_test_id("document-details").click()
    await page.get_by_test_id("version-compare").first.click()
    await expect(page.get_by_test_id("version-changes").first).to_contain_text("<script>")
    assert await page.evaluate("window.stolen") is None
    assert await page.locator("dialog :is(img, script), main :is(img, script)").count() == 0
    assert not await page.evaluate("document.documentElement.scrollWidth > innerWidth")
