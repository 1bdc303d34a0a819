"""A sync's outcome as a terminal shows it: what people must know by name, the rest as numbers."""

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape

from refdesk.app.commands.client import console
from refdesk.contracts.syncs import Outcome, SyncCounts, SyncEntry, SyncIndexing, SyncReceipt

NAMED_MAX = 50
"""Entries of one outcome that are named; `--json` names all."""
COLOURS: dict[Outcome, str] = {"failed": "red", "kept": "yellow", "deleted": "yellow"}
PLANNED: tuple[Outcome, ...] = ("failed", "kept", "deleted", "updated", "added")
DONE: tuple[Outcome, ...] = ("failed", "kept", "deleted")


def show_outcomes(counts: SyncCounts, entries: Sequence[SyncEntry], *, planned: bool = False) -> None:
    """``planned``: of a dry run, which names all that would change."""
    for outcome in PLANNED if planned else DONE:
        named = [entry for entry in entries if entry.outcome == outcome]
        _show_named(named, outcome, count_max=len(named) if planned else NAMED_MAX)
    kept = f", {counts.kept} kept" if counts.kept else ""
    console.print(
        f"{'Would be: ' if planned else ''}{counts.added} added, {counts.updated} updated, {counts.deleted} deleted, "
        f"{counts.unchanged} unchanged, {counts.skipped} skipped, {counts.failed} failed{kept}: "
        f"{counts.found} found in the source, {counts.gone} gone from it."
    )
    reasons = Counter(entry.reason for entry in entries if entry.outcome == "skipped")
    for reason, count in reasons.most_common(NAMED_MAX):
        console.print(f"skipped {count}: {reason}", markup=False, soft_wrap=True)


def show_receipt(receipt: SyncReceipt) -> None:
    console.print(f"{receipt.source}, for {receipt.owner}", markup=False, soft_wrap=True)
    ended = f"{receipt.state}, last heard of {receipt.heard_at:%Y-%m-%d %H:%M:%S} UTC"
    console.print(f"begun {receipt.started_at:%Y-%m-%d %H:%M:%S} UTC by {receipt.started_by}; {ended}")
    if receipt.problem:
        console.print(f"problem: {receipt.problem}", markup=False, soft_wrap=True)
    show_outcomes(receipt.counts, receipt.entries)
    if receipt.entries_left_off:
        console.print(f"{receipt.entries_left_off} more are not named in the receipt.")
    if receipt.indexing is not None:
        show_indexing(receipt.indexing)


def _show_named(entries: Sequence[SyncEntry], outcome: Outcome, *, count_max: int) -> None:
    colour = COLOURS.get(outcome, "green")
    for entry in entries[:count_max]:
        said = escape(f"{entry.path}: {entry.reason}" if entry.reason else entry.path)
        console.print(f"[{colour}]{outcome}[/{colour}] {said}", markup=True, soft_wrap=True)
    if len(entries) > count_max:
        console.print(f"{len(entries) - count_max} more {outcome}; --json names them.")


def show_indexing(indexing: SyncIndexing) -> None:
    console.print(
        f"Of its documents, {indexing.indexed} are searchable, {indexing.pending} pending, {indexing.failed} failed in the index."
    )
    for failure in indexing.failures:
        console.print(f"not searchable: {failure.path}: {failure.reason}", markup=False, soft_wrap=True)
    for noted in indexing.notes:
        for note in noted.notes:
            console.print(f"[yellow]note[/yellow] {escape(f'{noted.path}: {note.text}')}", markup=True, soft_wrap=True)
