"""Every view of the page against axe-core's rules: nothing serious, nothing critical; light, dark, and on a phone."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

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
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
VIEWS = Path(__file__).parents[2] / "src" / "refdesk" / "app" / "page" / "views.js"

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
    if not await page.evaluate("'axe' in window"):
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
    """Its lamp is a passage of its own."""
    text = f"# Marlowe\n\n## The tower\n\n{FACT}\n\n| Year | Colour |\n|---|---|\n| 1987 | white |\n| 1990 | red |"
    lamp = "\n\n## The lamp\n\n" + " ".join(
        f"Keeper {n} of Marlowe cleaned the lamp in week {n}." for n in range(1, 50)
    )
    return await desk.settled(await desk.upload("lighthouse.md", f"{text}{lamp}".encode()))


def named(table: str) -> list[str]:
    """The names in one of the tables of views.js."""
    body = VIEWS.read_text(encoding="utf-8").partition(f"const {table} = {{")[2].partition("};")[0]
    return re.findall(r"^  \"?([a-z-]+)\"?:", body, re.MULTILINE)


async def answer(page: Page) -> None:
    await page.locator("#question").fill(QUESTION)
    await page.locator("#question").press("Enter")
    await expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "done")
    await expect(page.get_by_test_id("topic")).to_be_visible()
    await page.get_by_test_id("share").click()
    await expect(page.get_by_test_id("shared")).to_be_visible()


async def reader(page: Page) -> None:
    await page.get_by_test_id("citation").first.click()
    await expect(page.locator("#reader-body .passage.cited")).to_be_visible()


async def history(page: Page) -> None:
    await page.locator("#reader-close").click()
    await page.locator("#history-button").click()
    await expect(page.get_by_test_id("conversation").first).to_be_visible()


async def preferences(page: Page) -> None:
    await page.locator("#history-close").click()
    await page.locator("#preferences-button").click()


async def filters(page: Page) -> None:
    await page.keyboard.press("Escape")
    await page.locator("#filter-button").click()
    await expect(page.get_by_test_id("filter-choice").first).to_be_visible()
    await page.locator("#filter-since").fill("2020-01-31")
    await expect(page.get_by_test_id("filter-chip")).to_be_visible()


async def every_part_of_documents(page: Page) -> None:
    await view(page, "documents")
    for details in (".upload-options", ".more-filters"):
        await page.locator(f"{details} summary").click()
    await page.get_by_test_id("document-chosen").check()


async def bulk(page: Page) -> None:
    await page.locator("#bulk-change").click()


async def details(page: Page) -> None:
    await page.locator("#bulk-cancel").click()
    await page.get_by_test_id("document-details").click()
    await expect(page.get_by_test_id("version")).to_be_visible()


async def sure(page: Page) -> None:
    await page.locator("#document-close").click()
    await view(page, "operations")
    await page.get_by_test_id("mend").click()
    await expect(page.get_by_test_id("sure-yes")).to_be_visible()


async def key(page: Page) -> None:
    await page.get_by_test_id("sure-no").click()
    await page.evaluate("document.getElementById('key-dialog').showModal()")


async def view(page: Page, name: str) -> None:
    await page.goto(f"{page.url.partition('#')[0]}#{name}")
    await expect(page.locator(f"#{name}-view")).to_be_visible()


ASKING = (answer, reader, history, preferences, filters)
"""What opens while one asks, each from where the one before has left the page."""
CARING = (every_part_of_documents, bulk, details, sure, key)


def test_what_opens_over_a_view_is_looked_at() -> None:
    """Views are all looked at, since they are read from the page itself; what opens over them needs a way there."""
    assert len(named("MODULES")) >= 7
    assert set(named("OVER_THE_VIEW")) <= {scene.__name__ for scene in ASKING}


@pytest.mark.parametrize("viewport", [pytest.param(DESKTOP, id="desktop"), pytest.param(PHONE, id="phone")])
async def test_no_view_breaks_a_rule_badly(
    visit: Open, llm: ScriptedLlm, lighthouse: Json, axe: str, viewport: ViewportSize
) -> None:
    """Those of askers, of curators and of operators, and what opens over them; each in light and dark."""
    llm.default = say(f"{FACT} [1]\n\n| Year | Colour |\n|---|---|\n| 1987 | white |")
    page = (await visit(viewport=viewport)).page
    found: dict[str, list[str]] = {}

    async def look(name: str) -> None:
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            if broken := await grave(page, axe):
                found[f"{name}, {theme}"] = broken

    await look("welcome")
    for scene in ASKING:
        await scene(page)
        await look(scene.__name__)
    await page.keyboard.press("Escape")
    for name in named("MODULES"):
        await view(page, name)
        await look(name)
    for scene in CARING:
        await scene(page)
        await look(scene.__name__)
    assert found == {}
