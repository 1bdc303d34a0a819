"""Questions that are not written as the documents are: other spellings, slips of the finger, scripts without spaces."""

from collections.abc import AsyncIterator

import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.support.databases import own_database

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import EVERYONE, Scope
from refdesk.index.chunks import Chunk, IndexedDocument
from refdesk.index.ledger.generations import MIGRATIONS, open_generation
from refdesk.index.ledger.holdings import access
from refdesk.index.pgvector import searching
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.outside.postgres.database import migrate, open_pool

SCOPE = Scope(readers=(EVERYONE,))
DIMENSIONS = 4
NOTES = {
    "gasket": "The gasket KRN-8359 is kept in hall 2.",
    "pump": "The pump KRN8360 is kept in hall 3.",
    "valve": "The valve KRN 8361 is kept in hall 4.",
    "release": "Release 2.4.10 brings back the export.",
    "date": "The audit takes place on 30 November 2026.",
    "price": "The lathe costs 18,500 euros.",
    "it": "Ask IT for a new screen.",
    "who": "The WHO publishes the list of diseases.",
    "function": "Call getUserName to learn who is there.",
    "cafe": "The café is closed on Mondays.",
    "tokyo": "会議は東京の本社で行われます。",
    "pension": "职工养老保险由公司缴纳。",
    "maintenance": "Accommodation is booked before the maintenance begins.",
    "separate": "Receipts are separated from invoices by the receiver.",
    "other": "Ordinary words that nobody asks about stand in this note.",
}


@pytest.fixture(scope="module")
async def pool(servers: StackUrls) -> AsyncIterator[AsyncConnectionPool]:
    async with own_database(servers) as url, open_pool(url, name="words") as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


@pytest.fixture(scope="module")
async def index(pool: AsyncConnectionPool) -> PgvectorIndex:
    """Every vector the same: the words alone decide."""
    generation = await open_generation(pool, model="words", dimensions=DIMENSIONS, chunking="1")
    index = PgvectorIndex(pool, generation)
    for name, text in NOTES.items():
        document = IndexedDocument(
            document_id=name, version=1, title="Note", readers=(EVERYONE,), media_type="text/plain", content_sha256=""
        )
        chunk = Chunk(ordinal=0, text=text, start=0, end=len(text))
        assert await index.replace(document, [chunk], ALIKE[np.newaxis])
    return index


ALIKE = np.full(DIMENSIONS, 0.5, dtype=np.float32)


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("KRN-8359", "gasket"),
        ("KRN 8359", "gasket"),
        ("krn8359", "gasket"),
        ("krn_8359", "gasket"),
        ("where is 8359?", "gasket"),
        ("where is KRN-8360", "pump"),
        ("KRN 8360", "pump"),
        ("KRN-8361", "valve"),
        ("KRN8361", "valve"),
        ("What came with v2.4.10?", "release"),
        ("What happens on 2026-11-30?", "date"),
        ("30.11.2026", "date"),
        ("Nov 30, 2026", "date"),
        ("What costs 18500?", "price"),
        ("18.500 euros", "price"),
        ("Whom in IT do I ask?", "it"),
        ("What does the WHO do?", "who"),
        ("get_user_name", "function"),
        ("user name", "function"),
        ("cafe", "cafe"),
        ("東京", "tokyo"),
        ("本社はどこですか", "tokyo"),
        ("养老保险", "pension"),
        ("acommodation", "maintenance"),
        ("maintainance", "maintenance"),
        ("seperated", "separate"),
        ("recievers", "separate"),
        ("reciepts", "separate"),
    ],
)
async def test_it_is_found_however_it_is_written(index: PgvectorIndex, question: str, first: str) -> None:
    """First of all notes."""
    found = await index.search(question, ALIKE, scope=SCOPE, limit=3)
    assert found[0].document_id == first


@pytest.mark.parametrize("question", ["KRN-8362", "it and who", "2026-12-30", "wibble"])
async def test_what_is_not_there_is_not_made_up(index: PgvectorIndex, question: str) -> None:
    """A code, a date or a word that is nowhere does not become a neighbour's; stop words are no acronyms."""
    async with index._holdings.snapshot(searching._queries.begin_search) as connection:
        asked = await index._searching._question_terms.look(connection, question, access(SCOPE, None), documents_max=10)
    assert {term.text for term in asked.terms} <= {"krn", "2026", "30", "12"}
