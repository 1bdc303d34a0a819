"""``refdesk status``: what is there, what is waiting and why, what failed."""

import contextlib
from typing import Any

import click

from refdesk.app.commands.client import CallFailed, Client, connect, console, json_option, print_json, run, url_option
from refdesk.app.commands.waiting import why

LISTED_MAX = 20
FORBIDDEN = 403


@click.command()
@url_option
@json_option
def command(url: str | None, as_json: bool) -> None:
    """Show how many documents are searchable, waiting and failed, and why they wait or failed."""
    run(_status(url=url, as_json=as_json))


async def _status(*, url: str | None, as_json: bool) -> None:
    async with connect(url=url) as client:
        backlog = await client.call("GET", "/api/documents/backlog")
        pending, failed = [await _documents(client, state) for state in ("pending", "failed")]
        index: dict[str, Any] = {"generations": []}
        with contextlib.suppress(CallFailed):  # a Document Service alone has no index
            index = await client.call("GET", "/api/index/generations")
    if as_json:
        print_json({**backlog, **index, "waiting": pending, "failures": failed})
        return
    console.print(
        f"{backlog['documents_indexed']} indexed, {backlog['documents_pending']} pending, "
        f"{backlog['documents_failed']} failed; the index is {backlog['index_lag_seconds']:.1f} s behind."
    )
    if backlog["contents_missing"]:
        console.print(f"{backlog['contents_missing']:,} contents are missing in the content directory: restore them.")
    for generation in index["generations"]:
        console.print(_described(generation), markup=False, soft_wrap=True)
    for document in pending:
        console.print(f"waiting: {document['title']}: {why(document)}", markup=False, soft_wrap=True)
    for document in failed:
        console.print(f"failed: {document['title']}: {document['failure']}", markup=False, soft_wrap=True)


async def _documents(client: Client, state: str) -> list[dict[str, Any]]:
    """Those in this state; none for an operator, who sees no titles."""
    try:
        page = await client.call("GET", "/api/documents", params={"state": state, "limit": str(LISTED_MAX)})
    except CallFailed as error:
        if error.refused_with == FORBIDDEN:
            return []
        raise
    return list(page["documents"])


def _described(generation: dict[str, Any]) -> str:
    what = f"{generation['model']} in {generation['engine']}"
    said = f"index generation {generation['id']} ({what}): {generation['chunks']:,} chunks, "
    if generation["active"]:
        return f"{said}searched."
    if generation["problem"] is not None:
        return f"{said}{generation['documents_behind']:,} documents behind; waiting: {generation['problem']}"
    behind = generation["documents_behind"]
    return f"{said}{behind:,} documents behind." if behind else f"{said}ready, kept up to date."
