"""The audit log of a service's door, in the database of the API keys, which every door has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from refdesk.access.audit import Audit
from refdesk.access.clients import Network
from refdesk.outside.postgres.database import open_pool
from refdesk.settings.tree import Settings


@asynccontextmanager
async def open_audit(settings: Settings, *, url: str, trusted: tuple[Network, ...]) -> AsyncIterator[Audit]:
    """On connections of its own: a log that is slow holds up no look at a key."""
    async with open_pool(url, name="refdesk audit", size_max=settings.pools.audit_connections_max) as pool:
        yield Audit(
            pool,
            queue_max=settings.audit.queue_max,
            retention_days=settings.audit.retention_days,
            trusted=trusted,
        )
