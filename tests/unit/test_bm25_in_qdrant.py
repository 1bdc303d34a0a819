"""Words of a chunk that Qdrant keeps, counted by the mean length as it is."""

import random

import pytest

from refdesk.index.qdrant.points import Carried, Terms, of_chunk, of_question, words
from refdesk.index.ranking import Corpus


@pytest.mark.parametrize("mean", [7, 100, 900])
@pytest.mark.parametrize("length", [1, 60, 70_000])
def test_the_score_is_bm25_at_any_mean_length(mean: int, length: int) -> None:
    """Although a number was stored with each term before the mean was known."""
    frequencies = dict(zip("abcdef", random.Random(length).choices(range(1, 256), k=6), strict=True))
    weights = {"a": 1.5, "c": 0.2, "f": 7.0, "unheard": 3.0}
    corpus = Corpus(documents=1, chunks=10, terms=10 * mean)
    norm = corpus.floor + corpus.slope * min(length, 65_535)
    expected = sum(
        weight * frequencies[term] / (frequencies[term] + norm)
        for term, weight in weights.items()
        if term in frequencies
    )
    stored = of_chunk(Terms(list(frequencies), list(frequencies.values()), length))
    assert words(of_question(weights), Carried({"terms": length}, stored), corpus) == pytest.approx(expected)
