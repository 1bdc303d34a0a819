"""What is read from the metrics for plots, and how it is put together over time and processes."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from refdesk.contracts.errors import ConfigurationError
from refdesk.operations.peers import Peer, Seen, beside, parse_peers
from refdesk.operations.series import BY_NAME, LINES_MAX, PLOTS, across, grown, over_time, quantile, reading
from refdesk.outside import telemetry

EXPOSITION = """\
# TYPE refdesk_usage_tokens_total counter
refdesk_usage_tokens_total{model="a",direction="input"} 100
refdesk_usage_tokens_total{model="b",direction="input"} 20
refdesk_usage_tokens_total{model="a",direction="output"} 7
# TYPE refdesk_index_lag_seconds gauge
refdesk_index_lag_seconds NaN
# TYPE refdesk_admission_total counter
refdesk_admission_total{decision="admitted",reason=""} 9
refdesk_admission_total{decision="refused",reason="capacity"} 2
# TYPE refdesk_queue_wait_seconds histogram
refdesk_queue_wait_seconds_bucket{le="1.0"} 3
refdesk_queue_wait_seconds_bucket{le="+Inf"} 4
"""


def read(text: str) -> dict[str, dict[str, float]]:
    return reading(text_string_to_metric_families(text))


def test_lines_are_summed_over_the_other_labels_and_what_is_not_known_is_left_out() -> None:
    """Not shown as nothing."""
    found = read(EXPOSITION)
    assert found["tokens"] == {"input": 120, "output": 7}
    assert found["refused"] == {"capacity": 2}
    assert found["wait"] == {"1.0": 3, "+Inf": 4}
    assert found["index_lag"] == {}


def test_every_plot_reads_a_metric_that_there_is() -> None:
    """Or one of a process, which every client library tells."""
    ours = {
        f"{metric._name}{ending}"
        for metric in vars(telemetry).values()
        if hasattr(metric, "_name")
        for ending in ("", "_total", "_bucket")
    }
    others = {plot.metric for plot in PLOTS} - ours
    assert others == {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def test_a_plot_has_a_bounded_number_of_lines() -> None:
    """Whatever labels there are."""
    rows = (f'refdesk_admission_total{{decision="refused",reason="r{n}"}} 1' for n in range(LINES_MAX + 9))
    assert len(read("# TYPE refdesk_admission_total counter\n" + "\n".join(rows) + "\n")["refused"]) == LINES_MAX


def test_counts_are_told_by_what_they_grew_also_over_a_restart() -> None:
    """A counter that is lower than before has begun anew."""
    before = {"tokens": {"input": 100.0, "output": 50.0}, "dead_letters": {"dead_letters": 3.0}}
    now = {"tokens": {"input": 130.0, "output": 5.0}, "dead_letters": {"dead_letters": 2.0}}
    assert grown(before, now) == {"tokens": {"input": 30, "output": 5}, "dead_letters": {"dead_letters": 2}}


def test_steps_are_put_together_as_their_kind_wants() -> None:
    """Counts are added, gauges averaged, peaks kept."""
    parts = [
        {"tokens": {"input": 1.0}, "in_flight": {"waiting": 2.0}, "index_lag": {"index_lag": 5.0}},
        {"tokens": {"input": 2.0}, "in_flight": {"waiting": 4.0}, "index_lag": {"index_lag": 1.0}},
    ]
    assert over_time(parts) == {
        "tokens": {"input": 3},
        "in_flight": {"waiting": 3},
        "index_lag": {"index_lag": 5},
    }


def test_processes_are_added_up_but_for_what_stands_in_a_table() -> None:
    """And each has a line of its own where that is what is asked."""
    assert across(BY_NAME["tokens"], [("desk", {"input": 1}), ("desk", {"input": 2})]) == {"input": 3}
    assert across(BY_NAME["index_lag"], [("a", {"index_lag": 4}), ("b", {"index_lag": 4})]) == {"index_lag": 4}
    assert across(BY_NAME["memory"], [("desk", {"memory": 4}), ("indexer", {"memory": 5})]) == {"desk": 4, "indexer": 5}


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({"1.0": 10, "2.0": 20, "+Inf": 20}, 0.5, 1.0),
        ({"1.0": 10, "2.0": 20, "+Inf": 20}, 0.75, 1.5),
        ({"1.0": 0, "2.0": 0, "+Inf": 4}, 0.5, 2.0),
        ({"1.0": 0, "+Inf": 0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_quantiles_are_estimated_as_prometheus_does(
    buckets: dict[str, float], share: float, expected: float | None
) -> None:
    """Linearly inside a bucket; beyond the last end, that end."""
    assert quantile(buckets, share) == expected


def test_metrics_of_other_processes_stand_beside_our_own() -> None:
    """Under one name, told apart by a label; whoever does not answer is told, too."""
    own = list(text_string_to_metric_families(EXPOSITION))
    together = beside(own, [Seen("indexer", tuple(own)), Seen("documents", None)])
    samples = {
        (s.name, s.labels.get("process"), s.labels.get("direction")): s.value for f in together for s in f.samples
    }
    assert len([family for family in together if family.name == "refdesk_usage_tokens"]) == 1
    assert samples["refdesk_usage_tokens_total", "indexer", "output"] == 7
    assert samples["refdesk_usage_tokens_total", None, "output"] == 7
    assert samples["refdesk_peer_up", "indexer", None] == 1
    assert samples["refdesk_peer_up", "documents", None] == 0


def test_peers_are_named_by_setting() -> None:
    """One that is no address is refused by name."""
    assert parse_peers(" indexer=http://a:1/ , documents=https://b") == [
        Peer("indexer", "http://a:1"),
        Peer("documents", "https://b"),
    ]
    with pytest.raises(ConfigurationError, match="REFDESK_PEER_URLS"):
        parse_peers("indexer")
