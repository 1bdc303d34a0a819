"""The index lag while an indexer stands still: a second more each second, in the metric, over the API and on the page."""

import re
import time
from datetime import datetime
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tests.browser.conftest import DESKTOP, SILENT_FOR
from tests.support.running import Refdesk, running, until

STANDS_S = 60.0
OFF_S_MAX = 2.0
LAG = re.compile(r"^refdesk_index_lag_seconds (\S+)$", re.MULTILINE)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_the_lag_follows_an_indexer_that_stands_still(tmp_path: Path, browser: Browser) -> None:
    """For a minute; and it is over when the indexer goes on."""
    async with running(tmp_path, "--no-samples", **SILENT_FOR) as desk:
        await desk.settled(await desk.upload("first.md", b"# First\n\nThirty days."))
        indexer = desk.child("indexer")
        indexer.suspend()
        try:
            before = time.time()
            document = await desk.upload("leave.md", b"# Leave\n\nThirty days.")
            since = (before, time.time())
            off = [await metric_off(desk, since)]

            async def stood() -> bool:
                off.append(await metric_off(desk, since))
                return time.time() - since[1] >= STANDS_S

            await until(stood, what="a minute has passed")
            points = [one for one in await history(desk) if one[0] > since[1]]
            page = await browser.new_page(viewport=DESKTOP)
            await page.goto(f"{desk.url}/#operations")
            plot = page.locator('[data-metric="index_lag"] [data-part="now"] data')
            await expect(plot).to_have_count(1)
            shown, now = float(await plot.get_attribute("value") or "nan"), await history(desk)
            await page.close()
        finally:
            indexer.resume()
        await desk.settled(document)
        assert await lag(desk) == 0
    off_api = max(abs(value - (at - since[0])) for at, value in points)
    print(f"{len(off)} looks at the metric, off by {max(off):.2f} s at most; {len(points)} points, {off_api:.2f} s")  # noqa: T201
    assert len(points) >= STANDS_S / 15 - 1
    assert max(off) <= OFF_S_MAX and off_api <= OFF_S_MAX
    assert shown in {value for _, value in now[-3:]}


async def lag(desk: Refdesk) -> float:
    async with desk.open("GET", "/metrics") as reply:
        found = LAG.search(await reply.text())
    assert found
    return float(found[1])


async def metric_off(desk: Refdesk, since: tuple[float, float]) -> float:
    """Seconds that the metric is beside the time since the upload, as far as that is known."""
    before = time.time()
    value = await lag(desk)
    return max(0.0, before - since[1] - value, value - (time.time() - since[0]))


async def history(desk: Refdesk) -> list[tuple[float, float]]:
    """Seconds since 1970, and the lag that the operations API tells of then."""
    told = await desk.call("GET", "/api/operations/history?metric=index_lag&range=15m")
    return [
        (datetime.fromisoformat(point["at"]).timestamp(), point["values"]["index_lag"])
        for point in told["points"]
        if point["values"].get("index_lag") is not None
    ]
