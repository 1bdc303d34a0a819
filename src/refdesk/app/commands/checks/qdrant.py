"""Qdrant, when one is given: whether it answers, takes the key, is new enough, and has nothing of others under our names."""

import psycopg

from refdesk.app.commands.checks.findings import CONNECT_TIMEOUT_S, Finding, Findings
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.index.ledger.generations import tokens_of
from refdesk.index.qdrant.server import Refused, foreign_collections, open_qdrant
from refdesk.outside.postgres.probe import STATEMENT_S
from refdesk.settings.loading import Loaded
from refdesk.settings.tree import Settings


async def check_qdrant(loaded: Loaded) -> Findings:
    settings = loaded.settings
    if settings.qdrant.url is None:
        return
    try:
        async with open_qdrant(settings.qdrant) as qdrant:
            version = await qdrant.look()
            await qdrant.look_at_key()
            foreign = await foreign_collections(qdrant, await _tokens(settings))
    except Refused as error:
        yield Finding("FAIL", "Qdrant", "answers, and refuses the key", error.message)
    except ConfigurationError as error:
        yield Finding("FAIL", "Qdrant", "cannot be used", error.message)
    except Unavailable as error:
        yield Finding("FAIL", "Qdrant", error.message, "Start that server, or mend REFDESK_QDRANT_URL.")
    else:
        yield Finding("ok", "Qdrant", f"answers, Qdrant {version}")
        for name in foreign:
            mend = "Set REFDESK_QDRANT_PREFIX to a name that no other desk uses, or delete that collection."
            yield Finding("FAIL", "Qdrant collection", f"{name} is not of this desk", mend)


async def _tokens(settings: Settings) -> dict[int, str] | None:
    """Of the generations that the index database knows; None where it cannot be asked."""
    if settings.databases.index_url is None:
        return None
    try:
        async with await psycopg.AsyncConnection.connect(
            settings.databases.index_url,
            connect_timeout=CONNECT_TIMEOUT_S,
            options=f"-c statement_timeout={int(STATEMENT_S * 1000)}",
        ) as connection:
            return await tokens_of(connection, "qdrant")
    except psycopg.Error:  # its own check says what is wrong with it
        return None
