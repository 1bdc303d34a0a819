"""A browser, and a running Refdesk whose language model says what a test wants it to say."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, ViewportSize, async_playwright, expect
from tests.support.running import Refdesk, running
from tests.support.scripted_llm import ScriptedLlm

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
DESKTOP = ViewportSize(width=1280, height=900)
PHONE = ViewportSize(width=390, height=844)
EXPECT_MS_MAX = 20_000
SILENT_FOR = {"REFDESK_SILENCE_SECONDS_MAX": "600"}
"""So that an indexer that a test lets stand still is not started again."""


@pytest.fixture(scope="package")
async def llm() -> AsyncIterator[ScriptedLlm]:
    async with ScriptedLlm().serving() as llm:
        yield llm


@pytest.fixture(scope="package")
async def desk(llm: ScriptedLlm, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refdesk]:
    home = tmp_path_factory.mktemp("desk")
    soon = {"REFDESK_USAGE_INTERVAL_S": "0.5", "REFDESK_GAP_INTERVAL_S": "0.5", **SILENT_FOR}
    async with running(home, "--no-samples", "--llm", llm.url, REFDESK_LLM_MODEL="scripted", **soon) as refdesk:
        yield refdesk


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("THE WEB PAGE IS NOT TESTED: there is no chromium on PATH. Install it (Debian: chromium).")
    expect.set_options(timeout=EXPECT_MS_MAX)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


class Visit:
    """A page of the desk, and what happened on it that must never happen."""

    def __init__(self, page: Page, *, desk: Refdesk) -> None:
        self.page = page
        self.desk = desk
        self.strays: list[str] = []
        """Addresses asked for outside the desk's own origin."""
        self.complaints: list[str] = []
        """Errors of the page's scripts, and what the content security policy refused."""
        page.on("request", self._on_request)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))

    def _on_request(self, request: object) -> None:
        address: str = request.url  # type: ignore[attr-defined]
        if not address.startswith((self.desk.url + "/", f"blob:{self.desk.url}/")):
            self.strays.append(address)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # refusals are shown to people
            self.complaints.append(message.text)


Open = Callable[..., Awaitable[Visit]]


@pytest.fixture
async def visit(browser: Browser, desk: Refdesk, llm: ScriptedLlm) -> AsyncIterator[Open]:
    """Open the page; at the end nothing was asked for elsewhere, and no script has complained."""
    llm.reset()
    visits: list[Visit] = []
    async with AsyncExitStack() as contexts:

        async def opened(path: str = "/", *, viewport: ViewportSize = DESKTOP) -> Visit:
            context = await contexts.enter_async_context(await browser.new_context(viewport=viewport))
            visits.append(Visit(await context.new_page(), desk=desk))
            await visits[-1].page.goto(desk.url + path)
            await expect(visits[-1].page.locator("html")).to_have_attribute("data-ready", "true")
            return visits[-1]

        yield opened
    await desk.empty()
    assert [(one.strays, one.complaints) for one in visits] == [([], [])] * len(visits)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder for files to add."""
    return tmp_path
