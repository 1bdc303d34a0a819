"""The quoting answerer on hand-written passages, with the real embedder."""

from collections.abc import AsyncIterator

import pytest

from refdesk.answering.extractive import Extractor
from refdesk.contracts.answers import Source
from refdesk.outside.embedding import open_packaged_embedder


@pytest.fixture(scope="module")
async def extractor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Extractor]:
    async with open_packaged_embedder(tmp_path_factory.mktemp("models")) as embedder:
        yield Extractor(embedder.embed)


def source(passage: str, *, n: int = 1, title: str = "Travel Policy") -> Source:
    return Source(n=n, document_id=f"d{n}", version=1, title=title, passage=passage, ordinal=0, stale=False)


async def test_the_answering_sentence_comes_first_with_its_source(extractor: Extractor) -> None:
    """Whatever the order of the passages."""
    sources = [
        source("Receipts are sent to Finance. They are kept for ten years."),
        source("The meal allowance abroad is EUR 45 a day. It is paid with the salary.", n=2),
    ]
    best, *_ = await extractor.quotes("How much is the meal allowance abroad?", sources)
    assert (best.text, best.n) == ("The meal allowance abroad is EUR 45 a day.", 2)


async def test_a_numbered_heading_is_no_answer(extractor: Extractor) -> None:
    """Parsers do not always tell a heading from text; one word, be it numbered, says nothing."""
    quotes = await extractor.quotes(
        "What is the meal allowance?", [source("6. Meals\nThe meal allowance for a full day is EUR 45.")]
    )
    assert [quote.text for quote in quotes] == ["The meal allowance for a full day is EUR 45."]


async def test_weak_evidence_is_no_evidence(extractor: Extractor) -> None:
    """A desk that guesses is worse than one that says it does not know."""
    assert await extractor.quotes("Which flute does the choir play?", [source("Receipts are sent to Finance.")]) == []
