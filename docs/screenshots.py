"""Takes README's pictures from the page of a desk of its own: `python docs/screenshots.py`. Needs Chromium.

The desk stands in a temporary directory, on a free port, with the samples and without a language model.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
QUESTION = "How many days of leave do I get?"
PICTURE = {"width": 1280, "height": 800}
BYTES_MAX = 200_000
WITHIN_S = 600
IN_A_HURRY = {"REFDESK_INDEX_NICENESS": "0", "REFDESK_PARSE_PROCESSORS_SPARED": "0"}
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]


def main() -> None:
    with tempfile.TemporaryDirectory() as home, desk(Path(home)) as url, sync_playwright() as playwright:
        until(lambda: total(url, "") > 0 and total(url, "state=pending") == 0, what="the samples are searchable")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport=PICTURE, color_scheme="light", reduced_motion="reduce", locale="en-GB")
        expect.set_options(timeout=1000 * WITHIN_S)
        page.goto(url)
        for name, show in (("answer", answer), ("documents", documents), ("operations", operations)):
            show(page)
            take(page, name)
        browser.close()


def answer(page: Page) -> None:
    """README's question, its answer, and the sentence that it stands on."""
    page.locator("#question").fill(QUESTION)
    page.locator("#question").press("Enter")
    expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "done")
    page.get_by_test_id("source").first.locator("a").click()
    expect(page.locator("#reader-body .passage.cited")).to_be_visible()


def documents(page: Page) -> None:
    page.goto(page.url.partition("#")[0] + "#documents")
    expect(page.get_by_test_id("document").first).to_be_visible()


def operations(page: Page) -> None:
    """With a first point in every plot."""
    page.goto(page.url.partition("#")[0] + "#operations")
    expect(page.locator("#operations-range")).to_be_visible()
    page.locator("#operations-range").select_option("15m")
    expect(page.locator("#operations-plots svg").first).to_be_visible()


def take(page: Page, name: str) -> None:
    page.evaluate("document.activeElement?.blur()")
    page.wait_for_load_state("load")
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, animations="disabled", caret="hide")
    if path.stat().st_size > BYTES_MAX:
        sys.exit(f"{path.name} has {path.stat().st_size:,} bytes; the limit is {BYTES_MAX:,}. Show less.")


@contextmanager
def desk(home: Path) -> Iterator[str]:
    """A running desk's address; it is ended by its own process id."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFDESK_")}
    command = [
        sys.executable,
        "-m",
        "refdesk",
        "up",
        "--no-browser",
        "--port",
        str(port),
        "--data-dir",
        str(home / "data"),
    ]
    process = subprocess.Popen(
        command, cwd=home, env={**kept, **IN_A_HURRY, "HOME": str(home)}, stdout=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), what="the desk is ready")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def answers(url: str) -> bool:
    try:
        return bool(read(f"{url}/health/ready"))
    except OSError:
        return False


def total(url: str, query: str) -> int:
    return int(read(f"{url}/api/documents?limit=1&total=true&{query}")["total"])


def read(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=WITHIN_S) as reply:
        return json.load(reply)


def until(holds: Any, *, what: str) -> None:
    end = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"Not within {WITHIN_S} s: {what}.")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
