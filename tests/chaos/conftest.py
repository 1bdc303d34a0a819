"""What every chaos test starts from."""

import sys
import time
from collections.abc import AsyncIterator, Callable

import pytest
from tests.browser.conftest import browser
from tests.chaos.nursery import Nursery

__all__ = ["browser"]


@pytest.fixture(scope="session")
async def nursery() -> AsyncIterator[Nursery]:
    """Where services are forked. Linux only, as is what freezes and buries them."""
    if sys.platform != "linux":
        pytest.skip("the chaos suite needs Linux")
    async with Nursery.open() as nursery:
        yield nursery


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure at once, past the capture: a long run is watched, and its figures are what it is for."""
    began = time.monotonic()

    def say(what: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{time.monotonic() - began:5.1f} s  {what}")
            sys.stdout.flush()

    return say
