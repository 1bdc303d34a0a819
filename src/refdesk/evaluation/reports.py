"""What a run found: as data, as Markdown, and beside an earlier run.

Two runs are compared on the questions that both have asked, pair by pair; an interval that does not hold 0 is a change that
the choice of questions does not explain.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from refdesk.contracts.errors import InvalidRequest
from refdesk.evaluation.datasets import Fault
from refdesk.evaluation.metrics import Share, paired_interval, percentile, ratio

PERCENTS = (50, 95, 99)
FAULTS_SHOWN_MAX = 20
LOWER_IS_BETTER = frozenset({"padding", "contradicted", "unchecked", "wrongly not answered", "degraded"})
STATES = ("answered", "closest", "not_found")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One question that got a reply. ``total_s`` is what the client waited; ``first_token_s`` is the desk's own figure."""

    id: str
    question: str
    kind: str | None = None
    unanswerable: bool = False
    state: str | None = None
    shares: dict[str, Share]
    total_s: float
    first_token_s: float | None = None
    text: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run. ``missing``: expected documents that the desk does not have; ``unasked``: lines and questions without a record."""

    dataset: str
    version: str
    began_at: str
    models: list[str]
    records: list[Record]
    faults: list[Fault]
    unasked: int
    missing: int

    def figures(self) -> dict[str, Any]:
        """Everything but the records."""
        return {
            "dataset": self.dataset,
            "version": self.version,
            "began_at": self.began_at,
            "models": self.models,
            "questions": len(self.records),
            "unasked": self.unasked,
            "missing": self.missing,
            "faults": len(self.faults),
            "measures": measures(self.records),
            "states": _states(self.records),
            "latency_s": latencies(self.records),
            "kinds": {kind: measures(records) for kind, records in _kinds(self.records).items()},
        }


class Change(msgspec.Struct, frozen=True):
    """Of one measure between two runs, on the questions of both."""

    measure: str
    earlier: float
    later: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        if self.low <= 0 <= self.high:
            return "no clear change"
        return "worse" if (self.high < 0) != (self.measure in LOWER_IS_BETTER) else "better"


def measures(records: Sequence[Record]) -> dict[str, float]:
    """Each measure that can be told, in the order in which they came up."""
    names = dict.fromkeys(name for record in records for name in record.shares)
    found = {name: ratio(record.shares[name] for record in records if name in record.shares) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def latencies(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Percentiles in seconds: of the whole reply, and of its first token where there was one."""
    kept = list(records)
    columns = {
        "total": [record.total_s for record in kept],
        "first_token": [record.first_token_s for record in kept if record.first_token_s is not None],
    }
    return {
        name: {f"p{percent}": found for percent in PERCENTS if (found := percentile(values, percent)) is not None}
        for name, values in columns.items()
        if values
    }


def compare(earlier: Report, later: Report) -> list[Change]:
    """Raises InvalidRequest when the two have no question in common."""
    before = {(record.id, record.question): record for record in earlier.records}
    pairs = [(before[key], one) for one in later.records if (key := (one.id, one.question)) in before]
    if not pairs:
        raise InvalidRequest("The earlier report has none of these questions. Compare runs of the same set.")
    names = [name for name in measures([one for _, one in pairs]) if name in measures([one for one, _ in pairs])]
    changes = []
    for name in names:
        shares = [(one.shares.get(name, (0.0, 0.0)), two.shares.get(name, (0.0, 0.0))) for one, two in pairs]
        old, new = [one for one, _ in shares], [two for _, two in shares]
        before_ratio, after_ratio, interval = ratio(old), ratio(new), paired_interval(old, new)
        if before_ratio is not None and after_ratio is not None and interval is not None:
            changes.append(Change(name, before_ratio, after_ratio, *interval))
    return changes


def read_report(file: Path) -> Report:
    """Raises InvalidRequest for a file that is no report."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except (msgspec.DecodeError, OSError) as error:
        raise InvalidRequest(f"{file} is no report of `refdesk eval`: {error}") from error


def markdown(report: Report, changes: Sequence[Change] = ()) -> str:
    """The report for people."""
    parts = [
        f"# {report.dataset}",
        f"{len(report.records)} questions asked on {report.began_at}, Refdesk {report.version}"
        f"{', ' + ', '.join(report.models) if report.models else ''}. Left out or without a reply: {report.unasked}. "
        f"Expected documents that are not in the desk: {report.missing}.",
        _table(("measure", "value"), [(name, _figure(value)) for name, value in measures(report.records).items()]),
    ]
    if states := _states(report.records):
        rows = [(name, *(str(counts[state]) for state in STATES)) for name, counts in states.items()]
        parts.append(_table(("questions", *STATES), rows))
    parts.append(_latency_table(report))
    if kinds := _kinds(report.records):
        parts += ["## By kind", _kind_table(kinds)]
    if changes:
        parts += ["## Beside the earlier run", _change_table(changes)]
    if report.faults:
        shown = [f"* {fault}" for fault in report.faults[:FAULTS_SHOWN_MAX]]
        more = len(report.faults) - len(shown)
        parts += [
            f"## Left out or amiss: {len(report.faults)}",
            "\n".join(shown + ([f"* … and {more} more"] if more else [])),
        ]
    return "\n\n".join(parts) + "\n"


def _kinds(records: Iterable[Record]) -> dict[str, list[Record]]:
    kinds: dict[str, list[Record]] = {}
    for record in records:
        if record.kind is not None:
            kinds.setdefault(record.kind, []).append(record)
    return kinds


def _states(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    """How the questions that can be answered ended, and how the others did."""
    sides = {False: "answerable", True: "unanswerable"}
    counts = Counter((sides[record.unanswerable], record.state) for record in records if record.state)
    return {
        side: {state: counts[side, state] for state in STATES}
        for side in sides.values()
        if any(counts[side, state] for state in STATES)
    }


def _latency_table(report: Report) -> str:
    rows = [
        (name.replace("_", " "), *(f"{1000 * values[f'p{percent}']:.0f} ms" for percent in PERCENTS))
        for name, values in latencies(report.records).items()
    ]
    return _table(("latency", *(f"p{percent}" for percent in PERCENTS)), rows)


def _kind_table(kinds: dict[str, list[Record]]) -> str:
    names = ("right", "fact recall", "first sentence", "padding")
    rows = []
    for kind, records in sorted(kinds.items()):
        found = measures(records)
        rows.append((kind, str(len(records)), *(_figure(found[name]) if name in found else "" for name in names)))
    return _table(("kind", "questions", *names), rows)


def _change_table(changes: Iterable[Change]) -> str:
    rows = [
        (
            change.measure,
            _figure(change.earlier),
            _figure(change.later),
            f"{change.low:+.3f} … {change.high:+.3f}",
            change.verdict,
        )
        for change in changes
    ]
    return _table(("measure", "earlier", "now", "95 % interval of the change", ""), rows)


def _figure(value: float) -> str:
    return f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
