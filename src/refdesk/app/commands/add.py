"""``refdesk add PATH…``: upload files and wait until they are searchable."""

import asyncio
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from refdesk.app.commands.client import (
    CallFailed,
    Client,
    connect,
    console,
    json_option,
    patiently,
    print_json,
    progress_console,
    run,
    unless_passing,
    url_option,
)
from refdesk.app.commands.waiting import why
from refdesk.app.mirror import address_of
from refdesk.app.sources.names import exact_key_of, key_of, prefix_of, shown_name
from refdesk.app.sources.planning import EMPTY
from refdesk.app.sources.trees import LocalTree
from refdesk.app.sources.walking import Passed, walk
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.hidden_characters import clean

UPLOADS_AT_ONCE = 4
LOOK_AGAIN_S = 2.0
"""How often documents still pending are looked up, beside the events."""
LOOKUPS_MAX = 64
"""How many of them, the oldest: looking must not cost the service more than indexing does."""
LOOKUPS_AT_ONCE = 8


class Upload(msgspec.Struct):
    """One file on its way: refused at the door, or a document and its state."""

    path: Path
    document_id: str = ""
    version: int = 0
    state: str = "refused"
    reason: str | None = None
    status: str = "added"
    waits: str = ""
    """Why it is not searchable yet."""
    notes: list[dict[str, str]] = []
    """About how it was read."""

    @property
    def settled(self) -> bool:
        return self.state != "pending"


class Report(msgspec.Struct, frozen=True):
    added: int
    updated: int
    unchanged: int
    indexed: int
    pending: int
    skipped: list[dict[str, str]]
    failed: list[dict[str, str]]
    notes: list[dict[str, str]]


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--readers", help="Comma-separated groups that may read them (default: everyone).")
@click.option("--tags", help="Comma-separated tags.")
@click.option("--no-wait", is_flag=True, help="Return once they are stored, before they are searchable.")
@url_option
@json_option
def command(
    paths: tuple[Path, ...], readers: str | None, tags: str | None, no_wait: bool, url: str | None, as_json: bool
) -> None:
    """Add files, or folders of files. A file added before is replaced.

    Of a folder, what a sync would take is added; a file that is named is added whatever its name.
    """
    collected = collect(paths)
    fields = {name: value for name, value in (("readers", readers), ("tags", tags)) if value}
    report = run(_add(collected, fields=fields, wait=not no_wait, url=url))
    for failure in report.failed:
        said = escape(f"{failure['path']}: {failure['reason']}")
        console.print(f"[red]failed[/red] {said}", markup=True, soft_wrap=True)
    for note in report.notes:
        said = escape(f"{note['path']}: {note['text']}")
        console.print(f"[yellow]note[/yellow] {said}", markup=True, soft_wrap=True)
    console.print(
        f"{report.added} added, {report.updated} updated, {report.unchanged} unchanged; "
        f"{report.indexed} searchable, {report.pending} pending, {len(report.skipped)} skipped, {len(report.failed)} failed."
    )
    if as_json:
        print_json(report)
    if report.failed:
        raise click.exceptions.Exit(1)


class Collected(msgspec.Struct):
    """The files to upload, and what is below the folders named that is not taken or cannot be listed."""

    files: list[Path] = msgspec.field(default_factory=list)
    skipped: list[dict[str, str]] = msgspec.field(default_factory=list)
    failed: list[dict[str, str]] = msgspec.field(default_factory=list)


def collect(paths: Iterable[Path]) -> Collected:
    """The files named, and those that a sync would take of the folders named. Raises InvalidRequest for a wrong path."""
    collected = Collected()
    for path in paths:
        if path.is_dir():
            _collect_below(path, collected)
        elif path.is_file():
            collected.files.append(path)
        elif path.exists():
            raise InvalidRequest(f"{path} is neither a file nor a folder. Name one that is.")
        else:
            raise InvalidRequest(f"There is no file or folder {path}.")
    if not collected.files:
        raise InvalidRequest("There are no files in these folders.")
    return collected


def _collect_below(folder: Path, collected: Collected) -> None:
    listing = walk(LocalTree(str(folder)))
    collected.files += [folder / path for path, size_bytes in sorted(listing.files.items()) if size_bytes != 0]
    empty = [Passed(path, EMPTY) for path, size_bytes in listing.files.items() if size_bytes == 0]
    collected.skipped += _named(folder, [*listing.skipped.values(), *empty])
    collected.failed += _named(folder, listing.failed.values())


def _named(folder: Path, passed: Iterable[Passed]) -> list[dict[str, str]]:
    return [{"path": key_of(str(folder / one.path)), "reason": one.reason} for one in passed]


async def _add(collected: Collected, *, fields: dict[str, str], wait: bool, url: str | None) -> Report:
    files = collected.files
    async with connect(url=url) as client:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=progress_console,
            disable=not progress_console.is_terminal,
        ) as progress:
            uploading = progress.add_task("uploaded", total=len(files))
            slots = asyncio.Semaphore(UPLOADS_AT_ONCE)

            async def one(path: Path) -> Upload:
                async with slots:
                    upload = await _upload(client, path, fields)
                progress.advance(uploading)
                return upload

            uploads = await asyncio.gather(*(one(path) for path in files))
            if wait:
                searchable = progress.add_task("searchable", total=len(files))

                def show(count: int, waits: str) -> None:
                    description = f"searchable ({escape(clean(waits))})" if waits else "searchable"
                    progress.update(searchable, completed=count, description=description)

                await wait_until_settled(client, uploads, show)
    return _report(uploads, collected)


async def _upload(client: Client, path: Path, fields: dict[str, str]) -> Upload:
    """Tried again while the refusal is a passing one: what is put by its external id may be put twice."""
    try:
        return await patiently(lambda: _put(client, path, fields))
    except (CallFailed, OSError) as error:
        return Upload(path, reason=str(error))


async def _put(client: Client, path: Path, fields: dict[str, str]) -> Upload:
    import aiohttp

    address = "/api/documents/by-external-id/" + quote(external_id_of(path), safe="")
    unnamed = os.open(path, os.O_RDONLY)  # a file with a name is sent under it, and it may not be UTF-8
    with os.fdopen(unnamed, "rb") as file:
        form = aiohttp.FormData(fields, quote_fields=False)
        form.add_field("file", file, filename=shown_name(path.name))
        async with client.open("PUT", address, data=form) as response:
            document = msgspec.json.decode(await response.read())
            created = response.status == 201
    status = "added" if created else "updated" if document["state"] == "pending" else "unchanged"
    return stored(path, document, status=status)


def external_id_of(path: Path) -> str:
    """As a sync of the file's folder names it; a name whose composed form is another file here has the exact key."""
    folder, _, name = address_of(path).rpartition("/")
    composed = path.with_name(unicodedata.normalize("NFC", path.name))
    twin = composed.name != path.name and composed.exists() and not composed.samefile(path)
    return prefix_of(folder) + (exact_key_of(name) if twin else key_of(name))


def stored(path: Path, document: Any, *, status: str) -> Upload:
    """What was taken, as `wait_until_settled` follows it."""
    upload = Upload(path, document["id"], document["version"], status=status)
    _take(upload, document)
    return upload


def _take(upload: Upload, document: Any) -> None:
    if document["version"] >= upload.version:
        upload.state, upload.reason = document["state"], document["failure"]
        upload.notes = document.get("notes", []) if document["state"] == "indexed" else []
        upload.waits = why(document) if document["state"] == "pending" and document["waiting"] else ""


async def wait_until_settled(
    client: Client, uploads: Sequence[Upload], on_progress: Callable[[int, str], None]
) -> None:
    """Until every upload has settled: by the service's events, and by looking every two seconds.

    ``on_progress`` is told how many have, and why the first of the others waits.
    """
    by_id = {upload.document_id: upload for upload in uploads if upload.document_id}
    following = asyncio.create_task(_follow(client, by_id))
    try:
        while pending := [upload for upload in by_id.values() if not upload.settled]:
            on_progress(len(uploads) - len(pending), pending[0].waits)
            await _look(client, pending[:LOOKUPS_MAX])
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await _settled(pending)
        on_progress(len(uploads), "")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _settled(pending: Sequence[Upload]) -> None:
    while not all(upload.settled for upload in pending):
        await asyncio.sleep(0.05)


async def _follow(client: Client, by_id: dict[str, Upload]) -> None:
    while True:
        with suppress(CallFailed):
            events = client.events("GET", "/api/documents/events")
            async with aclosing(events):
                async for event in events:
                    document = msgspec.json.decode(event.data)
                    if event.name == "document" and document["id"] in by_id:
                        _take(by_id[document["id"]], document)
        await asyncio.sleep(LOOK_AGAIN_S)


async def _look(client: Client, pending: Sequence[Upload]) -> None:
    slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def one(upload: Upload) -> None:
        async with slots:
            if upload.settled:
                return
            with unless_passing():
                _take(upload, await client.call("GET", f"/api/documents/{upload.document_id}"))

    await asyncio.gather(*(one(upload) for upload in pending))


def _report(uploads: Sequence[Upload], collected: Collected) -> Report:
    stored = [upload for upload in uploads if upload.document_id]
    return Report(
        added=sum(upload.status == "added" for upload in stored),
        updated=sum(upload.status == "updated" for upload in stored),
        unchanged=sum(upload.status == "unchanged" for upload in stored),
        indexed=sum(upload.state == "indexed" for upload in stored),
        pending=sum(upload.state == "pending" for upload in stored),
        skipped=collected.skipped,
        failed=collected.failed
        + [
            {"path": key_of(str(upload.path)), "reason": upload.reason or "no reason given"}
            for upload in uploads
            if upload.state in ("refused", "failed")
        ],
        notes=[
            {"path": str(upload.path), "code": note["code"], "text": note["text"]}
            for upload in stored
            for note in upload.notes
        ],
    )
