"""``refdesk reconcile``: compare the index with the documents, and mend what differs."""

from collections import Counter
from typing import Any

import click
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from refdesk.app.commands.client import connect, console, json_option, print_json, progress_console, run, url_option

LISTED_MAX = 20


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what differs.")
@url_option
@json_option
def command(dry_run: bool, url: str | None, as_json: bool) -> None:
    """Compare the index with the documents, and mend what differs."""
    report = run(_reconcile(dry_run=dry_run, url=url))
    drift = report["drift"]
    for found in drift[:LISTED_MAX]:
        console.print(f"{found['kind'].replace('_', ' ')}: {found['document_id']}", markup=False)
    if len(drift) > LISTED_MAX:
        console.print(f"… and {len(drift) - LISTED_MAX} more; --json lists them all.")
    mended = "nothing was changed" if dry_run else f"{report['repaired']} mended"
    console.print(f"{report['checked']} compared, {len(drift)} differ, {mended}.")
    if as_json:
        print_json(report)


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
