"""A first visit: how many bytes it fetches, and how soon something is seen."""

from statistics import median
from typing import Any

import pytest
from playwright.async_api import Browser
from tests.browser.conftest import DESKTOP
from tests.support.running import Refdesk

BYTES_MAX = 150_000
PAINTED_MS_MAX = 400
VISITS = 11
FETCHED = """() => [performance.getEntriesByType("navigation"), performance.getEntriesByType("resource")].flat()
    .map(({ name, decodedBodySize }) => [new URL(name).pathname, decodedBodySize])"""
PAINTED = """() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime"""

pytestmark = pytest.mark.timeout(400)


async def visited(browser: Browser, desk: Refdesk, *, locale: str) -> tuple[dict[str, int], float]:
    """By a browser that has seen nothing yet: bytes of each reply, unpacked, and milliseconds until the first words."""
    async with await browser.new_context(viewport=DESKTOP, locale=locale) as context:
        page = await context.new_page()
        await page.goto(desk.url, wait_until="networkidle")
        painted = await (await page.wait_for_function(PAINTED)).json_value()
        fetched: list[list[Any]] = await page.evaluate(FETCHED)
    return {str(path): int(size) for path, size in fetched}, float(painted)


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
async def test_a_first_visit_fetches_little(browser: Browser, desk: Refdesk, locale: str) -> None:
    """Whatever the browser asks for, in either language; and only what it needs."""
    fetched, _ = await visited(browser, desk, locale=locale)
    assert {"/", "/web/app.js", "/web/styles.css", f"/web/texts/{locale[:2]}.js"} <= set(fetched)
    assert sum(fetched.values()) <= BYTES_MAX, fetched


@pytest.mark.long
async def test_a_first_visit_is_seen_at_once(
    browser: Browser, desk: Refdesk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the visits at least, on this machine, which is to be quiet."""
    visits = [await visited(browser, desk, locale="en-GB") for _ in range(VISITS)]
    painted = sorted(painted for _, painted in visits)
    with capsys.disabled():
        print(f"\nfirst paint after {median(painted):.0f} ms ({painted[0]:.0f} to {painted[-1]:.0f})")  # noqa: T201
    assert median(painted) <= PAINTED_MS_MAX
