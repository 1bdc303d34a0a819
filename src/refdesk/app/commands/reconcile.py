"""``refdesk reconcile``: compare the index with the documents, and mend what differs."""

from collections import Counter
from typing import Any

import click
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from refdesk.app.commands.client import connect, console, json_option, print_json, progress_console, run, url_option

LISTED_MAX = 20


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what differs.")
@click.option("--content", is_flag=True, help="Read every content instead, and say which are missing or damaged.")
@url_option
@json_option
def command(dry_run: bool, content: bool, url: str | None, as_json: bool) -> None:
    """Compare the index with the documents, and mend what differs."""
    if content and dry_run:
        raise click.UsageError("--content has no --dry-run: documents whose content is missing are shown as failed.")
    if content:
        _tell_contents(run(_check_contents(url=url)), as_json=as_json)
    else:
        _tell_drift(run(_reconcile(dry_run=dry_run, url=url)), dry_run=dry_run, as_json=as_json)


def _tell_drift(report: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    drift = report["drift"]
    for found in drift[:LISTED_MAX]:
        console.print(f"{found['kind'].replace('_', ' ')}: {found['document_id']}", markup=False)
    if len(drift) > LISTED_MAX:
        console.print(f"… and {len(drift) - LISTED_MAX} more; --json lists them all.")
    mended = "nothing was changed" if dry_run else f"{report['repaired']} mended"
    console.print(f"{report['checked']} compared, {len(drift)} differ, {mended}.")
    if as_json:
        print_json(report)


def _tell_contents(report: dict[str, Any], *, as_json: bool) -> None:
    faults = report["faults"]
    for found in faults[:LISTED_MAX]:
        console.print(f"{found['fault']}: {found['sha256']}", markup=False)
    if len(faults) > LISTED_MAX:
        console.print(f"… and {len(faults) - LISTED_MAX} more; --json lists them all.")
    console.print(
        f"{report['checked']} contents read, {len(faults)} missing or damaged, {report['healed']} back again."
    )
    if as_json:
        print_json(report)


async def _check_contents(*, url: str | None) -> dict[str, Any]:
    """Every content that a document refers to, read and compared with its hash."""
    report: dict[str, Any] = {"checked": 0, "faults": [], "healed": 0}
    asked: dict[str, Any] = {"cursor": None, "verify": True}
    async with connect(url=url) as client:
        while True:
            step = await client.call("POST", "/api/documents/check-content", json=asked)
            report = {name: report[name] + step[name] for name in report}
            asked["cursor"] = step.get("next_cursor")
            if asked["cursor"] is None:
                return report


async def _reconcile(*, dry_run: bool, url: str | None) -> dict[str, Any]:
    drift: list[dict[str, str]] = []
    checked = repaired = 0
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed}"), TimeElapsedColumn())
    async with connect(url=url) as client:
        with Progress(*columns, console=progress_console, disable=not progress_console.is_terminal) as progress:
            comparing = progress.add_task("compared", total=None)
            cursor: str | None = None
            while True:
                step = await client.call("POST", "/api/index/reconcile", json={"cursor": cursor, "dry_run": dry_run})
                drift += step["drift"]
                checked, repaired = checked + step["checked"], repaired + step["repaired"]
                progress.update(comparing, completed=checked)
                cursor = step["next_cursor"]
                if cursor is None:
                    break
    found = dict(Counter(item["kind"] for item in drift))
    return {"checked": checked, "found": found, "repaired": repaired, "drift": drift}
