"""One running Refdesk with its sample handbook, shared by every test that leaves it as it was."""

from collections.abc import AsyncIterator

import pytest
from tests.support.running import Refdesk, running


@pytest.fixture(scope="session")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refdesk]:
    """`refdesk up` with every sample searchable. Delete what you add."""
    async with running(tmp_path_factory.mktemp("desk")) as refdesk:
        await refdesk.all_settled()
        yield refdesk
