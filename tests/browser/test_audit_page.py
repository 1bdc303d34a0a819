"""The audit log on the page: what the API says, narrowed down by a click, and as a table."""

import csv
import io
from pathlib import Path

import pytest
from playwright.async_api import expect
from tests.browser.conftest import PHONE, Open
from tests.support.desk import until
from tests.support.running import Refdesk

pytestmark = pytest.mark.timeout(400)


async def test_who_did_what_is_shown_and_narrowed_down(visit: Open, desk: Refdesk, tmp_path: Path) -> None:
    """By object, by action, by result; the download has the same; and it fits a phone."""
    document = await desk.settled(await desk.upload("lighthouse.md", b"The lighthouse costs nothing."))
    other = await desk.upload("bell.md", b"The bell was cast in 1921.")

    async def written() -> bool:
        told = await desk.call("GET", f"/api/audit?object={other['id']}")
        return bool(told["entries"])

    await until(written)
    page = (await visit("/#operations", viewport=PHONE)).page
    await page.locator("#operations-audit").click()
    rows = page.get_by_test_id("audit-entry")
    await rows.get_by_role("button", name=document["id"], exact=True).first.click()
    told = (await desk.call("GET", f"/api/audit?object={document['id']}"))["entries"]
    await expect(rows).to_have_count(len(told))
    await expect(rows.first).to_contain_text(told[0]["action"])
    await expect(rows.first).to_contain_text(told[0]["did"])
    await expect(page.locator('[name="object"]')).to_have_value(document["id"])
    async with page.expect_download() as download:
        await page.locator("#audit-csv").click()
    await (await download.value).save_as(tmp_path / "audit.csv")
    table = list(csv.DictReader(io.StringIO((tmp_path / "audit.csv").read_text())))
    assert [row["id"] for row in reversed(table)] == [str(entry["id"]) for entry in told]
    await page.locator('[name="result"]').select_option("denied")
    await expect(page.locator("#audit-empty")).to_be_visible()
    await page.get_by_role("button", name="All of it").click()
    await expect(page.locator("#audit-empty")).to_be_hidden()
    assert await rows.count() > len(told)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
