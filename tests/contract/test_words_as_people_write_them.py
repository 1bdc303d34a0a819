"""Sets of pairs, mistakes and notes (`tests/data/words`), found by their words alone. docs/quality.md tells of each half."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool
from tests.support.databases import own_database

from refdesk.app.embedded.stack import StackUrls
from refdesk.contracts.access import EVERYONE, Scope
from refdesk.index.chunks import Chunk, IndexedDocument
from refdesk.index.ledger.generations import MIGRATIONS, open_generation
from refdesk.index.pgvector.index import PgvectorIndex
from refdesk.outside.postgres.database import migrate, open_pool

SETS = Path(__file__).parents[1] / "data/words"
SCOPE = Scope(readers=(EVERYONE,))
ALIKE = np.full(4, 0.5, dtype=np.float32)
"""The vector of every text: words alone decide."""

Row = Mapping[str, Any]


@pytest.fixture(scope="module")
async def pool(servers: StackUrls) -> AsyncIterator[AsyncConnectionPool]:
    async with own_database(servers) as url, open_pool(url, name="words as people write them") as pool:
        await migrate(pool, MIGRATIONS)
        yield pool


async def test_spellings_of_an_identifier_find_each_other(pool: AsyncConnectionPool) -> None:
    """Of 60 pairs at least 95 %, in both directions, alone and in a question."""
    rows = _read("spellings")
    ones = await _index(pool, "ones", [row["sentence"].format(row["one"]) for row in rows])
    others = await _index(pool, "others", [row["sentence"].format(row["other"]) for row in rows])
    missed = []
    for number, row in enumerate(rows):
        asked = [(ones, row["other"]), (others, row["one"])]
        found = [await _first(index, text) for index, name in asked for text in (name, row["question"].format(name))]
        missed += [] if found == [number] * 4 else [(row["one"], row["other"])]
    assert len(missed) <= 0.05 * len(rows), missed


async def test_spelling_mistakes_are_mended(pool: AsyncConnectionPool) -> None:
    """Of 30 at least 85 %, each asked as a single word."""
    rows = _read("mistakes")
    index = await _index(pool, "mistakes", [row["sentence"] for row in rows])
    missed = [row["wrong"] for number, row in enumerate(rows) if await _first(index, row["wrong"]) != number]
    assert len(missed) <= 0.15 * len(rows), missed


@pytest.mark.parametrize("languages", [("zh", "ja"), ("th", "ko")])
async def test_words_inside_a_sentence_without_spaces_are_found(
    pool: AsyncConnectionPool, languages: Sequence[str]
) -> None:
    """At least 95 % first, of 60 in Chinese and Japanese, and of 20 in Thai and Korean."""
    rows = _read("notes")
    index = await _index(pool, "notes", [row["sentence"] for row in rows])
    asked = [(number, row) for number, row in enumerate(rows) if row["language"] in languages]
    missed = [row["question"] for number, row in asked if await _first(index, row["question"]) != number]
    assert len(missed) <= 0.05 * len(asked), missed


async def test_words_of_other_languages_are_found_in_their_other_forms(pool: AsyncConnectionPool) -> None:
    """Of 72 in eight languages and six in English, all in one index, at least 85 % first."""
    rows = _read("languages")
    index = await _index(pool, "languages", [row["sentence"] for row in rows])
    missed = [row["question"] for number, row in enumerate(rows) if await _first(index, row["question"]) != number]
    assert len(missed) <= 0.15 * len(rows), missed


def _read(name: str) -> list[Row]:
    return [json.loads(line) for line in (SETS / f"{name}.jsonl").read_text("utf-8").splitlines()]


async def _index(pool: AsyncConnectionPool, name: str, texts: Sequence[str]) -> PgvectorIndex:
    """An index of one-chunk documents that are called by their numbers."""
    generation = await open_generation(pool, model="words", dimensions=len(ALIKE), chunking=name)
    index = PgvectorIndex(pool, generation)
    for number, text in enumerate(texts):
        document = IndexedDocument(
            document_id=str(number),
            version=1,
            title="Note",
            readers=(EVERYONE,),
            media_type="text/plain",
            content_sha256="",
        )
        await index.replace(document, [Chunk(ordinal=0, text=text, start=0, end=len(text))], ALIKE[np.newaxis])
    return index


async def _first(index: PgvectorIndex, question: str) -> int:
    passages = await index.search(question, ALIKE, scope=SCOPE, limit=1)
    return int(passages[0].document_id) if passages else -1
