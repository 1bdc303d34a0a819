"""``refdesk sync SOURCE``: keep a folder, here or behind a URL, mirrored into Refdesk."""

import asyncio
from typing import Any

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from refdesk.app.commands.client import (
    CallFailed,
    connect,
    console,
    json_option,
    patiently,
    print_json,
    progress_console,
    run,
    say,
    url_option,
)
from refdesk.app.commands.sync_shown import show_indexing, show_outcomes, show_receipt
from refdesk.app.mirror import Mirror, Options, Source
from refdesk.app.sources.planning import DeletionLimits
from refdesk.app.sources.reports import Report
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.syncs import SyncIndexing, SyncReceipt
from refdesk.settings import loading

LOOK_AGAIN_S = 1.0


@click.command()
@click.argument("source", required=False)
@click.option("--name", help="What its documents' external ids begin with (default: the source's address).")
@click.option("--readers", help="Comma-separated groups that may read them (default: everyone).")
@click.option("--tags", help="Comma-separated tags.")
@click.option("--owner", metavar="ID", help="Whose documents they are (default: yours). For administrators.")
@click.option("--dry-run", is_flag=True, help="Only say what would change, by name.")
@click.option("--last", is_flag=True, help="Show the receipt of the last sync, of SOURCE or of any, and sync nothing.")
@click.option("--allow-empty", is_flag=True, help="Delete what folders held that are empty now, the source itself too.")
@click.option(
    "--allow-deletions", is_flag=True, help="Delete more than REFDESK_SYNC_DELETED_SHARE_MAX of the documents."
)
@click.option("--wait", is_flag=True, help="Wait until the index has them, and say how they were read.")
@click.option("--watch", is_flag=True, help="Go on, one pass after another, until interrupted.")
@click.option(
    "--interval-s", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Between passes with --watch."
)
@url_option
@json_option
def command(source: str | None, name: str | None, url: str | None, **options: Any) -> None:
    """Mirror a folder, or any URL that fsspec reads (s3://, gcs://, sftp://, github:// ...).

    Adds new files, replaces changed ones, deletes the documents of files that are gone. Only your documents that came from this
    source are touched. Interrupted, it goes on where it was. Returns once everything is stored, or with --wait in the index.

    \b
    Exit codes:
      0    nothing failed; what was skipped or kept is said
      1    something failed, or the sync was refused: the message says what to do
      2    the command was not understood
      130  interrupted
    """
    asked = msgspec.convert({**options, "source": source, "name": name, "url": url}, Asked)
    if asked.last:
        run(_last(asked))
        return
    if source is None:
        raise click.UsageError("Name the SOURCE to sync, or say --last.")
    opened = Source(source, name=name)
    if asked.wait and (asked.watch or asked.dry_run):
        raise click.UsageError("--wait goes neither with --watch nor with --dry-run.")
    if asked.watch:
        run(_watch(asked, opened))
        return
    report = run(_pass(asked, opened))
    if asked.wait:
        report.indexing = run(_searchable(asked, report))
    _tell(asked, report)
    if report.failed or (report.indexing is not None and report.indexing.failed):
        raise click.exceptions.Exit(1)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The command's arguments and options."""

    source: str | None
    name: str | None
    url: str | None
    readers: str | None
    tags: str | None
    owner: str | None
    dry_run: bool
    last: bool
    allow_empty: bool
    allow_deletions: bool
    wait: bool
    watch: bool
    interval_s: float
    as_json: bool

    @property
    def mirroring(self) -> Options:
        fields = {field: value for field, value in (("readers", self.readers), ("tags", self.tags)) if value}
        share_max = 1.0 if self.allow_deletions else loading.load().settings.client.sync_deleted_share_max
        deletions = DeletionLimits(share_max=share_max, empty=self.allow_empty)
        return Options(fields=fields, owner=self.owner, dry_run=self.dry_run, deletions=deletions)


async def _watch(asked: Asked, source: Source) -> None:
    """Until interrupted; what cannot be reached now is tried again with the next pass."""
    while True:
        try:
            _tell(asked, await _pass(asked, source))
        except (CallFailed, InvalidRequest) as error:
            say(f"refdesk: {error}", err=True)
        await asyncio.sleep(asked.interval_s)


async def _pass(asked: Asked, source: Source) -> Report:
    with _progress() as progress:
        compared = progress.add_task("compared", total=None)
        async with connect(url=asked.url) as client:
            return await Mirror(client, source, asked.mirroring).run(
                on_listed=lambda count: progress.update(compared, total=count),
                on_done=lambda: progress.advance(compared),
            )


async def _searchable(asked: Asked, report: Report) -> SyncIndexing | None:
    """What the index has made of the source's documents, once none is pending; None where there are no receipts."""
    if report.receipt is None:
        return None
    with _progress() as progress:
        searchable = progress.add_task("searchable", total=None)
        async with connect(url=asked.url) as client:
            while True:
                found = await patiently(lambda: client.call("GET", f"/api/documents/syncs/{report.receipt}"))
                indexing = msgspec.convert(found, SyncReceipt).indexing
                if indexing is None or not indexing.pending:
                    return indexing
                done = indexing.indexed + indexing.failed
                progress.update(searchable, completed=done, total=done + indexing.pending)
                await asyncio.sleep(LOOK_AGAIN_S)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=progress_console, disable=not progress_console.is_terminal)


def _tell(asked: Asked, report: Report) -> None:
    show_outcomes(report.counts, report.entries, planned=asked.dry_run)
    if report.indexing is not None:
        show_indexing(report.indexing)
    if report.refusal:
        say(f"It would be refused: {report.refusal}")
    if report.also_running:
        console.print(f"Others of this source under way: {report.also_running}. They do no harm to each other.")
    if asked.as_json:
        print_json(report)


async def _last(asked: Asked) -> None:
    """The newest receipt of the source, or of any."""
    wanted = {
        "limit": "1",
        "owner": asked.owner,
        "source": asked.source and Source(asked.source, name=asked.name).prefix,
    }
    async with connect(url=asked.url) as client:
        parameters = {name: value for name, value in wanted.items() if value}
        listed = (await client.call("GET", "/api/documents/syncs", params=parameters))["syncs"]
        if not listed:
            raise InvalidRequest(f"There is no receipt of {asked.source or 'any sync of yours'}. Sync it first.")
        found = await client.call("GET", f"/api/documents/syncs/{listed[0]['id']}")
    show_receipt(msgspec.convert(found, SyncReceipt))
    if asked.as_json:
        print_json(found)
