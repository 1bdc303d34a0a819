"""What a search has to know before it begins: the question's terms, how rare each is, and how much may be read.

A term that no chunk has may be a spelling mistake: what it was meant to be is looked for in the index's own terms (`mistakes`).
"""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import msgspec
from psycopg import AsyncConnection

from refdesk.index.ledger.statements import rows
from refdesk.index.mistakes import (
    BEGINNING,
    MISTAKES_MAX,
    TWO_EDITS_LETTERS_MIN,
    VOCABULARY_MAX,
    may_be_wrong,
    one_slip_away,
    two_edits_away,
)
from refdesk.index.ranking import CommonTerms, Corpus, Term
from refdesk.index.spellings import spellings
from refdesk.outside.postgres.database import load_queries

COMMON_ROWS = 1_000
"""Up to so many index rows a term's chunks are counted for every question; beyond, the count is remembered."""

QUESTION_TERMS_MAX = 64


_WORD = re.compile(r"[A-Za-z]+")


class Outlook(msgspec.Struct, frozen=True):
    """``documents`` and ``chunks`` that may be read, counted up to a bound of documents; the terms; the sizes of the index."""

    documents: int
    chunks: int
    terms: list[Term]
    corpus: Corpus


class QuestionTerms:
    """Reads questions for one generation; ``text_search`` is its text search configuration."""

    def __init__(self, text_search: str) -> None:
        self._text_search = text_search
        self._queries = load_queries(files("refdesk.index") / "question_terms.sql")
        self._common = CommonTerms()

    async def look(
        self, connection: AsyncConnection, text: str, access: Mapping[str, Any], *, documents_max: int
    ) -> Outlook:
        """``text`` must be storable. Documents are counted up to one more than ``documents_max``."""
        values = {
            **access,
            "documents_max": documents_max + 1,
            "text": f"{text}\n{spellings(text)}",
            "text_search": self._text_search,
            "rows_max": COMMON_ROWS,
            "terms_max": QUESTION_TERMS_MAX,
        }
        found = await rows(connection, self._queries.look, values)
        documents, chunks, *sizes = found[0][:5]
        terms = await self._terms(connection, [row[5:] for row in found if row[8]])
        unknown = [(row[5], row[6]) for row in found if row[5] and not row[8] and may_be_wrong(row[5])]
        terms += await self._mended(connection, text, unknown[:MISTAKES_MAX])
        return Outlook(documents, chunks, terms, Corpus(*sizes))

    async def _terms(self, connection: AsyncConnection, found: Sequence[tuple[Any, ...]]) -> list[Term]:
        """With how many chunks have each: as counted, or as remembered."""
        common = {str(name) for name, _, counted, _ in found if counted >= COMMON_ROWS}
        unknown = self._common.missing(sorted(common))
        if unknown:
            self._common.remember(await rows(connection, self._queries.term_chunks, {"terms": unknown}))
        return [
            Term(
                text=name,
                occurrences=occurrences,
                chunks=self._common.chunks(name, at_least=chunks) if name in common else chunks,
            )
            for name, occurrences, _, chunks in found
        ]

    async def _mended(self, connection: AsyncConnection, text: str, unknown: Sequence[tuple[str, int]]) -> list[Term]:
        """What terms that no chunk has were meant to be, as far as the index has something like them."""
        mended = []
        for name, occurrences in unknown:
            words = one_slip_away(_as_written(text, name))
            found = await self._likeliest(connection, words, like=name, text_search=self._text_search)
            if not found and len(name) >= TWO_EDITS_LETTERS_MIN:
                beginning = {"first": name[:BEGINNING], "terms_max": VOCABULARY_MAX}
                vocabulary = [str(row[0]) for row in await rows(connection, self._queries.vocabulary, beginning)]
                terms = two_edits_away(name, vocabulary)
                found = await self._likeliest(connection, terms, like=name, text_search="simple")
            mended += [Term(text=term, occurrences=occurrences, chunks=chunks) for term, chunks in found]
        return mended

    async def _likeliest(
        self, connection: AsyncConnection, words: Sequence[str], *, like: str, text_search: str
    ) -> list[tuple[str, int]]:
        """Of the terms of these words the one that was most likely meant, and how many chunks have it, if any has."""
        values = {"words": " ".join(words), "text_search": text_search, "first": like[0]}
        found = await rows(connection, self._queries.likeliest_term, values) if words else []
        return [(str(term), int(chunks)) for term, chunks in found]


def _as_written(text: str, term: str) -> str:
    """The word of a text that the term is of: a stem has the word's beginning, but for its last letter."""
    words = (word.lower() for word in _WORD.findall(text))
    return next((word for word in words if word.startswith(term[:-1])), term)
