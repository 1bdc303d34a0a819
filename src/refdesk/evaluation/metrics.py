"""The figures: every one is a ratio of two sums over the questions.

A question gives each measure a share, (numerator, denominator); a measure that says nothing of it is left out. The mean of
nDCG is such a ratio (every denominator is 1), and so are precision, recall and padding. So all of them are added up, told by
kind of question, and compared between two runs in one way.

What this does not do: read texts or replies (`judging`).
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence

RESAMPLES = 2000
INTERVAL = 0.95
SEED = 7
"""The same runs always compare in the same way."""

Share = tuple[float, float]
Shares = Mapping[str, Share]
"""What one question gives to each measure, by the measure's name."""


def ndcg(ranked: Sequence[str], grades: Mapping[str, float], *, depth: int) -> float:
    """Normalised discounted cumulative gain of the first ``depth`` documents, as BEIR and trec_eval have it."""
    best = sorted(grades.values(), reverse=True)[:depth]
    ideal = sum(grade / math.log2(place + 2) for place, grade in enumerate(best))
    gained = sum(grades.get(name, 0.0) / math.log2(place + 2) for place, name in enumerate(ranked[:depth]))
    return gained / ideal if ideal else 0.0


def recall(ranked: Sequence[str], relevant: Iterable[str], *, depth: int) -> float:
    """The share of the relevant documents that are among the first ``depth``."""
    wanted = set(relevant)
    return len(wanted & set(ranked[:depth])) / len(wanted) if wanted else 0.0


def reciprocal_rank(ranked: Sequence[str], relevant: Iterable[str]) -> float:
    """One divided by the place of the first relevant document; 0 when there is none."""
    wanted = set(relevant)
    return next((1 / place for place, name in enumerate(ranked, 1) if name in wanted), 0.0)


def percentile(values: Iterable[float], percent: float) -> float | None:
    """By nearest rank: a value that was measured. None of no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else None


def ratio(shares: Iterable[Share]) -> float | None:
    """The sum of the numerators by that of the denominators. None when there is nothing to divide by."""
    numerator = denominator = 0.0
    for above, below in shares:
        numerator, denominator = numerator + above, denominator + below
    return numerator / denominator if denominator else None


def paired_interval(earlier: Sequence[Share], later: Sequence[Share]) -> tuple[float, float] | None:
    """A 95 % interval of how much the ratio has changed, by drawing the same questions again and again for both runs.

    ``earlier[i]`` and ``later[i]`` belong to one question (Efron and Tibshirani 1993, the percentile bootstrap). None when a
    ratio cannot be told.
    """
    draw, places = random.Random(SEED), range(len(earlier))  # noqa: S311
    changes = []
    for _ in range(RESAMPLES if earlier else 0):
        drawn = draw.choices(places, k=len(places))
        before, after = ratio(earlier[place] for place in drawn), ratio(later[place] for place in drawn)
        if before is not None and after is not None:
            changes.append(after - before)
    if not changes:
        return None
    changes.sort()
    cut = int((1 - INTERVAL) / 2 * len(changes))
    return changes[cut], changes[-1 - cut]
