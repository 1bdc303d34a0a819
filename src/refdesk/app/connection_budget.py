"""How many connections to PostgreSQL one process of each service may hold (docs/howto/operate.md has the table)."""

from collections.abc import Mapping

from refdesk.settings.tree import Settings

BESIDE_SEARCHES = 2
"""Of the searches' pool: they look at what has changed meanwhile."""
HEALTH = 2
"""For each database that a process uses: one that is kept, one that is tried."""
FEED_AND_RELAY = 2
NEWS = 1
REVOKED_KEYS = 1


def budget(settings: Settings) -> Mapping[str, Mapping[str, int]]:
    """By service, and by the setting that names the database."""
    access = settings.pools.access_connections_max + settings.pools.audit_connections_max + REVOKED_KEYS + HEALTH
    documents = (
        settings.pools.documents_read_connections_max
        + settings.pools.documents_write_connections_max
        + settings.pools.documents_background_connections_max
        + FEED_AND_RELAY
        + HEALTH
    )
    searches = settings.searches.concurrent_retrievals_max + BESIDE_SEARCHES
    answers = searches + settings.pools.assistant_connections_max + NEWS + HEALTH
    return {
        "documents": {"documents_database_url": documents, "access_database_url": access},
        "assistant": {"index_database_url": answers, "access_database_url": access},
        "indexer": {"index_database_url": settings.pools.indexer_connections_max + HEALTH},
    }


def needed(settings: Settings, databases: set[str]) -> int:
    """By one process of each service, to those of its databases that these settings name."""
    return sum(
        count
        for of_service in budget(settings).values()
        for database, count in of_service.items()
        if database in databases
    )
