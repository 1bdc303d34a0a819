"""``refdesk documents list``, ``show``, ``delete`` and ``retry``: documents by hand. Without any, the service itself is run."""

from typing import Any
from urllib.parse import quote

import click

from refdesk.app.commands.client import connect, console, json_option, print_json, run, url_option
from refdesk.app.commands.services import run_service, service_options
from refdesk.app.commands.waiting import why

_PATH = "/api/documents"


@click.group(invoke_without_command=True)
@service_options
@click.pass_context
def command(context: click.Context, host: str | None, port: int | None) -> None:
    """Run the Document Service, or look at documents of a running one."""
    if context.invoked_subcommand is None:
        run_service("documents", module="refdesk.app.services.documents", host=host, port=port)


@command.command("list")
@click.option("--state", type=click.Choice(["pending", "indexed", "failed"]), help="Only those in this state.")
@click.option("--title", "q", help="Only those with this in their title.")
@click.option("--tag", help="Only those with this tag.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many, newest first.")
@click.option("--cursor", help="The next_cursor of the page before.")
@url_option
@json_option
def list_(url: str | None, as_json: bool, **wanted: Any) -> None:
    """List documents, newest first."""
    page = run(_call("GET", "", url=url, params={name: str(value) for name, value in wanted.items() if value}))
    if as_json:
        print_json(page)
        return
    for document in page["documents"]:
        console.print(_line(document), markup=False, soft_wrap=True)
    if page["next_cursor"]:
        console.print(f"More with --cursor {page['next_cursor']}", markup=False)
    elif not page["documents"]:
        console.print("No documents.")


@command.command()
@click.argument("document_id")
@url_option
@json_option
def show(document_id: str, url: str | None, as_json: bool) -> None:
    """Show what is known of one document."""
    document = run(_call("GET", f"/{_id(document_id)}", url=url))
    if as_json:
        print_json(document)
        return
    for note in document.pop("notes", []):
        console.print(f"note: {note['text']}", markup=False, soft_wrap=True)
    for name, value in document.items():
        if value not in (None, [], ""):
            console.print(f"{name}: {value}", markup=False, soft_wrap=True)


@command.command()
@click.argument("document_ids", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@url_option
@json_option
def delete(document_ids: tuple[str, ...], yes: bool, url: str | None, as_json: bool) -> None:
    """Delete documents by their ids. They are out of the answers at once, and cannot be had back."""
    if not yes:
        click.confirm(f"Delete {len(document_ids)} documents?", abort=True)
    for document_id in document_ids:
        run(_call("DELETE", f"/{_id(document_id)}", url=url))
        console.print(f"deleted {document_id}", markup=False)
    if as_json:
        print_json({"deleted": document_ids})


@command.command()
@click.argument("document_ids", nargs=-1, required=True)
@url_option
@json_option
def retry(document_ids: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Have documents that failed indexed again, by their ids."""
    retried = [run(_call("POST", f"/{_id(document_id)}/retry", url=url)) for document_id in document_ids]
    for document in retried:
        console.print(f"pending again: {document['title']}", markup=False, soft_wrap=True)
    if as_json:
        print_json({"documents": retried})


async def _call(method: str, path: str, *, url: str | None, params: dict[str, str] | None = None) -> Any:
    async with connect(url=url) as client:
        return await client.call(method, _PATH + path, params=params)


def _id(given: str) -> str:
    """As a part of an address, whatever was typed."""
    return quote(given, safe="")


def _line(document: dict[str, Any]) -> str:
    said = {"failed": document["failure"], "pending": why(document)}.get(document["state"])
    return f"{document['id']}  {document['state']:<7}  {document['title']}{f': {said}' if said else ''}"
