"""One running Refdesk with its sample handbook, shared by every test that leaves it as it was."""

from collections.abc import AsyncIterator

import pytest
from tests.browser.conftest import browser
from tests.support.running import Refdesk, running

__all__ = ["browser"]


@pytest.fixture(scope="package")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refdesk]:
    """`refdesk up` with every sample searchable. Delete what you add. Its indexer stands back, by next to nothing, and one
    may search as often as tests do.
    """
    settings = {"REFDESK_INDEX_NICENESS": "1", "REFDESK_SEARCHES_PER_MINUTE_MAX": "100000"}
    async with running(tmp_path_factory.mktemp("desk"), **settings) as refdesk:
        await refdesk.all_settled()
        yield refdesk
