"""The Qdrant that tests run on, where ``REFDESK_TEST_QDRANT_URL`` names one: each with collections of its own."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from refdesk.index.qdrant.server import Qdrant, open_qdrant
from refdesk.settings.indexing import QdrantSettings

URL = os.environ.get("REFDESK_TEST_QDRANT_URL")
GRPC_PORT = os.environ.get("REFDESK_TEST_QDRANT_GRPC_PORT")
API_KEY = os.environ.get("REFDESK_TEST_QDRANT_API_KEY")


@asynccontextmanager
async def own_qdrant() -> AsyncIterator[Qdrant]:
    """A connection whose collections are deleted at the end. Skips the test, loudly, where no Qdrant is named."""
    if URL is None:
        pytest.skip("No Qdrant: set REFDESK_TEST_QDRANT_URL to run the index's tests on it, too.")
    settings = QdrantSettings(
        url=URL,
        api_key=API_KEY,
        grpc_port=int(GRPC_PORT) if GRPC_PORT else None,
        prefix=f"test_{secrets.token_hex(6)}",
    )
    async with open_qdrant(settings) as qdrant:
        yield qdrant
        for collection in (await qdrant.client.get_collections()).collections:
            if collection.name.startswith(settings.prefix):
                await qdrant.client.delete_collection(collection.name)


def as_variables(settings: QdrantSettings) -> dict[str, str]:
    """What makes a service use it."""
    given = {
        "REFDESK_QDRANT_URL": settings.url,
        "REFDESK_QDRANT_API_KEY": settings.api_key,
        "REFDESK_QDRANT_GRPC_PORT": settings.grpc_port,
        "REFDESK_QDRANT_PREFIX": settings.prefix,
    }
    return {name: str(value) for name, value in given.items() if value is not None}
