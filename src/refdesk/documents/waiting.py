"""Why documents wait, and how many are ahead of them: read from the tables, so that it is true after any restart.

What the tables know comes from two sides. The outbox says whether the broker has taken the event. The indexers say, on the
stream INDEX, that they are at work on a document, that an attempt failed and when the next one comes, or that a part they
need is away; whatever they say also tells that there is one. An indexer that works says something every `NEWS_S`, so a
silence of several times that, with an event waiting for it, means that none is there.
"""

from importlib.resources import files

import msgspec
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from refdesk.contracts.documents import Document, Waiting
from refdesk.contracts.events import NEWS_S
from refdesk.outside.postgres import load_queries, one_statement

PUBLISH_S_MAX = 2.0
"""An event that has waited longer in the outbox is not merely about to be published."""
SILENCE_S_MAX = 3 * NEWS_S


class Queue:
    """``counted_max``: how many changes ahead of a document are counted; more are told as "at least"."""

    def __init__(self, *, counted_max: int) -> None:
        self._counted_max = counted_max
        self._sql = load_queries(files("refdesk.documents") / "waiting.sql")

    async def explain(self, pool: AsyncConnectionPool, documents: list[Document]) -> list[Document]:
        """The same documents; those that are pending say why. Costs nothing where none is."""
        ids = [document.id for document in documents if document.state == "pending"]
        if not ids:
            return documents
        parameters = {
            "ids": ids,
            "count": len(ids),
            "counted_max": self._counted_max,
            "publish_s_max": PUBLISH_S_MAX,
            "silence_s_max": SILENCE_S_MAX,
        }
        async with one_statement(pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(self._sql.explain_waiting, parameters)
            waiting = {row["id"]: msgspec.convert(row, Waiting) for row in await cursor.fetchall()}
        return [msgspec.structs.replace(document, waiting=waiting.get(document.id)) for document in documents]
