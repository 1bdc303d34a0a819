"""What the operations page plots, each read from the metrics that `/metrics` shows.

    families ──▶ Reading: plot → line → figure ──▶ two readings ──▶ Figures of a step ──▶ steps together ──▶ points

A *count* is told by what it grew; a *histogram* too, by bucket, and shown as quantiles; a *rate* by what it grew in a second; a
*gauge* by its mean; all of these are added up over processes. A *peak* is told by its largest, the same whichever process tells
it: what stands in a table.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from prometheus_client.metrics_core import Metric

Kind = Literal["count", "histogram", "rate", "gauge", "peak"]

SAMPLE_S = 15
Unit = Literal["seconds", "tokens", "cost", "answers", "questions", "documents", "letters", "processors", "bytes"]

QUANTILES = {"p50": 0.5, "p95": 0.95}
LINES_MAX = 24
"""Lines of a plot; what comes after them is left out."""
OK = "ok"

Figures = Mapping[str, Mapping[str, float]]
"""By plot and line; a histogram's lines are its buckets' upper ends."""


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """``metric`` names the samples, ``line`` the label whose values are its lines (several: joined). ``by_process``: lines are
    processes."""

    name: str
    title: str
    unit: Unit
    kind: Kind
    metric: str
    line: tuple[str, ...] = ()
    only: tuple[str, str] | None = None
    by_process: bool = False


PLOTS: tuple[Plot, ...] = (
    Plot(
        name="first_token",
        title="Time to the first word",
        unit="seconds",
        kind="histogram",
        metric="refdesk_time_to_first_token_seconds_bucket",
    ),
    Plot(
        name="answers",
        title="Answers by how they ended",
        unit="answers",
        kind="count",
        metric="refdesk_answers_total",
        line=("outcome",),
    ),
    Plot(
        name="refused",
        title="Questions refused, by reason",
        unit="questions",
        kind="count",
        metric="refdesk_admission_total",
        line=("reason",),
        only=("decision", "refused"),
    ),
    Plot(
        name="tokens",
        title="Tokens in and out",
        unit="tokens",
        kind="count",
        metric="refdesk_usage_tokens_total",
        line=("direction",),
    ),
    Plot(name="cost", title="Cost", unit="cost", kind="count", metric="refdesk_usage_cost_total", line=("currency",)),
    Plot(
        name="cache",
        title="What the cache made of questions",
        unit="questions",
        kind="count",
        metric="refdesk_cache_requests_total",
        line=("layer", "outcome"),
    ),
    Plot(
        name="in_flight",
        title="Answers waiting and being written",
        unit="answers",
        kind="gauge",
        metric="refdesk_inflight",
        line=("kind",),
    ),
    Plot(
        name="wait",
        title="Wait for the model",
        unit="seconds",
        kind="histogram",
        metric="refdesk_queue_wait_seconds_bucket",
    ),
    Plot(
        name="budget",
        title="Tokens set aside",
        unit="tokens",
        kind="gauge",
        metric="refdesk_budget_reserved_tokens",
    ),
    Plot(name="index_lag", title="Index lag", unit="seconds", kind="peak", metric="refdesk_index_lag_seconds"),
    Plot(
        name="documents",
        title="Documents by state",
        unit="documents",
        kind="peak",
        metric="refdesk_documents",
        line=("state",),
    ),
    Plot(name="dead_letters", title="Dead letters", unit="letters", kind="peak", metric="refdesk_dlq_size"),
    Plot(
        name="processors",
        title="Processors in use",
        unit="processors",
        kind="rate",
        metric="process_cpu_seconds_total",
        by_process=True,
    ),
    Plot(
        name="memory",
        title="Memory",
        unit="bytes",
        kind="gauge",
        metric="process_resident_memory_bytes",
        by_process=True,
    ),
)
BY_NAME = {plot.name: plot for plot in PLOTS}


def reading(families: Iterable[Metric]) -> dict[str, dict[str, float]]:
    """What the metrics say now."""
    by_metric: dict[str, list[Plot]] = {}
    for plot in PLOTS:
        by_metric.setdefault(plot.metric, []).append(plot)
    found: dict[str, dict[str, float]] = {}
    for family in families:
        for sample in family.samples:
            for plot in by_metric.get(sample.name, ()):
                if plot.only is not None and sample.labels.get(plot.only[0]) != plot.only[1]:
                    continue
                lines = found.setdefault(plot.name, {})
                line = _line(plot, sample.labels)
                if math.isfinite(sample.value) and (line in lines or len(lines) < LINES_MAX):
                    lines[line] = lines.get(line, 0.0) + sample.value
    return found


def _line(plot: Plot, labels: Mapping[str, str]) -> str:
    if plot.kind == "histogram":
        return labels.get("le", "+Inf")
    return " ".join(labels.get(name, "") for name in plot.line).strip() or plot.name


def grown(before: Figures, now: Figures) -> dict[str, dict[str, float]]:
    """Of counts and histograms what they grew between two readings of a process, of the others what they are."""
    return {
        name: {
            line: _growth(BY_NAME[name].kind, before.get(name, {}).get(line, 0.0), value)
            for line, value in lines.items()
        }
        for name, lines in now.items()
    }


def _growth(kind: Kind, before: float, now: float) -> float:
    if kind in ("gauge", "peak"):
        return now
    growth = now - before if now >= before else now  # a process that began anew
    return growth / SAMPLE_S if kind == "rate" else growth


def over_time(parts: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """The figures of one process over several equal steps, as one."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _together([part.get(name, {}) for part in parts], _over_time[BY_NAME[name].kind]) for name in names}


def across(plot: Plot, parts: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, float | None]:
    """The lines of one point, of the figures of each process in its step."""
    if plot.by_process:
        return dict(_together([{process: sum(lines.values())} for process, lines in parts], sum))
    lines = _together([lines for _, lines in parts], _across[plot.kind])
    if plot.kind == "histogram":
        return {name: quantile(lines, share) for name, share in QUANTILES.items()}
    return dict(lines)


def _together(parts: Sequence[Mapping[str, float]], fold: Callable[[list[float]], float]) -> dict[str, float]:
    lines = dict.fromkeys(line for part in parts for line in part)
    return {line: fold([part[line] for part in parts if line in part]) for line in lines}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


_over_time: Mapping[Kind, Callable[[list[float]], float]] = {
    "count": sum,
    "histogram": sum,
    "rate": _mean,
    "gauge": _mean,
    "peak": max,
}
_across: Mapping[Kind, Callable[[list[float]], float]] = {
    "count": sum,
    "histogram": sum,
    "rate": sum,
    "gauge": sum,
    "peak": max,
}


def quantile(buckets: Mapping[str, float], share: float) -> float | None:
    """Of a cumulative histogram, as Prometheus estimates it: linearly within its bucket. None where there was nothing."""
    ends = sorted((float(end), count) for end, count in buckets.items())
    total = ends[-1][1] if ends else 0.0
    if total <= 0:
        return None
    below, count_below = 0.0, 0.0
    for end, count in ends:
        if count >= share * total:
            if math.isinf(end):
                return below
            part = (share * total - count_below) / (count - count_below) if count > count_below else 1.0
            return below + (end - below) * part
        below, count_below = end, count
    return below
