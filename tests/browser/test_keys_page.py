"""Keys and people on the page, and that nobody is offered what would be refused."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import PHONE, Open
from tests.support.running import Json, Refdesk, running
from tests.support.scripted_llm import ScriptedLlm

KEY = re.compile(r"rdk_[0-9a-f]{8}_[0-9a-f]{72}")
HOSTILE = "<img src=x onerror=window.stolen=1>"
SESSIONS = {
    "sessions": [
        {
            "id": "s1", "principal_id": "u1", "name": HOSTILE, "groups": [HOSTILE], "role": "asker", "browser": HOSTILE,
            "created_at": "2026-01-01T08:00:00Z", "seen_at": "2026-01-01T09:00:00Z", "expires_at": "2026-01-02T08:00:00Z",
        }
    ]
}  # fmt: skip

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
async def desk(llm: ScriptedLlm, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refdesk]:
    """Its keys lock out whoever has none; the test itself comes with the operator's."""
    home = tmp_path_factory.mktemp("keys")
    async with running(home, "--no-samples", "--llm", llm.url, REFDESK_LLM_MODEL="scripted") as refdesk:
        operator = (refdesk.data_dir / "operator.key").read_text().strip()
        refdesk._session.headers["Authorization"] = f"Bearer {operator}"
        yield refdesk


async def make(page: Page, name: str, **fields: str) -> str:
    """The key that was made on the page."""
    form = page.locator("#key-form-new")
    await form.locator("[name=name]").fill(name)
    for field, value in fields.items():
        control = form.locator(f"[name={field}]")
        await (control.select_option(value) if field in ("role", "holder") else control.fill(value))
    await page.get_by_test_id("key-create").click()
    return await shown_key(page)


async def shown_key(page: Page) -> str:
    value = page.get_by_test_id("key-made")
    await expect(value).to_have_text(KEY)
    key = await value.inner_text()
    await page.get_by_test_id("key-made-close").click()
    return key


async def come_in(page: Page, key: str) -> None:
    await page.locator("#key-input").fill(key)
    await page.get_by_test_id("key-save").click()
    await expect(page.locator("#key-dialog")).to_be_hidden()


async def keys(desk: Refdesk) -> dict[str, Json]:
    return {key["name"]: key for key in (await desk.call("GET", "/api/keys"))["keys"]}


async def test_an_administrator_keeps_the_keys_of_a_desk(visit: Open, desk: Refdesk) -> None:
    """Makes the first, and comes in with it; others with role, groups and end; changes, rotates and revokes them."""
    page = (await visit("/#keys")).page
    await expect(page.locator("#keys-first")).to_be_visible()
    own = await make(page, "ada", role="administrator")
    await come_in(page, own)
    await expect(page.get_by_test_id("key")).to_have_count(1)
    await expect(page.locator("#keys-first")).to_be_hidden()
    first = await make(page, "ann", role="asker", groups="hr, legal", expires="2099-05-01")
    ann = page.locator('[data-name="ann"]')
    await expect(ann.get_by_test_id("key-groups")).to_have_text("hr, legal")
    await expect(ann.get_by_test_id("key-expires")).to_contain_text("1 May 2099")
    await expect(ann.get_by_test_id("key-used")).to_have_text("never")
    await ann.get_by_test_id("key-change").click()
    await page.locator("#key-change-form [name=role]").select_option("writer")
    await page.locator("#key-change-form [name=groups]").fill("hr")
    await page.get_by_test_id("key-save-change").click()
    await expect(ann.get_by_test_id("key-role")).to_have_text("writer")
    told = (await keys(desk))["ann"]
    assert (told["role"], told["groups"], told["expires_at"][:7]) == ("writer", ["hr"], "2099-05")
    await ann.get_by_test_id("key-rotate").click()
    await page.get_by_test_id("sure-yes").click()
    second = await shown_key(page)
    assert second != first and (await keys(desk))["ann"]["id"] == told["id"]
    await ann.get_by_test_id("key-revoke").click()
    await page.get_by_test_id("sure-yes").click()
    await expect(page.get_by_test_id("key")).to_have_count(1)
    assert set(await keys(desk)) == {"ada"}
    assert not {own, first, second} & set(KEY.findall(await page.content()))


async def test_a_refusal_is_said_and_nothing_is_lost(visit: Open, desk: Refdesk) -> None:
    """A name that is taken; what was typed stays."""
    made = await desk.call("POST", "/api/keys", json={"name": "boss", "role": "administrator"}, expect=(201,))
    page = (await visit("/#keys")).page
    await come_in(page, made["key"])
    await page.locator("#key-form-new [name=name]").fill("boss")
    await page.get_by_test_id("key-create").click()
    await expect(page.locator("#keys-problem")).to_contain_text("Choose another name")
    await expect(page.locator("#key-form-new [name=name]")).to_have_value("boss")


async def test_nobody_is_offered_what_would_be_refused(visit: Open, desk: Refdesk) -> None:
    """An asker sees documents without a button that changes one, and no way to the pages of those who run the desk."""
    asker = await desk.call("POST", "/api/keys", json={"name": "asker", "role": "asker"}, expect=(201,))
    await desk.call("POST", "/api/documents", json={"title": "Open", "text": "Open."}, expect=(201,))
    page = (await visit("/#documents")).page
    await come_in(page, asker["key"])
    row = page.get_by_test_id("document")
    await expect(row).to_have_count(1)
    await expect(row.get_by_test_id("document-delete")).to_be_hidden()
    await expect(row.get_by_test_id("document-chosen")).to_be_hidden()
    await expect(page.locator("#documents-add")).to_be_hidden()
    await row.get_by_test_id("document-details").click()
    await expect(page.locator("#document-versions")).to_contain_text("Version 1")
    await expect(page.locator("#document-form")).to_be_hidden()
    await page.locator("#document-close").click()
    await page.goto(f"{desk.url}/#usage")
    await expect(page.locator("#usage-view")).to_be_visible()
    await expect(page.locator("#usage-links")).to_be_hidden()
    await page.goto(f"{desk.url}/#keys")
    await expect(page.locator("#keys-problem")).to_contain_text("administrators")


async def test_sessions_are_listed_and_ended(visit: Open, desk: Refdesk) -> None:
    """Whatever the identity provider calls people and browsers, it stays text; it fits a phone."""
    boss = await desk.call("POST", "/api/keys", json={"name": "chief", "role": "administrator"}, expect=(201,))
    page = (await visit(viewport=PHONE)).page
    ended = []

    async def end(route) -> None:  # type: ignore[no-untyped-def]
        ended.append(route.request.method)
        await route.fulfill(status=204)

    await page.route(
        "**/api/sessions?all=true", lambda route: route.fulfill(json={"sessions": []} if ended else SESSIONS)
    )
    await page.route("**/api/sessions/s1", end)
    await page.evaluate(f"sessionStorage.setItem('refdesk.key', '{boss['key']}'); location.hash = '#keys'")
    await page.reload()  # nothing has been refused on it then
    session = page.get_by_test_id("session")
    await expect(session).to_contain_text(HOSTILE)
    assert await page.locator("main :is(img, script)").count() == 0
    assert await page.evaluate("window.stolen") is None
    assert not await page.evaluate("document.documentElement.scrollWidth > innerWidth")
    await session.get_by_test_id("session-end").click()
    await expect(page.locator("#sessions-empty")).to_be_visible()
    assert ended == ["DELETE"]
