"""Every view of the page against axe-core's rules: nothing serious, nothing critical; light, dark, and on a phone."""

import shutil
import subprocess
from typing import Any

import pytest
from playwright.async_api import Page, ViewportSize, expect
from tests.browser.conftest import DESKTOP, PHONE, Open
from tests.support.running import Json, Refdesk
from tests.support.scripted_llm import ScriptedLlm, say

AXE = "axe-core@4.14.1"
FACT = "The Marlowe lighthouse was painted white in 1987."
QUESTION = "When was the Marlowe lighthouse painted white?"
GRAVE = {"serious", "critical"}
INSTALL_S_MAX = 60

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its source, fetched for this run only."""
    npm = shutil.which("npm")
    folder = tmp_path_factory.mktemp("axe")
    source = folder / "node_modules" / "axe-core" / "axe.min.js"
    if npm is not None:
        install = [npm, "install", "--no-save", "--ignore-scripts", "--silent", "--prefix", str(folder), AXE]
        subprocess.run(install, capture_output=True, timeout=INSTALL_S_MAX, check=False)
    if not source.exists():
        pytest.skip("ACCESSIBILITY IS NOT TESTED: axe-core cannot be fetched with npm.")
    return source.read_text(encoding="utf-8")


async def grave(page: Page, axe: str) -> list[str]:
    """What breaks a rule badly, and where."""
    await page.evaluate("Promise.allSettled(document.getAnimations().map((animation) => animation.finished))")
    await page.evaluate(axe)
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


@pytest.fixture
async def lighthouse(desk: Refdesk) -> Json:
    text = f"# Marlowe\n\n## The tower\n\n{FACT}\n\n| Year | Colour |\n|---|---|\n| 1987 | white |\n| 1990 | red |"
    return await desk.settled(await desk.upload("lighthouse.md", text.encode()))


@pytest.mark.parametrize(
    ("theme", "viewport"),
    [
        pytest.param("light", DESKTOP, id="light-desktop"),
        pytest.param("dark", PHONE, id="dark-phone"),
        pytest.param("dark", DESKTOP, id="dark-desktop", marks=pytest.mark.long),
        pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.long),
    ],
)
async def test_no_view_breaks_a_rule_badly(
    visit: Open, llm: ScriptedLlm, lighthouse: Json, axe: str, theme: str, viewport: ViewportSize
) -> None:
    """Those of askers, of curators and of operators, and what opens over them."""
    llm.default = say(f"{FACT} [1]\n\n| Year | Colour |\n|---|---|\n| 1987 | white |")
    page = (await visit(viewport=viewport)).page
    await page.emulate_media(color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce")
    await page.locator("#question").fill("")
    found = {"welcome": await grave(page, axe)}
    await page.locator("#question").fill(QUESTION)
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "done")
    await page.get_by_test_id("share").click()
    await expect(page.get_by_test_id("shared")).to_be_visible()
    found["answer"] = await grave(page, axe)
    await page.get_by_test_id("citation").first.click()
    await expect(page.locator("#reader-body .passage.cited")).to_be_visible()
    found["source"] = await grave(page, axe)
    await page.locator("#reader-close").click()
    await page.locator("#history-button").click()
    await expect(page.get_by_test_id("conversation").first).to_be_visible()
    found["conversations"] = await grave(page, axe)
    await page.locator("#history-close").click()
    await page.locator("#preferences-button").click()
    found["preferences"] = await grave(page, axe)
    await page.keyboard.press("Escape")
    await page.locator("#filter-button").click()
    await expect(page.get_by_test_id("filter-choice").first).to_be_visible()
    found["filters"] = await grave(page, axe)
    await page.keyboard.press("Escape")
    for view in ("documents", "dead-letters", "operations", "usage", "gaps", "feedback", "audit"):
        await page.goto(f"{page.url.partition('#')[0]}#{view}")
        await expect(page.locator(f"#{view}-view")).to_be_visible()
        found[view] = await grave(page, axe)
    await page.goto(f"{page.url.partition('#')[0]}#documents")
    for details in (".upload-options", ".more-filters"):
        await page.locator(f"{details} summary").click()
    await page.get_by_test_id("document-chosen").check()
    found["documents, all open"] = await grave(page, axe)
    await page.get_by_test_id("document-details").click()
    await expect(page.get_by_test_id("version")).to_be_visible()
    found["a document's details"] = await grave(page, axe)
    await page.locator("#document-close").click()
    await page.goto(f"{page.url.partition('#')[0]}#keys")
    await expect(page.locator("#keys-first")).to_be_visible()
    found["keys"] = await grave(page, axe)
    assert {view: broken for view, broken in found.items() if broken} == {}
