"""People sign in, stay signed in and are signed out, as they see it: in a real browser, at a provider of Authlib's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, expect
from tests.browser.conftest import DESKTOP, EXPECT_MS_MAX, PHONE
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.support.running import Refdesk, running
from tests.support.scripted_llm import ScriptedLlm, say

pytestmark = pytest.mark.timeout(400)

FACT = "The Marlowe lighthouse was painted white in 1987."
QUESTION = "When was the Marlowe lighthouse painted white?"
RECHECK_S = 2.0


@pytest.fixture(scope="module")
async def served_provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider().serving() as provider:
        yield provider


@pytest.fixture(scope="module")
async def sign_in_desk(
    served_provider: IdentityProvider, llm: ScriptedLlm, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Refdesk]:
    """A whole desk that has a document for `hr`; its administrator uses the command line."""
    settings = {
        "REFDESK_OIDC_ISSUER": served_provider.issuer,
        "REFDESK_OIDC_CLIENT_ID": CLIENT_ID,
        "REFDESK_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "REFDESK_OIDC_RECHECK_S": f"{RECHECK_S}",
        "REFDESK_LLM_MODEL": "scripted",
    }
    home = tmp_path_factory.mktemp("sign-in-desk")
    async with running(home, "--no-samples", "--llm", llm.url, **settings) as desk:
        served_provider.desk = desk.url
        (home / "lighthouse.md").write_text(f"# Marlowe\n\n{FACT}")
        added = await desk.command("add", "lighthouse.md", "--readers", "hr", "--json")
        assert added.code == 0, added.err
        yield desk


@pytest.fixture
def provider(served_provider: IdentityProvider, sign_in_desk: Refdesk) -> IdentityProvider:
    """Nobody is signed in there: it asks who comes."""
    served_provider.reset()
    served_provider.signed_in = None
    return served_provider


@asynccontextmanager
async def opened(browser: Browser, desk: Refdesk, *, phone: bool = False) -> AsyncIterator[Page]:
    context = await browser.new_context(viewport=PHONE if phone else DESKTOP)
    page = await context.new_page()
    page.set_default_timeout(EXPECT_MS_MAX)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(desk.url)
    yield page
    await context.close()
    assert complaints == []


async def sign_in(page: Page, provider: IdentityProvider, person: str = "ada") -> None:
    """By what the page offers to whom it does not know, and the provider's form."""
    await page.locator("#key-sign-in").click()
    await page.get_by_role("button", name=person).click()
    await expect(page.get_by_test_id("signed-in-as")).to_have_text(provider.people[person].name)
    provider.signed_in = person


async def answered(page: Page) -> None:
    await page.locator("#question").fill(QUESTION)
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("turn").last).to_have_attribute("data-state", "done")


async def test_a_person_signs_in_and_asks(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider, llm: ScriptedLlm
) -> None:
    """The page says who they are, and answers from what their groups may read."""
    llm.reset()
    llm.default = say(f"{FACT} [1]")
    async with opened(browser, sign_in_desk) as page:
        await sign_in(page, provider)
        await expect(page.locator("#sign-in")).to_be_hidden()
        await answered(page)
        await expect(page.get_by_test_id("answer").last).to_contain_text("1987")


async def test_somebody_ends_their_session_in_another_browser(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """From the list of their own; the one they look from is left by signing out."""
    async with opened(browser, sign_in_desk) as here, opened(browser, sign_in_desk) as there:
        await sign_in(here, provider, "bob")
        provider.signed_in = None
        await sign_in(there, provider, "bob")
        await here.locator("#preferences-button").click()
        await here.locator("#sessions-link").click()
        await expect(here.locator("#preferences")).to_be_hidden()
        row = here.get_by_test_id("own-session")
        await expect(row).to_have_count(2)
        own = row.filter(has_text="this browser")
        await expect(own.get_by_test_id("own-session-end")).to_be_hidden()
        await row.filter(has_not_text="this browser").get_by_test_id("own-session-end").click()
        await expect(row).to_have_count(1)
        await expect(own).to_be_visible()
        assert await there.evaluate("fetch('api/me').then((reply) => reply.status)") == 401


async def test_whoever_does_not_want_to_sign_in_now_is_asked_once(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """Whatever else the page asks for by itself; and again when they do something that needs it."""
    async with opened(browser, sign_in_desk) as page:
        await expect(page.locator("#key-sign-in")).to_be_focused()
        await page.locator("#key-cancel").click()
        for _ in range(3):
            await page.evaluate("fetch('api/me').then((reply) => reply.text())")
        await expect(page.locator("#key-dialog")).to_be_hidden()
        await page.locator("#question").fill(QUESTION)
        await page.locator("#question").press("Enter")
        await expect(page.locator("#key-sign-in")).to_be_visible()
        await page.locator("#key-cancel").click()
        await page.locator("#sign-in").click()
        await expect(page.get_by_role("button", name="ada")).to_be_visible()


async def test_the_cookie_is_out_of_reach_of_scripts(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """`HttpOnly`, and under the name that loopback has."""
    async with opened(browser, sign_in_desk) as page:
        await sign_in(page, provider)
        assert await page.evaluate("document.cookie") == ""
        [cookie] = [one for one in await page.context.cookies() if "signing-in" not in one["name"]]
        assert cookie["name"].startswith("refdesk-loopback-")
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")


async def test_a_group_that_was_lost_at_the_provider_is_lost_on_the_page(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """Within the time that the setting says, by a refreshed token."""
    async with opened(browser, sign_in_desk) as page:
        await sign_in(page, provider)
        await page.goto(sign_in_desk.url + "/#documents")
        await expect(page.get_by_test_id("document")).to_have_count(1)
        refreshed = provider.calls["/token"]
        provider.people["ada"].groups = ["legal"]
        await expect(page.get_by_test_id("document")).to_have_count(0)
        assert provider.calls["/token"] > refreshed
        assert provider.reused_refresh_tokens == 0


async def test_a_question_is_not_lost_on_the_way_to_sign_in(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """The session has ended meanwhile: the refused question stands in its field again after signing in."""
    async with opened(browser, sign_in_desk) as page:
        await sign_in(page, provider)
        await page.context.clear_cookies()
        await page.locator("#question").fill(QUESTION)
        await page.locator("#question").press("Enter")
        await page.locator("#key-sign-in").click()
        await expect(page.get_by_test_id("signed-in-as")).to_have_text("Ada Lovelace")
        await expect(page.locator("#question")).to_have_value(QUESTION)


async def test_signing_out_is_signing_out_at_the_provider(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """And back at the desk, nobody is signed in."""
    async with opened(browser, sign_in_desk) as page:
        await sign_in(page, provider)
        await page.locator("#sign-out").click()
        await expect(page.locator("#sign-in")).to_be_visible()
        assert page.url == sign_in_desk.url + "/"
        assert provider.calls["/end-session"] == 1
        assert provider.refresh == {}
        assert (await page.request.get(sign_in_desk.url + "/api/me")).status == 401


async def test_the_provider_signs_a_person_out_of_an_open_page(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """Back-channel logout: the list of documents is watched; the page asks to sign in again by itself."""
    async with opened(browser, sign_in_desk) as page:
        await sign_in(page, provider)
        await page.goto(sign_in_desk.url + "/#documents")
        await expect(page.get_by_test_id("document")).to_have_count(1)
        assert await provider.end_sessions_of("ada") == 200
        await expect(page.locator("#key-sign-in")).to_be_visible()


async def test_a_phone_has_room_for_who_is_signed_in(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """Nothing is pushed off its edge, however long the name."""
    provider.people["ada"].name = "Augusta Ada King, Countess of Lovelace"
    async with opened(browser, sign_in_desk, phone=True) as page:
        await sign_in(page, provider)
        assert not await page.evaluate("document.documentElement.scrollWidth > innerWidth")
        heights = await page.evaluate("[...document.querySelectorAll('.masthead a')].map((link) => link.offsetHeight)")
        assert max(heights) < 45, "no word is broken"
        await page.locator("#preferences-button").click()
        await page.locator("#sign-out").click()
        await expect(page.locator("#sign-in")).to_be_visible()


async def test_an_administrator_ends_somebodys_session(
    browser: Browser, sign_in_desk: Refdesk, provider: IdentityProvider
) -> None:
    """On the page of keys and people, which shows who is signed in, with which browser, and since when."""
    operator = (sign_in_desk.data_dir / "operator.key").read_text().strip()
    async with opened(browser, sign_in_desk) as page, opened(browser, sign_in_desk) as office:
        await sign_in(page, provider)
        await office.locator("#key-input").fill(operator)
        await office.get_by_test_id("key-save").click()
        await office.goto(f"{sign_in_desk.url}/#keys")
        sessions = office.get_by_test_id("session").filter(has_text=provider.people["ada"].name)
        await expect(sessions.first).to_contain_text("Chrom")
        for ahead in range(await sessions.count(), 0, -1):  # those of other tests, too
            await sessions.first.get_by_test_id("session-end").click()
            await expect(sessions).to_have_count(ahead - 1)
        await page.reload()
        await expect(page.locator("#sign-in")).to_be_visible()
