"""``refdesk sync SOURCE``: keep a folder, here or behind a URL, mirrored into Refdesk."""

import asyncio
from collections.abc import Awaitable, Callable

import click
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from refdesk.app.commands.client import (
    CallFailed,
    connect,
    console,
    json_option,
    print_json,
    progress_console,
    run,
    say,
    url_option,
)
from refdesk.app.mirror import Mirror, Report, Source
from refdesk.contracts.errors import InvalidRequest


@click.command()
@click.argument("source")
@click.option("--name", help="What its documents' external ids begin with (default: the source's address).")
@click.option("--readers", help="Comma-separated groups that may read them (default: everyone).")
@click.option("--tags", help="Comma-separated tags.")
@click.option("--owner", metavar="ID", help="Whose documents they are (default: yours). For administrators.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--allow-empty", is_flag=True, help="Delete everything when the source is empty.")
@click.option("--watch", is_flag=True, help="Go on, one pass after another, until interrupted.")
@click.option(
    "--interval-s", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Between passes with --watch."
)
@url_option
@json_option
def command(
    source: str,
    name: str | None,
    readers: str | None,
    tags: str | None,
    owner: str | None,
    dry_run: bool,
    allow_empty: bool,
    watch: bool,
    interval_s: float,
    url: str | None,
    as_json: bool,
) -> None:
    """Mirror a folder, or any URL that fsspec reads (s3://, gcs://, sftp://, github:// ...).

    Adds new files, replaces changed ones, deletes the documents of files that are gone. Only your documents that came from this
    source are touched. Interrupted, it goes on where it was. Returns once everything is stored; the index follows.
    """
    fields = {field: value for field, value in (("readers", readers), ("tags", tags)) if value}
    opened = Source(source, name=name)

    async def once() -> Report:
        async with connect(url=url) as client:
            mirror = Mirror(client, opened, fields=fields, owner=owner, dry_run=dry_run, allow_empty=allow_empty)
            return await _pass(mirror)

    if watch:
        run(_watch(once, interval_s=interval_s, dry_run=dry_run, as_json=as_json))
        return
    report = run(once())
    _tell(report, dry_run=dry_run, as_json=as_json)
    if report.failed:
        raise click.exceptions.Exit(1)


async def _watch(once: Callable[[], Awaitable[Report]], *, interval_s: float, dry_run: bool, as_json: bool) -> None:
    """Until interrupted; what cannot be reached now is tried again with the next pass."""
    while True:
        try:
            _tell(await once(), dry_run=dry_run, as_json=as_json)
        except (CallFailed, InvalidRequest) as error:
            say(f"refdesk: {error}", err=True)
        await asyncio.sleep(interval_s)


async def _pass(mirror: Mirror) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress_console, disable=not progress_console.is_terminal) as progress:
        compared = progress.add_task("compared", total=None)
        return await mirror.run(
            on_listed=lambda count: progress.update(compared, total=count),
            on_done=lambda: progress.advance(compared),
        )


def _tell(report: Report, *, dry_run: bool, as_json: bool) -> None:
    for failure in report.failed:
        said = escape(f"{failure.path}: {failure.reason}")
        console.print(f"[red]failed[/red] {said}", markup=True, soft_wrap=True)
    console.print(
        f"{'Would be: ' if dry_run else ''}{report.added} added, {report.updated} updated, {report.deleted} deleted, "
        f"{report.unchanged} unchanged, {len(report.failed)} failed."
    )
    if as_json:
        print_json(report)
