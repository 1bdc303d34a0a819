"""A pipeline's parts in this process, for tests that play thousands of stories on the real index, and what the index has."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from tests.support.embedding_server import by_hash

from refdesk.index.chunks import Chunk
from refdesk.index.pgvector.index import PgvectorIndex, Vectors
from refdesk.indexing.chunking import chunk
from refdesk.indexing.parsed import Block, ParsedDocument
from refdesk.outside.postgres.database import transaction

STATE = """
SELECT d.document_id, d.version, d.removed, d.readers, d.chunks,
       ARRAY(SELECT hash FROM chunks WHERE document_key = d.key ORDER BY ordinal),
       ARRAY(SELECT hash FROM vectors WHERE document_key = d.key ORDER BY hash),
       (SELECT count(*) FROM postings WHERE document_key = d.key) > 0
FROM documents d WHERE document_id = ANY(%s)"""


class Paragraphs:
    """A parser in this process: headings of one letter, paragraphs of more."""

    async def parse(self, content: bytes, _: str, __: str | None) -> ParsedDocument:
        return self.parsed(content.decode())

    @staticmethod
    def parsed(text: str) -> ParsedDocument:
        blocks = tuple(
            Block("heading" if len(found[0]) == 1 else "paragraph", *found.span(), level=2 if len(found[0]) == 1 else 0)
            for found in re.finditer(r"[^\n]+", text)
        )
        return ParsedDocument(text=text, blocks=blocks)


def chunks_of(parsed: ParsedDocument) -> list[Chunk]:
    return chunk(parsed, token_spans=lambda text: [word.span() for word in re.finditer(r"\w+", text)])


async def embed(texts: list[str]) -> Vectors:
    """Every text its own vector."""
    vectors = np.array([by_hash(text) for text in texts], dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


async def states_of(document_ids: Sequence[str], index: PgvectorIndex, *, schema: str) -> dict[str, tuple[Any, ...]]:
    """By document: version, whether it is removed, readers, how many chunks, their hashes, the hashes of vectors, has words."""
    async with transaction(index._holdings._pool) as connection:
        await connection.execute(f"SET LOCAL search_path TO {schema}, public".encode())
        rows = await (await connection.execute(STATE, (list(document_ids),))).fetchall()
    return {document_id: tuple(state) for document_id, *state in rows}
