"""The figures of `refdesk eval`, against values worked out by hand."""

import math

import pytest

from refdesk.evaluation.metrics import ndcg, paired_interval, percentile, ratio, recall, reciprocal_rank

RANKED = ["d1", "d2", "d3", "d4"]


@pytest.mark.parametrize(
    ("grades", "expected"),
    [
        ({"d1": 1.0}, 1.0),
        ({"d2": 1.0}, 1 / math.log2(3)),
        ({"d1": 1.0, "d3": 1.0}, (1 + 0.5) / (1 + 1 / math.log2(3))),
        ({"d1": 1.0, "d2": 2.0}, (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))),
        ({"elsewhere": 1.0}, 0.0),
        ({}, 0.0),
    ],
)
def test_ndcg_is_what_it_is_by_hand(grades: dict[str, float], expected: float) -> None:
    """Gains are halved by the logarithm of the place, and divided by those of the best order."""
    assert ndcg(RANKED, grades, depth=10) == pytest.approx(expected)


def test_ndcg_looks_no_deeper_than_it_is_told() -> None:
    """Neither at what was found nor at the best order."""
    assert ndcg(RANKED, {"d3": 1.0}, depth=2) == 0.0
    assert ndcg(RANKED, {"d1": 1.0, "d3": 1.0, "d4": 1.0}, depth=1) == 1.0


def test_recall_counts_what_is_among_the_first() -> None:
    """Of what is relevant, whatever its grade."""
    assert recall(RANKED, ["d1", "d3", "d9"], depth=2) == pytest.approx(1 / 3)
    assert recall(RANKED, ["d1", "d3", "d9"], depth=3) == pytest.approx(2 / 3)
    assert recall(RANKED, [], depth=3) == 0.0


def test_the_reciprocal_rank_is_that_of_the_first_relevant_document() -> None:
    """0 when there is none."""
    assert reciprocal_rank(RANKED, ["d3", "d2"]) == 0.5
    assert reciprocal_rank(RANKED, ["d9"]) == 0.0


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """By nearest rank."""
    values = [0.4, 0.1, 0.3, 0.2]
    assert [percentile(values, percent) for percent in (0, 25, 50, 95, 100)] == [0.1, 0.1, 0.2, 0.4, 0.4]
    assert percentile([], 50) is None


def test_a_ratio_is_of_sums() -> None:
    """So that a question with four quotes counts four times in what quotes are like."""
    assert ratio([(1, 1), (1, 4), (0, 0)]) == pytest.approx(2 / 5)
    assert ratio([(0, 0)]) is None


def test_an_interval_holds_no_change_where_there_is_none() -> None:
    """And does not hold 0 where every question got better."""
    same = [(1.0, 1.0), (0.0, 1.0)] * 20
    assert paired_interval(same, same) == (0.0, 0.0)
    better = [(one + 0.2 + 0.1 * (place % 2), 1.0) for place, (one, _) in enumerate(same)]
    found = paired_interval(same, better)
    assert found is not None
    assert 0.2 <= found[0] <= 0.25 <= found[1] <= 0.3


def test_an_interval_is_as_wide_as_the_questions_are_few() -> None:
    """Ten questions of which one changed say little: 0 is in the interval; nothing at all says nothing."""
    before = [(0.0, 1.0)] * 10
    found = paired_interval(before, [(1.0, 1.0), *before[1:]])
    assert found is not None
    assert found[0] == 0.0 < found[1] <= 0.5
    assert paired_interval([], []) is None
    assert paired_interval([(0.0, 0.0)], [(0.0, 0.0)]) is None
